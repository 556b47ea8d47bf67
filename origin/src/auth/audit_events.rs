//! The event type of each route. Decided here by method and route template, so that no handler
//! can forget to leave an event: a route without an entry leaves one of type [`UNNAMED`].

use axum::http::Method;

/// Routes that change something or authenticate: method, template without the names of its
/// parameters, event type.
const CHANGES: &[(&str, &str, &str)] = &[
    ("POST", "/api/v1/auth/register", "auth.register"),
    ("POST", "/api/v1/auth/login", LOGIN),
    ("POST", "/api/v1/auth/refresh", "auth.refresh"),
    ("POST", "/api/v1/auth/logout", "auth.logout"),
    ("POST", "/api/v1/auth/revoke", "auth.revoke"),
    ("POST", "/api/v1/auth/password", "auth.password.change"),
    ("DELETE", "/api/v1/auth/sessions", "session.end"),
    ("DELETE", "/api/v1/auth/sessions/{}", "session.end"),
    ("POST", "/api/v1/auth/roles", "role.create"),
    ("PUT", "/api/v1/auth/roles/{}", "role.update"),
    ("DELETE", "/api/v1/auth/roles/{}", "role.delete"),
    ("POST", "/api/v1/auth/roles/{}/permissions", "role.permission.grant"),
    ("DELETE", "/api/v1/auth/roles/{}/permissions/{}", "role.permission.revoke"),
    ("POST", "/api/v1/auth/permissions", "permission.create"),
    ("PUT", "/api/v1/auth/permissions/{}", "permission.update"),
    ("DELETE", "/api/v1/auth/permissions/{}", "permission.delete"),
    ("POST", "/api/v1/auth/users/{}/roles", "user.role.grant"),
    ("PUT", "/api/v1/auth/users/{}/roles", "user.roles.replace"),
    ("DELETE", "/api/v1/auth/users/{}/roles/{}", "user.role.revoke"),
    ("POST", "/api/v1/auth/api-keys", "api_key.create"),
    ("DELETE", "/api/v1/auth/api-keys/{}", "api_key.end"),
    ("POST", "/api/v1/auth/keys/rotate", "keys.rotate"),
    ("POST", "/api/v1/auth/token", "service.token"),
    ("POST", "/api/v1/internal/accounts", "account.create"),
    ("PATCH", "/api/v1/internal/accounts/{}", "account.change"),
    ("DELETE", "/api/v1/internal/accounts/{}", "account.delete"),
    ("POST", "/api/v1/internal/accounts/{}/revoke", "account.revoke"),
];

/// Routes that only read. They leave an event when they deny access, which may be an attempt to
/// read what belongs to someone else. Services call some of them with each of their own requests:
/// an event for every answer would bury the others.
const READS: &[(&str, &str, &str)] = &[
    ("POST", "/api/v1/auth/validate-token", "auth.validate"),
    ("POST", "/api/v1/auth/introspect", "auth.introspect"),
    ("POST", "/api/v1/auth/permissions/check", "permission.check"),
    ("GET", "/api/v1/auth/roles", "role.read"),
    ("GET", "/api/v1/auth/roles/{}", "role.read"),
    ("GET", "/api/v1/auth/roles/{}/permissions", "role.read"),
    ("GET", "/api/v1/auth/permissions", "permission.read"),
    ("GET", "/api/v1/auth/permissions/{}", "permission.read"),
    ("GET", "/api/v1/auth/users/{}/roles", "user.roles.read"),
    ("GET", "/api/v1/auth/users/{}/permissions", "user.permissions.read"),
    ("GET", "/api/v1/auth/api-keys", "api_key.read"),
    ("GET", "/api/v1/auth/api-keys/{}", "api_key.read"),
    ("GET", "/api/v1/auth/audit", "audit.read"),
];

/// Event type of logins, which a metric counts as well.
pub(super) const LOGIN: &str = "auth.login";

/// Event type of changing routes without an entry.
const UNNAMED: &str = "auth.other";

/// How a route's requests are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) event_type: &'static str,
    /// Only a denial leaves an event.
    pub(super) only_denials: bool,
}

/// Looks up how a route is recorded; `None` when it leaves no event.
pub(super) fn recorded(method: &Method, template: &str) -> Option<Recorded> {
    // A HEAD request is answered as a GET.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let bare = without_names(template);
    let find = |table: &[(&str, &str, &'static str)]| {
        let found = table.iter().find(|(verb, path, _)| *verb == method && *path == bare);
        found.map(|(_, _, event_type)| *event_type)
    };
    if let Some(event_type) = find(READS) {
        return Some(Recorded { event_type, only_denials: true });
    }
    match method {
        "GET" | "OPTIONS" | "TRACE" => None,
        _ => Some(Recorded { event_type: find(CHANGES).unwrap_or(UNNAMED), only_denials: false }),
    }
}

/// Removes the names of a template's parameters.
fn without_names(template: &str) -> String {
    let segments = template.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_its_event_type_whatever_its_parameters_are_called() {
        let always = |event_type| Some(Recorded { event_type, only_denials: false });
        let denied = |event_type| Some(Recorded { event_type, only_denials: true });
        for (method, template, expected) in [
            ("POST", "/api/v1/auth/login", always("auth.login")),
            ("DELETE", "/api/v1/auth/users/{id}/roles/{role_id}", always("user.role.revoke")),
            ("DELETE", "/api/v1/auth/users/{user}/roles/{role}", always("user.role.revoke")),
            ("POST", "/api/v1/auth/novelties/{id}", always(UNNAMED)),
            ("PURGE", "/api/v1/auth/roles", always(UNNAMED)),
            ("GET", "/api/v1/auth/roles/{role_id}", denied("role.read")),
            ("HEAD", "/api/v1/auth/roles/{role_id}", denied("role.read")),
            ("POST", "/api/v1/auth/permissions/check", denied("permission.check")),
            ("GET", "/api/v1/auth/me", None),
            ("HEAD", "/health", None),
            ("OPTIONS", "/api/v1/auth/login", None),
        ] {
            assert_eq!(recorded(&method.parse().unwrap(), template), expected, "{method} {template}");
        }
    }
}
