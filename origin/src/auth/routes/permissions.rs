//! Permissions, for administrators.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    auth::{Auth, access::Admin, audit_log::AuditContext, tokens},
    fields::{Check, schemas::PermissionName},
    http::{ApiError, AskedPage, Id, Json, Page, Pagination, openapi::refuses},
    store::permissions::{self as stored, Permission},
};

/// A page of permissions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PermissionList {
    pub(super) permissions: Vec<Permission>,
    pub(super) pagination: Pagination,
}

/// One permission.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OnePermission {
    pub(super) permission: Permission,
}

/// Lists permissions.
#[utoipa::path(
    get,
    path = "/api/v1/auth/permissions",
    params(AskedPage),
    responses((status = 200, description = "Sorted by name.", body = PermissionList))
)]
pub(super) async fn list_permissions(
    _: Admin,
    State(auth): State<Auth>,
    page: Page,
) -> Result<Answer<PermissionList>, ApiError> {
    let (permissions, total) = auth.permissions.list(page.limit, page.offset).await?;
    Ok(Answer(PermissionList { permissions, pagination: page.pagination(total) }))
}

/// Reads a permission.
#[utoipa::path(
    get,
    path = "/api/v1/auth/permissions/{permission_id}",
    params(("permission_id" = Uuid, Path, description = "The permission.")),
    responses(
        (status = 200, description = "The permission.", body = OnePermission),
        refuses::Missing
    )
)]
pub(super) async fn read_permission(
    _: Admin,
    State(auth): State<Auth>,
    Id(id): Id,
) -> Result<Answer<OnePermission>, ApiError> {
    let permission = auth.permissions.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(OnePermission { permission }))
}

/// The fields of a permission.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PermissionBody)]
pub(super) struct PermissionFields {
    #[schema(required = true, nullable = false, value_type = PermissionName)]
    name: Option<String>,
    #[schema(required = true, nullable = false, value_type = PermissionName)]
    resource: Option<String>,
    #[schema(required = true, nullable = false, value_type = PermissionName)]
    action: Option<String>,
}

impl PermissionFields {
    fn check(&self) -> Result<stored::PermissionFields, ApiError> {
        let mut check = Check::default();
        let fields = stored::PermissionFields {
            name: check.permission("name", self.name.as_deref()),
            resource: check.permission("resource", self.resource.as_deref()),
            action: check.permission("action", self.action.as_deref()),
        };
        check.done()?;
        Ok(fields)
    }
}

/// Creates a permission.
#[utoipa::path(
    post,
    path = "/api/v1/auth/permissions",
    request_body = PermissionFields,
    responses(
        (status = 201, description = "The permission.", body = OnePermission),
        refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn make_permission(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    audit: AuditContext,
    Json(body): Json<PermissionFields>,
) -> Result<(StatusCode, Answer<OnePermission>), ApiError> {
    let fields = body.check()?;
    let permission = auth.permissions.add(tokens::fresh_id(&auth)?, &fields, &auth.clock).await?;
    audit.set_entity(permission.id);
    tracing::info!(user_id = %admin.id, permission_id = %permission.id, "a permission was made");
    Ok((StatusCode::CREATED, Answer(OnePermission { permission })))
}

/// Replaces a permission.
///
/// Services ask for permissions by name: from now on the new name is granted.
#[utoipa::path(
    put,
    path = "/api/v1/auth/permissions/{permission_id}",
    params(("permission_id" = Uuid, Path, description = "The permission.")),
    request_body = PermissionFields,
    responses(
        (status = 200, description = "The permission after the change.", body = OnePermission),
        refuses::Missing, refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn replace_permission(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Id(id): Id,
    Json(body): Json<PermissionFields>,
) -> Result<Answer<OnePermission>, ApiError> {
    let permission = auth.permissions.change(id, &body.check()?, &auth.clock).await?;
    tracing::info!(user_id = %admin.id, permission_id = %id, "a permission was changed");
    Ok(Answer(OnePermission { permission }))
}

/// Deletes a permission that no role has.
#[utoipa::path(
    delete,
    path = "/api/v1/auth/permissions/{permission_id}",
    params(("permission_id" = Uuid, Path, description = "The permission.")),
    responses(
        (status = 204, description = "The permission is deleted."),
        refuses::Missing, refuses::Conflict
    )
)]
pub(super) async fn delete_permission(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    auth.permissions.delete(id).await?;
    tracing::info!(user_id = %admin.id, permission_id = %id, "a permission was deleted");
    Ok(StatusCode::NO_CONTENT)
}
