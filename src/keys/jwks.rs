//! A JSON Web Key Set (RFC 7517), parsed key by key: one that we cannot use
//! never costs us the others. What a single key must be is in `jwk`.

use std::{collections::HashSet, rc::Rc};

use serde_json::Value;

use super::{Key, jwk, limits};
use crate::token::{Algorithm, StrictObject};

/// The usable keys of one issuer; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    /// Shared with the requests that use one, which outlive a refresh.
    keys: Vec<Rc<Key>>,
    /// Entries that could not be used.
    passed_over: usize,
}

/// Why a body is not a key set that could replace another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwksError {
    /// More than [`limits::JWKS_BYTES`].
    TooLarge,
    /// Not a JSON object with an array `keys`.
    Malformed,
    /// No key in it is one that we can use.
    NoUsableKey,
}

impl JwksError {
    /// Stable code for logs and `/status`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "jwks_too_large",
            Self::Malformed => "jwks_malformed",
            Self::NoUsableKey => "jwks_no_usable_key",
        }
    }
}

impl KeySet {
    /// Parses a JWKS body for an issuer that signs with `algorithms`.
    ///
    /// A key is passed over, and the others kept, when its `kty` is unknown,
    /// its `use` or `key_ops` is for something else, its `alg` is not one of
    /// `algorithms`, it is too weak or too large, or it is a private key: an
    /// issuer that publishes one has lost it, and whoever read it can sign.
    /// Of two different keys under one `kid` none is kept: nobody can say
    /// which of them is meant.
    ///
    /// # Errors
    /// [`JwksError`]; a set without one usable key is an error, so that it
    /// never replaces a good one.
    pub fn parse(body: &[u8], algorithms: &[Algorithm]) -> Result<Self, JwksError> {
        if body.len() > limits::JWKS_BYTES {
            return Err(JwksError::TooLarge);
        }
        let object = StrictObject::parse(body).ok_or(JwksError::Malformed)?;
        let Some(Value::Array(entries)) = object.member("keys") else {
            return Err(JwksError::Malformed);
        };
        let mut keys: Vec<Rc<Key>> = Vec::new();
        let mut ambiguous: Vec<Option<String>> = Vec::new();
        for key in entries.iter().take(limits::KEYS).filter_map(|entry| jwk::parse(entry, algorithms)) {
            match keys.iter().find(|known| known.kid() == key.kid()) {
                None => keys.push(Rc::new(key)),
                Some(known) if known.thumbprint() == key.thumbprint() => {}
                Some(_) => ambiguous.push(key.kid().map(str::to_owned)),
            }
        }
        keys.retain(|key| !ambiguous.iter().any(|kid| kid.as_deref() == key.kid()));
        if keys.is_empty() {
            return Err(JwksError::NoUsableKey);
        }
        let passed_over = entries.len().saturating_sub(keys.len());
        Ok(Self { keys, passed_over })
    }

    /// The key for a token's `kid`. A token without one is served only when the
    /// set leaves no choice (RFC 7515, section 4.1.4).
    pub fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Rc<Key>> {
        match kid {
            Some(_) => self.keys.iter().find(|key| key.kid() == kid && key.algorithm() == algorithm),
            None => match self.keys.as_slice() {
                [only] if only.algorithm() == algorithm => Some(only),
                _ => None,
            },
        }
    }

    /// All keys, in the issuer's order.
    pub fn keys(&self) -> &[Rc<Key>] {
        &self.keys
    }

    /// How many entries of the body could not be used: for whoever wonders why a
    /// published key is not known.
    pub fn passed_over(&self) -> usize {
        self.passed_over
    }

    /// The set as JWKS text with the defining members alone.
    pub fn to_json(&self) -> String {
        let keys: Vec<Value> = self.keys.iter().map(|key| key.to_jwk()).collect();
        serde_json::json!({ "keys": keys }).to_string()
    }

    /// True when both hold the same keys under the same names.
    pub fn same_keys(&self, other: &Self) -> bool {
        self.names() == other.names()
    }

    fn names(&self) -> HashSet<(Option<&str>, &'static str, &str)> {
        self.keys.iter().map(|key| (key.kid(), key.algorithm().name(), key.thumbprint())).collect()
    }
}
