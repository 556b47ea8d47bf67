//! API keys, for administrators.

use axum::{
    Json as Answer,
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::IntoResponse,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::{
        ApiKeyFault, Auth,
        access::Admin,
        api_keys::{self, KeyRequest},
        audit_log::AuditContext,
    },
    clock::rfc3339,
    fields::schemas::{Name, Scope},
    http::{ApiError, FieldError, Id, Json, openapi::refuses},
    limits,
    store::api_keys::ApiKey as StoredKey,
};

impl From<ApiKeyFault> for ApiError {
    fn from(fault: ApiKeyFault) -> Self {
        match fault {
            ApiKeyFault::Invalid(fields) => Self::invalid(fields),
            ApiKeyFault::UnknownOwner => {
                Self::invalid(vec![FieldError { field: "owner", message: "must be the id of an account" }])
            }
            ApiKeyFault::TooMany => Self::conflict("too_many", "The limit is reached"),
            ApiKeyFault::Unknown => Self::not_found(),
            ApiKeyFault::Random => Self::internal(),
            ApiKeyFault::Store(error) => error.into(),
        }
    }
}

/// A live API key, without its text.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApiKey {
    id: Uuid,
    #[schema(example = "Nightly report")]
    name: String,
    /// The account that the key belongs to.
    owner: Uuid,
    #[schema(example = json!(["invoices:read"]))]
    scopes: Vec<String>,
    #[schema(format = DateTime, example = "2026-01-02T03:04:05Z")]
    created_at: String,
    #[schema(format = DateTime, example = "2026-04-02T03:04:05Z")]
    expires_at: String,
}

impl From<StoredKey> for ApiKey {
    fn from(key: StoredKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            owner: key.owner,
            scopes: key.scopes,
            created_at: rfc3339(key.created_at),
            expires_at: rfc3339(key.expires_at),
        }
    }
}

/// One API key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OneApiKey {
    api_key: ApiKey,
}

/// A new API key.
#[derive(Serialize, ToSchema)]
pub(super) struct NewApiKey {
    api_key: ApiKey,
    /// The key, which no later answer contains.
    #[schema(example = "pck_00000000000000000000000000000000000000007e763f51")]
    key: String,
}

/// A page of API keys.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApiKeyList {
    api_keys: Vec<ApiKey>,
    /// Cursor of the next page, if there is one.
    next: Option<String>,
}

/// The query of the list. Other parameters are ignored.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AskedKeys {
    /// The account that the keys belong to.
    #[param(value_type = Option<Uuid>, nullable = false)]
    owner: Option<String>,
    /// The most keys to return.
    #[param(value_type = Option<i64>, nullable = false, minimum = 1, maximum = 100, default = 10)]
    limit: Option<String>,
    /// `next` of the previous page.
    #[param(nullable = false, format = "cursor")]
    cursor: Option<String>,
}

/// Lists live API keys, the newest first.
#[utoipa::path(
    get,
    path = "/api/v1/auth/api-keys",
    params(AskedKeys),
    responses((status = 200, description = "A page of keys.", body = ApiKeyList))
)]
pub(super) async fn list_api_keys(
    _: Admin,
    State(auth): State<Auth>,
    asked: Result<Query<AskedKeys>, QueryRejection>,
) -> Result<Answer<ApiKeyList>, ApiError> {
    let invalid = || ApiError::bad_request("page_invalid", "limit must be 1 to 100, and owner an id");
    let Query(asked) = asked.map_err(|_| invalid())?;
    let owner = asked.owner.map(|text| Uuid::parse_str(&text)).transpose().map_err(|_| invalid())?;
    let limit = asked.limit.map_or(Some(limits::PAGE_DEFAULT), |text| text.parse().ok());
    let limit = limit.filter(|limit| limits::PAGE.contains(limit)).ok_or_else(invalid)?;
    let before = asked.cursor.map(|text| position(&text).ok_or(CURSOR_INVALID)).transpose()?;
    // One more than is returned tells whether there is a next page.
    let mut found = auth.api_keys.list(owner, before, limit.saturating_add(1), auth.clock.now()).await?;
    let has_more = i64::try_from(found.len()).is_ok_and(|count| count > limit);
    if has_more {
        found.pop();
    }
    let next = found.last().filter(|_| has_more).map(|last| URL_SAFE_NO_PAD.encode(last.id.as_bytes()));
    Ok(Answer(ApiKeyList { api_keys: found.into_iter().map(ApiKey::from).collect(), next }))
}

const CURSOR_INVALID: ApiError =
    ApiError::bad_request("cursor_invalid", "cursor must be the next of an earlier answer");

/// Reads a cursor: the id of the last key of a page.
fn position(cursor: &str) -> Option<Uuid> {
    Uuid::from_slice(&URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

/// Reads an API key.
#[utoipa::path(
    get,
    path = "/api/v1/auth/api-keys/{id}",
    params(("id" = Uuid, Path, description = "The key.")),
    responses((status = 200, description = "The key.", body = OneApiKey), refuses::Missing)
)]
pub(super) async fn read_api_key(
    _: Admin,
    State(auth): State<Auth>,
    Id(id): Id,
) -> Result<Answer<OneApiKey>, ApiError> {
    let key = auth.api_keys.find(id, auth.clock.now()).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(OneApiKey { api_key: key.into() }))
}

/// The fields of an API key.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ApiKeyBody)]
pub(super) struct ApiKeyFields {
    #[schema(required = true, nullable = false, value_type = Name)]
    name: Option<String>,
    /// The account that the key belongs to.
    #[schema(required = true, nullable = false, value_type = Uuid)]
    owner: Option<String>,
    #[schema(required = true, nullable = false, min_items = 1, max_items = 32, value_type = Vec<Scope>)]
    scopes: Option<Vec<String>>,
    /// Days for which the key is valid.
    #[schema(minimum = 1, maximum = 366, default = 90)]
    expires_in_days: Option<i64>,
}

/// Creates an API key.
///
/// The gateway accepts it within seconds. Only this answer contains the key.
#[utoipa::path(
    post,
    path = "/api/v1/auth/api-keys",
    request_body = ApiKeyFields,
    responses(
        (status = 201, description = "The key.", body = NewApiKey),
        refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn make_api_key(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    audit: AuditContext,
    Json(body): Json<ApiKeyFields>,
) -> Result<impl IntoResponse, ApiError> {
    let ApiKeyFields { name, owner, scopes, expires_in_days } = body;
    let request = KeyRequest { name, owner, scopes, expires_in_days };
    let created = api_keys::create_api_key(&auth.api_keys, request, &auth.api_key_prefix, &auth.clock).await?;
    audit.set_entity(created.key.id);
    auth.api_key_push.wake();
    tracing::info!(user_id = %admin.id, key_id = %created.key.id, "an API key was made");
    let answer = NewApiKey { api_key: created.key.into(), key: created.text.expose().to_owned() };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Answer(answer)))
}

/// Ends an API key.
///
/// The gateway refuses it within seconds.
#[utoipa::path(
    delete,
    path = "/api/v1/auth/api-keys/{id}",
    params(("id" = Uuid, Path, description = "The key.")),
    responses((status = 204, description = "The key is ended."), refuses::Missing)
)]
pub(super) async fn end_api_key(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    api_keys::end_api_key(&auth.api_keys, id, &auth.clock).await?;
    auth.api_key_push.wake();
    tracing::info!(user_id = %admin.id, key_id = %id, "an API key was ended");
    Ok(StatusCode::NO_CONTENT)
}
