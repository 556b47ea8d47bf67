//! The user service's routes, in three rings: health, for the gateway, for
//! services.

use std::sync::Arc;

use axum::{
    Json as Answer, Router,
    extract::State,
    http::HeaderMap,
    middleware,
    response::Response,
    routing::{any, get, patch, post},
};
use serde_json::{Value, json};

use super::{Users, listing, profile};
use crate::{
    auth,
    http::{ApiError, ServiceRule, measure, observe, require_assertion, require_service},
};

/// The whole service.
pub fn app(users: Users) -> Router {
    let for_gateway = Router::new()
        .route("/api/v1/users", get(listing::list).post(profile::make))
        .route(
            "/api/v1/users/{id}",
            get(profile::read).put(profile::replace).patch(profile::patch).delete(profile::delete),
        )
        .fallback(any(|| async { ApiError::not_found() }))
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(middleware::from_fn(require_assertion));
    // Each route names its callers: what writes is the auth service's alone.
    let layer = |callers| {
        let rule = ServiceRule { verifier: Arc::clone(&users.keys), audience: super::SERVICE, callers };
        middleware::from_fn_with_state(rule, require_service)
    };
    let writers: Arc<[String]> = [auth::SERVICE.to_owned()].into();
    let readers = writers.iter().chain(users.readers.iter()).cloned().collect();
    let (writes, reads) = (layer(writers), layer(readers));
    let for_services = Router::new()
        .route(
            "/api/v1/internal/users",
            get(listing::list_internal).layer(reads.clone()).merge(post(profile::put_internal).layer(writes.clone())),
        )
        .route(
            "/api/v1/internal/users/{id}",
            get(profile::read_internal)
                .layer(reads)
                .merge(patch(profile::patch_internal).delete(profile::delete_internal).layer(writes)),
        )
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() });
    let open = Router::new()
        .route("/health", get(|| async { Answer(json!({ "status": "ok" })) }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() });
    for_gateway
        .merge(for_services)
        .merge(open)
        .layer(middleware::from_fn_with_state(users.gate.clone(), observe))
        .layer(middleware::from_fn_with_state(users.metrics.clone(), measure))
        .with_state(users)
}

/// GET /metrics.
async fn metrics(State(users): State<Users>, headers: HeaderMap) -> Result<Response, ApiError> {
    users.metrics.admit(&headers)?;
    Ok(users.metrics.page())
}

async fn ready(State(users): State<Users>) -> Result<Answer<Value>, ApiError> {
    if users.database.is_well().await {
        Ok(Answer(json!({ "ready": true })))
    } else {
        Err(ApiError::unavailable("store_unavailable", "The service cannot reach its database"))
    }
}
