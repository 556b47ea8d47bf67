//! Roles and the permissions that they have, as administrators read and write them.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Auth, audit::Notes, permissions, session::Admin, token};
use crate::{
    clock::rfc3339,
    fields::Check,
    http::{ApiError, Id, Ids, Json, Page},
    store::roles::Role,
};

/// A role as clients see it.
pub(super) fn document(role: &Role) -> Value {
    json!({
        "id": role.id,
        "name": role.name,
        "description": role.description,
        "built_in": role.built_in,
        "created_at": rfc3339(role.created_at),
        "updated_at": rfc3339(role.updated_at),
    })
}

/// GET /api/v1/auth/roles.
pub(super) async fn list(_: Admin, State(auth): State<Auth>, page: Page) -> Result<Answer<Value>, ApiError> {
    let (roles, total) = auth.roles.list(page.limit, page.offset).await?;
    let roles: Vec<Value> = roles.iter().map(document).collect();
    Ok(Answer(json!({ "roles": roles, "pagination": page.pagination(total) })))
}

/// GET /api/v1/auth/roles/{role_id}.
pub(super) async fn read(_: Admin, State(auth): State<Auth>, Id(id): Id) -> Result<Answer<Value>, ApiError> {
    let role = auth.roles.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(json!({ "role": document(&role) })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Body {
    name: Option<String>,
    description: Option<String>,
}

impl Body {
    fn check(&self) -> Result<(String, String), ApiError> {
        let mut check = Check::default();
        let name = check.role("name", self.name.as_deref());
        let description = check.description("description", self.description.as_deref());
        check.done()?;
        Ok((name, description))
    }
}

/// POST /api/v1/auth/roles.
pub(super) async fn add(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    notes: Notes,
    Json(body): Json<Body>,
) -> Result<(StatusCode, Answer<Value>), ApiError> {
    let (name, description) = body.check()?;
    let role = auth.roles.add(token::fresh_id(&auth)?, &name, &description, &auth.clock).await?;
    notes.about(role.id);
    tracing::info!(user_id = %admin.id, role_id = %role.id, "a role was made");
    Ok((StatusCode::CREATED, Answer(json!({ "role": document(&role) }))))
}

/// PUT /api/v1/auth/roles/{role_id}: what is not sent is empty.
pub(super) async fn replace(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Id(id): Id,
    Json(body): Json<Body>,
) -> Result<Answer<Value>, ApiError> {
    let (name, description) = body.check()?;
    let role = auth.roles.change(id, &name, &description, &auth.clock).await?;
    tracing::info!(user_id = %admin.id, role_id = %id, "a role was changed");
    Ok(Answer(json!({ "role": document(&role) })))
}

/// DELETE /api/v1/auth/roles/{role_id}.
pub(super) async fn delete(Admin(admin): Admin, State(auth): State<Auth>, Id(id): Id) -> Result<StatusCode, ApiError> {
    auth.roles.delete(id).await?;
    tracing::info!(user_id = %admin.id, role_id = %id, "a role was deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// GET /api/v1/auth/roles/{role_id}/permissions.
pub(super) async fn permissions(
    _: Admin,
    State(auth): State<Auth>,
    Id(id): Id,
    page: Page,
) -> Result<Answer<Value>, ApiError> {
    let found = auth.roles.permissions(id, page.limit, page.offset).await?;
    let (permissions, total) = found.ok_or(ApiError::not_found())?;
    let permissions: Vec<Value> = permissions.iter().map(permissions::document).collect();
    Ok(Answer(json!({ "permissions": permissions, "pagination": page.pagination(total) })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Given {
    permission_id: Option<String>,
}

/// POST /api/v1/auth/roles/{role_id}/permissions: 201, or 200 if the role had it.
pub(super) async fn give(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    notes: Notes,
    Id(id): Id,
    Json(body): Json<Given>,
) -> Result<(StatusCode, Answer<Value>), ApiError> {
    let mut check = Check::default();
    let permission_id = check.id("permission_id", body.permission_id.as_deref());
    check.done()?;
    notes.about(permission_id);
    let (permission, is_new) = auth.roles.give(id, permission_id).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    if is_new {
        tracing::info!(user_id = %admin.id, role_id = %id, %permission_id, "a role was given a permission");
    }
    Ok((status, Answer(json!({ "permission": permissions::document(&permission) }))))
}

/// DELETE /api/v1/auth/roles/{role_id}/permissions/{permission_id}.
pub(super) async fn take(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Ids(id, permission_id): Ids,
) -> Result<StatusCode, ApiError> {
    auth.roles.take(id, permission_id).await?;
    tracing::info!(user_id = %admin.id, role_id = %id, %permission_id, "a permission was taken from a role");
    Ok(StatusCode::NO_CONTENT)
}
