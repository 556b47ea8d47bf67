//! The HTTP routes, one module per resource, in groups: a group's routes share their callers,
//! middleware, credentials and refusals.

mod accounts;
mod api_keys;
mod audit;
mod internal_accounts;
mod introspection;
mod keys;
mod metadata;
mod permissions;
mod revocation;
mod rights;
mod roles;
mod sessions;
mod tokens;

use std::sync::Arc;

use axum::{Router, middleware, routing::any};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Auth, SERVICE, audit_log, direct, services};
use crate::{
    http::{
        ApiError, ServiceRule, measure, observe,
        openapi::{self, About, Callers, route_group},
        read_to_end, require_assertion, require_service,
    },
    operations, users,
};

const ABOUT: About = About {
    title: "Portcullis auth service",
    description: "Accounts, sessions, rights and tokens. Clients call it through the gateway; other services call it \
                  on the service's own port. Every error is a problem document (RFC 9457) with a stable `code`.",
    tags: &[
        ("Accounts", "Registration, the caller's own account and its password."),
        ("Sessions", "Login, refresh, logout and the caller's sessions."),
        ("Rights", "The roles that accounts have, and the permissions that follow from them."),
        ("Roles", "Roles and their permissions, for administrators."),
        ("Permissions", "Permissions, for administrators."),
        ("API keys", "Keys with which programs call the gateway, for administrators."),
        ("Operations", "For operators."),
        ("Keys", "The keys that verify tokens, and the metadata of the service."),
        ("Internal", "For services; not reachable through the gateway."),
    ],
};

/// Builds the service.
pub fn app(auth: Auth) -> Router {
    let with_state = || auth.clone();
    let for_anyone = Router::from(for_anyone())
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(audit_log::identify_client))
        .layer(middleware::from_fn_with_state(with_state(), direct::admit_anyone));
    let for_direct_users = Router::from(for_direct_users())
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(audit_log::identify_client))
        .layer(middleware::from_fn_with_state(with_state(), direct::admit_user));
    let for_gateway = Router::from(for_users().merge(for_admins()))
        .fallback(any(|| async { ApiError::not_found() }))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(audit_log::identify_client))
        .layer(middleware::from_fn(require_assertion));
    let rule = ServiceRule {
        verifier: Arc::new(services::OwnKeys { keyring: Arc::clone(&auth.keyring), clock: auth.clock.clone() }),
        issuer: Arc::clone(&auth.issuer),
        audience: SERVICE,
        callers: [users::SERVICE.to_owned()].into(),
    };
    let for_services = Router::from(for_services())
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(audit_log::identify_service))
        .layer(middleware::from_fn_with_state(rule, require_service));
    let open =
        Router::from(open()).merge(openapi::pages(&description())).method_not_allowed_fallback(method_not_allowed);
    for_gateway
        .merge(for_anyone)
        .merge(for_direct_users)
        .merge(for_services)
        .merge(open)
        .layer(middleware::from_fn_with_state(auth.gateway.clone(), observe))
        .layer(middleware::from_fn_with_state(with_state(), audit_log::record))
        .layer(middleware::from_fn_with_state(auth.metrics.clone(), measure))
        .layer(middleware::from_fn(read_to_end))
        .with_state(auth)
}

async fn method_not_allowed() -> ApiError {
    ApiError::method_not_allowed()
}

/// Returns the OpenAPI document.
pub fn description() -> OpenApi {
    let groups = for_anyone()
        .merge(for_direct_users())
        .merge(for_users())
        .merge(for_admins())
        .merge(for_services())
        .merge(open());
    openapi::document(groups.into_openapi(), &ABOUT)
}

/// For anyone, through the gateway, and in direct mode from a loopback address.
fn for_anyone() -> OpenApiRouter<Auth> {
    let sessions = OpenApiRouter::new()
        .routes(routes!(sessions::login))
        .routes(routes!(sessions::refresh))
        .routes(routes!(revocation::revoke_token));
    let accounts = OpenApiRouter::new().routes(routes!(accounts::register));
    route_group(Callers::Anyone, [("Accounts", accounts), ("Sessions", sessions)])
}

/// For users, through the gateway, and in direct mode from a loopback address.
fn for_direct_users() -> OpenApiRouter<Auth> {
    let accounts = OpenApiRouter::new().routes(routes!(accounts::me));
    let sessions = OpenApiRouter::new()
        .routes(routes!(sessions::logout))
        .routes(routes!(tokens::validate_token, tokens::validate_token_by_post));
    route_group(Callers::Users, [("Accounts", accounts), ("Sessions", sessions)])
}

/// For users, through the gateway.
fn for_users() -> OpenApiRouter<Auth> {
    let accounts = OpenApiRouter::new().routes(routes!(accounts::change_password));
    let sessions = OpenApiRouter::new().routes(routes!(sessions::list_sessions)).routes(routes!(sessions::end_session));
    let rights =
        OpenApiRouter::new().routes(routes!(rights::check_permission)).routes(routes!(rights::list_user_permissions));
    route_group(Callers::Users, [("Accounts", accounts), ("Sessions", sessions), ("Rights", rights)])
}

/// For administrators, through the gateway.
fn for_admins() -> OpenApiRouter<Auth> {
    let operations = OpenApiRouter::new().routes(routes!(keys::rotate_keys)).routes(routes!(audit::list_events));
    let roles = OpenApiRouter::new()
        .routes(routes!(roles::list_roles, roles::make_role))
        .routes(routes!(roles::read_role, roles::replace_role, roles::delete_role))
        .routes(routes!(roles::list_role_permissions, roles::give_permission))
        .routes(routes!(roles::take_permission));
    let permissions = OpenApiRouter::new()
        .routes(routes!(permissions::list_permissions, permissions::make_permission))
        .routes(routes!(permissions::read_permission, permissions::replace_permission, permissions::delete_permission));
    let rights = OpenApiRouter::new()
        .routes(routes!(rights::list_user_roles, rights::give_role, rights::replace_user_roles))
        .routes(routes!(rights::take_role));
    let api_keys = OpenApiRouter::new()
        .routes(routes!(api_keys::list_api_keys, api_keys::make_api_key))
        .routes(routes!(api_keys::read_api_key, api_keys::end_api_key));
    let resources = [
        ("Operations", operations),
        ("Roles", roles),
        ("Permissions", permissions),
        ("Rights", rights),
        ("API keys", api_keys),
    ];
    route_group(Callers::Admins, resources)
}

/// For the user service.
fn for_services() -> OpenApiRouter<Auth> {
    let internal = OpenApiRouter::new()
        .routes(routes!(internal_accounts::make_account))
        .routes(routes!(internal_accounts::delete_account, internal_accounts::change_account))
        .routes(routes!(internal_accounts::revoke_account));
    route_group(Callers::Services, [("Internal", internal)])
}

/// For anyone who reaches the service's port.
fn open() -> OpenApiRouter<Auth> {
    let tokens =
        OpenApiRouter::new().routes(routes!(tokens::service_token)).routes(routes!(introspection::introspect_token));
    let keys = OpenApiRouter::new()
        .routes(routes!(keys::jwks))
        .routes(routes!(keys::public_key))
        .routes(routes!(metadata::metadata));
    let resources = [("Internal", tokens), ("Keys", keys), ("Operations", operations::routes())];
    route_group(Callers::Network, resources)
}
