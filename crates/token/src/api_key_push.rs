//! Records of API keys: what a store knows of each key, and the body by which their issuer creates and ends them.
//!
//! ```json
//! {
//!   "issuer": "<iss of the keys>",
//!   "keys": [{"digest": "<SHA-256>", "id": "<id>", "owner": "<user id>", "scope": "a b", "iat": 1799999999, "exp": 1800000000}],
//!   "ended": [{"digest": "<SHA-256>", "id": "<id>"}]
//! }
//! ```
//!
//! `digest` is that of [`crate::ApiKey::digest`]. Times are seconds since 1970. `scope` and `exp` may be absent. A record has
//! these members as the claims of a token. It holds no secret: a digest of 160 random bits leads to no key.

use serde_json::Value;

use crate::{
    claims::{self, VerifiedToken},
    error::TokenError,
    json::{StrictObject, object},
    limits::{API_KEY_CHANGES, DATE_SECS, is_digest},
    opaque::admit_stated,
    policy::TokenPolicy,
    time::UnixMillis,
};

/// The record of a key that has ended. A record that repeats the creation must not replace it.
pub const ENDED_RECORD: &str = r#"{"ended":true}"#;

/// What a push changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyPush {
    /// `iss` of the keys.
    pub issuer: String,
    /// The changes, each of another digest.
    pub changes: Vec<ApiKeyChange>,
}

/// A key that is created or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyChange {
    /// SHA-256 of the key.
    pub digest: String,
    /// Its id, which is `jti` and `sub` of its claims.
    pub id: String,
    /// Its record, and when it expires in seconds, if ever; `None` for a key that has ended.
    pub record: Option<(String, Option<u64>)>,
}

/// Admits an API key by its record. Without `exp`, the record counts for `fresh_s` seconds. `None` if the record is not one
/// that [`parse_api_key_push`] makes: the store is at fault, and not the key.
pub fn admit_api_key(
    record: &str,
    policy: &TokenPolicy,
    fresh_s: u64,
    now: UnixMillis,
) -> Option<Result<VerifiedToken, TokenError>> {
    let record = StrictObject::parse(record.as_bytes())?;
    if record.member("ended").is_some() {
        return Some(Err(TokenError::Inactive));
    }
    match admit_stated(record, policy, fresh_s, now) {
        // Without an id, nothing could end the key.
        Ok(verified) => verified.identity().token_id.is_some().then_some(Ok(verified)),
        Err(error) => {
            let is_of_key =
                matches!(error, TokenError::Expired | TokenError::NotYetValid | TokenError::RequirementUnmet);
            is_of_key.then_some(Err(error))
        }
    }
}

/// Parses a push.
///
/// # Errors
/// Where and why a part is invalid, without its value.
pub fn parse_api_key_push(body: &[u8]) -> Result<ApiKeyPush, String> {
    let body = StrictObject::parse(body).ok_or("the body is not a JSON object without repeated members")?;
    let issuer = body.string("issuer").filter(|_| body.has_only(&["issuer", "keys", "ended"]));
    let issuer =
        issuer.ok_or("the body has other members than issuer, keys and ended, or issuer is no text")?.to_owned();
    let mut changes: Vec<ApiKeyChange> = Vec::new();
    for list in ["ended", "keys"] {
        let items = match body.member(list) {
            None => &[],
            Some(value) => value.as_array().map(Vec::as_slice).ok_or([list, " is no list"].concat())?,
        };
        if changes.len().saturating_add(items.len()) > API_KEY_CHANGES {
            return Err(format!("more than {API_KEY_CHANGES} keys; send them in several pushes"));
        }
        for (index, item) in items.iter().enumerate() {
            let is_new = |change: &ApiKeyChange| changes.iter().all(|known| known.digest != change.digest);
            let change = read_change(item, list == "ended")
                .and_then(|change| if is_new(&change) { Ok(change) } else { Err("its digest is there twice") });
            changes.push(change.map_err(|reason| format!("{list}[{index}]: {reason}"))?);
        }
    }
    Ok(ApiKeyPush { issuer, changes })
}

fn read_change(item: &Value, is_ended: bool) -> Result<ApiKeyChange, &'static str> {
    let item = StrictObject::of_inner(item).ok_or("it is no object")?;
    let members: &[&str] = if is_ended { &["digest", "id"] } else { &["digest", "id", "owner", "scope", "iat", "exp"] };
    if !item.has_only(members) {
        return Err("it has an unknown member");
    }
    let text = |name: &str| claims::text(&item, &[name.to_owned()]).ok().flatten();
    let digest = item.string("digest").filter(|digest| is_digest(digest));
    let digest = digest.ok_or("digest is no SHA-256 in base64url")?.to_owned();
    let id = text("id").ok_or("id is empty, too long or no text for a header")?;
    if is_ended {
        return Ok(ApiKeyChange { digest, id, record: None });
    }
    let owner = text("owner").ok_or("owner is empty, too long or no text for a header")?;
    let scope = item.member("scope").map_or(Some(""), Value::as_str);
    let scope = scope.filter(|_| claims::scopes(&item, &["scope".to_owned()]).is_ok());
    let scope = scope.ok_or("scope is no text, or has too many or too long scopes")?;
    let date = |name: &str| item.member(name).map(|value| value.as_u64().filter(|secs| *secs <= DATE_SECS));
    let issued_at = date("iat").flatten().ok_or("iat is no time in seconds")?;
    let expires_at = match date("exp") {
        None => None,
        Some(expires_at) => Some(expires_at.filter(|at| *at > issued_at).ok_or("exp is no time in seconds after iat")?),
    };
    let record = object([
        ("sub", id.as_str().into()),
        ("jti", id.as_str().into()),
        ("owner", owner.into()),
        ("scope", scope.into()),
        ("iat", issued_at.into()),
        ("exp", expires_at.into()),
    ]);
    Ok(ApiKeyChange { digest, id, record: Some((record.to_string(), expires_at)) })
}
