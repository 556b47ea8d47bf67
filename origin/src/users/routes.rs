//! The user service's routes, in three rings: health, for the gateway, for
//! services.

use std::sync::Arc;

use axum::{Json as Answer, Router, extract::State, http::HeaderMap, middleware, response::Response, routing::any};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Users, listing, profile};
use crate::{
    auth,
    http::{
        ApiError, ServiceRule, measure, observe,
        openapi::{self, About, Health, Readiness, refuses},
        read_to_end, require_assertion, require_service,
    },
};

const ABOUT: About = About {
    title: "Portcullis user service",
    description: "The profiles of the accounts. Clients ask through the gateway; other services ask at the service's \
                  own port. Every refusal is a problem document (RFC 9457) with a stable `code`.",
    tags: &[
        ("Users", "Oneself, and for administrators everybody."),
        ("Operations", "For operators."),
        ("Internal", "For services; never through the gateway."),
    ],
};

/// The whole service.
pub fn app(users: Users) -> Router {
    let for_gateway = Router::from(for_gateway())
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
    let for_services = Router::from(for_readers())
        .layer(layer(readers))
        .merge(Router::from(for_writers()).layer(layer(writers)))
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() });
    let open = Router::from(open())
        .merge(openapi::pages(&description()))
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() });
    for_gateway
        .merge(for_services)
        .merge(open)
        .layer(middleware::from_fn_with_state(users.gateway.clone(), observe))
        .layer(middleware::from_fn_with_state(users.metrics.clone(), measure))
        .layer(middleware::from_fn(read_to_end))
        .with_state(users)
}

/// How the service describes itself.
pub fn description() -> OpenApi {
    let api = for_gateway().merge(for_readers()).merge(for_writers()).merge(open()).into_openapi();
    openapi::framed(api, &ABOUT)
}

/// What users ask, through the gateway.
fn for_gateway() -> OpenApiRouter<Users> {
    OpenApiRouter::new().routes(routes!(listing::list, profile::make)).routes(routes!(
        profile::read,
        profile::replace,
        profile::patch,
        profile::delete
    ))
}

/// What services ask that read profiles.
fn for_readers() -> OpenApiRouter<Users> {
    OpenApiRouter::new().routes(routes!(listing::list_internal)).routes(routes!(profile::read_internal))
}

/// What the auth service asks.
fn for_writers() -> OpenApiRouter<Users> {
    OpenApiRouter::new()
        .routes(routes!(profile::put_internal))
        .routes(routes!(profile::patch_internal, profile::delete_internal))
}

/// What anybody may ask who reaches the service.
fn open() -> OpenApiRouter<Users> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(ready)).routes(routes!(metrics))
}

/// What is counted, in the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "Operations",
    security((), ("metricsToken" = [])),
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/plain"),
        refuses::Trouble, refuses::Credentials
    )
)]
async fn metrics(State(users): State<Users>, headers: HeaderMap) -> Result<Response, ApiError> {
    users.metrics.admit(&headers)?;
    Ok(users.metrics.page())
}

/// Whether the process is there.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "health",
    tag = "Operations",
    responses(
        (status = 200, description = "It is.", body = Health),
        refuses::Trouble
    )
)]
async fn health() -> Answer<Health> {
    Answer(Health::OK)
}

/// Whether the service can do its work.
#[utoipa::path(
    get,
    path = "/ready",
    operation_id = "ready",
    tag = "Operations",
    responses(
        (status = 200, description = "It can.", body = Readiness),
        refuses::Trouble
    )
)]
async fn ready(State(users): State<Users>) -> Result<Answer<Readiness>, ApiError> {
    if users.database.is_writable().await {
        Ok(Answer(Readiness::READY))
    } else {
        Err(ApiError::unavailable("store_unavailable", "The service cannot reach its database"))
    }
}
