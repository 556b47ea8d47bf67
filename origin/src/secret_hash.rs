//! What is kept of a secret that only has to be recognised: its SHA-256, compared in
//! constant time. For secrets that no dictionary has; passwords are another matter
//! (`auth::password`).

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};

/// SHA-256 of a secret.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

// Not derived: whoever has a weak secret's hash can find the secret.
impl std::fmt::Debug for SecretHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretHash(..)")
    }
}

impl SecretHash {
    /// Of a secret.
    pub fn of(secret: &str) -> Self {
        let mut bytes = [0; 32];
        let digest = digest::digest(&digest::SHA256, secret.as_bytes());
        // Both have 32 bytes.
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    /// As it was stored; `None` for what has another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// To be stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a text is the secret, in a time that tells nothing of it.
    pub fn is_of(&self, text: &str) -> bool {
        verify_slices_are_equal(&Self::of(text).0, &self.0).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_recognised_and_nothing_else_is() {
        let hash = SecretHash::of("abc");
        // FIPS 180-2, appendix B.1.
        assert!(hash.as_bytes().starts_with(&[0xba, 0x78, 0x16, 0xbf]));
        for (text, is_it) in [("abc", true), ("abd", false), ("", false), ("abc ", false)] {
            assert_eq!(hash.is_of(text), is_it, "{text:?}");
        }
        assert!(SecretHash::from_bytes(&[0; 31]).is_none());
        assert_eq!(format!("{hash:?}"), "SecretHash(..)");
    }
}
