//! SHA-256 of secrets that are only compared, in constant time. For random secrets, which no
//! dictionary contains; passwords use Argon2.

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};

/// SHA-256 of a secret.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

// Not derived: the hash of a weak secret leads to the secret.
impl std::fmt::Debug for SecretHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretHash(..)")
    }
}

impl SecretHash {
    /// Hashes a secret.
    pub fn of(secret: &str) -> Self {
        let mut bytes = [0; 32];
        let digest = digest::digest(&digest::SHA256, secret.as_bytes());
        // Both have 32 bytes.
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    /// Reads a stored hash. `None` if its length differs.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether a text is the secret, in constant time.
    pub fn is_of(&self, text: &str) -> bool {
        verify_slices_are_equal(&Self::of(text).0, &self.0).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_matches_its_secret_only() {
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
