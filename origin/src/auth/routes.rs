//! The auth service's routes, in three rings: open to all (keys, health), for
//! the gateway, for services.

use std::sync::Arc;

use axum::{
    Json as Answer, Router,
    extract::State,
    http::{HeaderMap, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{any, delete, get, post},
};
use serde_json::{Value, json};

use super::{
    Auth, account, audit, credentials, password_change, permissions, rights, roles, session, session_list, trail,
};
use crate::{
    clock::rfc3339,
    http::{ApiError, ServiceRule, User, measure, observe, require_assertion, require_service},
    limits, users,
};

/// The whole service.
pub fn app(auth: Auth) -> Router {
    let for_gateway = Router::new()
        .route("/api/v1/auth/register", post(account::register))
        .route("/api/v1/auth/login", post(session::login))
        .route("/api/v1/auth/refresh", post(session::refresh))
        .route("/api/v1/auth/logout", post(session::logout))
        .route("/api/v1/auth/me", get(session::me))
        .route("/api/v1/auth/sessions", get(session_list::list))
        .route("/api/v1/auth/sessions/{id}", delete(session_list::end))
        .route("/api/v1/auth/password", post(password_change::change))
        .route("/api/v1/auth/keys/rotate", post(rotate))
        .route("/api/v1/auth/audit", get(trail::list))
        .route("/api/v1/auth/validate-token", get(session::validate).post(session::validate))
        .merge(for_rights())
        .fallback(any(|| async { ApiError::not_found() }))
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(middleware::from_fn(audit::note_client))
        .layer(middleware::from_fn(require_assertion));
    let rule = ServiceRule {
        verifier: Arc::new(credentials::OwnKeys { keyring: Arc::clone(&auth.keyring), clock: auth.clock.clone() }),
        audience: super::SERVICE,
        callers: [users::SERVICE.to_owned()].into(),
    };
    let for_services = Router::new()
        .route("/api/v1/internal/accounts", post(account::make_internal))
        .route("/api/v1/internal/accounts/{id}", delete(account::delete).patch(account::change))
        .route("/api/v1/internal/accounts/{id}/revoke", post(account::revoke))
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(middleware::from_fn_with_state(rule, require_service));
    let open = Router::new()
        .route("/api/v1/auth/token", post(credentials::issue))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/api/v1/auth/public-key", get(public_key))
        .route("/health", get(|| async { Answer(json!({ "status": "ok" })) }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() });
    for_gateway
        .merge(for_services)
        .merge(open)
        .layer(middleware::from_fn_with_state(auth.gate.clone(), observe))
        .layer(middleware::from_fn_with_state(auth.clone(), audit::record))
        .layer(middleware::from_fn_with_state(auth.metrics.clone(), measure))
        .with_state(auth)
}

/// Roles, permissions, and who has which.
fn for_rights() -> Router<Auth> {
    Router::new()
        .route("/api/v1/auth/roles", get(roles::list).post(roles::add))
        .route("/api/v1/auth/roles/{role_id}", get(roles::read).put(roles::replace).delete(roles::delete))
        .route("/api/v1/auth/roles/{role_id}/permissions", get(roles::permissions).post(roles::give))
        .route("/api/v1/auth/roles/{role_id}/permissions/{permission_id}", delete(roles::take))
        .route("/api/v1/auth/permissions", get(permissions::list).post(permissions::add))
        .route("/api/v1/auth/permissions/check", post(rights::check))
        .route(
            "/api/v1/auth/permissions/{permission_id}",
            get(permissions::read).put(permissions::replace).delete(permissions::delete),
        )
        .route("/api/v1/auth/users/{id}/roles", get(rights::roles).post(rights::give).put(rights::replace))
        .route("/api/v1/auth/users/{id}/roles/{role_id}", delete(rights::take))
        .route("/api/v1/auth/users/{id}/permissions", get(rights::permissions))
}

async fn jwks(State(auth): State<Auth>) -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "application/jwk-set+json".to_owned()), (header::CACHE_CONTROL, keep())];
    (headers, auth.keyring.jwks().to_string())
}

async fn public_key(State(auth): State<Auth>) -> Result<impl IntoResponse, ApiError> {
    let key = auth.keyring.signer(auth.clock.now()).ok_or(ApiError::internal())?;
    let pem = key.to_pem().map_err(|_| ApiError::internal())?;
    Ok(([(header::CONTENT_TYPE, "application/x-pem-file".to_owned()), (header::CACHE_CONTROL, keep())], pem))
}

async fn ready(State(auth): State<Auth>) -> Result<Answer<Value>, ApiError> {
    if auth.database.is_well().await {
        Ok(Answer(json!({ "ready": true })))
    } else {
        Err(ApiError::unavailable("store_unavailable", "The service cannot reach its database"))
    }
}

/// GET /metrics.
async fn metrics(State(auth): State<Auth>, headers: HeaderMap) -> Result<Response, ApiError> {
    auth.metrics.admit(&headers)?;
    let waiting = auth.outbox.count(auth.clock.now()).await;
    if let Err(error) = &waiting {
        auth.metrics.store_fault(error);
    }
    auth.metrics.outbox_waiting(waiting.ok());
    Ok(auth.metrics.page())
}

/// POST /api/v1/auth/keys/rotate, for administrators whose session lives.
async fn rotate(State(auth): State<Auth>, notes: audit::Notes, user: User) -> Result<Answer<Value>, ApiError> {
    session::live_admin(&auth, &user).await?;
    let rotated = auth.keyring.rotate(auth.clock.now()).await.map_err(|fault| {
        tracing::error!(%fault, "the signing keys cannot be rotated");
        ApiError::unavailable("keys_unavailable", "Authentication service unavailable")
    })?;
    notes.about(&rotated.kid);
    tracing::info!(kid = rotated.kid, previous_kid = rotated.previous_kid, user_id = %user.id, "signing keys rotated");
    Ok(Answer(json!({
        "kid": rotated.kid,
        "previous_kid": rotated.previous_kid,
        "signs_from": rfc3339(rotated.signs_from),
    })))
}

/// `Cache-Control` of what is public and changes seldom.
fn keep() -> String {
    format!("public, max-age={}", limits::JWKS_MAX_AGE_S)
}
