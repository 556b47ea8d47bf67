//! The roles that accounts hold, and the permissions that follow from them. Both are read from the
//! database: a token's roles were true when it was issued.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::{
        Auth,
        access::{Admin, self_or_admin},
        audit_log::AuditContext,
    },
    fields::{Check, only_id, schemas::PermissionName},
    http::{ApiError, AuthenticatedUser, Id, Ids, Json, openapi::refuses},
    store::{access::AccessError, account_roles::RoleChange, roles::Role},
};

impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::NotFound => Self::not_found(),
            AccessError::BuiltIn => Self::conflict("built_in", "Built-in roles and permissions cannot be changed"),
            AccessError::NameTaken => Self::conflict("name_taken", "The name is taken"),
            AccessError::InUse => Self::conflict("in_use", "It is in use; revoke it everywhere first"),
            AccessError::LastAdministrator => {
                Self::conflict("last_admin", "The last administrator cannot lose the role")
            }
            AccessError::TooMany => Self::conflict("too_many", "The limit is reached"),
            AccessError::Busy => Self::unavailable("account_busy", "The account's tokens were revoked moments ago"),
            AccessError::Database(error) => error.into(),
        }
    }
}

/// The roles that an account holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeldRoles {
    user_id: Uuid,
    roles: Vec<Role>,
}

/// Wakes the background work that follows a change, and logs the change.
fn propagate(auth: &Auth, admin: Uuid, account: Uuid, change: &RoleChange) {
    if change.removed {
        auth.revocation_push.wake();
    }
    if change.added || change.removed {
        auth.profile_delivery.wake();
        let (given, taken) = (change.added, change.removed);
        tracing::info!(user_id = %admin, account_id = %account, given, taken, "an account's roles were changed");
    }
}

/// Lists the roles of an account.
#[utoipa::path(
    get,
    path = "/api/v1/auth/users/{id}/roles",
    params(("id" = Uuid, Path, description = "The account.")),
    responses(
        (status = 200, description = "The roles as they are now.", body = HeldRoles),
        refuses::Missing
    )
)]
pub(super) async fn list_user_roles(
    _: Admin,
    State(auth): State<Auth>,
    Id(id): Id,
) -> Result<Answer<HeldRoles>, ApiError> {
    let roles = auth.account_roles.roles(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(HeldRoles { user_id: id, roles }))
}

/// The role that an account is granted.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GivenRole)]
pub(super) struct Grant {
    #[schema(required = true, nullable = false, value_type = Uuid)]
    role_id: Option<String>,
}

/// Grants an account a role.
///
/// Its tokens contain the role from the next refresh on.
#[utoipa::path(
    post,
    path = "/api/v1/auth/users/{id}/roles",
    params(("id" = Uuid, Path, description = "The account.")),
    request_body = Grant,
    responses(
        (status = 201, description = "All roles of the account.", body = HeldRoles),
        (status = 200, description = "All roles of the account, which had the role already.", body = HeldRoles),
        refuses::Missing, refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn give_role(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    audit: AuditContext,
    Id(id): Id,
    Json(body): Json<Grant>,
) -> Result<(StatusCode, Answer<HeldRoles>), ApiError> {
    let role = only_id("role_id", body.role_id.as_deref())?;
    audit.set_entity(role);
    let change = auth.account_roles.add(id, role, &auth.clock).await?;
    propagate(&auth, admin.id, id, &change);
    let status = if change.added { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Answer(HeldRoles { user_id: id, roles: change.roles })))
}

/// The roles that an account is to hold, and no others.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RoleIds)]
pub(super) struct Replacement {
    #[schema(required = true, nullable = false, value_type = Vec<Uuid>)]
    role_ids: Option<Vec<String>>,
}

/// Replaces the roles of an account.
///
/// If a role is removed, the account's tokens are revoked.
#[utoipa::path(
    put,
    path = "/api/v1/auth/users/{id}/roles",
    params(("id" = Uuid, Path, description = "The account.")),
    request_body = Replacement,
    responses(
        (status = 200, description = "All roles of the account.", body = HeldRoles),
        refuses::Missing, refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn replace_user_roles(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Id(id): Id,
    Json(body): Json<Replacement>,
) -> Result<Answer<HeldRoles>, ApiError> {
    let mut check = Check::default();
    check.required("role_ids", body.role_ids.is_some());
    let wanted: Option<_> = body.role_ids.unwrap_or_default().iter().map(|text| Uuid::parse_str(text).ok()).collect();
    if wanted.is_none() {
        check.reject("role_ids", "must be ids");
    }
    check.done()?;
    let change = auth.account_roles.replace(id, wanted.unwrap_or_default(), &auth.clock).await?;
    propagate(&auth, admin.id, id, &change);
    Ok(Answer(HeldRoles { user_id: id, roles: change.roles }))
}

/// Revokes a role of an account, and the account's tokens.
#[utoipa::path(
    delete,
    path = "/api/v1/auth/users/{id}/roles/{role_id}",
    params(("id" = Uuid, Path, description = "The account."), ("role_id" = Uuid, Path, description = "The role.")),
    responses(
        (status = 204, description = "The role is revoked."),
        refuses::Missing, refuses::Conflict
    )
)]
pub(super) async fn take_role(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Ids(id, role): Ids,
) -> Result<StatusCode, ApiError> {
    let change = auth.account_roles.remove(id, role, &auth.clock).await?;
    propagate(&auth, admin.id, id, &change);
    Ok(StatusCode::NO_CONTENT)
}

/// The permissions of an account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeldPermissions {
    user_id: Uuid,
    #[schema(example = json!(["read:profile"]))]
    permissions: Vec<String>,
}

/// Lists the permissions of the caller's own account, or for administrators of any account.
#[utoipa::path(
    get,
    path = "/api/v1/auth/users/{id}/permissions",
    params(("id" = Uuid, Path, description = "The account.")),
    responses(
        (status = 200, description = "The permissions of all its roles.", body = HeldPermissions),
        refuses::Rights, refuses::Missing
    )
)]
pub(super) async fn list_user_permissions(
    State(auth): State<Auth>,
    user: AuthenticatedUser,
    Id(id): Id,
) -> Result<Answer<HeldPermissions>, ApiError> {
    self_or_admin(&auth, &user, id).await?;
    let permissions = auth.account_roles.permissions(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(HeldPermissions { user_id: id, permissions }))
}

/// A question whether an account has a permission.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Question {
    #[schema(required = true, nullable = false, value_type = Uuid)]
    user_id: Option<String>,
    #[schema(required = true, nullable = false, value_type = PermissionName)]
    permission: Option<String>,
}

/// The answer to the question.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Verdict {
    allowed: bool,
    user_id: Uuid,
    #[schema(example = "read:profile")]
    permission: String,
}

/// Checks whether the caller's own account, or for administrators any account, has a permission.
///
/// An unknown permission is not allowed.
#[utoipa::path(
    post,
    path = "/api/v1/auth/permissions/check",
    request_body = Question,
    responses(
        (status = 200, description = "The answer as of now.", body = Verdict),
        refuses::Rights, refuses::Missing, refuses::Body
    )
)]
pub(super) async fn check_permission(
    State(auth): State<Auth>,
    user: AuthenticatedUser,
    Json(body): Json<Question>,
) -> Result<Answer<Verdict>, ApiError> {
    let mut check = Check::default();
    let id = check.id("user_id", body.user_id.as_deref());
    let permission = check.permission("permission", body.permission.as_deref());
    check.done()?;
    self_or_admin(&auth, &user, id).await?;
    let allowed = auth.account_roles.allows(id, &permission).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(Verdict { allowed, user_id: id, permission }))
}
