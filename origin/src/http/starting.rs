//! The answers of a service that opens its database and its keys. The port is bound before, so that a
//! start, which may include migrations, is not mistaken for a crash.

use axum::{Json, Router, middleware, routing::get};
use serde_json::json;

use super::{
    ApiError,
    drain::read_to_end,
    gateway::{GatewayAuth, observe},
};

/// Makes an app that answers 200 to /health and 503 to everything else, /ready included.
pub fn starting(auth: GatewayAuth) -> Router {
    Router::new()
        .route("/health", get(|| async { Json(json!({ "status": "ok" })) }))
        .fallback(|| async { ApiError::unavailable("starting", "The service is starting") })
        .layer(middleware::from_fn_with_state(auth, observe))
        .layer(middleware::from_fn(read_to_end))
}
