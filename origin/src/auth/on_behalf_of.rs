//! The user on whose behalf another service calls, and whether that user may make the change.
//! The database decides: a token's roles were true when the token was issued.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use portcullis_client::internal::{ACTING_SESSION, ACTING_USER, ActingUser};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};
use uuid::Uuid;

use super::{Auth, ROLE_ADMIN, audit_log::AuditContext, reauthentication::Owner};
use crate::http::{
    ApiError,
    openapi::{id_schema, parameter},
};

/// On whose behalf a service calls. Trusted on internal routes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnBehalfOf {
    /// The service's own.
    Service,
    /// A user's.
    User(ActingUser),
}

impl<S: Send + Sync> FromRequestParts<S> for OnBehalfOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let session = id(&parts.headers, ACTING_SESSION)?;
        let Some(user) = id(&parts.headers, ACTING_USER)? else {
            // A service may do more than any user: a session without its user must not count as
            // the service's own call.
            return if session.is_some() { Err(INVALID) } else { Ok(Self::Service) };
        };
        if let Some(audit) = parts.extensions.get::<AuditContext>() {
            audit.set_user(user);
        }
        Ok(Self::User(ActingUser { user, session }))
    }
}

impl IntoParams for OnBehalfOf {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let header = |name, description| parameter(ParameterIn::Header, name, description, id_schema());
        vec![
            header(ACTING_USER, "The user on whose behalf the service calls."),
            header(ACTING_SESSION, "That user's session."),
        ]
    }
}

const INVALID: ApiError = ApiError::bad_request("acting_invalid", "x-acting-user and x-acting-session must be ids");

fn id(headers: &HeaderMap, name: &str) -> Result<Option<Uuid>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| Uuid::parse_str(text).ok());
    id.map(Some).ok_or(INVALID)
}

impl OnBehalfOf {
    /// Requires that the user's session is live, and that the account is the user's own or the
    /// user is an administrator. Returns the owner when the account is the user's own.
    ///
    /// # Errors
    /// 403, with a code of its own for a session that has ended; 404 when the user's own account
    /// no longer exists; 503.
    pub(super) async fn may_change(self, auth: &Auth, account: Option<Uuid>) -> Result<Option<Owner>, ApiError> {
        let Self::User(acting) = self else { return Ok(None) };
        let session = acting.session.ok_or(ApiError::session_ended())?;
        if !auth.sessions.is_live(session, acting.user, auth.clock.now()).await? {
            // A repeated deletion: the first one ended the session together with the account.
            let is_gone = Some(acting.user) == account && auth.accounts.find(acting.user).await?.is_none();
            return Err(if is_gone { ApiError::not_found() } else { ApiError::session_ended() });
        }
        if Some(acting.user) == account {
            return Ok(Some(Owner { user: acting.user, session }));
        }
        let account = auth.accounts.find(acting.user).await?.ok_or(ApiError::forbidden())?;
        if account.has_role(ROLE_ADMIN) { Ok(None) } else { Err(ApiError::forbidden()) }
    }
}
