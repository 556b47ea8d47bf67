//! The routes for operators, which both services have: liveness, readiness and metrics.

use axum::{
    Json,
    extract::{FromRef, State},
    http::HeaderMap,
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    clock::Clock,
    http::{ApiError, Metrics, openapi::refuses},
    store::{Database, Outbox},
};

/// The part of a service's state that these routes need.
#[derive(Debug, Clone)]
pub(crate) struct Operations {
    /// Database whose state is the service's readiness.
    pub(crate) database: Database,
    /// Metrics of the service.
    pub(crate) metrics: Metrics,
    /// Outbox whose length is a metric; `None` for a service without one.
    pub(crate) outbox: Option<Outbox>,
    /// Clock.
    pub(crate) clock: Clock,
}

/// Returns the routes, for a service with state `S`.
pub(crate) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Operations: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(ready)).routes(routes!(metrics))
}

/// Liveness.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Readiness.
#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    #[schema(example = true)]
    ready: bool,
}

/// Liveness: always 200 while the process runs.
#[utoipa::path(
    get,
    path = "/health",
    responses((status = 200, description = "The process runs.", body = Health))
)]
async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Readiness: whether the service can serve requests.
#[utoipa::path(
    get,
    path = "/ready",
    responses((status = 200, description = "The service can reach its database.", body = Readiness))
)]
async fn ready(State(operations): State<Operations>) -> Result<Json<Readiness>, ApiError> {
    if operations.database.is_writable().await {
        Ok(Json(Readiness { ready: true }))
    } else {
        Err(ApiError::unavailable("store_unavailable", "The service cannot reach its database"))
    }
}

/// Metrics in the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    security((), ("metricsToken" = [])),
    responses(
        (status = 200, description = "The metrics.", body = String, content_type = "text/plain"),
        refuses::Credentials
    )
)]
async fn metrics(State(operations): State<Operations>, headers: HeaderMap) -> Result<Response, ApiError> {
    let Operations { metrics, outbox, clock, .. } = operations;
    metrics.admit(&headers)?;
    if let Some(outbox) = outbox {
        let waiting = outbox.count(clock.now()).await;
        if let Err(error) = &waiting {
            metrics.database_error(error);
        }
        metrics.outbox_waiting(waiting.ok());
    }
    Ok(metrics.page())
}
