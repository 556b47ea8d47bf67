//! Names of headers that are the gateway's own, whatever a policy says: what only it may
//! speak to an origin, what belongs to one hop (RFC 9110, section 7.6.1), and what it
//! makes anew. Names only; what becomes of such headers is in `gate`.

/// Families of names that only the gateway may speak to an origin, or an
/// origin to the gateway.
const PRIVATE_PREFIXES: [&str; 7] =
    ["x-user-", "x-service-", "x-internal-", "x-gateway-", "x-forwarded-", "x-original-", "x-envoy-"];

/// Single names of the same kind. The overrides are here because a rule decided
/// on POST must not become a DELETE behind us; the addresses and URLs because
/// frameworks believe them.
const PRIVATE_NAMES: [&str; 10] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-forwarded",
];

const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Of a request: replaced by the gateway, or made anew by the runtime's client.
const REPLACED: [&str; 8] = [
    "host",
    "content-length",
    "expect",
    "x-request-id",
    "x-request-timeout-ms",
    "traceparent",
    "tracestate",
    "authorization",
];

/// Of an answer: the gateway's own, or bound to the body as it is.
const FIXED_IN_ANSWERS: [&str; 6] =
    ["x-request-id", "content-length", "content-encoding", "content-range", "sec-websocket-accept", "location"];

/// Whether a header must not cross the gateway in either direction. CGI and
/// WSGI servers read `X_User_Id` as `X-User-Id`, so both spellings are one.
pub fn is_private(name: &str) -> bool {
    PRIVATE_PREFIXES.iter().any(|prefix| begins_with(name, prefix))
        || PRIVATE_NAMES.iter().chain(&HOP_BY_HOP).any(|known| is_same(name, known))
}

/// Whether the gateway puts its own in the place of a request's header, in either spelling.
pub fn is_replaced(name: &str) -> bool {
    is_among(name, &REPLACED)
}

/// A header of the CORS protocol that an upstream may have set: its word does not count.
pub fn is_cors_header(name: &str) -> bool {
    begins_with(name, "access-control-")
}

fn is_among(name: &str, names: &[&str]) -> bool {
    names.iter().any(|known| is_same(name, known))
}

/// Whether a name is another, which is in lower case with hyphens.
fn is_same(name: &str, known: &str) -> bool {
    name.len() == known.len() && begins_with(name, known)
}

/// Looked at byte by byte: this is asked of every header of every request and answer, and a
/// copy in one spelling would cost more than all the rest.
fn begins_with(name: &str, prefix: &str) -> bool {
    let mut bytes = name.bytes();
    prefix.bytes().all(|wanted| {
        bytes.next().is_some_and(|byte| match byte {
            b'_' => wanted == b'-',
            _ => byte.to_ascii_lowercase() == wanted,
        })
    })
}

/// Whether no rule of a policy may touch a request's header, by its lower-case name.
pub(super) fn is_reserved_in_requests(name: &str) -> bool {
    is_private(name) || is_replaced(name) || is_among(name, &["cf-connecting-ip"])
}

/// Whether no rule of a policy may touch an answer's header, by its lower-case name.
pub(super) fn is_reserved_in_answers(name: &str) -> bool {
    is_private(name) || is_cors_header(name) || is_among(name, &FIXED_IN_ANSWERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_only_the_gateway_may_speak_are_private_in_every_spelling() {
        for (name, private) in [
            ("x-user-id", true),
            ("X-USER-ROLES", true),
            ("x_user_id", true),
            ("X_User-Id", true),
            ("x-gateway-assertion", true),
            ("x-internal-call", true),
            ("x-service-caller", true),
            ("x-forwarded-for", true),
            ("x-forwarded-prefix", true),
            ("x_forwarded_uri", true),
            ("forwarded", true),
            ("x-real-ip", true),
            ("x-original-url", true),
            ("x-envoy-original-path", true),
            ("x-http-method-override", true),
            ("connection", true),
            ("transfer-encoding", true),
            ("x-user", false),
            ("user-agent", false),
            ("accept", false),
            ("cookie", false),
            ("x-users-list", false),
        ] {
            assert_eq!(is_private(name), private, "{name}");
        }
    }

    #[test]
    fn a_policys_rules_touch_what_is_the_services_alone() {
        for (name, in_requests, in_answers) in [
            ("x-tenant", false, false),
            ("cache-control", false, false),
            ("server", false, false),
            ("set-cookie", false, false),
            ("x-user-id", true, true),
            ("x_gateway_assertion", true, true),
            ("connection", true, true),
            ("host", true, false),
            ("authorization", true, false),
            ("x-request-id", true, true),
            ("access-control-allow-origin", false, true),
            ("content-length", true, true),
            ("content-encoding", false, true),
            ("location", false, true),
            ("x_request_id", true, true),
            ("content_length", true, true),
            ("x_request_timeout_ms", true, false),
            ("access_control_allow_origin", false, true),
            ("cf-connecting-ip", true, false),
        ] {
            assert_eq!(is_reserved_in_requests(name), in_requests, "request: {name}");
            assert_eq!(is_reserved_in_answers(name), in_answers, "answer: {name}");
        }
    }
}
