//! The gateway's assertion to an origin: a short JWS (RFC 7515) that names one request and its
//! caller.

use std::{cell::RefCell, rc::Rc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use serde::Serialize;
use serde_json::json;
use sha2::Sha256;

use super::limits;
use portcullis_token::{Identity, UnixMillis};

/// The secrets shared with one upstream. The first one signs. A second one is live at the origin
/// alone, during a rotation.
pub(super) struct AssertionKeys {
    /// Name of the upstream.
    aud: String,
    /// Of requests without a caller.
    anonymous: Rc<Opening>,
    /// Encoded header, and the dot behind it.
    header: String,
    /// The state behind the key.
    mac: Hmac<Sha256>,
}

/// The part of an assertion that is the same for all requests of one caller to one upstream. A caller's
/// token keeps it, because it is most of what is encoded and hashed.
pub(super) struct Opening {
    aud: String,
    /// Encoded header and first claims. Blanks fill the claims up to whole groups of base64.
    text: String,
    /// The state behind the text: each signature continues a copy of it.
    mac: Hmac<Sha256>,
}

/// Whom an assertion names, and where the opening for them is kept.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) identity: &'a Identity,
    pub(super) opening: &'a RefCell<Option<Rc<Opening>>>,
}

/// The claims of an [`Opening`].
#[derive(Serialize)]
struct CallerClaims<'a> {
    iss: &'static str,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
}

/// The claims about one request. [`AssertionKeys::sign`] adds the times and `jti`.
#[derive(Clone, Copy, Default, Serialize)]
pub(super) struct Claims<'a> {
    iat: u64,
    exp: u64,
    jti: &'a str,
    request_id: &'a str,
    htm: &'a str,
    htu: &'a str,
}

impl<'a> Claims<'a> {
    /// Returns the claims about a request by its method, path and query.
    pub(super) fn new(request_id: &'a str, (htm, htu): (&'a str, &'a str)) -> Self {
        Self { request_id, htm, htu, ..Self::default() }
    }
}

/// Bytes of the JSON of usual claims.
const USUAL_BYTES: usize = 384;

impl AssertionKeys {
    /// Parses the secret of the upstream `aud`: one or two `kid:secret` items with a comma between, each
    /// secret the base64url of 32 bytes. Returns `None` for any other text and if both items have one `kid`.
    pub(super) fn parse(text: &str, aud: &str) -> Option<Self> {
        let keys = text.trim().split(',').map(|item| parse_key(item.trim())).collect::<Option<Vec<_>>>()?;
        let (kid, secret) = keys.first().filter(|_| keys.len() <= limits::ASSERTION_SECRETS)?;
        if keys.iter().skip(1).any(|(other, _)| other == kid) {
            return None;
        }
        let header = json!({ "alg": "HS256", "kid": kid, "typ": "gateway+jwt" });
        let header = format!("{}.", URL_SAFE_NO_PAD.encode(header.to_string()));
        let mac = Hmac::new_from_slice(secret).ok()?;
        let anonymous = Rc::new(Opening::new(aud, None, &header, &mac)?);
        Some(Self { aud: aud.to_owned(), anonymous, header, mac })
    }

    /// Returns the opening for a caller, and keeps it with the caller's token.
    fn opening(&self, caller: Option<Caller<'_>>) -> Option<Rc<Opening>> {
        let Some(caller) = caller else { return Some(Rc::clone(&self.anonymous)) };
        let mut kept = caller.opening.borrow_mut();
        if let Some(opening) = kept.as_ref().filter(|opening| opening.aud == self.aud) {
            return Some(Rc::clone(opening));
        }
        let opening = Rc::new(Opening::new(&self.aud, Some(caller.identity), &self.header, &self.mac)?);
        Some(Rc::clone(kept.insert(opening)))
    }

    /// Signs claims. Their `jti` is made of `now` and `random` and unique, whereas a client may
    /// repeat a request id. Returns `None` only if the JSON cannot be written.
    pub(super) fn sign(
        &self,
        caller: Option<Caller<'_>>,
        claims: &Claims<'_>,
        now: UnixMillis,
        random: &[u8; 10],
    ) -> Option<String> {
        let opening = self.opening(caller)?;
        let issued = now.secs();
        let id = uuid::Builder::from_unix_timestamp_millis(now.0, random).into_uuid();
        let mut buffer = uuid::Uuid::encode_buffer();
        let jti = id.hyphenated().encode_lower(&mut buffer);
        let claims = Claims { iat: issued, exp: issued.saturating_add(limits::ASSERTION_S), jti, ..*claims };
        let mut json = Vec::with_capacity(USUAL_BYTES);
        serde_json::to_writer(&mut json, &claims).ok()?;
        let mut token = String::with_capacity(opening.text.len().saturating_add(json.len().saturating_mul(2)));
        token.push_str(&opening.text);
        // The opening ends with a comma, so the second brace is left out.
        URL_SAFE_NO_PAD.encode_string(json.strip_prefix(b"{")?, &mut token);
        let rest = token.get(opening.text.len()..)?;
        let signature = opening.mac.clone().chain_update(rest).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }
}

impl Opening {
    fn new(aud: &str, identity: Option<&Identity>, header: &str, mac: &Hmac<Sha256>) -> Option<Self> {
        let claims = CallerClaims {
            iss: "portcullis",
            aud,
            sub: identity.map(|identity| identity.user_id.as_str()),
            email: identity.and_then(|identity| identity.email.as_deref()),
            roles: identity.map(|identity| identity.roles.as_slice()),
            sid: identity.and_then(|identity| identity.session_id.as_deref()),
        };
        let mut json = serde_json::to_string(&claims).ok()?;
        json.pop();
        json.push(',');
        while !json.len().is_multiple_of(3) {
            json.push(' ');
        }
        // Not more: the token cache counts its length.
        let mut text = String::with_capacity(header.len().saturating_add((json.len() / 3).saturating_mul(4)));
        text.push_str(header);
        URL_SAFE_NO_PAD.encode_string(json, &mut text);
        let mac = mac.clone().chain_update(&text);
        Some(Self { aud: aud.to_owned(), text, mac })
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
