//! Direct mode: the requests that the auth service serves on its own port without the gateway.
//!
//! It is for programs on the same machine, in development. The peer address of the connection decides,
//! never a header. A proxy on this machine has a loopback address too, so a request with a header that
//! proxies add is rejected. The check of `Host` stops DNS rebinding: a web page whose host name
//! resolves to 127.0.0.1.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::Request,
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};
use portcullis_client::extract::Verdict;

use super::{
    ApiError,
    caller::{AuthenticatedUser, Client, DirectCaller},
    gateway::GatewayAuth,
    read::credentials,
    request_log::RequestFields,
};

/// The peer address of a request's connection, which the server adds to the extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// How a request was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// By the gateway's assertion.
    Gateway,
    /// By direct mode, from this loopback address.
    Direct(IpAddr),
}

/// Decides whether to admit a request to a route that direct mode serves.
///
/// # Errors
/// 401 `gateway_required`.
pub fn admit(auth: &GatewayAuth, request: &Request) -> Result<Admission, ApiError> {
    let verdict = request.extensions().get::<Verdict>();
    if verdict.is_some_and(|verdict| verdict.assertion().is_some()) {
        return Ok(Admission::Gateway);
    }
    let Some(Peer(peer)) = request.extensions().get::<Peer>() else { return Err(ApiError::gateway_required()) };
    let address = peer.ip().to_canonical();
    // A request with an invalid assertion is rejected, so that the gateway learns of its error.
    let is_direct = auth.direct
        && matches!(verdict, Some(Verdict::Absent))
        && address.is_loopback()
        && !is_proxied(request.headers())
        && is_for_loopback(request);
    if is_direct { Ok(Admission::Direct(address)) } else { Err(ApiError::gateway_required()) }
}

/// Runs a request that direct mode admitted, for the user of the verified token.
pub async fn run_direct(
    mut request: Request,
    next: Next,
    address: IpAddr,
    user: Option<AuthenticatedUser>,
) -> Response {
    let fields = RequestFields::direct(&request, address, user.as_ref().map(|user| user.id.to_string()));
    let client = Client::direct(request.headers(), address);
    request.extensions_mut().insert(DirectCaller { user, client });
    let mut response = next.run(request).await;
    response.extensions_mut().insert(fields);
    response
}

/// Returns the token of a request's `Authorization` header.
///
/// # Errors
/// The gateway's 401 if there is no header, or not exactly one of the form `Bearer <token>`.
pub fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    match headers.get_all(header::AUTHORIZATION).iter().count() {
        0 => Err(ApiError::credentials_missing()),
        1 => credentials(headers, "bearer").ok_or(ApiError::credentials_malformed()),
        _ => Err(ApiError::credentials_malformed()),
    }
}

/// Names of headers that proxies add, besides those with a prefix of [`PROXY_PREFIXES`].
const PROXY_HEADERS: [&str; 8] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "fastly-client-ip",
    "client-ip",
];

/// Prefixes of the names of headers that proxies add.
const PROXY_PREFIXES: [&str; 5] = ["x-forwarded", "x-original-", "x-envoy-", "cf-", "cdn-"];

/// Returns whether a proxy forwarded the request. Bytes of names that are neither letters nor digits
/// count as `-`, because some servers read `x_forwarded_for` as `x-forwarded-for`.
fn is_proxied(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = name.as_str().chars().map(plain).collect();
        PROXY_HEADERS.contains(&name.as_str()) || PROXY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

/// Returns whether `Host` is `localhost` or a loopback address.
fn is_for_loopback(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let is_named = |authority: &str| {
        let Ok(authority) = authority.parse::<axum::http::uri::Authority>() else { return false };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    };
    host.to_str().is_ok_and(is_named) && request.uri().authority().is_none_or(|authority| is_named(authority.as_str()))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_request_with_a_header_that_proxies_add_is_proxied() {
        for (name, expected) in [
            ("x-forwarded-for", true),
            ("X-Forwarded-Host", true),
            ("x_forwarded_for", true),
            ("forwarded", true),
            ("via", true),
            ("x-real-ip", true),
            ("cf-connecting-ip", true),
            ("CF-Ray", true),
            ("cdn-loop", true),
            ("true-client-ip", true),
            ("x-envoy-external-address", true),
            ("x-original-url", true),
            ("user-agent", false),
            ("x-request-id", false),
            ("traceparent", false),
            ("authorization", false),
        ] {
            let request = Request::builder().header(name, "1").body(Body::empty()).unwrap();
            assert_eq!(is_proxied(request.headers()), expected, "{name}");
        }
    }

    #[test]
    fn a_request_is_for_loopback_if_its_only_host_header_names_it() {
        for (hosts, target, expected) in [
            (&["localhost:8083"][..], "/", true),
            (&["LOCALHOST"], "/", true),
            (&["127.0.0.1:8083"], "/", true),
            (&["127.1.2.3"], "/", true),
            (&["[::1]:8083"], "/", true),
            (&["[::ffff:127.0.0.1]:8083"], "/", true),
            (&["localhost:8083"], "http://localhost:8083/", true),
            (&["localhost:8083"], "http://evil.example/", false),
            (&["evil.example"], "/", false),
            (&["localhost.evil.example"], "/", false),
            (&["10.0.0.1:8083"], "/", false),
            (&["localhost", "localhost"], "/", false),
            (&[], "/", false),
            (&[""], "/", false),
        ] {
            let mut request = Request::builder().uri(target);
            for host in hosts {
                request = request.header("host", *host);
            }
            let request = request.body(Body::empty()).unwrap();
            assert_eq!(is_for_loopback(&request), expected, "{hosts:?} {target}");
        }
    }
}
