//! Tokens: validation of the caller's access token, and service tokens by client credentials
//! (RFC 6749, section 4.4).

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    auth::{Auth, access::live_account, audit_log::AuditContext, services::authenticate, tokens},
    clock::rfc3339,
    http::{self, ApiError, Body, Form, openapi::refuses},
    limits,
    user::User,
};

/// A valid access token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Valid {
    #[schema(example = true)]
    valid: bool,
    user: User,
    #[schema(format = DateTime, example = "2026-01-02T03:19:05Z")]
    expires_at: String,
}

/// Validates the access token.
///
/// Checks its signature, its times, its session, and that the account exists.
#[utoipa::path(
    get,
    path = "/api/v1/auth/validate-token",
    responses((status = 200, description = "The token is valid.", body = Valid))
)]
pub(super) async fn validate_token(
    State(auth): State<Auth>,
    user: http::AuthenticatedUser,
    headers: HeaderMap,
) -> Result<Answer<Valid>, ApiError> {
    let account = live_account(&auth, &user).await?;
    // The gateway has checked the proof of a bound token.
    let text = http::credentials(&headers, "bearer").or_else(|| http::credentials(&headers, "dpop"));
    let text = text.ok_or(ApiError::credentials_missing())?;
    let claims = tokens::verify_access(&auth, text, auth.clock.now()).map_err(|_| ApiError::invalid_token())?;
    // The token must be the one that the gateway verified.
    if claims.sub != user.id || Some(claims.sid) != user.session_id {
        return Err(ApiError::invalid_token());
    }
    let expires_at = rfc3339(claims.exp.saturating_mul(1000));
    Ok(Answer(Valid { valid: true, user: account.into(), expires_at }))
}

/// Validates the access token, for clients that use POST.
#[utoipa::path(
    post,
    path = "/api/v1/auth/validate-token",
    responses((status = 200, description = "The token is valid.", body = Valid))
)]
pub(super) async fn validate_token_by_post(
    state: State<Auth>,
    user: http::AuthenticatedUser,
    headers: HeaderMap,
) -> Result<Answer<Valid>, ApiError> {
    validate_token(state, user, headers).await
}

/// A request for a service token (RFC 6749, section 4.4.2; RFC 8707, section 2).
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct TokenRequest {
    #[schema(required = true, nullable = false, pattern = "^client_credentials$", example = "client_credentials")]
    grant_type: Option<String>,
    /// The service that is to be called.
    #[schema(required = true, nullable = false, example = "user-service")]
    audience: Option<String>,
}

impl TokenRequest {
    fn from_form(mut form: Form) -> Result<Self, ApiError> {
        let request = Self { grant_type: form.take("grant_type"), audience: form.take("audience") };
        match request.grant_type.as_deref() {
            Some("client_credentials") => {}
            Some(_) => {
                return Err(ApiError::bad_grant("unsupported_grant_type", "grant_type must be client_credentials"));
            }
            None => return Err(ApiError::bad_grant("invalid_request", "grant_type must be given")),
        }
        form.require_no_credentials()?;
        Ok(request)
    }
}

/// A token for calls to another service.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServiceToken {
    #[schema(example = "eyJhbGciOiJSUzI1NiIs...")]
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Lifetime in seconds.
    #[schema(example = 300)]
    expires_in: i64,
}

/// Issues a token to a service that authenticates with its name and secret.
#[utoipa::path(
    post,
    path = "/api/v1/auth/token",
    security(("serviceCredentials" = [])),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "A token for that service.", body = ServiceToken),
        refuses::Form, refuses::Client, refuses::Size
    )
)]
pub(super) async fn service_token(
    State(auth): State<Auth>,
    audit: AuditContext,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<impl IntoResponse, ApiError> {
    let (caller, audiences) = authenticate(&auth, &headers).await?;
    audit.set_identified();
    let request = TokenRequest::from_form(Form::parse(&headers, &body)?)?;
    let audience = request.audience.filter(|audience| audiences.contains(audience));
    let audience =
        audience.ok_or(ApiError::bad_grant("invalid_target", "audience is not a service that this one may call"))?;
    let answer = ServiceToken {
        access_token: tokens::service(&auth, &caller, &audience)?,
        token_type: "Bearer",
        expires_in: limits::SERVICE_TOKEN_MS / 1000,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Answer(answer)))
}
