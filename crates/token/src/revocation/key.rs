//! What a revocation is filed under: a digest of issuer, kind and id. Ids of users
//! and sessions lie in no log and no cache, and every mark has the same size.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::Identity;

/// What a revocation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationKind {
    /// One token (`jti`).
    Token,
    /// All tokens of a session (`sid`).
    Session,
    /// All tokens of a user that were issued up to an instant.
    User,
    /// All tokens that a key (`kid`) signed.
    Key,
}

impl RevocationKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Session => "session",
            Self::User => "user",
            Self::Key => "key",
        }
    }
}

/// The first half of SHA-256 over kind, issuer and id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevocationKey([u8; 16]);

impl fmt::Debug for RevocationKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RevocationKey({})", self.to_text())
    }
}

impl RevocationKey {
    /// The mark of an issuer's (`iss`) token, session or user.
    pub fn new(kind: RevocationKind, issuer: &str, id: &str) -> Self {
        // Lengths before texts: no two different triples are one input.
        let mut hash = Sha256::new();
        for text in [kind.name(), issuer, id] {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(text.as_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        Self(std::array::from_fn(|index| digest.get(index).copied().unwrap_or_default()))
    }

    /// As base64url, 22 characters.
    pub fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// From [`RevocationKey::to_text`]'s form.
    pub fn from_text(text: &str) -> Option<Self> {
        if text.len() != 22 {
            return None;
        }
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

/// All under which a token may be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationKeys {
    token: Option<RevocationKey>,
    session: Option<RevocationKey>,
    user: RevocationKey,
    key: Option<RevocationKey>,
    /// Seconds; the token's `iat`.
    issued_at: u64,
}

impl RevocationKeys {
    /// The marks of a verified token, and of the key that signed it if that has a `kid`.
    pub fn of(identity: &Identity, kid: Option<&str>) -> Self {
        let mark = |kind, id: &str| RevocationKey::new(kind, &identity.issuer, id);
        Self {
            token: identity.token_id.as_deref().map(|id| mark(RevocationKind::Token, id)),
            session: identity.session_id.as_deref().map(|id| mark(RevocationKind::Session, id)),
            user: mark(RevocationKind::User, &identity.user_id),
            key: kid.map(|kid| mark(RevocationKind::Key, kid)),
            issued_at: identity.issued_at.secs(),
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = RevocationKey> {
        [self.token, self.session, Some(self.user), self.key].into_iter().flatten()
    }

    /// What ends when its owner logs out: the session, or a token that has none. A
    /// token without either can only end with all of its user's.
    pub fn end(&self) -> Option<RevocationKey> {
        self.session.or(self.token)
    }

    /// Seconds; when the token was issued.
    pub const fn issued_at(&self) -> u64 {
        self.issued_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_different_things_differ_and_survive_their_text() {
        let mut seen = Vec::new();
        for (kind, issuer, id) in [
            (RevocationKind::Token, "i", "1"),
            (RevocationKind::Session, "i", "1"),
            (RevocationKind::User, "i", "1"),
            (RevocationKind::Key, "i", "1"),
            (RevocationKind::User, "i1", ""),
            (RevocationKind::User, "", "i1"),
            (RevocationKind::User, "j", "1"),
        ] {
            let mark = RevocationKey::new(kind, issuer, id);
            assert!(!seen.contains(&mark), "{kind:?} {issuer:?} {id:?}");
            assert_eq!(RevocationKey::from_text(&mark.to_text()), Some(mark));
            seen.push(mark);
        }
        for text in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(RevocationKey::from_text(text), None, "{text:?}");
        }
    }
}
