//! The auth service's routes, in three rings: open to all (keys, health), for
//! the gateway, for services.

use std::sync::Arc;

use axum::{
    Json as Answer, Router,
    extract::State,
    http::{HeaderMap, header},
    middleware,
    response::{IntoResponse, Response},
    routing::any,
};
use serde::Serialize;
use utoipa::{ToSchema, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Auth, account, audit, credentials, direct, password_change, permissions, rights, roles, session, session_list,
    trail,
};
use crate::{
    clock::rfc3339,
    http::{
        ApiError, ServiceRule, User, measure, observe,
        openapi::{self, About, Health, Readiness, refuses},
        read_to_end, require_assertion, require_service,
    },
    limits, users,
};

const ABOUT: About = About {
    title: "Portcullis auth service",
    description: "Accounts, sessions, rights and tokens. Clients ask through the gateway; other services ask at the \
                  service's own port. Every refusal is a problem document (RFC 9457) with a stable `code`.",
    tags: &[
        ("Accounts", "Who one is."),
        ("Sessions", "Where one is logged in."),
        ("Rights", "Which roles accounts have, and what they may do."),
        ("Roles", "For administrators."),
        ("Permissions", "For administrators."),
        ("Operations", "For operators."),
        ("Keys", "With what tokens are checked."),
        ("Internal", "For services; never through the gateway."),
    ],
};

/// The whole service.
pub fn app(auth: Auth) -> Router {
    let for_anyone = Router::from(for_anyone())
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(middleware::from_fn(audit::note_client))
        .layer(middleware::from_fn_with_state(auth.clone(), direct::admit_anyone));
    let for_users = Router::from(for_users())
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(middleware::from_fn(audit::note_client))
        .layer(middleware::from_fn_with_state(auth.clone(), direct::admit_user));
    let for_gateway = Router::from(for_gateway())
        .fallback(any(|| async { ApiError::not_found() }))
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(middleware::from_fn(audit::note_client))
        .layer(middleware::from_fn(require_assertion));
    let rule = ServiceRule {
        verifier: Arc::new(credentials::OwnKeys { keyring: Arc::clone(&auth.keyring), clock: auth.clock.clone() }),
        audience: super::SERVICE,
        callers: [users::SERVICE.to_owned()].into(),
    };
    let for_services = Router::from(for_services())
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(middleware::from_fn(audit::note_service))
        .layer(middleware::from_fn_with_state(rule, require_service));
    let open = Router::from(open())
        .merge(openapi::pages(&description()))
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() });
    for_gateway
        .merge(for_anyone)
        .merge(for_users)
        .merge(for_services)
        .merge(open)
        .layer(middleware::from_fn_with_state(auth.gateway.clone(), observe))
        .layer(middleware::from_fn_with_state(auth.clone(), audit::record))
        .layer(middleware::from_fn_with_state(auth.metrics.clone(), measure))
        .layer(middleware::from_fn(read_to_end))
        .with_state(auth)
}

/// How the service describes itself.
pub fn description() -> OpenApi {
    let api = for_anyone().merge(for_users()).merge(for_gateway()).merge(for_services()).merge(open()).into_openapi();
    openapi::framed(api, &ABOUT)
}

/// What anyone may ask through the gateway, and in direct mode from a loopback address.
fn for_anyone() -> OpenApiRouter<Auth> {
    OpenApiRouter::new()
        .routes(routes!(account::register))
        .routes(routes!(session::login))
        .routes(routes!(session::refresh))
}

/// What users ask through the gateway, and in direct mode from a loopback address.
fn for_users() -> OpenApiRouter<Auth> {
    OpenApiRouter::new()
        .routes(routes!(session::logout))
        .routes(routes!(session::me))
        .routes(routes!(session::validate, session::validate_by_post))
}

/// What users ask, through the gateway alone.
fn for_gateway() -> OpenApiRouter<Auth> {
    OpenApiRouter::new()
        .routes(routes!(session_list::list))
        .routes(routes!(session_list::end))
        .routes(routes!(password_change::change))
        .routes(routes!(rotate))
        .routes(routes!(trail::list))
        .routes(routes!(roles::list, roles::add))
        .routes(routes!(roles::read, roles::replace, roles::delete))
        .routes(routes!(roles::permissions, roles::give))
        .routes(routes!(roles::take))
        .routes(routes!(permissions::list, permissions::add))
        .routes(routes!(permissions::read, permissions::replace, permissions::delete))
        .routes(routes!(rights::check))
        .routes(routes!(rights::roles, rights::give, rights::replace))
        .routes(routes!(rights::take))
        .routes(routes!(rights::permissions))
}

/// What services ask.
fn for_services() -> OpenApiRouter<Auth> {
    OpenApiRouter::new()
        .routes(routes!(account::make_internal))
        .routes(routes!(account::delete, account::change))
        .routes(routes!(account::revoke))
}

/// What anybody may ask who reaches the service.
fn open() -> OpenApiRouter<Auth> {
    OpenApiRouter::new()
        .routes(routes!(credentials::issue))
        .routes(routes!(jwks))
        .routes(routes!(public_key))
        .routes(routes!(health))
        .routes(routes!(ready))
        .routes(routes!(metrics))
}

/// The keys with which tokens are checked (RFC 7517).
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    operation_id = "jwks",
    tag = "Keys",
    responses(
        (status = 200, description = "The key set.", body = openapi::KeySet, content_type = "application/jwk-set+json"),
        refuses::Trouble
    )
)]
async fn jwks(State(auth): State<Auth>) -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "application/jwk-set+json".to_owned()), (header::CACHE_CONTROL, keep())];
    (headers, auth.keyring.jwks().to_string())
}

/// The key that signs now, as PEM.
#[utoipa::path(
    get,
    path = "/api/v1/auth/public-key",
    operation_id = "publicKey",
    tag = "Keys",
    responses(
        (status = 200, description = "The public key.", body = String, content_type = "application/x-pem-file"),
        refuses::Trouble
    )
)]
async fn public_key(State(auth): State<Auth>) -> Result<impl IntoResponse, ApiError> {
    let key = auth.keyring.signer(auth.clock.now()).ok_or(ApiError::internal())?;
    let pem = key.to_pem().map_err(|_| ApiError::internal())?;
    Ok(([(header::CONTENT_TYPE, "application/x-pem-file".to_owned()), (header::CACHE_CONTROL, keep())], pem))
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
async fn ready(State(auth): State<Auth>) -> Result<Answer<Readiness>, ApiError> {
    if auth.database.is_writable().await {
        Ok(Answer(Readiness::READY))
    } else {
        Err(ApiError::unavailable("store_unavailable", "The service cannot reach its database"))
    }
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
async fn metrics(State(auth): State<Auth>, headers: HeaderMap) -> Result<Response, ApiError> {
    auth.metrics.admit(&headers)?;
    let waiting = auth.outbox.count(auth.clock.now()).await;
    if let Err(error) = &waiting {
        auth.metrics.database_error(error);
    }
    auth.metrics.outbox_waiting(waiting.ok());
    Ok(auth.metrics.page())
}

/// A change of keys.
#[derive(Debug, Serialize, ToSchema)]
struct Rotation {
    /// The new key.
    kid: String,
    /// The key that signed so far.
    previous_kid: String,
    /// When the new one begins to sign: gateways have it by then.
    #[schema(format = DateTime, example = "2026-01-02T03:19:05Z")]
    signs_from: String,
}

/// Makes a new signing key.
#[utoipa::path(
    post,
    path = "/api/v1/auth/keys/rotate",
    operation_id = "rotateKeys",
    tag = "Operations",
    security(("accessToken" = [])),
    responses(
        (status = 200, description = "It is published, and signs soon.", body = Rotation),
        refuses::Always, refuses::Credentials, refuses::Rights
    )
)]
async fn rotate(State(auth): State<Auth>, notes: audit::Notes, user: User) -> Result<Answer<Rotation>, ApiError> {
    session::live_admin(&auth, &user).await?;
    let rotated = auth.keyring.rotate(auth.clock.now()).await.map_err(|fault| {
        tracing::error!(%fault, "the signing keys cannot be rotated");
        ApiError::unavailable("keys_unavailable", "Authentication service unavailable")
    })?;
    notes.about(&rotated.kid);
    tracing::info!(kid = rotated.kid, previous_kid = rotated.previous_kid, user_id = %user.id, "signing keys rotated");
    Ok(Answer(Rotation {
        kid: rotated.kid,
        previous_kid: rotated.previous_kid,
        signs_from: rfc3339(rotated.signs_from),
    }))
}

/// `Cache-Control` of what is public and changes seldom.
fn keep() -> String {
    format!("public, max-age={}", limits::JWKS_MAX_AGE_S)
}
