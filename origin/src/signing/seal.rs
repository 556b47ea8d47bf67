//! Encryption of private keys at rest: AES-256-GCM (NIST SP 800-38D) with the master key.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};

/// The master key. During a change of the master key it also decrypts with the previous one.
pub struct MasterKey {
    current: RandomizedNonceKey,
    old: Option<RandomizedNonceKey>,
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MasterKey(..)")
    }
}

/// The encryption failed, or the ciphertext was not made with this key and context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealFault;

/// Bytes of the nonce before the ciphertext.
const NONCE_BYTES: usize = 12;

impl MasterKey {
    /// Makes a key from 32 bytes.
    ///
    /// # Errors
    /// [`SealFault`] only if the cryptographic library fails.
    pub fn new(bytes: &[u8; 32]) -> Result<Self, SealFault> {
        Ok(Self { current: key(bytes)?, old: None })
    }

    /// Adds the previous key.
    ///
    /// # Errors
    /// [`SealFault`] only if the cryptographic library fails.
    pub fn after(self, old: &[u8; 32]) -> Result<Self, SealFault> {
        Ok(Self { old: Some(key(old)?), ..self })
    }

    /// Encrypts. The ciphertext is bound to `context`, so that it cannot be moved to another row.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealFault> {
        let mut text = plain.to_vec();
        let nonce = self.current.seal_in_place_append_tag(Aad::from(context), &mut text).map_err(|_| SealFault)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Decrypts.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, SealFault> {
        match (open(&self.current, context, sealed), &self.old) {
            (Err(SealFault), Some(old)) => open(old, context, sealed),
            (opened, _) => opened,
        }
    }

    /// Encrypts a ciphertext of the previous key with the current one. `None` if it is of the current
    /// one already.
    ///
    /// # Errors
    /// [`SealFault`] if it is of neither.
    pub fn reseal(&self, context: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealFault> {
        if open(&self.current, context, sealed).is_ok() {
            return Ok(None);
        }
        let plain = open(self.old.as_ref().ok_or(SealFault)?, context, sealed)?;
        self.seal(context, &plain).map(Some)
    }
}

fn key(bytes: &[u8; 32]) -> Result<RandomizedNonceKey, SealFault> {
    RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| SealFault)
}

fn open(key: &RandomizedNonceKey, context: &str, sealed: &[u8]) -> Result<Vec<u8>, SealFault> {
    let (nonce, text) = sealed.split_at_checked(NONCE_BYTES).ok_or(SealFault)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealFault)?;
    let mut text = text.to_vec();
    let plain = key.open_in_place(nonce, Aad::from(context), &mut text).map_err(|_| SealFault)?;
    Ok(plain.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ciphertext_of_the_previous_key_is_decrypted_and_resealed_once() {
        let (old, new) = (MasterKey::new(&[1; 32]).unwrap(), MasterKey::new(&[2; 32]).unwrap());
        let both = MasterKey::new(&[2; 32]).unwrap().after(&[1; 32]).unwrap();
        let sealed = old.seal("kid", b"plain").unwrap();
        assert_eq!(new.open("kid", &sealed), Err(SealFault));
        assert_eq!(new.reseal("kid", &sealed), Err(SealFault));
        assert_eq!(both.open("kid", &sealed).as_deref(), Ok(&b"plain"[..]));
        assert_eq!(both.reseal("another kid", &sealed), Err(SealFault), "still bound to its context");
        let resealed = both.reseal("kid", &sealed).unwrap().unwrap();
        assert_eq!(new.open("kid", &resealed).as_deref(), Ok(&b"plain"[..]));
        assert_eq!(old.open("kid", &resealed), Err(SealFault));
        assert_eq!(both.reseal("kid", &resealed), Ok(None));
        for broken in [&b""[..], b"short", &resealed[1..]] {
            assert_eq!(both.open("kid", broken), Err(SealFault));
            assert_eq!(both.reseal("kid", broken), Err(SealFault));
        }
    }
}
