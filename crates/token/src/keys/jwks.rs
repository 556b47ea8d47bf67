//! A JSON Web Key Set (RFC 7517), parsed key by key: an unusable one does not spoil the others.

use std::rc::Rc;

use serde_json::Value;

use super::{
    jwk::{self, Key},
    limits,
};
use crate::{algorithm::Algorithm, json::StrictObject, named_enum::named_enum, policy::IssuerMatch};

/// The usable keys of one issuer; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    /// Shared with requests in progress, which outlive a refresh.
    keys: Vec<Rc<Key>>,
    /// Number of entries that were skipped, for `/status`.
    pub passed_over: usize,
    /// Whether every entry of the body was examined. If not, a key that is missing here may still be published.
    pub is_whole: bool,
}

/// The key that a token needs.
#[derive(Clone, Copy)]
pub struct KeyQuery<'a> {
    /// `kid` of its header.
    pub kid: Option<&'a str>,
    /// The selected algorithm.
    pub algorithm: Algorithm,
    /// Its issuer.
    pub issuer: IssuerMatch<'a>,
    /// Keys with which its signature did not verify.
    pub tried: &'a [Rc<Key>],
}

named_enum! {
    /// Why what an issuer published is refused.
    KeySetError,
    /// Stable code for logs and `/status`.
    code,
    /// A key set of more than [`limits::JWKS_BYTES`], or with too many entries before a usable one.
    TooLarge = "jwks_too_large",
    /// A key set that is not a JSON object with an array `keys`.
    Malformed = "jwks_malformed",
    /// A key set without a usable key.
    NoUsableKey = "jwks_no_usable_key",
    /// A discovery document that is not a bounded JSON object with `issuer` and `jwks_uri`.
    DiscoveryMalformed = "discovery_malformed",
    /// The discovery document of another issuer (OpenID Connect Discovery 1.0, section 4.3), whose
    /// keys must not count for this one.
    WrongIssuer = "discovery_issuer_mismatch",
}

impl KeySet {
    /// Parses a JWKS body for an issuer that signs with `algorithms`.
    ///
    /// Skips a key that is not an object of unique members, whose `kty` is unknown, whose `use` or
    /// `key_ops` is for something else, whose `alg` is not one of `algorithms`, whose `kid` or
    /// `issuer` is not a string, that is too weak or too large, or that is private: anyone who has
    /// read a published private key can sign. Several keys may have the same `kid` (RFC 7517, section 4.5), or none.
    ///
    /// # Errors
    /// [`KeySetError`], also for a set without a usable key, so that it never replaces a good one.
    pub fn parse(body: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeySetError> {
        let entries = entries_of(body)?;
        let mut candidates = entries.iter().filter_map(|entry| {
            let jwk = entry.as_object()?;
            Some((jwk, jwk::select_algorithm(jwk, algorithms).ok()?))
        });
        let mut keys: Vec<Rc<Key>> = Vec::new();
        let examined = candidates.by_ref().take(limits::KEYS);
        for key in examined.filter_map(|(jwk, algorithm)| Key::parse(jwk, algorithm).ok()) {
            if !keys.iter().any(|known| **known == key) {
                keys.push(Rc::new(key));
            }
        }
        let is_whole = candidates.next().is_none();
        if keys.is_empty() {
            return Err(if is_whole { KeySetError::NoUsableKey } else { KeySetError::TooLarge });
        }
        Ok(Self { passed_over: entries.len().saturating_sub(keys.len()), keys, is_whole })
    }

    /// Parses a set by the same rules, but refuses it for an entry that [`KeySet::parse`] would skip: the author of a
    /// policy can correct it, and a private key in it is an accident to learn of.
    ///
    /// # Errors
    /// What is wrong, in words that hold no part of the set.
    pub fn parse_strict(body: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        let entries = entries_of(body).map_err(|error| {
            if error == KeySetError::TooLarge {
                return format!("has more than {} bytes", limits::JWKS_BYTES);
            }
            "is not a key set: an object with an array \"keys\"".to_owned()
        })?;
        if !(1..=limits::KEYS).contains(&entries.len()) {
            return Err(format!("has {} keys; write 1 to {}", entries.len(), limits::KEYS));
        }
        let mut keys: Vec<Rc<Key>> = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let key = entry.as_object().ok_or("is not an object of unique members");
            let key = key.and_then(|jwk| Key::parse(jwk, jwk::select_algorithm(jwk, algorithms)?));
            let is_new = |key: &Key| !keys.iter().any(|known| **known == *key);
            let key = key.and_then(|key| if is_new(&key) { Ok(key) } else { Err("is there twice") });
            keys.push(Rc::new(key.map_err(|fault| format!("has a key that cannot be used: keys[{index}] {fault}"))?));
        }
        Ok(Self { keys, passed_over: 0, is_whole: true })
    }

    /// Selects the next key to try for a token.
    ///
    /// A `kid` selects the keys of that id or, if there are none, those without an id: it is a hint
    /// (RFC 7515, section 4.1.4), and the signature decides. A token without `kid` may be signed by
    /// any key that fits, those without an id first.
    pub fn select(&self, query: &KeyQuery<'_>) -> Option<&Rc<Key>> {
        let is_new = |key: &&Rc<Key>| !query.tried.iter().any(|tried| tried.thumbprint == key.thumbprint);
        let kid = query.kid.filter(|_| self.names(query));
        let first = self.fitting(query).filter(|key| key.kid.as_deref() == kid).find(is_new);
        first.or_else(|| self.fitting(query).filter(|_| query.kid.is_none()).find(is_new))
    }

    /// Whether a key that fits has the `kid` of the token.
    pub fn names(&self, query: &KeyQuery<'_>) -> bool {
        query.kid.is_some() && self.fitting(query).any(|key| key.kid.as_deref() == query.kid)
    }

    fn fitting<'a>(&'a self, query: &KeyQuery<'_>) -> impl Iterator<Item = &'a Rc<Key>> {
        let KeyQuery { algorithm, issuer, .. } = *query;
        self.keys.iter().filter(move |key| key.algorithm == algorithm && issuer.accepts_key_of(key.issuer.as_deref()))
    }

    /// All keys, in the issuer's order.
    pub fn keys(&self) -> &[Rc<Key>] {
        &self.keys
    }

    /// Returns the set as JWKS text with the defining members only.
    pub fn to_json(&self) -> String {
        let keys: Vec<Value> = self.keys.iter().map(|key| key.to_jwk()).collect();
        serde_json::json!({ "keys": keys }).to_string()
    }

    /// Whether both hold the same keys under the same ids.
    pub fn same_keys(&self, other: &Self) -> bool {
        self.is_whole == other.is_whole
            && self.keys.len() == other.keys.len()
            && self.keys.iter().all(|key| other.keys.contains(key))
    }
}

/// Returns the entries of a JWKS body.
pub(super) fn entries_of(body: &[u8]) -> Result<Vec<Value>, KeySetError> {
    if body.len() > limits::JWKS_BYTES {
        return Err(KeySetError::TooLarge);
    }
    let object = StrictObject::parse_lenient(body).ok_or(KeySetError::Malformed)?;
    if let Some(Value::Array(entries)) = object.into_member("keys") { Ok(entries) } else { Err(KeySetError::Malformed) }
}
