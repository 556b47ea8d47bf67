//! Names of headers that no policy can change: those that only the gateway may send to an origin,
//! hop-by-hop headers (RFC 9110, section 7.6.1), and those that the gateway writes. The pipeline
//! removes or replaces them.
//!
//! All comparisons treat every byte of a name that is not a letter or digit as a dash, and
//! ignore case: servers that follow CGI (RFC 3875, section 4.1.18) turn `X.User.Id` and
//! `X_User_Id` into the same variable as `X-User-Id`.

/// Families of identity and routing headers, without their leading `x-`: each covers `x-NAME` and
/// `x-NAME-*`.
#[rustfmt::skip]
const PRIVATE_X_FAMILIES: [&str; 35] = [
    // The gateway's own.
    "user", "service", "internal", "gateway", "acting", "forwarded",
    // The request's source and target, by other proxies.
    "original", "envoy", "remote", "host", "real-ip", "client-ip", "cluster-client-ip", "rewrite-url",
    // A request that was authorized as POST must not become a DELETE at the origin.
    "http-method", "method-override",
    // The user's identity, by other proxies and platforms. Services trust them.
    "auth-request", "authenticated", "ssl-client", "client-cert", "webauth", "authentik", "pomerium", "amzn-oidc",
    "amzn-mtls-clientcert", "goog-authenticated-user", "goog-iap", "ms-client-principal", "ms-token-aad",
    "apigateway-api-userinfo", "endpoint-api-userinfo", "arr-clientcert", "consumer", "credential", "vouch",
];

/// Families of the same kinds that do not begin with `x-`. `client-cert` is RFC 9440's.
#[rustfmt::skip]
const PRIVATE_FAMILIES: [&str; 8] = [
    "forwarded", "true-client-ip", "remote", "cf-access", "ssl-client", "client-cert", "tailscale-user", "impersonate",
];

/// `proxy` is not a hop-by-hop header, but CGI programs use it as the address of their own proxy
/// (CVE-2016-5385).
#[rustfmt::skip]
const HOP_BY_HOP: [&str; 12] = [
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-authentication-info",
    "proxy-connection", "proxy", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
];

/// Request headers that the gateway or the runtime's client replaces.
#[rustfmt::skip]
const REPLACED: [&str; 8] = [
    "host", "content-length", "expect", "x-request-id", "x-request-timeout-ms", "traceparent", "tracestate",
    "authorization",
];

/// Response headers that the gateway writes, or that describe the body.
const FIXED_IN_ANSWERS: [&str; 6] =
    ["x-request-id", "content-length", "content-encoding", "content-range", "sec-websocket-accept", "location"];

/// Returns whether a header must not pass the gateway in either direction.
pub fn is_private(name: &str) -> bool {
    if begins_with(name.as_bytes(), "x-") {
        let rest = name.as_bytes().get(2..).unwrap_or_default();
        return PRIVATE_X_FAMILIES.iter().any(|family| is_of_family(rest, family));
    }
    PRIVATE_FAMILIES.iter().any(|family| is_of_family(name.as_bytes(), family))
        || is_among(name, &HOP_BY_HOP)
        || is_respelt_platform_header(name)
}

/// Returns whether a name is a `cf-…` header of the platform in another spelling: a service that follows
/// CGI would confuse a client's `cf_connecting_ip` with `cf-connecting-ip`.
fn is_respelt_platform_header(name: &str) -> bool {
    begins_with(name.as_bytes(), "cf-") && !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Returns whether the gateway replaces a request header by a value of its own.
pub fn is_replaced(name: &str) -> bool {
    is_among(name, &REPLACED)
}

/// Returns whether a response header belongs to CORS, which only the policy decides.
pub fn is_cors_header(name: &str) -> bool {
    begins_with(name.as_bytes(), "access-control-")
}

fn is_among(name: &str, names: &[&str]) -> bool {
    names.iter().any(|known| is_same_header(name, known))
}

/// Returns whether two names are the same header.
pub(crate) fn is_same_header(name: &str, other: &str) -> bool {
    name.len() == other.len() && name.bytes().zip(other.bytes()).all(|(a, b)| canonical(a) == canonical(b))
}

/// Returns whether a name is that of a family, or begins with it and a dash.
fn is_of_family(name: &[u8], family: &str) -> bool {
    begins_with(name, family) && name.get(family.len()).is_none_or(|next| canonical(*next) == b'-')
}

/// Compares byte by byte without a copy: this runs for every header of every request and
/// answer.
fn begins_with(name: &[u8], prefix: &str) -> bool {
    name.len() >= prefix.len() && prefix.bytes().zip(name).all(|(wanted, byte)| canonical(*byte) == wanted)
}

/// Returns a byte of a name as servers that follow CGI read it.
const fn canonical(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// Returns whether no rule may change a request header, by its lower-case name.
pub(crate) fn is_reserved_in_requests(name: &str) -> bool {
    is_private(name) || is_replaced(name) || is_same_header(name, "cf-connecting-ip")
}

/// Returns whether no rule may change a response header, by its lower-case name.
pub(crate) fn is_reserved_in_answers(name: &str) -> bool {
    is_private(name) || is_cors_header(name) || is_among(name, &FIXED_IN_ANSWERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_only_the_gateway_may_speak_are_private_in_every_spelling() {
        // Of each family, the name alone and what begins with it and a dash; other spellings of the platform's.
        let private = "\
            x-user-id X-USER-ROLES x_user_id X_User-Id x-gateway-assertion x-internal-call x-service-caller \
            x-forwarded-for x-forwarded-prefix x_forwarded_uri forwarded x-real-ip x-original-url \
            x-envoy-original-path x-http-method-override x-acting-user remote-user remote.user remote-groups \
            x-remote-user x-auth-request-email x-authenticated-user cf-access-jwt-assertion \
            cf_access_authenticated_user_email ssl-client-verify ssl_client_s_dn x-ssl-client-verify x-host \
            client-cert client-cert-chain client_cert x-webauth-user x-ms-client-principal x-goog-iap-jwt-assertion \
            x-consumer-username x-credential-identifier x-vouch-user x-endpoint-api-userinfo \
            x-apigateway-api-userinfo x-arr-clientcert x-ms-token-aad-id-token x-amzn-mtls-clientcert-subject \
            impersonate-user tailscale-user-login connection transfer-encoding proxy x-user x-internal x-forwarded \
            x-remote cf-access ssl-client cf_connecting_ip cf.ray";
        private.split(' ').for_each(|name| assert!(is_private(name), "{name}"));
        let free = "\
            client-certs cf-connecting-ip cf-ray user-agent accept cookie x-users-list x-hostname x-remotely x x- \
            remotely proxy-status ssl-cipher";
        free.split(' ').chain([""]).for_each(|name| assert!(!is_private(name), "{name}"));
    }

    #[test]
    fn every_byte_that_is_not_a_letter_or_digit_counts_as_a_dash() {
        for byte in (0_u8..=127).map(char::from) {
            let spell = |name: &str| name.replace('-', &byte.to_string());
            let counts = !byte.is_ascii_alphanumeric();
            for name in ["x-user-id", "X-User-Roles", "x-gateway-assertion", "remote-user", "ssl-client-verify"] {
                assert_eq!(is_private(&spell(name)), counts, "{byte:?} in {name}");
            }
            assert_eq!(is_replaced(&spell("x-request-id")), counts, "{byte:?}");
            assert_eq!(is_same_header(&spell("x-debug"), "X_Debug"), counts, "{byte:?}");
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
