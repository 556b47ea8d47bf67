//! Accounts as the user service makes, changes and deletes them, mostly on behalf of a user.

use std::collections::BTreeSet;

use axum::{Json as Answer, extract::State, http::StatusCode};
use portcullis_client::{profile::ProfileChange, secret::Secret};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    auth::{
        Auth, ROLE_ADMIN, audit_log::AuditContext, hash_queue::Priority, on_behalf_of::OnBehalfOf,
        registration::Registration,
    },
    fields::{
        Check,
        schemas::{Email, NewPassword, Password, RoleName},
    },
    http::{
        ApiError, Id, IfMatch, Json, OptionalJson,
        openapi::{CalledBy, refuses},
    },
    limits, profile,
    store::{
        UserRecord,
        accounts::{AccountUpdate, DeleteOutcome, UpdateOutcome},
    },
};

/// A new account.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewAccount {
    #[schema(value_type = Email)]
    email: String,
    #[schema(value_type = NewPassword)]
    password: Secret,
    #[serde(flatten)]
    #[schema(inline, value_type = profile::Required)]
    profile: ProfileChange,
    /// Names of existing roles.
    #[schema(value_type = Vec<RoleName>, min_items = 1, max_items = 32, example = json!(["user"]))]
    roles: Vec<String>,
}

impl NewAccount {
    /// Returns the roles without repetitions.
    fn roles(&self) -> Result<Vec<String>, ApiError> {
        let roles: BTreeSet<&String> = self.roles.iter().collect();
        // PostgreSQL refuses text with a NUL; no role has such a name.
        let is_name = |name: &&String| !name.chars().any(char::is_control);
        if (1..=limits::ROLES_GIVEN).contains(&roles.len()) && roles.iter().all(is_name) {
            Ok(roles.into_iter().cloned().collect())
        } else {
            Err(ApiError::unknown_role())
        }
    }
}

/// Makes an account with its profile.
///
/// `x-acting-user` and `x-acting-session` name the administrator on whose behalf the service calls;
/// without them it calls on its own behalf.
#[utoipa::path(
    post,
    path = "/api/v1/internal/accounts",
    params(CalledBy, OnBehalfOf),
    request_body = NewAccount,
    responses(
        (status = 201, description = "The account.", body = UserRecord),
        refuses::Body, refuses::Rights, refuses::Conflict
    )
)]
pub(super) async fn make_account(
    State(auth): State<Auth>,
    audit: AuditContext,
    caller: OnBehalfOf,
    Json(body): Json<NewAccount>,
) -> Result<(StatusCode, Answer<UserRecord>), ApiError> {
    caller.may_change(&auth, None).await?;
    let roles = body.roles()?;
    let registration = Registration::check(Some(&body.email), Some(&body.password), &body.profile)?;
    let account = registration.make(&auth, &roles, None, Priority::Known).await?;
    audit.set_entity(account.id);
    Ok((StatusCode::CREATED, Answer(account)))
}

/// The changes of an account; a field that is not sent stays.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct AccountChange {
    #[schema(value_type = Option<Email>)]
    email: Option<String>,
    #[serde(flatten)]
    #[schema(inline, value_type = profile::Optional)]
    profile: ProfileChange,
    /// For a change of the user's own e-mail address; not needed within five minutes of the
    /// session's login.
    #[schema(value_type = Option<Password>)]
    current_password: Option<Secret>,
}

/// Changes an account: merges what is sent.
#[utoipa::path(
    patch,
    path = "/api/v1/internal/accounts/{id}",
    params(("id" = Uuid, Path, description = "The account."), CalledBy, OnBehalfOf, IfMatch),
    request_body = AccountChange,
    responses(
        (status = 200, description = "The account after the change.", body = UserRecord),
        refuses::ConditionalWrite
    )
)]
pub(super) async fn change_account(
    State(auth): State<Auth>,
    Id(id): Id,
    caller: OnBehalfOf,
    condition: IfMatch,
    Json(body): Json<AccountChange>,
) -> Result<Answer<UserRecord>, ApiError> {
    let owner = caller.may_change(&auth, Some(id)).await?;
    let mut check = Check::default();
    let mut email = body.email.as_deref().map(|text| check.email(Some(text)));
    let profile = check.profile(&body.profile);
    check.done()?;
    if let (Some(owner), Some(new)) = (owner, &email) {
        let account = auth.accounts.find(id).await?.ok_or(ApiError::not_found())?;
        if account.email == *new {
            // Without a proof it must not undo a change that someone makes meanwhile.
            email = None;
        } else {
            owner.confirm(&auth, &account, body.current_password.as_ref()).await?;
            owner.count_email_change(&auth).await?;
        }
    }
    let update = AccountUpdate { email, profile };
    match auth.accounts.update(id, update, |version| condition.allows(version), &auth.clock).await? {
        UpdateOutcome::Updated(account) => Ok(Answer(account)),
        UpdateOutcome::NotFound => Err(ApiError::not_found()),
        UpdateOutcome::VersionMismatch => Err(ApiError::version_mismatch()),
    }
}

/// The proof that the account's owner asks for its deletion.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct Confirmation {
    /// Not needed within five minutes of the session's login.
    #[schema(value_type = Option<Password>)]
    current_password: Option<Secret>,
}

/// Deletes an account; its tokens are revoked.
#[utoipa::path(
    delete,
    path = "/api/v1/internal/accounts/{id}",
    params(("id" = Uuid, Path, description = "The account."), CalledBy, OnBehalfOf, IfMatch),
    request_body = Option<Confirmation>,
    responses(
        (status = 204, description = "The account is deleted."),
        refuses::ConditionalWrite
    )
)]
pub(super) async fn delete_account(
    State(auth): State<Auth>,
    Id(id): Id,
    caller: OnBehalfOf,
    condition: IfMatch,
    OptionalJson(body): OptionalJson<Confirmation>,
) -> Result<StatusCode, ApiError> {
    if let Some(owner) = caller.may_change(&auth, Some(id)).await? {
        let account = auth.accounts.find(id).await?.ok_or(ApiError::not_found())?;
        owner.confirm(&auth, &account, body.current_password.as_ref()).await?;
    }
    match auth.accounts.delete(id, ROLE_ADMIN, |version| condition.allows(version), &auth.clock).await? {
        DeleteOutcome::Deleted => {
            auth.revocation_push.wake();
            auth.api_key_push.wake();
            Ok(StatusCode::NO_CONTENT)
        }
        DeleteOutcome::NotFound => Err(ApiError::not_found()),
        DeleteOutcome::LastAdministrator => Err(ApiError::last_admin()),
        DeleteOutcome::VersionMismatch => Err(ApiError::version_mismatch()),
    }
}

/// Ends all sessions of an account.
#[utoipa::path(
    post,
    path = "/api/v1/internal/accounts/{id}/revoke",
    params(("id" = Uuid, Path, description = "The account."), CalledBy),
    responses((status = 204, description = "The sessions are ended."), refuses::Missing)
)]
pub(super) async fn revoke_account(State(auth): State<Auth>, Id(id): Id) -> Result<StatusCode, ApiError> {
    auth.accounts.find(id).await?.ok_or(ApiError::not_found())?;
    if !auth.sessions.revoke_all(id, &auth.clock).await? {
        return Err(ApiError::unavailable("account_busy", "The account's sessions were ended moments ago"));
    }
    auth.revocation_push.wake();
    Ok(StatusCode::NO_CONTENT)
}
