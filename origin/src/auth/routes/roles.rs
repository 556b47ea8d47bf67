//! Roles and their permissions, for administrators.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::permissions::{OnePermission, PermissionList};
use crate::{
    auth::{Auth, access::Admin, audit_log::AuditContext, tokens},
    fields::{
        Check, only_id,
        schemas::{Description, RoleName},
    },
    http::{ApiError, AskedPage, Id, Ids, Json, Page, Pagination, openapi::refuses},
    store::roles::Role,
};

/// A page of roles.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoleList {
    roles: Vec<Role>,
    pagination: Pagination,
}

/// One role.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OneRole {
    role: Role,
}

/// Lists roles.
#[utoipa::path(
    get,
    path = "/api/v1/auth/roles",
    params(AskedPage),
    responses((status = 200, description = "Sorted by name.", body = RoleList))
)]
pub(super) async fn list_roles(_: Admin, State(auth): State<Auth>, page: Page) -> Result<Answer<RoleList>, ApiError> {
    let (roles, total) = auth.roles.list(page.limit, page.offset).await?;
    Ok(Answer(RoleList { roles, pagination: page.pagination(total) }))
}

/// Reads a role.
#[utoipa::path(
    get,
    path = "/api/v1/auth/roles/{role_id}",
    params(("role_id" = Uuid, Path, description = "The role.")),
    responses(
        (status = 200, description = "The role.", body = OneRole),
        refuses::Missing
    )
)]
pub(super) async fn read_role(_: Admin, State(auth): State<Auth>, Id(id): Id) -> Result<Answer<OneRole>, ApiError> {
    let role = auth.roles.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(OneRole { role }))
}

/// The fields of a role.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RoleBody)]
pub(super) struct RoleFields {
    /// Any but `service`, the role of services.
    #[schema(required = true, nullable = false, value_type = RoleName)]
    name: Option<String>,
    #[schema(value_type = Option<Description>)]
    description: Option<String>,
}

impl RoleFields {
    fn check(&self) -> Result<(String, String), ApiError> {
        let mut check = Check::default();
        let name = check.role("name", self.name.as_deref());
        let description = check.description("description", self.description.as_deref());
        check.done()?;
        Ok((name, description))
    }
}

/// Creates a role.
#[utoipa::path(
    post,
    path = "/api/v1/auth/roles",
    request_body = RoleFields,
    responses(
        (status = 201, description = "The role.", body = OneRole),
        refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn make_role(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    audit: AuditContext,
    Json(body): Json<RoleFields>,
) -> Result<(StatusCode, Answer<OneRole>), ApiError> {
    let (name, description) = body.check()?;
    let role = auth.roles.add(tokens::fresh_id(&auth)?, &name, &description, &auth.clock).await?;
    audit.set_entity(role.id);
    tracing::info!(user_id = %admin.id, role_id = %role.id, "a role was made");
    Ok((StatusCode::CREATED, Answer(OneRole { role })))
}

/// Replaces a role; a description that is not sent becomes empty.
#[utoipa::path(
    put,
    path = "/api/v1/auth/roles/{role_id}",
    params(("role_id" = Uuid, Path, description = "The role.")),
    request_body = RoleFields,
    responses(
        (status = 200, description = "The role after the change.", body = OneRole),
        refuses::Missing, refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn replace_role(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Id(id): Id,
    Json(body): Json<RoleFields>,
) -> Result<Answer<OneRole>, ApiError> {
    let (name, description) = body.check()?;
    let role = auth.roles.change(id, &name, &description, &auth.clock).await?;
    tracing::info!(user_id = %admin.id, role_id = %id, "a role was changed");
    Ok(Answer(OneRole { role }))
}

/// Deletes a role that no account holds.
#[utoipa::path(
    delete,
    path = "/api/v1/auth/roles/{role_id}",
    params(("role_id" = Uuid, Path, description = "The role.")),
    responses(
        (status = 204, description = "The role is deleted."),
        refuses::Missing, refuses::Conflict
    )
)]
pub(super) async fn delete_role(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    auth.roles.delete(id).await?;
    tracing::info!(user_id = %admin.id, role_id = %id, "a role was deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the permissions of a role.
#[utoipa::path(
    get,
    path = "/api/v1/auth/roles/{role_id}/permissions",
    params(("role_id" = Uuid, Path, description = "The role."), AskedPage),
    responses(
        (status = 200, description = "Sorted by name.", body = PermissionList),
        refuses::Missing
    )
)]
pub(super) async fn list_role_permissions(
    _: Admin,
    State(auth): State<Auth>,
    Id(id): Id,
    page: Page,
) -> Result<Answer<PermissionList>, ApiError> {
    let found = auth.roles.permissions(id, page.limit, page.offset).await?;
    let (permissions, total) = found.ok_or(ApiError::not_found())?;
    Ok(Answer(PermissionList { permissions, pagination: page.pagination(total) }))
}

/// The permission that a role is granted.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GivenPermission)]
pub(super) struct Grant {
    #[schema(required = true, nullable = false, value_type = Uuid)]
    permission_id: Option<String>,
}

/// Grants a role a permission.
#[utoipa::path(
    post,
    path = "/api/v1/auth/roles/{role_id}/permissions",
    params(("role_id" = Uuid, Path, description = "The role.")),
    request_body = Grant,
    responses(
        (status = 201, description = "The permission.", body = OnePermission),
        (status = 200, description = "The permission, which the role had already.", body = OnePermission),
        refuses::Missing, refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn give_permission(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    audit: AuditContext,
    Id(id): Id,
    Json(body): Json<Grant>,
) -> Result<(StatusCode, Answer<OnePermission>), ApiError> {
    let permission_id = only_id("permission_id", body.permission_id.as_deref())?;
    audit.set_entity(permission_id);
    let (permission, is_new) = auth.roles.grant(id, permission_id).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    if is_new {
        tracing::info!(user_id = %admin.id, role_id = %id, %permission_id, "a role was given a permission");
    }
    Ok((status, Answer(OnePermission { permission })))
}

/// Revokes a permission of a role.
#[utoipa::path(
    delete,
    path = "/api/v1/auth/roles/{role_id}/permissions/{permission_id}",
    params(("role_id" = Uuid, Path, description = "The role."), ("permission_id" = Uuid, Path, description = "The permission.")),
    responses(
        (status = 204, description = "The permission is revoked."),
        refuses::Missing, refuses::Conflict
    )
)]
pub(super) async fn take_permission(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Ids(id, permission_id): Ids,
) -> Result<StatusCode, ApiError> {
    auth.roles.revoke(id, permission_id).await?;
    tracing::info!(user_id = %admin.id, role_id = %id, %permission_id, "a permission was taken from a role");
    Ok(StatusCode::NO_CONTENT)
}
