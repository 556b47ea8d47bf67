//! Paths and names of headers that no policy can have: those of the gateway's own endpoints; headers
//! that only the gateway may send to an origin, hop-by-hop headers (RFC 9110, section 7.6.1), and those
//! that the gateway writes. The pipeline removes or replaces them.
//!
//! All comparisons of headers treat every byte of a name that is not a letter or digit as a dash, and
//! ignore case: servers that follow CGI (RFC 3875, section 4.1.18) turn `X.User.Id` and
//! `X_User_Id` into the same variable as `X-User-Id`.

/// Families of identity and routing headers, without their leading `x-`: each covers `x-NAME` and
/// `x-NAME-*`.
#[rustfmt::skip]
const PRIVATE_X_FAMILIES: [&str; 28] = [
    // The gateway's own.
    "user", "service", "internal", "gateway", "acting", "forwarded",
    // The request's source and target, by other proxies.
    "original", "envoy", "remote", "host", "real-ip", "client-ip", "cluster-client-ip", "rewrite-url",
    // A request that was authorized as POST must not become a DELETE at the origin.
    "http-method", "method-override",
    // The user's identity, by other proxies and platforms. Services trust them.
    "authenticated", "ssl-client", "client-cert", "webauth", "amzn-mtls-clientcert", "goog-authenticated-user",
    "ms-client-principal", "apigateway-api-userinfo", "endpoint-api-userinfo", "arr-clientcert", "consumer",
    "credential",
];

/// Further private families without their `x-`: the proxies that have them send signed tokens in some, so an issuer's
/// `token_header` may be one.
#[rustfmt::skip]
const TOKEN_X_FAMILIES: [&str; 7] =
    ["auth-request", "authentik", "pomerium", "amzn-oidc", "goog-iap", "ms-token-aad", "vouch"];

/// The same without a leading `x-`: Cloudflare Access.
const TOKEN_FAMILY: &str = "cf-access";

/// Families of the same kinds as the first that do not begin with `x-`. `client-cert` is RFC 9440's.
#[rustfmt::skip]
const PRIVATE_FAMILIES: [&str; 8] = [
    "forwarded", "true-client-ip", "remote", TOKEN_FAMILY, "ssl-client", "client-cert", "tailscale-user", "impersonate",
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

/// The first two letters of the names of a list: bits of the second by the first. Most headers begin with other
/// letters, so they need no comparison.
type Beginnings = [u32; 32];

static X_BEGINNINGS: Beginnings = beginnings(&TOKEN_X_FAMILIES, beginnings(&PRIVATE_X_FAMILIES, [0; 32]));
static BEGINNINGS: Beginnings = beginnings(&HOP_BY_HOP, beginnings(&PRIVATE_FAMILIES, [0; 32]));

#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "it runs when this is compiled"
)]
const fn beginnings(names: &[&str], mut known: Beginnings) -> Beginnings {
    let mut index = 0;
    while index < names.len() {
        let name = names[index].as_bytes();
        known[(name[0] & 31) as usize] |= 1 << (name[1] & 31);
        index += 1;
    }
    known
}

fn may_be_among(name: &[u8], beginnings: &Beginnings) -> bool {
    let [first, second, ..] = name else { return false };
    let seconds = beginnings.get(usize::from(canonical(*first) & 31)).copied().unwrap_or_default();
    (seconds >> (canonical(*second) & 31)) & 1 == 1
}

/// Returns whether a header must not pass the gateway in either direction.
pub fn is_private(name: &str) -> bool {
    if begins_with(name.as_bytes(), "x-") {
        let rest = name.as_bytes().get(2..).unwrap_or_default();
        let mut families = PRIVATE_X_FAMILIES.iter().chain(&TOKEN_X_FAMILIES);
        return may_be_among(rest, &X_BEGINNINGS) && families.any(|family| is_of_family(rest, family));
    }
    let is_known = may_be_among(name.as_bytes(), &BEGINNINGS)
        && (PRIVATE_FAMILIES.iter().any(|family| is_of_family(name.as_bytes(), family)) || is_among(name, &HOP_BY_HOP));
    is_known
        // A header of the platform in another spelling: a service that follows CGI would confuse a client's
        // `cf_connecting_ip` with `cf-connecting-ip`.
        || (begins_with(name.as_bytes(), "cf-") && !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
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
pub fn is_same_header(name: &str, other: &str) -> bool {
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

/// Returns whether no rule may change a header of requests or of answers.
pub(crate) fn is_reserved(name: &str, in_requests: bool) -> bool {
    let is_written = if in_requests {
        is_replaced(name) || is_same_header(name, "cf-connecting-ip")
    } else {
        is_cors_header(name) || is_among(name, &FIXED_IN_ANSWERS)
    };
    is_private(name) || is_written
}

/// Further request headers that have another meaning than a token to the gateway, to services or to the platform.
#[rustfmt::skip]
const NOT_FOR_TOKENS: [&str; 15] = [
    "accept", "accept-encoding", "accept-language", "cache-control", "cookie", "date", "dpop", "idempotency-key", "origin",
    "priority", "range", "referer", "user-agent", "via", "x-requested-with",
];

/// What the names of others begin with.
const NOT_FOR_TOKENS_PREFIXES: [&str; 5] = ["access-control-", "cf-", "content-", "if-", "sec-"];

/// Token headers whose proxy lets browsers keep the same token in a cookie.
const TOKEN_COOKIES: [(&str, &str); 1] = [("cf-access-jwt-assertion", "CF_Authorization")];

/// Returns the cookie that holds the token of a token header, too.
pub(crate) fn cookie_of(token_header: &str) -> Option<&'static str> {
    TOKEN_COOKIES.iter().find(|(header, _)| is_same_header(header, token_header)).map(|(_, cookie)| *cookie)
}

/// Returns whether an issuer's tokens may be in a request header.
pub(crate) fn may_hold_token(name: &str) -> bool {
    let name_bytes = name.as_bytes();
    let x_rest = name_bytes.get(2..).filter(|_| begins_with(name_bytes, "x-"));
    let is_of_proxy = is_of_family(name_bytes, TOKEN_FAMILY)
        || x_rest.is_some_and(|rest| TOKEN_X_FAMILIES.iter().any(|family| is_of_family(rest, family)));
    let has_prefix = || NOT_FOR_TOKENS_PREFIXES.iter().any(|prefix| begins_with(name_bytes, prefix));
    is_of_proxy || !(is_reserved(name, true) || is_among(name, &NOT_FOR_TOKENS) || has_prefix())
}

/// Paths of the gateway itself, with everything below them. No route may have one, and no
/// catch-all reaches them: a client cannot take an upstream's endpoint for an operator's.
pub(crate) const OWN_PATHS: &[&str] = &["/health", "/ready", "/status", "/metrics", "/_gateway"];

/// Path for pushes of revocations.
pub(crate) const PUSH_PATH: &str = "/_gateway/revocations";

/// Paths of the operators' page: the page, what it reads, and what it changes.
pub(crate) const PAGE_PATH: &str = "/_gateway/";
pub(crate) const PAGE_READS: [&str; 2] = ["/_gateway/refusals", "/_gateway/policy"];
pub(crate) const ROLLBACK_PATH: &str = "/_gateway/rollback";

/// Path for pushes of API keys.
pub(crate) const API_KEYS_PATH: &str = "/_gateway/api-keys";

/// Bindings of the gateway itself, and what the names of others begin with. None is a service.
const OWN_BINDINGS: [&str; 3] = ["KEYS", "METRICS", "REVOCATIONS"];
const LIMIT_BINDINGS: &str = "LIMIT_";

/// Whether a binding is one of the gateway's own.
pub(crate) fn is_own_binding(name: &str) -> bool {
    OWN_BINDINGS.contains(&name) || name.starts_with(LIMIT_BINDINGS)
}

/// Path of the public keys of assertions.
pub(crate) const JWKS_PATH: &str = "/_gateway/jwks.json";
/// Paths for logout tokens and for security events, before the name of the issuer.
pub(crate) const LOGOUT_PATH: &str = "/_gateway/logout/";
pub(crate) const EVENTS_PATH: &str = "/_gateway/events/";

/// Path of the metadata of protected resources (RFC 9728, section 3). With everything below, it is the gateway's own
/// if the policy has resources: an upstream's document there could lead clients to another authorization server.
pub const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

/// Whether a path is one of [`OWN_PATHS`] or below one.
pub(crate) fn is_own_path(path: &str) -> bool {
    OWN_PATHS.iter().any(|own| is_below(path, own))
}

/// Whether a path begins with the segments of `prefix`.
pub(crate) fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
