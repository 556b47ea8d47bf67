//! Compact JWS (RFC 7515) with RS256: signs access and service tokens, and verifies them. Shares no code
//! with the gateway's verification, on purpose.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Key, KeyFault};
use crate::limits;

/// Public keys: `kid`, modulus and exponent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicKeys(Vec<(String, Vec<u8>, Vec<u8>)>);

/// Why a token is rejected. Its sender gets no further details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadToken {
    /// No key has the `kid`; the set of keys may be outdated.
    UnknownKey,
    /// The token is valid except for `exp`.
    Expired,
    /// The token is invalid for another reason.
    Invalid,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

#[derive(Deserialize)]
struct Times {
    exp: i64,
    #[serde(default)]
    nbf: i64,
}

impl PublicKeys {
    /// Reads a JWKS (RFC 7517). Keys other than RSA for RS256 are ignored.
    pub fn from_jwks(jwks: &Value) -> Self {
        let empty = Vec::new();
        let entries = jwks.get("keys").and_then(Value::as_array).unwrap_or(&empty);
        let keys = entries.iter().filter_map(|entry| {
            let text = |name: &str| entry.get(name).and_then(Value::as_str);
            let bytes = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            if text("kty") != Some("RSA") || text("alg") != Some("RS256") {
                return None;
            }
            Some((text("kid")?.to_owned(), bytes("n")?, bytes("e")?))
        });
        Self(keys.collect())
    }
}

/// Signs claims as a compact JWS.
pub fn sign(key: &Key, typ: &str, claims: &impl Serialize) -> Result<String, KeyFault> {
    let header = Header { alg: "RS256".to_owned(), typ: typ.to_owned(), kid: key.kid().to_owned() };
    let part = |json: serde_json::Result<Vec<u8>>| json.map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| KeyFault);
    let mut token = format!("{}.{}", part(serde_json::to_vec(&header))?, part(serde_json::to_vec(claims))?);
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

/// Verifies a token with the header `typ` at the time `now` (milliseconds) and returns its claims.
pub fn verify<C: DeserializeOwned>(keys: &PublicKeys, typ: &str, token: &str, now: i64) -> Result<C, BadToken> {
    if token.len() > limits::TOKEN_BYTES {
        return Err(BadToken::Invalid);
    }
    let (input, signature) = token.rsplit_once('.').ok_or(BadToken::Invalid)?;
    let (header, claims) = input.split_once('.').ok_or(BadToken::Invalid)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| BadToken::Invalid);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| BadToken::Invalid)?;
    if header.alg != "RS256" || header.typ != typ {
        return Err(BadToken::Invalid);
    }
    let (_, n, e) = keys.0.iter().find(|(kid, _, _)| *kid == header.kid).ok_or(BadToken::UnknownKey)?;
    RsaPublicKeyComponents { n, e }
        .verify(&RSA_PKCS1_2048_8192_SHA256, input.as_bytes(), &decode(signature)?)
        .map_err(|_| BadToken::Invalid)?;
    let claims = decode(claims)?;
    let times: Times = serde_json::from_slice(&claims).map_err(|_| BadToken::Invalid)?;
    let seconds = now / 1000;
    let leeway = limits::LEEWAY_MS / 1000;
    if seconds.saturating_add(leeway) < times.nbf {
        return Err(BadToken::Invalid);
    }
    let claims = serde_json::from_slice(&claims).map_err(|_| BadToken::Invalid)?;
    if seconds >= times.exp.saturating_add(leeway) { Err(BadToken::Expired) } else { Ok(claims) }
}
