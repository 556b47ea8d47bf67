//! Keys of revocations: digests of issuer, kind and id, of one size, so that no cache holds ids of users or sessions.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{claims::Identity, named_enum::named_enum};

named_enum! {
    /// What a revocation applies to.
    RevocationKind,
    /// Its name in the input of a key's digest.
    name,
    /// One token (`jti`).
    Token = "token",
    /// All tokens of a session (`sid`).
    Session = "session",
    /// All tokens of a user that were issued up to a time.
    User = "user",
    /// The tokens of a user that name no session, issued up to a time: one of them may be of a session that has ended.
    SessionlessUser = "user without session",
    /// All tokens that a key (`kid`) signed.
    Key = "key",
}

/// The first 16 bytes of SHA-256 over kind, issuer and id. As text, base64url of 22 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RevocationKey([u8; 16]);

impl RevocationKey {
    /// Derives the key for an id of an issuer (`iss`).
    pub fn new(kind: RevocationKind, issuer: &str, id: &str) -> Self {
        // Lengths before texts, so that different triples are different inputs.
        let mut hash = Sha256::new();
        for text in [kind.name(), issuer, id] {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(text.as_bytes());
        }
        Self(hash.finalize().first_chunk().copied().unwrap_or_default())
    }
}

impl From<RevocationKey> for String {
    fn from(key: RevocationKey) -> Self {
        URL_SAFE_NO_PAD.encode(key.0)
    }
}

impl TryFrom<String> for RevocationKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("not a revocation key")
    }
}

/// The keys under which a token may be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationKeys {
    /// Of the token, its session (without one: of its user's tokens without one), its user and its signing key.
    keys: [Option<RevocationKey>; 4],
    has_session: bool,
    /// The token's `iat`, in seconds.
    pub(super) issued_at: u64,
}

impl RevocationKeys {
    /// Derives the keys of a verified token and of the `kid` of its signing key.
    pub fn of(identity: &Identity, kid: Option<&str>) -> Self {
        let key = |kind, id: &str| RevocationKey::new(kind, &identity.issuer, id);
        let keys = [
            identity.token_id.as_deref().map(|id| key(RevocationKind::Token, id)),
            Some(match &identity.session_id {
                Some(id) => key(RevocationKind::Session, id),
                None => key(RevocationKind::SessionlessUser, &identity.user_id),
            }),
            Some(key(RevocationKind::User, &identity.user_id)),
            kid.map(|kid| key(RevocationKind::Key, kid)),
        ];
        Self { keys, has_session: identity.session_id.is_some(), issued_at: identity.issued_at.secs() }
    }

    /// Derives the key of a signing key of an issuer, whatever it signed.
    pub fn of_signer(issuer: &str, kid: &str) -> Self {
        let keys = [None, None, None, Some(RevocationKey::new(RevocationKind::Key, issuer, kid))];
        Self { keys, has_session: false, issued_at: 0 }
    }

    /// All keys.
    pub fn iter(&self) -> impl Iterator<Item = RevocationKey> {
        self.keys.into_iter().flatten()
    }

    /// The key to revoke when the user logs out: the session's or, without a session, the token's. A
    /// token with neither can only be revoked with all tokens of its user.
    pub fn end(&self) -> Option<RevocationKey> {
        let [token, session, ..] = self.keys;
        session.filter(|_| self.has_session).or(token)
    }
}
