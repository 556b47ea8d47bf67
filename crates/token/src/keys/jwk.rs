//! One JSON Web Key (RFC 7517; RFC 7518, section 6; RFC 8037, section 2) for checking signatures.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rsa::{BigUint, RsaPublicKey, traits::PublicKeyParts as _};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::{
    curve::{self, Curve},
    limits,
};
use crate::{algorithm::Algorithm, limits::is_key_id, signature::PublicKey};

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
        let more = [
            ("alg", Some(self.algorithm.name())),
            ("use", Some("sig")),
            ("kid", self.kid()),
            ("issuer", self.issuer()),
        ];
        members.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
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
    algorithm: Algorithm,
}

/// Reads the descriptive members of an entry, for an issuer that signs with `algorithms`.
pub(super) fn candidate<'a>(entry: &'a Value, algorithms: &[Algorithm]) -> Option<Candidate<'a>> {
    let members = entry.as_object()?;
    if PRIVATE_MEMBERS.iter().any(|name| members.contains_key(*name)) {
        return None;
    }
    let member = |name: &str| members.get(name).filter(|value| !value.is_null());
    if member("use").is_some_and(|value| value != "sig") {
        return None;
    }
    let has_verify =
        |operations: &Value| operations.as_array().is_some_and(|names| names.iter().any(|name| name == "verify"));
    if member("key_ops").is_some_and(|operations| !has_verify(operations)) {
        return None;
    }
    let kid = match member("kid").map(Value::as_str) {
        None | Some(Some("")) => None,
        Some(kid) => Some(kid.filter(|kid| is_key_id(kid))?.to_owned()),
    };
    // A key with an unreadable `issuer` would otherwise count for every tenant.
    let issuer = match members.get("issuer").map(Value::as_str) {
        None => None,
        Some(issuer) => Some(issuer.filter(|issuer| issuer.len() <= limits::URL_BYTES)?.to_owned()),
    };
    let algorithm = select_algorithm(members, algorithms)?;
    Some(Candidate { members, kid, issuer, algorithm })
}

impl Candidate<'_> {
    /// Validates the key.
    pub(super) fn into_key(self) -> Option<Key> {
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(self.members.get(name)?.as_str()?).ok();
        let (public, canonical) = match self.algorithm {
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => rsa_key(&bytes("n")?, &bytes("e")?)?,
            Algorithm::Es256 => ec_key(&curve::P256, PublicKey::P256, &bytes("x")?, &bytes("y")?)?,
            Algorithm::Es384 => ec_key(&curve::P384, PublicKey::P384, &bytes("x")?, &bytes("y")?)?,
            Algorithm::Es512 => ec_key(&curve::P521, PublicKey::P521, &bytes("x")?, &bytes("y")?)?,
            Algorithm::EdDsa => ed25519_key(&bytes("x")?)?,
        };
        let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&canonical));
        let Self { kid, issuer, algorithm, .. } = self;
        Some(Key { kid, issuer, algorithm, public, canonical, thumbprint })
    }
}

/// Selects a key's one algorithm: its `alg` or, without one (RFC 7517, section 4.4), the only one of
/// the issuer's that fits its type. Never the token's choice.
fn select_algorithm(members: &Map<String, Value>, algorithms: &[Algorithm]) -> Option<Algorithm> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let (own_kty, own_crv) = (text("kty")?, text("crv"));
    let mut fitting = algorithms.iter().copied().filter(|algorithm| {
        let (kty, crv) = algorithm.key_type();
        kty == own_kty && (crv.is_none() || crv == own_crv)
    });
    match members.get("alg") {
        None | Some(Value::Null) => fitting.next().filter(|only| fitting.all(|other| other == *only)),
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
    let is_odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte & 1 == 1);
    // No RSA key has an even modulus or exponent; with e = 1 every message is its own signature.
    let is_sound = is_odd(modulus) && is_odd(exponent) && e >= BigUint::from(3_u8);
    if !is_sound || !(limits::RSA_BITS_MIN..=limits::RSA_BITS_MAX).contains(&n.bits()) {
        return None;
    }
    let key = RsaPublicKey::new(n, e).ok()?;
    let (n, e) = (key.n().to_bytes_be(), key.e().to_bytes_be());
    let canonical = format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, encode(&e), encode(&n));
    Some((PublicKey::Rsa(key), canonical))
}

/// Reads a point, which must lie on its curve (invalid curve attacks use others) with coordinates of
/// full length (RFC 7518, section 6.2.1.2).
fn ec_key(curve: &Curve, public_key: fn(Box<[u8]>) -> PublicKey, x: &[u8], y: &[u8]) -> Option<(PublicKey, String)> {
    if x.len() != curve.length || y.len() != curve.length || !curve.has(x, y) {
        return None;
    }
    // SEC 1, section 2.3.3: 04, x, y.
    let point = [&[4], x, y].concat().into_boxed_slice();
    let name = curve.name;
    let canonical = format!(r#"{{"crv":"{name}","kty":"EC","x":"{}","y":"{}"}}"#, encode(x), encode(y));
    Some((public_key(point), canonical))
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
