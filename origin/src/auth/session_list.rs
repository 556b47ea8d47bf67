//! What people see of their sessions, and how they end one of them.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Auth, session};
use crate::{
    clock::rfc3339,
    http::{self, ApiError, Id, openapi::refuses},
};

/// Somewhere one is logged in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    id: Uuid,
    #[schema(format = DateTime, example = "2026-01-02T03:04:05Z")]
    created_at: String,
    #[schema(format = DateTime, example = "2026-01-02T03:04:05Z")]
    last_used_at: String,
    #[schema(format = DateTime, example = "2026-01-09T03:04:05Z")]
    expires_at: String,
    /// The program that logged in, as it named itself.
    #[schema(example = "Mozilla/5.0")]
    user_agent: String,
    /// Whether it is the one of this request.
    current: bool,
}

/// Where one is logged in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sessions {
    sessions: Vec<Session>,
}

/// Lists one's sessions, the newest first.
#[utoipa::path(
    get,
    path = "/api/v1/auth/sessions",
    operation_id = "listSessions",
    tag = "Sessions",
    security(("accessToken" = [])),
    responses(
        (status = 200, description = "Those that live.", body = Sessions),
        refuses::Always, refuses::Credentials
    )
)]
pub(super) async fn list(State(auth): State<Auth>, user: http::User) -> Result<Answer<Sessions>, ApiError> {
    let account = session::live_account(&auth, &user).await?;
    let sessions = auth.sessions.list(account.id, auth.clock.now()).await?;
    let sessions = sessions.into_iter().map(|one| Session {
        id: one.id,
        created_at: rfc3339(one.created_at),
        last_used_at: rfc3339(one.last_used_at),
        expires_at: rfc3339(one.expires_at),
        user_agent: one.user_agent,
        current: Some(one.id) == user.session_id,
    });
    Ok(Answer(Sessions { sessions: sessions.collect() }))
}

/// Ends one of one's sessions.
///
/// Another's session is none: who asks learns nothing of it.
#[utoipa::path(
    delete,
    path = "/api/v1/auth/sessions/{id}",
    operation_id = "endSession",
    tag = "Sessions",
    security(("accessToken" = [])),
    params(("id" = Uuid, Path, description = "The session.")),
    responses(
        (status = 204, description = "It is over."),
        refuses::Always, refuses::Credentials, refuses::Missing
    )
)]
pub(super) async fn end(State(auth): State<Auth>, user: http::User, Id(id): Id) -> Result<StatusCode, ApiError> {
    let account = session::live_account(&auth, &user).await?;
    if !auth.sessions.revoke(id, account.id, &auth.clock).await? {
        return Err(ApiError::not_found());
    }
    auth.pusher.wake();
    Ok(StatusCode::NO_CONTENT)
}
