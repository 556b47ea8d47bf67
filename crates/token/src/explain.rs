//! The checks of a token without a stop at the first failure, for a person who wants to know why a
//! token is refused.

use std::rc::Rc;

use crate::{
    check::Check,
    claims::{CLAIM_CHECKS, Identity, Subject},
    compact::{Draft, FORM_CHECKS, UnverifiedToken},
    error::TokenError,
    header::Header,
    json::StrictObject,
    keys::{Key, KeyQuery, KeySet, limits},
    policy::TokenPolicy,
    signature::{SignatureOutcome, check_signature},
    time::UnixMillis,
};

/// The outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The check passed.
    Passed,
    /// The check failed.
    Failed(TokenError),
    /// The check was not made: one that it depends on failed, or there is no key set.
    Skipped,
}

/// What each check found. Nothing in it is proved unless all passed.
#[derive(Debug)]
pub struct Explanation {
    outcomes: Vec<(Check, Outcome)>,
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
    /// The outcome of a check.
    pub fn outcome(&self, check: Check) -> Outcome {
        self.outcomes.iter().find(|(made, _)| *made == check).map_or(Outcome::Skipped, |(_, outcome)| *outcome)
    }

    /// The identity, if every check passed.
    pub fn identity(&self) -> Option<&Identity> {
        let is_proved = Check::ALL.iter().all(|check| self.outcome(*check) == Outcome::Passed);
        self.unverified_identity.as_ref().filter(|_| is_proved)
    }

    /// The error by which a gateway refuses the token: that of the first check that failed.
    pub fn error(&self) -> Option<TokenError> {
        Check::ALL.iter().find_map(|check| match self.outcome(*check) {
            Outcome::Failed(error) => Some(error),
            Outcome::Passed | Outcome::Skipped => None,
        })
    }

    /// Notes what a check found and returns it.
    fn note<T>(&mut self, check: Check, found: Result<T, TokenError>) -> Option<T> {
        let outcome = found.as_ref().map_or_else(|error| Outcome::Failed(*error), |_| Outcome::Passed);
        self.outcomes.push((check, outcome));
        found.ok()
    }
}

/// Makes every check that can be made: of the token's form, then by the policy of its issuer, with
/// the signature checked by `keys` if they are given.
pub fn explain(token: &str, policies: &[TokenPolicy], keys: Option<&KeySet>, now: UnixMillis) -> Explanation {
    let mut found = Explanation {
        outcomes: Vec::new(),
        policy: None,
        unverified_header: None,
        unverified_claims: None,
        key: None,
        unverified_identity: None,
    };
    let mut draft = Draft::new(token);
    for (check, run) in FORM_CHECKS {
        let is_split_needed = !matches!(check, Check::Size | Check::Form);
        let can_run = !is_split_needed || found.outcome(Check::Form) == Outcome::Passed;
        // A token beyond its bound is not decoded.
        if can_run && !matches!(found.outcome(Check::Size), Outcome::Failed(_)) {
            let result = run(&mut draft);
            found.note(check, result);
        }
    }
    let header = |header: &Header| [Some(header.alg.clone()), header.kid.clone(), header.typ.clone()];
    found.unverified_header = draft.header.as_ref().map(header);
    found.unverified_claims.clone_from(&draft.claims);
    let has_signature = found.outcome(Check::SignatureForm) == Outcome::Passed;
    check_by_policy(&mut found, draft, policies, now, keys.filter(|_| has_signature));
    found
}

fn check_by_policy(
    found: &mut Explanation,
    draft: Draft<'_>,
    policies: &[TokenPolicy],
    now: UnixMillis,
    keys: Option<&KeySet>,
) {
    let Some(claims) = draft.claims.clone() else { return };
    let subjects = policies.iter().enumerate();
    let matched =
        subjects.filter_map(|(index, policy)| Some((index, policy, Subject::new(&claims, policy, now)?))).next();
    let Some((index, policy, subject)) = found.note(Check::Issuer, matched.ok_or(TokenError::UnknownIssuer)) else {
        return;
    };
    found.policy = Some(index);
    if let Some(header) = &draft.header {
        found.note(Check::Algorithm, header.algorithm(policy));
        found.note(Check::Type, header.check_type(policy));
    }
    if let (Some(keys), Some(token)) = (keys, draft.finish()) {
        check_signature_by(found, &token, policy, keys);
    }
    for (check, run) in CLAIM_CHECKS {
        let is_of_dates = matches!(check, Check::Lifetime | Check::Expiry | Check::Start);
        if !is_of_dates || found.outcome(Check::Dates) == Outcome::Passed {
            found.note(check, run(&subject));
        }
    }
    if found.outcome(Check::Dates) == Outcome::Passed {
        found.unverified_identity = found.note(Check::Identity, subject.identity());
    }
}

/// Tries the keys that the token may be signed with, in the order of the Worker.
fn check_signature_by(found: &mut Explanation, token: &UnverifiedToken<'_>, policy: &TokenPolicy, keys: &KeySet) {
    let issuer = token.unverified_issuer().ok().and_then(|issuer| policy.match_issuer(issuer));
    let (Ok(algorithm), Some(issuer)) = (token.header.algorithm(policy), issuer) else { return };
    let mut tried: Vec<Rc<Key>> = Vec::new();
    while tried.len() < limits::CANDIDATES {
        let query = KeyQuery { kid: token.unverified_kid(), algorithm, issuer, tried: &tried };
        let Some(key) = keys.select(&query) else { break };
        let outcome = check_signature(key.public(), algorithm, token.signing_input(), token.signature());
        if outcome == SignatureOutcome::Valid {
            found.key = Some(key.thumbprint().to_owned());
            break;
        }
        tried.push(Rc::clone(key));
    }
    let has_key = found.key.is_some() || !tried.is_empty();
    if found.note(Check::Key, if has_key { Ok(()) } else { Err(TokenError::UnknownKey) }).is_some() {
        let is_valid = found.key.is_some();
        found.note(Check::Signature, if is_valid { Ok(()) } else { Err(TokenError::BadSignature) });
    }
}
