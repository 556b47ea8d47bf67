//! The checks of a token without a stop at the first failure, for a person who wants to know why a token is refused.

use std::rc::Rc;

use crate::{
    check::Check,
    claims::{Identity, Subject},
    compact::{Parts, check_size},
    error::TokenError,
    json::StrictObject,
    keys::{Key, KeyQuery, KeySet, limits},
    policy::TokenPolicy,
    signature::{SignatureOutcome, check_signature},
    time::UnixMillis,
};

/// What each check found. Nothing in it is proved unless all passed.
#[derive(Default)]
pub struct Explanation {
    outcomes: Vec<(Check, Result<(), TokenError>)>,
    /// Index of the policy of the token's issuer.
    pub policy: Option<usize>,
    /// `alg`, `kid` and `typ` of the header.
    pub unverified_header: Option<[Option<String>; 3]>,
    /// The payload.
    pub unverified_claims: Option<StrictObject>,
    /// Thumbprint of the key that verified the signature.
    pub key: Option<String>,
    /// The identity, whether or not it is proved.
    pub unverified_identity: Option<Identity>,
}

impl Explanation {
    /// The outcome of a check. `None` if it was not made: one that it depends on failed, or the key set is absent or
    /// incomplete.
    pub fn outcome(&self, check: Check) -> Option<Result<(), TokenError>> {
        self.outcomes.iter().find(|(made, _)| *made == check).map(|(_, outcome)| *outcome)
    }

    /// The identity, if every check passed.
    pub fn identity(&self) -> Option<&Identity> {
        let is_proved = Check::ALL.iter().all(|check| self.outcome(*check) == Some(Ok(())));
        self.unverified_identity.as_ref().filter(|_| is_proved)
    }

    /// The error by which a gateway refuses the token: that of the first check that failed.
    pub fn error(&self) -> Option<TokenError> {
        Check::ALL.iter().find_map(|check| self.outcome(*check)?.err())
    }

    /// Tries the keys that the token may be signed with, in the order of the Worker. Notes nothing if the key may be
    /// one of those that were not examined: that is 503, not 401.
    fn check_signature(&mut self, query: &KeyQuery<'_>, keys: &KeySet, signing_input: &[u8], signature: &[u8]) {
        let mut tried: Vec<Rc<Key>> = Vec::new();
        while tried.len() < limits::CANDIDATES && self.key.is_none() {
            let Some(key) = keys.select(&KeyQuery { tried: &tried, ..*query }) else { break };
            if check_signature(&key.public, query.algorithm, signing_input, signature) == SignatureOutcome::Valid {
                self.key = Some(key.thumbprint.clone());
            }
            tried.push(Rc::clone(key));
        }
        let is_valid = self.key.is_some();
        let may_be_unexamined = !keys.is_whole && (tried.is_empty() || !keys.names(query));
        if !is_valid && may_be_unexamined && tried.len() < limits::CANDIDATES {
            return;
        }
        if self.note(Check::Key, tried.first().ok_or(TokenError::UnknownKey)).is_some() {
            self.note(Check::Signature, if is_valid { Ok(()) } else { Err(TokenError::BadSignature) });
        }
    }

    /// Notes what a check found and returns it.
    fn note<T>(&mut self, check: Check, found: Result<T, TokenError>) -> Option<T> {
        self.outcomes.push((check, found.as_ref().map(drop).map_err(|error| *error)));
        found.ok()
    }
}

/// Makes every check that can be made: of the token's form, then by the policy of its issuer, with
/// the signature checked by `keys` if they are given.
pub fn explain(token: &str, policies: &[TokenPolicy], keys: Option<&KeySet>, now: UnixMillis) -> Explanation {
    let mut found = Explanation::default();
    // A token beyond its bound is not decoded.
    let parts = found.note(Check::Size, check_size(token)).and_then(|()| found.note(Check::Form, Parts::split(token)));
    let Some(parts) = parts else { return found };
    let header = found.note(Check::Header, parts.header());
    found.unverified_header =
        header.as_ref().map(|header| [Some(header.alg.clone()), header.kid.clone(), header.typ.clone()]);
    let claims = found.note(Check::Payload, parts.claims());
    let signature = found.note(Check::SignatureForm, parts.signature());
    let Some(claims) = claims else { return found };
    found.unverified_claims = Some(claims.clone());
    let mut subjects = policies.iter().enumerate();
    let matched = subjects.find_map(|(index, policy)| Some((index, policy, Subject::new(&claims, policy, now)?)));
    let Some((index, policy, subject)) = found.note(Check::Issuer, matched.ok_or(TokenError::UnknownIssuer)) else {
        return found;
    };
    found.policy = Some(index);
    if let Some(header) = &header {
        let algorithm = found.note(Check::Algorithm, header.algorithm(policy));
        found.note(Check::Type, header.check_type(policy));
        if let (Some(algorithm), Some(signature), Some(keys)) = (algorithm, &signature, keys) {
            let query = KeyQuery { kid: header.kid.as_deref(), algorithm, issuer: subject.issuer, tried: &[] };
            found.check_signature(&query, keys, parts.signing_input.as_bytes(), signature);
        }
    }
    for (check, error, is_passed) in subject.checks() {
        if let Some(is_passed) = is_passed {
            found.note(check, if is_passed { Ok(()) } else { Err(error) });
        }
    }
    if found.outcome(Check::Dates) == Some(Ok(())) {
        found.unverified_identity = found.note(Check::Identity, subject.identity());
    }
    found
}
