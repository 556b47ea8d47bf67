//! API keys: secrets that a client stores, of a form that software recognises.
//!
//! ```text
//! pck_8f3a…40 hexadecimal digits…1c90d2ab
//! ^^^ prefix                     ^^^^^^^^ checksum
//! ```
//!
//! The checksum is the first four bytes of SHA-256 over the text before it, the prefix included. It is no secret: it tells
//! a mistyped or shortened key, and a text that only looks like one, from a key without a look-up. Stores have the digest
//! of a key alone. A key has 160 random bits, so a fast hash without a salt is enough.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::limits::{API_KEY_CHECKSUM_BYTES, API_KEY_RANDOM_BYTES};

/// The text of an API key. Not `Debug`, because it is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Makes a key of random bytes.
    pub fn new(prefix: &str, random: [u8; API_KEY_RANDOM_BYTES]) -> Self {
        let mut text = [prefix, "_"].concat();
        push_hex(&mut text, &random);
        let checksum = checksum(&text);
        push_hex(&mut text, &checksum);
        Self(text)
    }

    /// Reads the text of a key with this prefix; `None` if its form or its checksum is wrong.
    pub fn parse(text: &str, prefix: &str) -> Option<Self> {
        let digits = digits(text, prefix)?.as_bytes();
        let is_hex = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex || digits.len() != 2 * (API_KEY_RANDOM_BYTES + API_KEY_CHECKSUM_BYTES) {
            return None;
        }
        let (signed, shown) = text.split_at_checked(text.len().checked_sub(2 * API_KEY_CHECKSUM_BYTES)?)?;
        let mut expected = String::new();
        push_hex(&mut expected, &checksum(signed));
        (expected == shown).then(|| Self(text.to_owned()))
    }

    /// Returns whether a text begins like a key with this prefix. It is then such a key or nothing.
    pub fn has_prefix(text: &str, prefix: &str) -> bool {
        digits(text, prefix).is_some()
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the SHA-256 of the text in base64url, by which stores know the key.
    pub fn digest(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.hash())
    }

    /// Returns the SHA-256 of the text.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

/// Returns what follows the prefix and `_`.
fn digits<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix)?.strip_prefix('_')
}

fn checksum(text: &str) -> [u8; API_KEY_CHECKSUM_BYTES] {
    Sha256::digest(text).first_chunk().copied().unwrap_or_default()
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    text.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
}
