//! What a service answers while it gets ready: it opens its database and its keys, and the
//! database's tables may be on their way. Its port is bound already, so that nobody takes a
//! start for a crash.

use axum::{Json, Router, middleware, routing::get};
use serde_json::json;

use super::{
    ApiError,
    drain::read_to_end,
    gateway::{GatewayAuth, observe},
};

/// Alive, and 503 for everything else, readiness with it.
pub fn starting(auth: GatewayAuth) -> Router {
    Router::new()
        .route("/health", get(|| async { Json(json!({ "status": "ok" })) }))
        .fallback(|| async { ApiError::unavailable("starting", "The service is starting") })
        .layer(middleware::from_fn_with_state(auth, observe))
        .layer(middleware::from_fn(read_to_end))
}
