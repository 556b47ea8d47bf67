//! Who asks, by the gateway's assertion. As a handler's first arguments, these extractors refuse
//! before the rest of the request is read, so that a caller without the right learns nothing from it.
//!
//! The gateway has checked the same rights. The second check keeps a mistake in a policy from exposing
//! every profile.

use axum::{extract::FromRequestParts, http::request::Parts};
use portcullis_client::internal::ActingUser;
use uuid::Uuid;

use super::Users;
use crate::{
    auth::ROLE_ADMIN,
    http::{ApiError, AuthenticatedUser, Id},
};

/// Extractor: an administrator. Extracting one for another user is 403.
#[derive(Debug)]
pub(super) struct Admin(pub(super) ActingUser);

impl FromRequestParts<Users> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, users: &Users) -> Result<Self, ApiError> {
        let user = AuthenticatedUser::from_request_parts(parts, users).await?;
        if user.has_role(ROLE_ADMIN) { Ok(Self(acting(&user))) } else { Err(ApiError::forbidden()) }
    }
}

/// Extractor: the user that the path names, for that user or an administrator. Extracting it for
/// another user is 403.
#[derive(Debug)]
pub(super) struct Target {
    /// The user that the path names.
    pub(super) id: Uuid,
    /// The caller.
    pub(super) acting: ActingUser,
}

impl FromRequestParts<Users> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, users: &Users) -> Result<Self, ApiError> {
        let user = AuthenticatedUser::from_request_parts(parts, users).await?;
        let Id(id) = Id::from_request_parts(parts, users).await?;
        let is_allowed = user.id == id || user.has_role(ROLE_ADMIN);
        if is_allowed { Ok(Self { id, acting: acting(&user) }) } else { Err(ApiError::forbidden()) }
    }
}

/// The caller, for the auth service, which checks whether they are still an administrator.
fn acting(user: &AuthenticatedUser) -> ActingUser {
    ActingUser { user: user.id, session: user.session_id }
}
