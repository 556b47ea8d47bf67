//! What people see of their sessions, and how they end one of them.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde_json::{Value, json};

use super::{Auth, session};
use crate::{
    clock::rfc3339,
    http::{self, ApiError, Id},
};

/// GET /api/v1/auth/sessions: the user's own that live, the newest first.
pub(super) async fn list(State(auth): State<Auth>, user: http::User) -> Result<Answer<Value>, ApiError> {
    let account = session::live_account(&auth, &user).await?;
    let sessions = auth.sessions.list(account.id, auth.clock.now()).await?;
    let sessions: Vec<Value> = sessions
        .iter()
        .map(|one| {
            json!({
                "id": one.id,
                "created_at": rfc3339(one.created_at),
                "last_used_at": rfc3339(one.last_used_at),
                "expires_at": rfc3339(one.expires_at),
                "user_agent": one.user_agent,
                "current": Some(one.id) == user.session_id,
            })
        })
        .collect();
    Ok(Answer(json!({ "sessions": sessions })))
}

/// DELETE /api/v1/auth/sessions/{id}. Another's session is none: who asks learns nothing
/// of it.
pub(super) async fn end(State(auth): State<Auth>, user: http::User, Id(id): Id) -> Result<StatusCode, ApiError> {
    let account = session::live_account(&auth, &user).await?;
    if !auth.sessions.revoke(id, account.id, &auth.clock).await? {
        return Err(ApiError::not_found());
    }
    auth.pusher.wake();
    Ok(StatusCode::NO_CONTENT)
}
