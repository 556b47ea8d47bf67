//! Token introspection (RFC 7662), for services that ask instead of verifying tokens themselves.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::revocation::PresentedToken;
use crate::{
    auth::{
        Auth,
        audit_log::AuditContext,
        services::authenticate,
        tokens::{self, AccessClaims, Confirmation},
    },
    http::{ApiError, Body, Form, openapi::refuses},
};

/// The state of a token (RFC 7662, section 2.2).
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Introspection {
    Active(Box<ActiveToken>),
    Inactive(InactiveToken),
}

/// A token that is not valid now. The answer does not say why.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InactiveToken {
    #[schema(example = false)]
    active: bool,
}

/// A token that is valid now, and its claims.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ActiveToken {
    #[schema(example = true)]
    active: bool,
    #[schema(example = "auth-service")]
    iss: String,
    sub: Uuid,
    aud: Vec<String>,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
    sid: Uuid,
    roles: Vec<String>,
    #[schema(example = "ada@example.com")]
    email: String,
    /// `Bearer`, or `DPoP` if the request that the token came with needs a proof of the key in `cnf` (RFC 9449, section 6.2).
    #[schema(example = "Bearer")]
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cnf: Option<Confirmation>,
}

impl From<AccessClaims> for ActiveToken {
    fn from(claims: AccessClaims) -> Self {
        Self {
            active: true,
            iss: claims.iss,
            sub: claims.sub,
            aud: claims.aud,
            iat: claims.iat,
            nbf: claims.nbf,
            exp: claims.exp,
            jti: claims.jti,
            sid: claims.sid,
            roles: claims.roles,
            email: claims.email,
            token_type: if claims.cnf.is_some() { "DPoP" } else { "Bearer" },
            cnf: claims.cnf,
        }
    }
}

/// Says whether an access token is valid now.
///
/// Checks its signature and times, its session, and that the account exists. The caller checks `aud` and, with `cnf`, the
/// proof of possession.
#[utoipa::path(
    post,
    path = "/api/v1/auth/introspect",
    security(("serviceCredentials" = [])),
    request_body(content = PresentedToken, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The state of the token.", body = Introspection),
        refuses::Form, refuses::Client, refuses::Size
    )
)]
pub(super) async fn introspect_token(
    State(auth): State<Auth>,
    audit: AuditContext,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<impl IntoResponse, ApiError> {
    authenticate(&auth, &headers).await?;
    audit.set_identified();
    let form = Form::parse(&headers, &body)?;
    form.require_no_credentials()?;
    let presented = PresentedToken::from_form(form)?;
    let state = match active(&auth, &presented.token).await? {
        Some(claims) => Introspection::Active(Box::new(claims.into())),
        None => Introspection::Inactive(InactiveToken { active: false }),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Answer(state)))
}

/// Returns the claims of a token that is active. A refresh token never is: a service that asks about it got it in place of
/// an access token, and must not accept it.
async fn active(auth: &Auth, text: &str) -> Result<Option<AccessClaims>, ApiError> {
    let now = auth.clock.now();
    let Ok(claims) = tokens::verify_access(auth, text, now) else { return Ok(None) };
    // No leeway: the service that asks may have a clock that is behind.
    let is_expired = claims.exp <= now / 1000;
    let is_active = !is_expired && auth.sessions.is_live_for(claims.sid, claims.sub, claims.iat, now).await?;
    Ok(Some(claims).filter(|_| is_active))
}
