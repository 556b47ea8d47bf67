//! The tokens that this service issues: access tokens (RFC 9068) and service tokens.

use std::sync::Arc;

use serde::{Deserialize, Serialize, de::IgnoredAny};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AUDIENCE, Auth, EMAIL_VERIFIED};
use crate::{
    http::ApiError,
    ids, limits,
    signing::{self, BadToken},
    store::UserRecord,
};

/// `typ` of access tokens.
const ACCESS_TYPE: &str = "at+jwt";

/// `token_type` of access tokens.
const ACCESS_TOKEN_TYPE: &str = "access";

/// `typ` of service tokens, which the gateway does not accept.
pub const SERVICE_TYPE: &str = "service+jwt";

/// Claims of an access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AccessClaims {
    pub(super) iss: String,
    pub(super) sub: Uuid,
    pub(super) user_id: Uuid,
    pub(super) aud: Vec<String>,
    pub(super) iat: i64,
    pub(super) nbf: i64,
    pub(super) exp: i64,
    pub(super) jti: Uuid,
    pub(super) email: String,
    #[serde(default)]
    pub(super) email_verified: bool,
    pub(super) roles: Vec<String>,
    pub(super) token_type: String,
    pub(super) sid: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cnf: Option<Confirmation>,
}

/// The key to which an access token is bound (RFC 9449, section 6.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Confirmation {
    /// Its thumbprint (RFC 7638).
    pub(super) jkt: String,
}

#[derive(Serialize)]
struct ServiceTokenClaims<'a> {
    iss: &'a str,
    sub: &'a str,
    user_id: Uuid,
    aud: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
    email: String,
    roles: [&'a str; 2],
    token_type: &'a str,
}

/// Issues an access token for a session; `issued_at` in seconds. `proof_key` is the thumbprint of the key to which the token
/// is bound.
pub(super) fn access(
    auth: &Auth,
    account: &UserRecord,
    session: Uuid,
    issued_at: i64,
    proof_key: Option<String>,
) -> Result<String, ApiError> {
    let now = issued_at;
    let claims = AccessClaims {
        iss: auth.issuer.to_string(),
        sub: account.id,
        user_id: account.id,
        aud: vec![AUDIENCE.to_owned()],
        iat: now,
        nbf: now,
        exp: now.saturating_add(limits::ACCESS_TOKEN_MS / 1000),
        jti: fresh_id(auth)?,
        email: account.email.clone(),
        email_verified: EMAIL_VERIFIED,
        roles: account.roles.clone(),
        token_type: ACCESS_TOKEN_TYPE.to_owned(),
        sid: session,
        cnf: proof_key.map(|jkt| Confirmation { jkt }),
    };
    let key = signer(auth)?;
    signing::sign(&key, ACCESS_TYPE, &claims).map_err(|_| failed("an access token cannot be signed"))
}

/// Verifies an access token at the time `now` (milliseconds): signature, `typ`, times, `iss` and `aud`. Its session may have
/// ended, and a bound token also needs its proof.
pub(super) fn verify_access(auth: &Auth, text: &str, now: i64) -> Result<AccessClaims, BadToken> {
    let claims: AccessClaims = signing::verify(&auth.keyring.public(), ACCESS_TYPE, text, now)?;
    let is_ours = *claims.iss == *auth.issuer
        && claims.aud.iter().any(|audience| audience == AUDIENCE)
        && claims.token_type == ACCESS_TOKEN_TYPE
        && claims.sub == claims.user_id;
    if is_ours { Ok(claims) } else { Err(BadToken::Invalid) }
}

/// Returns whether a text is a valid service token of this service.
pub(super) fn is_service_token(auth: &Auth, text: &str, now: i64) -> bool {
    signing::verify::<IgnoredAny>(&auth.keyring.public(), SERVICE_TYPE, text, now).is_ok()
}

/// Issues a token with which one service calls another.
pub(super) fn service(auth: &Auth, caller: &str, audience: &str) -> Result<String, ApiError> {
    let now = auth.clock.now() / 1000;
    let claims = ServiceTokenClaims {
        iss: &auth.issuer,
        sub: caller,
        user_id: Uuid::nil(),
        aud: audience,
        iat: now,
        nbf: now,
        exp: now.saturating_add(limits::SERVICE_TOKEN_MS / 1000),
        jti: fresh_id(auth)?,
        email: format!("{caller}@internal"),
        roles: ["service", caller],
        token_type: "service",
    };
    let key = signer(auth)?;
    signing::sign(&key, SERVICE_TYPE, &claims).map_err(|_| failed("a service token cannot be signed"))
}

fn signer(auth: &Auth) -> Result<Arc<signing::Key>, ApiError> {
    auth.keyring.signer(auth.clock.now()).ok_or_else(|| failed("there is no signing key"))
}

/// Makes a new id (UUIDv7).
pub(super) fn fresh_id(auth: &Auth) -> Result<Uuid, ApiError> {
    ids::fresh(auth.clock.now()).ok_or_else(|| failed("no random bytes"))
}

pub(super) fn failed(what: &'static str) -> ApiError {
    tracing::error!(what, "signing failed");
    ApiError::internal()
}
