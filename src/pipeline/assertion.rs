//! The gateway's assertion to an origin: a short JWS (RFC 7515) that names one request and its
//! caller.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use serde::Serialize;
use serde_json::json;
use sha2::Sha256;

use super::limits;
use portcullis_token::{Identity, UnixMillis};

/// The secrets shared with one upstream. The first one signs. A second one is live at the origin
/// alone, during a rotation.
#[derive(Clone)]
pub(super) struct AssertionKeys {
    /// Encoded header, and the dot behind it.
    header: String,
    /// The state behind the key: each signature continues a copy of it.
    mac: Hmac<Sha256>,
}

/// The claims about one request. [`AssertionKeys::sign`] adds the times and `jti`.
#[derive(Clone, Copy, Default, Serialize)]
pub(super) struct Claims<'a> {
    iss: &'static str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
    request_id: &'a str,
    htm: &'a str,
    htu: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
}

impl<'a> Claims<'a> {
    /// Returns the claims for the upstream `aud` about a request by its method, path and query.
    pub(super) fn new(
        aud: &'a str,
        request_id: &'a str,
        (htm, htu): (&'a str, &'a str),
        identity: Option<&'a Identity>,
    ) -> Self {
        Self {
            iss: "portcullis",
            aud,
            request_id,
            htm,
            htu,
            sub: identity.map(|identity| identity.user_id.as_str()),
            email: identity.and_then(|identity| identity.email.as_deref()),
            roles: identity.map(|identity| identity.roles.as_slice()),
            sid: identity.and_then(|identity| identity.session_id.as_deref()),
            ..Self::default()
        }
    }
}

/// Bytes of an encoded assertion with usual claims.
const USUAL_BYTES: usize = 768;

impl AssertionKeys {
    /// Parses a secret: one or two `kid:secret` items with a comma between, each secret the
    /// base64url of 32 bytes. Returns `None` for any other text and if both items have one `kid`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let keys = text.trim().split(',').map(|item| parse_key(item.trim())).collect::<Option<Vec<_>>>()?;
        let (kid, secret) = keys.first().filter(|_| keys.len() <= limits::ASSERTION_SECRETS)?;
        if keys.iter().skip(1).any(|(other, _)| other == kid) {
            return None;
        }
        let header = json!({ "alg": "HS256", "kid": kid, "typ": "gateway+jwt" });
        let header = format!("{}.", URL_SAFE_NO_PAD.encode(header.to_string()));
        Some(Self { header, mac: Hmac::new_from_slice(secret).ok()? })
    }

    /// Signs claims. Their `jti` is made of `now` and `random` and unique, whereas a client may
    /// repeat a request id. Returns `None` only if the JSON cannot be written.
    pub(super) fn sign(&self, claims: &Claims<'_>, now: UnixMillis, random: &[u8; 10]) -> Option<String> {
        let issued = now.secs();
        let id = uuid::Builder::from_unix_timestamp_millis(now.0, random).into_uuid();
        let mut buffer = uuid::Uuid::encode_buffer();
        let jti = id.hyphenated().encode_lower(&mut buffer);
        let claims = Claims { iat: issued, exp: issued.saturating_add(limits::ASSERTION_S), jti, ..*claims };
        let mut json = Vec::with_capacity(USUAL_BYTES);
        serde_json::to_writer(&mut json, &claims).ok()?;
        let mut token = String::with_capacity(USUAL_BYTES);
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(json, &mut token);
        let signature = self.mac.clone().chain_update(&token).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }
}

/// Parses `kid:secret`.
fn parse_key(item: &str) -> Option<(&str, Vec<u8>)> {
    let (kid, secret) = item.split_once(':')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let secret = URL_SAFE_NO_PAD.decode(secret).ok()?;
    let is_valid =
        (1..=64).contains(&kid.len()) && kid.bytes().all(is_plain) && secret.len() == limits::ASSERTION_SECRET_BYTES;
    is_valid.then_some((kid, secret))
}
