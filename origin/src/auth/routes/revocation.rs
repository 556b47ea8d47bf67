//! Token revocation (RFC 7009).

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::{Auth, audit_log::AuditContext, refresh_tokens::Presented, tokens},
    http::{ApiError, Body, Form, openapi::refuses},
};

/// A token that is presented for introspection (RFC 7662, section 2.1) or revocation (RFC 7009, section 2.1).
#[derive(Deserialize, ToSchema)]
pub(super) struct PresentedToken {
    #[schema(min_length = 1, example = "eyJhbGciOiJSUzI1NiIs...")]
    pub(super) token: String,
    /// Ignored: the token itself shows what it is.
    #[schema(nullable = false, example = "refresh_token")]
    #[expect(dead_code, reason = "it is documented and ignored")]
    token_type_hint: Option<String>,
}

impl PresentedToken {
    pub(super) fn from_form(mut form: Form) -> Result<Self, ApiError> {
        let token =
            form.take("token").ok_or(ApiError::bad_grant("invalid_request", "The parameter token must be given"))?;
        Ok(Self { token, token_type_hint: form.take("token_type_hint") })
    }
}

/// Ends the session of a token.
///
/// The token is a refresh token or an access token. The answer is the same for a token that is unknown or has ended.
// Clients have no credentials here, so possession of the token is the right to end it (RFC 7009, section 2.1). This is
// so for bound tokens as well: a token that leaked is best ended by the first who finds it.
#[utoipa::path(
    post,
    path = "/api/v1/auth/revoke",
    request_body(content = PresentedToken, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The token is not valid any more."), refuses::Form, refuses::Size)
)]
pub(super) async fn revoke_token(
    State(auth): State<Auth>,
    audit: AuditContext,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<impl IntoResponse, ApiError> {
    let PresentedToken { token, .. } = PresentedToken::from_form(Form::parse(&headers, &body)?)?;
    let ended = match find_session(&auth, &token).await? {
        Some((session, account)) => {
            audit.set_user(account);
            audit.set_entity(session);
            auth.sessions.revoke(session, account, &auth.clock).await?
        }
        None => false,
    };
    if ended {
        auth.revocation_push.wake();
    } else {
        audit.omit();
    }
    Ok([(header::CACHE_CONTROL, "no-store")])
}

/// Returns the session and the account of a token that is valid now.
async fn find_session(auth: &Auth, token: &str) -> Result<Option<(Uuid, Uuid)>, ApiError> {
    let now = auth.clock.now();
    if let Some(presented) = Presented::parse(token) {
        // Also one that is spent: of a client that lost the answer to its last refresh.
        return Ok(auth.sessions.find_by_token(presented.hash(), now).await?);
    }
    if let Ok(claims) = tokens::verify_access(auth, token, now) {
        // An access token that was revoked by itself must not end the session, which goes on without it.
        let is_live = auth.sessions.is_live_for(claims.sid, claims.sub, claims.iat, now).await?;
        return Ok(is_live.then_some((claims.sid, claims.sub)));
    }
    if tokens::is_service_token(auth, token, now) {
        // RFC 7009, section 2.2.1: a 200 would say that it is revoked.
        return Err(ApiError::bad_grant("unsupported_token_type", "Service tokens expire and cannot be revoked"));
    }
    Ok(None)
}
