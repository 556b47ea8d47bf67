//! For whom another service calls, and whether they may: decided by what the database says
//! of them at that moment, because what a token says was true when it was made.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use portcullis_client::internal::{ACTING_SESSION, ACTING_USER, Acting};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{Auth, ROLE_ADMIN, audit::Notes, confirmation::Owner};
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
    /// That the user's session lives, and that this is about their own account or they are
    /// an administrator.
    ///
    /// # Errors
    /// 403, of its own kind for an ended session; 404 when their own account is gone; the
    /// database's.
    ///
    /// Returns the owner, where it is about their own account.
    pub(super) async fn may_change(self, auth: &Auth, account: Option<Uuid>) -> Result<Option<Owner>, ApiError> {
        let Some(acting) = self.0 else { return Ok(None) };
        let session = acting.session.ok_or(ApiError::session_ended())?;
        if !auth.sessions.is_live(session, acting.user, auth.clock.now()).await? {
            // A deletion that is sent again, whose session went with the account.
            let is_gone = Some(acting.user) == account && auth.accounts.find(acting.user).await?.is_none();
            return Err(if is_gone { ApiError::not_found() } else { ApiError::session_ended() });
        }
        if Some(acting.user) == account {
            return Ok(Some(Owner { user: acting.user, session }));
        }
        let account = auth.accounts.find(acting.user).await?.ok_or(ApiError::forbidden())?;
        if account.roles.iter().any(|role| role == ROLE_ADMIN) { Ok(None) } else { Err(ApiError::forbidden()) }
    }
}
