//! For whom another service calls, and whether they may: decided by what the database says
//! of them at that moment, because what a token says was true when it was made.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use portcullis_client::internal::{ACTING_SESSION, ACTING_USER, Acting};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{Auth, ROLE_ADMIN, audit::Notes};
use crate::http::ApiError;

/// The headers that say for whom a service calls.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "the form of what For reads")]
pub(super) struct ActingFor {
    /// For whom the service calls.
    #[param(rename = "x-acting-user", required = false)]
    user: Uuid,
    /// That user's session.
    #[param(rename = "x-acting-session", required = false)]
    session: Uuid,
}

/// The user for whom a service calls; `None` when it calls for itself. Trusted on routes
/// for services alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct For(Option<Acting>);

impl<S: Send + Sync> FromRequestParts<S> for For {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let session = id(&parts.headers, ACTING_SESSION)?;
        let Some(user) = id(&parts.headers, ACTING_USER)? else {
            // Somebody's session and nobody: the service itself may do more than anybody.
            return if session.is_some() { Err(INVALID) } else { Ok(Self(None)) };
        };
        if let Some(notes) = parts.extensions.get::<Notes>() {
            notes.by(user);
        }
        Ok(Self(Some(Acting { user, session })))
    }
}

const INVALID: ApiError = ApiError::bad_request("acting_invalid", "Whom the call is for must be given by an id");

fn id(headers: &HeaderMap, name: &str) -> Result<Option<Uuid>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| Uuid::parse_str(text).ok());
    id.map(Some).ok_or(INVALID)
}

impl For {
    /// That this is about the user's own account, or that they are an administrator, and
    /// their session lives.
    ///
    /// # Errors
    /// 403; the database's.
    pub(super) async fn may_change(self, auth: &Auth, account: Option<Uuid>) -> Result<(), ApiError> {
        let Some(acting) = self.0 else { return Ok(()) };
        if Some(acting.user) == account {
            return Ok(());
        }
        let session = acting.session.ok_or(ApiError::forbidden())?;
        if !auth.sessions.is_live(session, acting.user, auth.clock.now()).await? {
            return Err(ApiError::forbidden());
        }
        let account = auth.accounts.find(acting.user).await?.ok_or(ApiError::forbidden())?;
        if account.roles.iter().any(|role| role == ROLE_ADMIN) { Ok(()) } else { Err(ApiError::forbidden()) }
    }
}
