//! One JSON Web Key (RFC 7517; RFC 7518, section 6; RFC 8037, section 2) for checking signatures.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rsa::{BigUint, RsaPublicKey, traits::PublicKeyParts as _};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::{curve, limits};
use crate::{
    algorithm::{Algorithm, KeyKind},
    limits::is_key_id,
    signature::PublicKey,
};

/// A validated public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    kid: Option<String>,
    issuer: Option<String>,
    algorithm: Algorithm,
    public: PublicKey,
    /// The JWK with the defining members only, in the canonical form of RFC 7638.
    canonical: String,
    thumbprint: String,
}

impl Key {
    /// The key's id (`kid`).
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The `iss`, or a template for it, whose tokens the key may check, if a set that tenants share
    /// says so.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Whether both are the same key for the same use under the same id.
    pub fn is_same(&self, other: &Self) -> bool {
        self.kid == other.kid
            && self.issuer == other.issuer
            && self.algorithm == other.algorithm
            && self.thumbprint == other.thumbprint
    }

    /// The one algorithm that the key is used with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The thumbprint (RFC 7638), which identifies the key whatever its id.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The key for the pure-Rust backend.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The JWK with the defining members only, for `importKey`.
    pub fn canonical_jwk(&self) -> &str {
        &self.canonical
    }

    /// The JWK for the store.
    pub(super) fn to_jwk(&self) -> Value {
        let mut members: Map<String, Value> = serde_json::from_slice(self.canonical.as_bytes()).unwrap_or_default();
        members.insert("alg".to_owned(), self.algorithm.name().into());
        members.insert("use".to_owned(), "sig".into());
        if let Some(kid) = &self.kid {
            members.insert("kid".to_owned(), kid.as_str().into());
        }
        if let Some(issuer) = &self.issuer {
            members.insert("issuer".to_owned(), issuer.as_str().into());
        }
        Value::Object(members)
    }
}

/// Members that make a JWK a private or secret key (RFC 7518, sections 6.2.2,
/// 6.3.2 and 6.4.1).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// An entry of a set that may be a key for an issuer's signatures. To know more takes arithmetic, so
/// the number of candidates is bounded.
pub(super) struct Candidate<'a> {
    members: &'a Map<String, Value>,
    kid: Option<String>,
    issuer: Option<String>,
    kind: KeyKind,
    algorithm: Algorithm,
}

/// Reads the descriptive members of an entry, for an issuer that signs with `algorithms`.
pub(super) fn candidate<'a>(entry: &'a Value, algorithms: &[Algorithm]) -> Option<Candidate<'a>> {
    let members = entry.as_object()?;
    if PRIVATE_MEMBERS.iter().any(|name| members.contains_key(*name)) {
        return None;
    }
    match members.get("use") {
        None | Some(Value::Null) => {}
        Some(value) if value.as_str() == Some("sig") => {}
        Some(_) => return None,
    }
    match members.get("key_ops") {
        None | Some(Value::Null) => {}
        Some(Value::Array(operations)) if operations.iter().any(|name| name.as_str() == Some("verify")) => {}
        Some(_) => return None,
    }
    let kid = match members.get("kid") {
        None | Some(Value::Null) => None,
        Some(Value::String(kid)) if kid.is_empty() => None,
        Some(Value::String(kid)) if is_key_id(kid) => Some(kid.clone()),
        Some(_) => return None,
    };
    // A key with an unreadable `issuer` would otherwise count for every tenant.
    let issuer = match members.get("issuer") {
        None => None,
        Some(Value::String(issuer)) if issuer.len() <= limits::URL_BYTES => Some(issuer.clone()),
        Some(_) => return None,
    };
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let kind = match (text("kty")?, text("crv")) {
        ("RSA", _) => KeyKind::Rsa,
        ("EC", Some("P-256")) => KeyKind::P256,
        ("EC", Some("P-384")) => KeyKind::P384,
        ("EC", Some("P-521")) => KeyKind::P521,
        ("OKP", Some("Ed25519")) => KeyKind::Ed25519,
        _ => return None,
    };
    let algorithm = select_algorithm(members.get("alg"), kind, algorithms)?;
    Some(Candidate { members, kid, issuer, kind, algorithm })
}

impl Candidate<'_> {
    /// Validates the key.
    pub(super) fn into_key(self) -> Option<Key> {
        let text = |name: &str| self.members.get(name).and_then(Value::as_str);
        let bytes = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let (public, canonical) = match self.kind {
            KeyKind::Rsa => rsa_key(&bytes("n")?, &bytes("e")?)?,
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => ec_key(self.kind, &bytes("x")?, &bytes("y")?)?,
            KeyKind::Ed25519 => ed25519_key(&bytes("x")?)?,
        };
        let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&canonical));
        let Self { kid, issuer, algorithm, .. } = self;
        Some(Key { kid, issuer, algorithm, public, canonical, thumbprint })
    }
}

/// Selects a key's one algorithm: its `alg` or, without one (RFC 7517, section 4.4), the only one of
/// the issuer's that fits its kind. Never the token's choice.
fn select_algorithm(named: Option<&Value>, kind: KeyKind, algorithms: &[Algorithm]) -> Option<Algorithm> {
    let mut fitting = algorithms.iter().copied().filter(|algorithm| algorithm.key_kind() == kind);
    match named {
        None | Some(Value::Null) => match (fitting.next(), fitting.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        },
        Some(name) => {
            let named = Algorithm::from_name(name.as_str()?)?;
            fitting.find(|algorithm| *algorithm == named)
        }
    }
}

fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Option<(PublicKey, String)> {
    if modulus.len() > limits::RSA_BITS_MAX.div_ceil(8).saturating_add(1) || exponent.len() > 8 {
        return None;
    }
    let (n, e) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
    // No RSA key has an even modulus or exponent; with e = 1 every message is its own signature.
    if !is_odd(&n) || !is_odd(&e) || e < BigUint::from(3_u8) {
        return None;
    }
    if !(limits::RSA_BITS_MIN..=limits::RSA_BITS_MAX).contains(&n.bits()) {
        return None;
    }
    let key = RsaPublicKey::new(n, e).ok()?;
    let (n, e) = (key.n().to_bytes_be(), key.e().to_bytes_be());
    let canonical = format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, encode(&e), encode(&n));
    Some((PublicKey::Rsa(key), canonical))
}

fn is_odd(number: &BigUint) -> bool {
    number.to_bytes_le().first().is_some_and(|byte| byte & 1 == 1)
}

/// Reads a point, which must lie on its curve (invalid curve attacks use others) with coordinates of
/// full length (RFC 7518, section 6.2.1.2).
fn ec_key(kind: KeyKind, x: &[u8], y: &[u8]) -> Option<(PublicKey, String)> {
    let curve = curve::of(kind)?;
    if x.len() != curve.length || y.len() != curve.length || !curve.has(x, y) {
        return None;
    }
    // SEC 1, section 2.3.3: 04, x, y.
    let point = [&[4], x, y].concat().into_boxed_slice();
    let public = match kind {
        KeyKind::P256 => PublicKey::P256(point),
        KeyKind::P384 => PublicKey::P384(point),
        KeyKind::P521 => PublicKey::P521(point),
        KeyKind::Rsa | KeyKind::Ed25519 => return None,
    };
    let name = curve.name;
    let canonical = format!(r#"{{"crv":"{name}","kty":"EC","x":"{}","y":"{}"}}"#, encode(x), encode(y));
    Some((public, canonical))
}

/// Reads a point in its canonical encoding. Refuses points of small order: for these, signatures
/// exist that verify over many messages without a private key.
fn ed25519_key(x: &[u8]) -> Option<(PublicKey, String)> {
    let bytes: &[u8; 32] = x.try_into().ok()?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).ok()?;
    let is_canonical = key.to_edwards().compress().as_bytes() == bytes;
    if key.is_weak() || !is_canonical {
        return None;
    }
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(x));
    Some((PublicKey::Ed25519(key), canonical))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
