//! A JSON Web Key Set (RFC 7517), parsed key by key: one that we cannot use
//! never costs us the others. What a single key must be is in `jwk`.

use std::rc::Rc;

use serde_json::Value;

use super::{Key, jwk, limits};
use crate::{Algorithm, IssuerMatch, StrictObject};

/// The usable keys of one issuer; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    /// Shared with the requests that use one, which outlive a refresh.
    keys: Vec<Rc<Key>>,
    /// Entries that could not be used.
    passed_over: usize,
    /// Whether every entry was looked at.
    is_whole: bool,
}

/// What a token asks of a key set.
#[derive(Debug, Clone, Copy)]
pub struct KeyQuery<'a> {
    /// The key that its header names.
    pub kid: Option<&'a str>,
    /// The algorithm to check it with.
    pub algorithm: Algorithm,
    /// Where it comes from.
    pub origin: IssuerMatch<'a>,
    /// Keys by which it did not verify; none of them is worth a second look.
    pub tried: &'a [Rc<Key>],
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
    /// A key is passed over, and the others kept, when it is no object of unique names,
    /// its `kty` is unknown, its `use` or `key_ops` is for something else, its `alg` is not
    /// one of `algorithms`, it is too weak or too large, or it is a private key: an
    /// issuer that publishes one has lost it, and whoever read it can sign.
    /// Several keys may have one `kid` (RFC 7517, section 4.5), or none.
    ///
    /// # Errors
    /// [`JwksError`]; a set without one usable key is an error, so that it
    /// never replaces a good one.
    pub fn parse(body: &[u8], algorithms: &[Algorithm]) -> Result<Self, JwksError> {
        if body.len() > limits::JWKS_BYTES {
            return Err(JwksError::TooLarge);
        }
        let object = StrictObject::parse_sparing(body).ok_or(JwksError::Malformed)?;
        let Some(Value::Array(entries)) = object.member("keys") else {
            return Err(JwksError::Malformed);
        };
        let mut candidates = entries.iter().filter_map(|entry| jwk::candidate(entry, algorithms));
        let mut keys: Vec<Rc<Key>> = Vec::new();
        for key in candidates.by_ref().take(limits::KEYS).filter_map(jwk::Candidate::into_key) {
            if !keys.iter().any(|known| known.is_same(&key)) {
                keys.push(Rc::new(key));
            }
        }
        let is_whole = candidates.next().is_none();
        if keys.is_empty() {
            return Err(if is_whole { JwksError::NoUsableKey } else { JwksError::TooLarge });
        }
        let passed_over = entries.len().saturating_sub(keys.len());
        Ok(Self { keys, passed_over, is_whole })
    }

    /// The next key by which a token may verify.
    ///
    /// A `kid` leads to the keys of that name or, where there are none, to those without a
    /// name: it is a hint (RFC 7515, section 4.1.4), and the signature decides. A token
    /// without `kid` may be of any key that fits, those without a name first.
    pub fn select(&self, wanted: &KeyQuery<'_>) -> Option<&Rc<Key>> {
        let is_new = |key: &&Rc<Key>| !wanted.tried.iter().any(|tried| tried.thumbprint() == key.thumbprint());
        let nameless = || self.fitting(wanted).filter(|key| key.kid().is_none()).find(is_new);
        match wanted.kid {
            Some(_) if self.names(wanted) => self.fitting(wanted).filter(|key| key.kid() == wanted.kid).find(is_new),
            Some(_) => nameless(),
            None => nameless().or_else(|| self.fitting(wanted).find(is_new)),
        }
    }

    /// Whether a key that fits has the name that the token gives.
    pub fn names(&self, wanted: &KeyQuery<'_>) -> bool {
        wanted.kid.is_some() && self.fitting(wanted).any(|key| key.kid() == wanted.kid)
    }

    fn fitting<'a>(&'a self, wanted: &KeyQuery<'_>) -> impl Iterator<Item = &'a Rc<Key>> {
        let KeyQuery { algorithm, origin, .. } = *wanted;
        self.keys.iter().filter(move |key| key.algorithm() == algorithm && origin.takes_key_of(key.issuer()))
    }

    /// Whether every entry of the body was looked at. Where that was too much, a key that
    /// is not here may be published all the same.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// As this set, with what is known of it from elsewhere.
    pub(super) fn with_whole(self, is_whole: bool) -> Self {
        Self { is_whole, ..self }
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
        let holds = |set: &Self, key: &Key| set.keys.iter().any(|own| own.is_same(key));
        self.is_whole == other.is_whole
            && self.keys.len() == other.keys.len()
            && self.keys.iter().all(|key| holds(other, key))
    }
}
