//! Permissions, for administrators.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::{Auth, access::Admin, audit_log::AuditContext, tokens},
    clock::rfc3339,
    fields::{Check, schemas::PermissionName},
    http::{ApiError, AskedPage, Id, Json, Page, Pagination, openapi::refuses},
    store::permissions::{self as stored},
};

/// A permission.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Permission {
    id: Uuid,
    /// Name by which services ask for it.
    #[schema(example = "read:invoices")]
    name: String,
    /// Resource that it is about.
    #[schema(example = "invoices")]
    resource: String,
    /// Action that it allows.
    #[schema(example = "read")]
    action: String,
    /// Whether the program relies on it; it cannot be changed.
    built_in: bool,
    #[schema(format = DateTime, example = "2026-01-02T03:04:05Z")]
    created_at: String,
    #[schema(format = DateTime, example = "2026-01-02T03:04:05Z")]
    updated_at: String,
}

impl From<stored::Permission> for Permission {
    fn from(permission: stored::Permission) -> Self {
        Self {
            id: permission.id,
            name: permission.name,
            resource: permission.resource,
            action: permission.action,
            built_in: permission.built_in,
            created_at: rfc3339(permission.created_at),
            updated_at: rfc3339(permission.updated_at),
        }
    }
}

/// A page of permissions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PermissionList {
    permissions: Vec<Permission>,
    pagination: Pagination,
}

impl PermissionList {
    pub(super) fn new(permissions: Vec<stored::Permission>, pagination: Pagination) -> Self {
        Self { permissions: permissions.into_iter().map(Permission::from).collect(), pagination }
    }
}

/// One permission.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OnePermission {
    permission: Permission,
}

impl From<stored::Permission> for OnePermission {
    fn from(permission: stored::Permission) -> Self {
        Self { permission: permission.into() }
    }
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
    Ok(Answer(PermissionList::new(permissions, page.pagination(total))))
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
    Ok(Answer(permission.into()))
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
    Ok((StatusCode::CREATED, Answer(permission.into())))
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
    Ok(Answer(permission.into()))
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
