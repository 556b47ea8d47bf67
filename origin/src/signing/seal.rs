//! Sealing of private keys: AES-256-GCM (NIST SP 800-38D) under the master key.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};

/// Encrypts private keys at rest.
pub struct MasterKey(RandomizedNonceKey);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MasterKey(..)")
    }
}

/// Sealing failed, or what was to be opened was not sealed by this key for
/// this purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealFault;

/// Bytes of a nonce, which stand before the ciphertext.
const NONCE_BYTES: usize = 12;

impl MasterKey {
    /// From 32 bytes.
    ///
    /// # Errors
    /// [`SealFault`] never with 32 bytes; the library wants it said.
    pub fn new(bytes: &[u8; 32]) -> Result<Self, SealFault> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes).map(Self).map_err(|_| SealFault)
    }

    /// Encrypts; `context` is bound to it, so a sealed key cannot be put in
    /// another's row.
    ///
    /// # Errors
    /// [`SealFault`].
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealFault> {
        let mut text = plain.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(context), &mut text).map_err(|_| SealFault)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Decrypts.
    ///
    /// # Errors
    /// [`SealFault`].
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, SealFault> {
        let (nonce, text) = sealed.split_at_checked(NONCE_BYTES).ok_or(SealFault)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealFault)?;
        let mut text = text.to_vec();
        let plain = self.0.open_in_place(nonce, Aad::from(context), &mut text).map_err(|_| SealFault)?;
        Ok(plain.to_vec())
    }
}
