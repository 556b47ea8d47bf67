//! Tokens that were verified a short while ago, by the SHA-256 of their bytes: one
//! signature check serves many requests.
//!
//! What is remembered is the identity and the key that vouched for it, never a
//! decision: rights are judged anew for every request, and so is whether the key is
//! still its issuer's and the token revoked. Bounded in entries and bytes; the oldest goes first.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use sha2::{Digest as _, Sha256};

use super::limits;
use crate::{
    keys::Key,
    revocation::RevocationKeys,
    token::{UnixMillis, VerifiedToken},
};

/// SHA-256 of a token. Not the token: what lies in memory can be dumped.
pub(super) type TokenDigest = [u8; 32];

/// A verified token.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) verified: Rc<VerifiedToken>,
    /// Index of its issuer.
    pub(super) issuer: usize,
    /// The key that its signature was checked with.
    pub(super) key: Rc<Key>,
    /// Under which it may be revoked, if it may.
    pub(super) marks: Option<RevocationKeys>,
}

/// The memory of one isolate.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    entries: HashMap<TokenDigest, (Entry, UnixMillis, usize)>,
    order: VecDeque<TokenDigest>,
    bytes: usize,
    pub(super) hits: u64,
    pub(super) misses: u64,
}

pub(super) fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token).into()
}

impl Remembered {
    /// The token, unless its time is over at `now`.
    pub(super) fn find(&self, digest: &TokenDigest, now: UnixMillis) -> Option<Entry> {
        self.entries.get(digest).filter(|(_, until, _)| now < *until).map(|(entry, _, _)| entry.clone())
    }

    /// Remembers a token that expires at `expires_at`.
    pub(super) fn note(&mut self, digest: TokenDigest, entry: Entry, expires_at: UnixMillis, now: UnixMillis) {
        let until = expires_at.min(now.plus(limits::REMEMBER_MS));
        let bytes = size(&entry);
        if until <= now || bytes > limits::REMEMBERED_BYTES {
            return;
        }
        match self.entries.insert(digest, (entry, until, bytes)) {
            Some((_, _, before)) => self.bytes = self.bytes.saturating_sub(before),
            None => self.order.push_back(digest),
        }
        self.bytes = self.bytes.saturating_add(bytes);
        while self.entries.len() > limits::REMEMBERED || self.bytes > limits::REMEMBERED_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some((_, _, bytes)) = self.entries.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(bytes);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Bytes that an entry holds, about: its texts, and what each of them and the entry
/// itself cost besides.
fn size(entry: &Entry) -> usize {
    let identity = entry.verified.identity();
    let options = [&identity.email, &identity.session_id, &identity.token_id];
    let lists = [&identity.roles, &identity.scopes];
    let texts = std::iter::once(identity.user_id.as_str())
        .chain(std::iter::once(identity.issuer.as_str()))
        .chain(options.into_iter().flatten().map(String::as_str))
        .chain(lists.into_iter().flatten().map(String::as_str));
    let claims = identity.claims.iter().fold(0, |sum: usize, (path, value)| {
        let text = value.as_str().map_or(0, str::len);
        path.iter()
            .fold(sum, |sum, name| sum.saturating_add(name.len()))
            .saturating_add(text)
            .saturating_add(limits::REMEMBERED_TEXT_BYTES)
    });
    texts.fold(limits::REMEMBERED_ENTRY_BYTES.saturating_add(claims), |sum, text| {
        sum.saturating_add(text.len()).saturating_add(limits::REMEMBERED_TEXT_BYTES)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::KeySet,
        token::{self, Algorithm, ClaimNames, SignatureOutcome, TokenPolicy},
    };

    const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);

    /// An entry whose role names have `bytes` in all.
    fn entry(bytes: usize) -> Entry {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let policy = TokenPolicy {
            issuer: "i".into(),
            tenants: vec![],
            audience: vec!["a".into()],
            audience_claim: vec!["aud".into()],
            algorithms: vec![Algorithm::EdDsa],
            types: vec![],
            token_type: None,
            claims: ClaimNames::default(),
            require: vec![],
            kept: vec![],
            leeway_s: 0,
            max_lifetime_s: 3600,
        };
        let roles: Vec<String> = (0..bytes / 50).map(|_| "r".repeat(50)).collect();
        let now = NOW.secs();
        let claims = serde_json::json!({ "iss": "i", "aud": "a", "sub": "s", "iat": now, "exp": now.saturating_add(900), "roles": roles });
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let text = format!("{}.{}.AA", part(r#"{"alg":"EdDSA"}"#.into()), part(claims.to_string()));
        let verified = token::parse(&text).unwrap().admit(SignatureOutcome::Valid, &policy, NOW).unwrap();
        // RFC 8037, appendix A.2.
        let jwks = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let set = KeySet::parse(jwks.as_bytes(), &[Algorithm::EdDsa]).unwrap();
        Entry { verified: Rc::new(verified), issuer: 0, key: Rc::clone(&set.keys()[0]), marks: None }
    }

    fn digest_of(number: usize) -> TokenDigest {
        digest(&number.to_string())
    }

    #[test]
    fn entries_and_bytes_are_bounded_and_the_oldest_go_first() {
        for (bytes, most) in [(0, limits::REMEMBERED), (2500, limits::REMEMBERED_BYTES / 2500)] {
            let mut remembered = Remembered::default();
            let (entry, until) = (entry(bytes), NOW.plus(60_000));
            for number in 0..limits::REMEMBERED + 100 {
                remembered.note(digest_of(number), entry.clone(), until, NOW);
            }
            assert!(remembered.len() <= most && remembered.len() > most / 4, "{} of {most}", remembered.len());
            assert!(remembered.bytes() <= limits::REMEMBERED_BYTES);
            assert!(remembered.find(&digest_of(0), NOW).is_none());
            assert!(remembered.find(&digest_of(limits::REMEMBERED + 99), NOW).is_some());
            assert_eq!(remembered.order.len(), remembered.len());
        }
    }

    #[test]
    fn what_is_noted_again_takes_no_more_room() {
        let mut remembered = Remembered::default();
        let entry = entry(100);
        for _ in 0..1000 {
            remembered.note(digest_of(1), entry.clone(), NOW.plus(60_000), NOW);
        }
        assert_eq!((remembered.len(), remembered.order.len(), remembered.bytes()), (1, 1, size(&entry)));
    }

    #[test]
    fn time_ends_what_is_remembered() {
        let mut remembered = Remembered::default();
        let entry = entry(0);
        for (number, expires_in, good_for) in [(1, 1000, 1000), (2, u64::MAX / 2, limits::REMEMBER_MS), (3, 0, 0)] {
            remembered.note(digest_of(number), entry.clone(), NOW.plus(expires_in), NOW);
            if good_for > 0 {
                assert!(remembered.find(&digest_of(number), NOW.plus(good_for - 1)).is_some(), "{number}");
            }
            assert!(remembered.find(&digest_of(number), NOW.plus(good_for)).is_none(), "{number}");
        }
    }
}
