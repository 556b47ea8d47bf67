//! A JSON Web Key Set (RFC 7517), parsed key by key: one that we cannot use
//! never costs us the others.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rsa::{BigUint, RsaPublicKey, traits::PublicKeyParts as _};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::limits;
use crate::token::{Algorithm, StrictObject};

/// A public key fit for checking signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    thumbprint: String,
    public: RsaPublicKey,
    jwk: PublicJwk,
}

/// The members that define the key, and no others: this is what is written to
/// KV and handed to WebCrypto.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PublicJwk {
    e: String,
    kty: &'static str,
    n: String,
}

impl Key {
    /// The issuer's name for the key.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm that this key is used with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// RFC 7638 thumbprint: the identity of the key itself, whatever its name.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// For the pure-Rust backend.
    pub fn rsa(&self) -> &RsaPublicKey {
        &self.public
    }

    /// Modulus, base64url without padding: for `importKey` in JWK form.
    pub fn modulus(&self) -> &str {
        &self.jwk.n
    }

    /// Public exponent, base64url without padding.
    pub fn exponent(&self) -> &str {
        &self.jwk.e
    }
}

/// The usable keys of one issuer; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Key>,
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
        let mut keys: Vec<Key> = Vec::new();
        let mut ambiguous: Vec<Option<String>> = Vec::new();
        for key in entries.iter().take(limits::KEYS).filter_map(|entry| parse_key(entry, algorithms)) {
            match keys.iter().find(|known| known.kid == key.kid) {
                None => keys.push(key),
                Some(known) if known.thumbprint == key.thumbprint => {}
                Some(_) => ambiguous.push(key.kid),
            }
        }
        keys.retain(|key| !ambiguous.contains(&key.kid));
        if keys.is_empty() { Err(JwksError::NoUsableKey) } else { Ok(Self { keys }) }
    }

    /// The key for a token's `kid`. A token without one is served only when the
    /// set leaves no choice (RFC 7515, section 4.1.4).
    pub fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        match kid {
            Some(_) => self.keys.iter().find(|key| key.kid() == kid && key.algorithm == algorithm),
            None => match self.keys.as_slice() {
                [only] if only.algorithm == algorithm => Some(only),
                _ => None,
            },
        }
    }

    /// All keys, in the issuer's order.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The set as JWKS text with the defining members alone.
    pub fn to_json(&self) -> String {
        let keys: Vec<Value> = self
            .keys
            .iter()
            .map(|key| {
                serde_json::json!({
                    "kty": key.jwk.kty, "n": key.jwk.n, "e": key.jwk.e,
                    "alg": key.algorithm.name(), "kid": key.kid, "use": "sig",
                })
            })
            .collect();
        serde_json::json!({ "keys": keys }).to_string()
    }

    /// True when both hold the same keys under the same names.
    pub fn same_keys(&self, other: &Self) -> bool {
        let names = |set: &Self| {
            let mut names: Vec<(Option<String>, String)> =
                set.keys.iter().map(|key| (key.kid.clone(), key.thumbprint.clone())).collect();
            names.sort();
            names
        };
        names(self) == names(other)
    }
}

/// Members that make a JWK a private or secret key (RFC 7518, sections 6.2.2,
/// 6.3.2 and 6.4.1).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

fn parse_key(entry: &Value, algorithms: &[Algorithm]) -> Option<Key> {
    let members = entry.as_object()?;
    let string = |name: &str| members.get(name).and_then(Value::as_str);
    if PRIVATE_MEMBERS.iter().any(|name| members.contains_key(*name)) {
        return None;
    }
    match members.get("use") {
        None => {}
        Some(value) if value.as_str() == Some("sig") => {}
        Some(_) => return None,
    }
    match members.get("key_ops") {
        None => {}
        Some(Value::Array(operations)) if operations.iter().any(|name| name.as_str() == Some("verify")) => {}
        Some(_) => return None,
    }
    let kid = match members.get("kid") {
        None | Some(Value::Null) => None,
        Some(Value::String(kid)) if is_fit_kid(kid) => Some(kid.clone()),
        Some(_) => return None,
    };
    if string("kty")? != "RSA" {
        return None;
    }
    let algorithm = match members.get("alg") {
        // RFC 7517, section 4.4: `alg` is optional. The issuer's list decides,
        // if it leaves no choice.
        None | Some(Value::Null) => match algorithms {
            [only] => *only,
            _ => return None,
        },
        Some(name) => Algorithm::from_name(name.as_str()?)?,
    };
    if !algorithms.contains(&algorithm) {
        return None;
    }
    let modulus = URL_SAFE_NO_PAD.decode(string("n")?).ok()?;
    let exponent = URL_SAFE_NO_PAD.decode(string("e")?).ok()?;
    let public = rsa_key(&modulus, &exponent)?;
    let jwk = PublicJwk {
        e: URL_SAFE_NO_PAD.encode(public.e().to_bytes_be()),
        kty: "RSA",
        n: URL_SAFE_NO_PAD.encode(public.n().to_bytes_be()),
    };
    // RFC 7638: the required members in lexicographic order, no blanks; the
    // field order of `PublicJwk` is that order.
    let canonical = serde_json::to_vec(&jwk).ok()?;
    let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
    Some(Key { kid, algorithm, thumbprint, public, jwk })
}

fn is_fit_kid(kid: &str) -> bool {
    !kid.is_empty() && kid.len() <= crate::token::limits::KID_BYTES && !kid.chars().any(char::is_control)
}

fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Option<RsaPublicKey> {
    if modulus.len() > limits::RSA_BITS_MAX.div_ceil(8).saturating_add(1) || exponent.len() > 8 {
        return None;
    }
    let (n, e) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
    // An even modulus or exponent is no RSA key at all; e = 1 makes every
    // message its own signature.
    if !is_odd(&n) || !is_odd(&e) || e < BigUint::from(3_u8) {
        return None;
    }
    if !(limits::RSA_BITS_MIN..=limits::RSA_BITS_MAX).contains(&n.bits()) {
        return None;
    }
    RsaPublicKey::new(n, e).ok()
}

fn is_odd(number: &BigUint) -> bool {
    number.to_bytes_le().first().is_some_and(|byte| byte & 1 == 1)
}
