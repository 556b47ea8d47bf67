//! The gateway's assertion to an origin: a short JWS (RFC 7515) that names one request and its
//! caller.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jwt_compact::{
    Algorithm as _, AlgorithmSignature as _,
    alg::{Hs256, Hs256Key},
};
use serde::Serialize;

use super::limits;
use portcullis_token::{Identity, UnixMillis};

/// The secrets shared with one upstream. The first one signs. A second one is live at the origin
/// alone, during a rotation.
#[derive(Clone)]
pub struct AssertionKeys {
    header: String,
    active: Hs256Key,
}

impl std::fmt::Debug for AssertionKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AssertionKeys(..)")
    }
}

/// The secret's text is not `kid:base64url-of-32-bytes[,…]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadAssertionKeys;

/// The facts that are signed for one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement<'a> {
    /// Name of the upstream.
    pub(super) audience: &'a str,
    /// Id of the request.
    pub(super) request_id: &'a str,
    /// Method, as forwarded.
    pub(super) method: &'a str,
    /// Path and query, exactly as forwarded.
    pub(super) target: &'a str,
    /// The caller; `None` on a public route.
    pub(super) identity: Option<&'a Identity>,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

#[derive(Serialize)]
struct Claims<'a> {
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

impl AssertionKeys {
    /// Parses a secret: one or two `kid:secret` items with a comma between, each secret the
    /// base64url of 32 bytes.
    ///
    /// # Errors
    /// [`BadAssertionKeys`], which holds nothing of the text.
    pub fn parse(text: &str) -> Result<Self, BadAssertionKeys> {
        let items: Vec<&str> = text.trim().split(',').map(str::trim).collect();
        if items.len() > limits::ASSERTION_SECRETS {
            return Err(BadAssertionKeys);
        }
        let mut parsed = Vec::new();
        for item in items {
            let (kid, secret) = item.split_once(':').ok_or(BadAssertionKeys)?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if kid.is_empty() || kid.len() > 64 || !kid.chars().all(plain) {
                return Err(BadAssertionKeys);
            }
            let secret = URL_SAFE_NO_PAD.decode(secret).map_err(|_| BadAssertionKeys)?;
            if secret.len() != limits::ASSERTION_SECRET_BYTES {
                return Err(BadAssertionKeys);
            }
            parsed.push((kid, secret));
        }
        let (kid, secret) = parsed.first().ok_or(BadAssertionKeys)?;
        let header = encode(&Header { alg: "HS256", kid, typ: "gateway+jwt" }).ok_or(BadAssertionKeys)?;
        Ok(Self { header, active: Hs256Key::new(secret) })
    }

    /// Signs a statement. Its `jti` is made of `now` and `random` and unique, whereas a client may
    /// repeat a request id. Returns `None` only if the JSON cannot be written.
    pub(super) fn sign(&self, statement: &Statement<'_>, now: UnixMillis, random: &[u8; 10]) -> Option<String> {
        let issued = now.secs();
        let id = uuid::Builder::from_unix_timestamp_millis(now.0, random).into_uuid();
        let mut buffer = uuid::Uuid::encode_buffer();
        let identity = statement.identity;
        let claims = encode(&Claims {
            iss: "portcullis",
            aud: statement.audience,
            iat: issued,
            exp: issued.saturating_add(limits::ASSERTION_S),
            jti: id.hyphenated().encode_lower(&mut buffer),
            request_id: statement.request_id,
            htm: statement.method,
            htu: statement.target,
            sub: identity.map(|identity| identity.user_id.as_str()),
            email: identity.and_then(|identity| identity.email.as_deref()),
            roles: identity.map(|identity| identity.roles.as_slice()),
            sid: identity.and_then(|identity| identity.session_id.as_deref()),
        })?;
        let mut token = format!("{}.{claims}", self.header);
        let signature = Hs256.sign(&self.active, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_bytes(), &mut token);
        Some(token)
    }
}

fn encode(value: &impl Serialize) -> Option<String> {
    serde_json::to_vec(value).ok().map(|json| URL_SAFE_NO_PAD.encode(json))
}
