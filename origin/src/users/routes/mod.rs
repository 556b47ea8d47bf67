//! The HTTP routes, one module per resource, in groups: a group's routes share their callers,
//! middleware, credentials and refusals.

mod internal;
mod listing;
mod users;

use std::sync::Arc;

use axum::{Router, middleware, routing::any};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{SERVICE, Users};
use crate::{
    auth,
    http::{
        ApiError, ServiceRule, measure, observe,
        openapi::{self, About, Callers, route_group},
        read_to_end, require_assertion, require_service,
    },
    operations,
};

const ABOUT: About = About {
    title: "Portcullis user service",
    description: "The profiles of the accounts. Clients call it through the gateway; other services call it on the \
                  service's own port. Every error is a problem document (RFC 9457) with a stable `code`.",
    tags: &[
        ("Users", "The caller's own profile, and for administrators all profiles."),
        ("Operations", "For operators."),
        ("Internal", "For services; not reachable through the gateway."),
    ],
};

/// Builds the service.
pub fn app(users: Users) -> Router {
    let for_gateway = Router::from(for_users().merge(for_admins()))
        .fallback(any(|| async { ApiError::not_found() }))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(require_assertion));
    // Only the auth service writes.
    let layer = |callers| {
        let (verifier, issuer) = (Arc::clone(&users.keys), Arc::clone(&users.issuer));
        let rule = ServiceRule { verifier, issuer, audience: SERVICE, callers };
        middleware::from_fn_with_state(rule, require_service)
    };
    let writers: Arc<[String]> = [auth::SERVICE.to_owned()].into();
    let readers = writers.iter().chain(users.readers.iter()).cloned().collect();
    let for_services = Router::from(for_readers())
        .layer(layer(readers))
        .merge(Router::from(for_writers()).layer(layer(writers)))
        .method_not_allowed_fallback(method_not_allowed);
    let open =
        Router::from(open()).merge(openapi::pages(&description())).method_not_allowed_fallback(method_not_allowed);
    for_gateway
        .merge(for_services)
        .merge(open)
        .layer(middleware::from_fn_with_state(users.gateway.clone(), observe))
        .layer(middleware::from_fn_with_state(users.metrics.clone(), measure))
        .layer(middleware::from_fn(read_to_end))
        .with_state(users)
}

async fn method_not_allowed() -> ApiError {
    ApiError::method_not_allowed()
}

/// Returns the OpenAPI document.
pub fn description() -> OpenApi {
    let groups = for_users().merge(for_admins()).merge(for_readers()).merge(for_writers()).merge(open());
    openapi::document(groups.into_openapi(), &ABOUT)
}

/// For users, through the gateway.
fn for_users() -> OpenApiRouter<Users> {
    let users = OpenApiRouter::new().routes(routes!(
        users::read_user,
        users::replace_user,
        users::change_user,
        users::delete_user
    ));
    route_group(Callers::Users, [("Users", users)])
}

/// For administrators, through the gateway.
fn for_admins() -> OpenApiRouter<Users> {
    let users = OpenApiRouter::new().routes(routes!(listing::list_users, users::make_user));
    route_group(Callers::Admins, [("Users", users)])
}

/// For services that read profiles.
fn for_readers() -> OpenApiRouter<Users> {
    let profiles = OpenApiRouter::new().routes(routes!(listing::list_profiles)).routes(routes!(internal::read_profile));
    route_group(Callers::Services, [("Internal", profiles)])
}

/// For the auth service.
fn for_writers() -> OpenApiRouter<Users> {
    let profiles = OpenApiRouter::new()
        .routes(routes!(internal::put_profile))
        .routes(routes!(internal::renew_profile, internal::delete_profile));
    route_group(Callers::Services, [("Internal", profiles)])
}

/// For anyone who reaches the service's port.
fn open() -> OpenApiRouter<Users> {
    route_group(Callers::Network, [("Operations", operations::routes())])
}
