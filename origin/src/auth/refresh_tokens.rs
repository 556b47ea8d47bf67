//! Refresh tokens: opaque, 256 random bits; the database stores their SHA-256. The successor of a
//! spent token is stored encrypted (AES-256-GCM) with a key that HKDF (RFC 5869) derives from the
//! spent token, so that only its holder can obtain it again.

use aws_lc_rs::{
    digest,
    hkdf::{HKDF_SHA256, Salt},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_client::secret::Secret;

use super::tokens::failed;
use crate::{http::ApiError, signing::MasterKey, store::sessions::TokenHash};

/// Bytes of a refresh token.
const BYTES: usize = 32;

/// `info` of the derived key (RFC 5869, section 3.2), and associated data of the ciphertext.
const PURPOSE: &str = "portcullis refresh token successor";

/// Makes a refresh token and the hash that is stored.
pub(super) fn fresh() -> Result<(Secret, TokenHash), ApiError> {
    let mut bytes = [0; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| failed("no random bytes"))?;
    Ok((Secret::new(URL_SAFE_NO_PAD.encode(bytes)), Presented(bytes).hash()))
}

/// A refresh token as a client presents it.
pub(super) struct Presented([u8; BYTES]);

impl Presented {
    /// Parses a token; `None` when the text is not one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// The hash that is stored.
    pub(super) fn hash(&self) -> TokenHash {
        let mut hash = TokenHash::default();
        let digest = digest::digest(&digest::SHA256, &self.0);
        hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        hash
    }

    /// Encrypts the successor.
    pub(super) fn seal(&self, successor: &Secret) -> Result<Vec<u8>, ApiError> {
        let key = self.key()?;
        key.seal(PURPOSE, successor.expose().as_bytes()).map_err(|_| failed("a refresh token cannot be encrypted"))
    }

    /// Decrypts the successor.
    pub(super) fn open(&self, sealed: &[u8]) -> Result<Secret, ApiError> {
        let text = self.key()?.open(PURPOSE, sealed).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        text.map(Secret::new).ok_or_else(|| failed("a refresh token cannot be decrypted"))
    }

    fn key(&self) -> Result<MasterKey, ApiError> {
        let fault = || failed("no key can be derived from a refresh token");
        let mut key = [0; 32];
        let secret = Salt::new(HKDF_SHA256, &[]).extract(&self.0);
        let purpose = [PURPOSE.as_bytes()];
        let derived = secret.expand(&purpose, HKDF_SHA256).map_err(|_| fault())?;
        derived.fill(&mut key).map_err(|_| fault())?;
        MasterKey::new(&key).map_err(|_| fault())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_spent_token_opens_its_successor() {
        let (spent, other, next) =
            (Presented([1; BYTES]), Presented([2; BYTES]), Secret::new("the next one".to_owned()));
        let sealed = spent.seal(&next).unwrap();
        assert_eq!(spent.open(&sealed).unwrap().expose(), next.expose());
        assert!(other.open(&sealed).is_err());
        assert!(!sealed.windows(4).any(|part| part == b"next"));
        assert_ne!(spent.seal(&next).unwrap(), sealed, "each encryption has its own nonce");
    }

    #[test]
    fn a_refresh_token_is_the_base64url_of_32_bytes() {
        let (text, hash) = fresh().unwrap();
        assert_eq!(Presented::parse(text.expose()).unwrap().hash(), hash);
        for text in ["", "x", &"A".repeat(42), &"A".repeat(44), &format!("{}=", "A".repeat(43))] {
            assert!(Presented::parse(text).is_none(), "{text}");
        }
    }
}
