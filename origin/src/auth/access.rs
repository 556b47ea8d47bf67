//! Who asks, by what the database says now: a token's roles were true when it was issued, and its
//! session may have ended since.

use axum::{extract::FromRequestParts, http::request::Parts};
use uuid::Uuid;

use super::{Auth, ROLE_ADMIN};
use crate::{
    http::{self, ApiError},
    store::UserRecord,
};

pub(super) const REVOKED: ApiError = ApiError::token_revoked();

/// Returns the account of the request's user if the session is live.
///
/// # Errors
/// 401; 503.
pub(super) async fn live_account(auth: &Auth, user: &http::AuthenticatedUser) -> Result<UserRecord, ApiError> {
    let session = user.session_id.ok_or(ApiError::invalid_token())?;
    if !auth.sessions.is_live(session, user.id, auth.clock.now()).await? {
        return Err(REVOKED);
    }
    auth.accounts.find(user.id).await?.ok_or(REVOKED)
}

/// Requires a live session of the account `id` itself or of an administrator.
///
/// # Errors
/// 401; 403; 503.
pub(super) async fn self_or_admin(auth: &Auth, user: &http::AuthenticatedUser, id: Uuid) -> Result<(), ApiError> {
    let account = live_account(auth, user).await?;
    if account.id == id || account.has_role(ROLE_ADMIN) { Ok(()) } else { Err(ApiError::forbidden()) }
}

/// Extractor: an administrator with a live session. As a handler's first argument it answers
/// everyone else 403 before the rest of the request is read, so that they learn nothing from it.
#[derive(Debug)]
pub(super) struct Admin(pub(super) UserRecord);

impl FromRequestParts<Auth> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, auth: &Auth) -> Result<Self, ApiError> {
        let user = http::AuthenticatedUser::from_request_parts(parts, auth).await?;
        let account = live_account(auth, &user).await?;
        if account.has_role(ROLE_ADMIN) { Ok(Self(account)) } else { Err(ApiError::forbidden()) }
    }
}
