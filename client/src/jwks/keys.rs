//! Reads a key set (RFC 7517) and verifies a compact JWS (RFC 7515) with it. No clock, no I/O.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::rule::{Algorithm, LEEWAY_S, TokenRule};

/// Bytes of a key set: a hundred RSA keys of 4096 bits fit.
const JWKS_BYTES: usize = 128 * 1024;

/// Keys of a set that are read.
const KEYS: usize = 100;

/// Bytes of a token: the limit of a header line.
const TOKEN_BYTES: usize = 16 * 1024;

/// Keys that are tried for one token: those with its `kid`, or all that fit a token without `kid`.
const TRIES: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point, or an Ed25519 key.
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    public: Public,
}

/// The keys of an issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeySet(Vec<Key>);

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The set has no key for the token, and may have changed.
    UnknownKey,
    /// `exp` has passed.
    Expired,
    /// Anything else.
    Invalid,
}

impl KeySet {
    /// Reads a set. Keys that are not for signatures of a known algorithm are skipped. Returns `None` if
    /// none is left: an empty set never replaces a good one.
    pub(crate) fn read(jwks: &[u8]) -> Option<Self> {
        if jwks.len() > JWKS_BYTES {
            return None;
        }
        let document: Value = serde_json::from_slice(jwks).ok()?;
        let keys: Vec<Key> = document.get("keys")?.as_array()?.iter().filter_map(read_key).take(KEYS).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    fn fitting(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let is_named = move |key: &&Key| kid.is_none() || key.kid.as_deref() == kid;
        self.0.iter().filter(move |key| key.algorithm == algorithm).filter(is_named).take(TRIES)
    }

    /// Whether a key fits the header of a token, or none ever will.
    pub(super) fn has_key_for(&self, token: &str) -> bool {
        let Some((header, _)) = token.split_once('.') else { return true };
        let Ok(header) = decode(header) else { return true };
        let text = |name: &str| header.get(name).and_then(Value::as_str);
        let Some(algorithm) = text("alg").and_then(Algorithm::parse) else { return true };
        self.fitting(text("kid"), algorithm).next().is_some()
    }

    /// Verifies a token at `now` (seconds since 1970) and returns its claims.
    pub(super) fn verify<C: DeserializeOwned>(&self, token: &str, rule: &TokenRule, now: u64) -> Result<C, Fault> {
        if token.len() > TOKEN_BYTES {
            return Err(Fault::Invalid);
        }
        let claims = self.open(token, &rule.typ, &rule.algorithms)?;
        check(&claims, rule, now)?;
        serde_json::from_value(Value::Object(claims)).map_err(|_| Fault::Invalid)
    }

    /// Verifies form, header and signature, and returns the claims unchecked.
    pub(crate) fn open(&self, token: &str, typ: &str, algorithms: &[Algorithm]) -> Result<Map<String, Value>, Fault> {
        let (input, signature) = token.rsplit_once('.').ok_or(Fault::Invalid)?;
        let (header, payload) = input.split_once('.').ok_or(Fault::Invalid)?;
        let header: Map<String, Value> = decode(header)?;
        let text = |name: &str| header.get(name).and_then(Value::as_str);
        let algorithm = text("alg").and_then(Algorithm::parse).ok_or(Fault::Invalid)?;
        let is_typed = text("typ").is_some_and(|own| own.eq_ignore_ascii_case(typ));
        // Extensions in `crit` change how a token is processed (RFC 7515, section 4.1.11).
        if !algorithms.contains(&algorithm) || !is_typed || header.contains_key("crit") {
            return Err(Fault::Invalid);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().ok_or(Fault::Invalid)?),
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Fault::Invalid)?;
        let mut tried = self.fitting(kid, algorithm).peekable();
        tried.peek().ok_or(Fault::UnknownKey)?;
        if !tried.any(|key| key.signed(input.as_bytes(), &signature)) {
            return Err(Fault::Invalid);
        }
        decode(payload)
    }
}

impl Key {
    fn signed(&self, input: &[u8], signature: &[u8]) -> bool {
        let verdict = match (&self.public, self.algorithm) {
            (Public::Rsa { n, e }, _) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, input, signature)
            }
            (Public::Bytes(point), Algorithm::ES256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(input, signature)
            }
            (Public::Bytes(key), _) => UnparsedPublicKey::new(&ED25519, key).verify(input, signature),
        };
        verdict.is_ok()
    }
}

fn read_key(jwk: &Value) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    // A published private key lets anyone sign.
    if jwk.get("d").is_some() || text("use").is_some_and(|wanted| wanted != "sig") {
        return None;
    }
    let (algorithm, public) = match (text("kty")?, text("crv")) {
        ("RSA", _) => (Algorithm::RS256, Public::Rsa { n: bytes("n")?, e: bytes("e")? }),
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            let point: Vec<u8> = [4].into_iter().chain(x).chain(y).collect();
            (Algorithm::ES256, Public::Bytes(point))
        }
        ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, Public::Bytes(bytes("x")?)),
        _ => return None,
    };
    // The key decides the algorithm, never the token.
    if text("alg").is_some_and(|name| Algorithm::parse(name) != Some(algorithm)) {
        return None;
    }
    Some(Key { kid: text("kid").map(str::to_owned), algorithm, public })
}

fn decode(part: &str) -> Result<Map<String, Value>, Fault> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::Invalid)?;
    serde_json::from_slice(&bytes).map_err(|_| Fault::Invalid)
}

fn check(claims: &Map<String, Value>, rule: &TokenRule, now: u64) -> Result<(), Fault> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    // Seconds, possibly with a fraction (RFC 7519, section 2).
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().filter(|time| time.is_finite()).map(Some).ok_or(Fault::Invalid),
    };
    let is_audience = match claims.get("aud") {
        Some(Value::String(audience)) => *audience == rule.audience,
        Some(Value::Array(all)) => all.iter().any(|audience| audience.as_str() == Some(rule.audience.as_str())),
        Some(_) | None => false,
    };
    if text("iss") != Some(rule.issuer.as_str()) || !is_audience {
        return Err(Fault::Invalid);
    }
    let seconds = |seconds: u64| u32::try_from(seconds).map_or(f64::MAX, f64::from);
    let (earliest, latest) = (seconds(now.saturating_sub(LEEWAY_S)), seconds(now.saturating_add(LEEWAY_S)));
    if time("exp")?.ok_or(Fault::Invalid)? <= earliest {
        return Err(Fault::Expired);
    }
    for name in ["nbf", "iat"] {
        if time(name)?.is_some_and(|time| time > latest) {
            return Err(Fault::Invalid);
        }
    }
    Ok(())
}
