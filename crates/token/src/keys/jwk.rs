//! One JSON Web Key (RFC 7517; RFC 7518, section 6; RFC 8037, section 2) for checking signatures.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rsa::{BigUint, RsaPublicKey, traits::PublicKeyParts as _};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::{
    curve::{self, Curve},
    limits,
};
use crate::{
    algorithm::Algorithm::{self, EdDsa, Es256, Es384, Es512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512},
    limits::{is_base64url, is_key_id},
    signature::PublicKey,
};

/// A validated public key.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// The key's id (`kid`).
    pub kid: Option<String>,
    /// The `iss`, or a template for it, whose tokens the key may check, if a set that tenants share says so.
    pub issuer: Option<String>,
    /// The one algorithm that the key is used with.
    pub algorithm: Algorithm,
    /// The key for the pure-Rust backend.
    pub public: PublicKey,
    /// The thumbprint (RFC 7638), which identifies the key whatever its id.
    pub thumbprint: String,
    /// The JWK with the defining members only, in the canonical form of RFC 7638.
    canonical: String,
}

/// What is wrong with a key of a set, after its name.
pub(crate) type KeyFault = &'static str;

/// Anyone who has read such a key can sign.
const PRIVATE: KeyFault =
    "is a private or symmetric key; write the public key alone, and replace this key wherever it is used";
const OTHER_USE: KeyFault = "is not for checking signatures; see its use and key_ops";
const NO_ALGORITHM: KeyFault = "fits none of algorithms, or several and names none in alg";
const BAD_LABEL: KeyFault = "has a kid or an issuer that is not a short string";
const UNSOUND: KeyFault =
    "is malformed, too weak, too large, not on its curve, or has an exponent other than 3, 17, 37 and 65537";

/// Members that make a JWK a private or secret key (RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Selects the algorithm of a key that may verify the signatures of an issuer that signs with
/// `algorithms`. To know more of the key takes arithmetic, so the number of such keys is bounded.
pub(crate) fn select_algorithm(jwk: &Map<String, Value>, algorithms: &[Algorithm]) -> Result<Algorithm, KeyFault> {
    let member = |name: &str| jwk.get(name).filter(|value| !value.is_null());
    let is_private = PRIVATE_MEMBERS.iter().any(|name| jwk.contains_key(*name));
    let verifies = |operations: &Value| operations.as_array().is_some_and(|names| names.contains(&"verify".into()));
    if is_private {
        return Err(PRIVATE);
    }
    if member("use").is_some_and(|value| value != "sig") || !member("key_ops").is_none_or(verifies) {
        return Err(OTHER_USE);
    }
    let [own_kty, own_crv] = ["kty", "crv"].map(|name| member(name).and_then(Value::as_str));
    let mut fitting = algorithms.iter().copied().filter(|algorithm| {
        let (kty, crv) = algorithm.key_type();
        own_kty == Some(kty) && (crv.is_none() || crv == own_crv)
    });
    // Its `alg` or, without one (RFC 7517, section 4.4), the only one of the issuer's that fits its
    // type. Never the token's choice.
    let selected = match member("alg") {
        None => fitting.next().filter(|only| fitting.all(|other| other == *only)),
        Some(name) => name.as_str().and_then(Algorithm::from_name).filter(|named| fitting.any(|own| own == *named)),
    };
    selected.ok_or(NO_ALGORITHM)
}

impl Key {
    /// Validates a key for an algorithm that [`select_algorithm`] returned.
    pub(crate) fn parse(jwk: &Map<String, Value>, algorithm: Algorithm) -> Result<Self, KeyFault> {
        let kid = match jwk.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(kid)) if kid.is_empty() => None,
            Some(kid) => Some(kid.as_str().filter(|kid| is_key_id(kid)).ok_or(BAD_LABEL)?),
        };
        let issuer = match jwk.get("issuer") {
            None => None,
            // A key with an unreadable `issuer` would otherwise count for every tenant.
            Some(issuer) => {
                let is_short = |issuer: &&str| issuer.len() <= limits::URL_BYTES;
                Some(issuer.as_str().filter(is_short).ok_or(BAD_LABEL)?)
            }
        };
        let bytes = |name: &str| {
            let text = jwk.get(name).and_then(Value::as_str).ok_or(UNSOUND)?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| UNSOUND)
        };
        let key = match algorithm {
            Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512 => rsa_key(&bytes("n")?, &bytes("e")?),
            Es256 => ec_key(&curve::P256, PublicKey::P256, &bytes("x")?, &bytes("y")?),
            Es384 => ec_key(&curve::P384, PublicKey::P384, &bytes("x")?, &bytes("y")?),
            Es512 => ec_key(&curve::P521, PublicKey::P521, &bytes("x")?, &bytes("y")?),
            EdDsa => ed25519_key(&bytes("x")?),
        };
        let (public, canonical) = key.ok_or(UNSOUND)?;
        let thumbprint = encode(&Sha256::digest(&canonical));
        let [kid, issuer] = [kid, issuer].map(|text| text.map(str::to_owned));
        Ok(Self { kid, issuer, algorithm, public, thumbprint, canonical })
    }

    /// The JWK with the defining members only, for `importKey`.
    pub fn canonical_jwk(&self) -> &str {
        &self.canonical
    }

    /// The JWK for the store.
    pub(super) fn to_jwk(&self) -> Value {
        let mut members: Map<String, Value> = serde_json::from_slice(self.canonical.as_bytes()).unwrap_or_default();
        let (alg, kid, issuer) = (self.algorithm.name(), self.kid.as_deref(), self.issuer.as_deref());
        let more = [("alg", Some(alg)), ("kid", kid), ("issuer", issuer)];
        members.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        Value::Object(members)
    }
}

fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Option<(PublicKey, String)> {
    if modulus.len() > limits::RSA_BITS_MAX.div_ceil(8).saturating_add(1) || exponent.len() > 8 {
        return None;
    }
    let (n, e) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
    // No RSA key has an even modulus. WebCrypto of the runtime imports keys with these exponents only: 3, 17, 37, 65537.
    let is_odd = modulus.last().is_some_and(|byte| byte & 1 == 1);
    let is_sound = is_odd && matches!(*e.to_bytes_be(), [3 | 17 | 37] | [1, 0, 1]);
    if !is_sound || !(limits::RSA_BITS_MIN..=limits::RSA_BITS_MAX).contains(&n.bits()) {
        return None;
    }
    let key = RsaPublicKey::new(n, e).ok()?;
    let (n, e) = (key.n().to_bytes_be(), key.e().to_bytes_be());
    let canonical = rsa_canonical(&encode(&e), &encode(&n));
    Some((PublicKey::Rsa(key), canonical))
}

/// Reads a point, which must lie on its curve: invalid curve attacks use others.
fn ec_key(curve: &Curve, public_key: fn(Box<[u8]>) -> PublicKey, x: &[u8], y: &[u8]) -> Option<(PublicKey, String)> {
    if !curve.has(x, y) {
        return None;
    }
    // SEC 1, section 2.3.3: 04, x, y.
    let point = [&[4], x, y].concat().into_boxed_slice();
    let canonical = ec_canonical(curve.name, &encode(x), &encode(y));
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
    let canonical = okp_canonical(&encode(x));
    Some((PublicKey::Ed25519(key), canonical))
}

/// Returns the thumbprint (RFC 7638) that a key for `algorithm` has, if it is valid: without arithmetic.
pub(crate) fn unverified_thumbprint(jwk: &Map<String, Value>, algorithm: Algorithm) -> Option<String> {
    // Other characters could end the quotes.
    let member = |name: &str| jwk.get(name)?.as_str().filter(|text| is_base64url(text));
    let canonical = match algorithm.key_type() {
        ("EC", Some(curve)) => ec_canonical(curve, member("x")?, member("y")?),
        ("OKP", _) => okp_canonical(member("x")?),
        _ => rsa_canonical(member("e")?, member("n")?),
    };
    Some(encode(&Sha256::digest(canonical)))
}

fn rsa_canonical(e: &str, n: &str) -> String {
    [r#"{"e":""#, e, r#"","kty":"RSA","n":""#, n, r#""}"#].concat()
}

fn ec_canonical(curve: &str, x: &str, y: &str) -> String {
    [r#"{"crv":""#, curve, r#"","kty":"EC","x":""#, x, r#"","y":""#, y, r#""}"#].concat()
}

fn okp_canonical(x: &str) -> String {
    [r#"{"crv":"Ed25519","kty":"OKP","x":""#, x, r#""}"#].concat()
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
