//! Permissions as administrators read and write them.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Auth, audit::Notes, session::Admin, token};
use crate::{
    clock::rfc3339,
    fields::Check,
    http::{ApiError, Id, Json, Page},
    store::permissions::{Permission, Said},
};

/// A permission as clients see it.
pub(super) fn document(permission: &Permission) -> Value {
    json!({
        "id": permission.id,
        "name": permission.name,
        "resource": permission.resource,
        "action": permission.action,
        "built_in": permission.built_in,
        "created_at": rfc3339(permission.created_at),
        "updated_at": rfc3339(permission.updated_at),
    })
}

/// GET /api/v1/auth/permissions.
pub(super) async fn list(_: Admin, State(auth): State<Auth>, page: Page) -> Result<Answer<Value>, ApiError> {
    let (permissions, total) = auth.permissions.list(page.limit, page.offset).await?;
    let permissions: Vec<Value> = permissions.iter().map(document).collect();
    Ok(Answer(json!({ "permissions": permissions, "pagination": page.pagination(total) })))
}

/// GET /api/v1/auth/permissions/{permission_id}.
pub(super) async fn read(_: Admin, State(auth): State<Auth>, Id(id): Id) -> Result<Answer<Value>, ApiError> {
    let permission = auth.permissions.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(json!({ "permission": document(&permission) })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Body {
    name: Option<String>,
    resource: Option<String>,
    action: Option<String>,
}

impl Body {
    fn check(&self) -> Result<Said, ApiError> {
        let mut check = Check::default();
        let said = Said {
            name: check.permission("name", self.name.as_deref()),
            resource: check.permission("resource", self.resource.as_deref()),
            action: check.permission("action", self.action.as_deref()),
        };
        check.done()?;
        Ok(said)
    }
}

/// POST /api/v1/auth/permissions.
pub(super) async fn add(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    notes: Notes,
    Json(body): Json<Body>,
) -> Result<(StatusCode, Answer<Value>), ApiError> {
    let said = body.check()?;
    let permission = auth.permissions.add(token::fresh_id(&auth)?, &said, &auth.clock).await?;
    notes.about(permission.id);
    tracing::info!(user_id = %admin.id, permission_id = %permission.id, "a permission was made");
    Ok((StatusCode::CREATED, Answer(json!({ "permission": document(&permission) }))))
}

/// PUT /api/v1/auth/permissions/{permission_id}. Services ask by name: from now on it is the
/// new one that is allowed.
pub(super) async fn replace(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Id(id): Id,
    Json(body): Json<Body>,
) -> Result<Answer<Value>, ApiError> {
    let permission = auth.permissions.change(id, &body.check()?, &auth.clock).await?;
    tracing::info!(user_id = %admin.id, permission_id = %id, "a permission was changed");
    Ok(Answer(json!({ "permission": document(&permission) })))
}

/// DELETE /api/v1/auth/permissions/{permission_id}.
pub(super) async fn delete(Admin(admin): Admin, State(auth): State<Auth>, Id(id): Id) -> Result<StatusCode, ApiError> {
    auth.permissions.delete(id).await?;
    tracing::info!(user_id = %admin.id, permission_id = %id, "a permission was deleted");
    Ok(StatusCode::NO_CONTENT)
}
