//! Request headers for an upstream: which of the client's are removed, and which the gateway adds.
//! The policy crate names the gateway's own headers.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::Value;

use super::{exchange::Exchange, head::Head, limits};
use portcullis_policy::{ClaimPath, ClaimValue, HeaderValue, Policy, Route, is_private, is_replaced, is_same_header};
use portcullis_token::Identity;

/// Names and values, in order.
type Headers<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Headers that the gateway adds at most, with the assertion and without the policy's own.
const ADDED: usize = 16;

/// The cookies and the headers of clients that a policy keeps from services: those that hold tokens for the gateway alone,
/// and headers that services get claims in.
pub(super) struct TokenPlaces {
    /// The cookie in which browsers may send their token.
    token_cookie: Option<String>,
    cookies: Vec<String>,
    pub(super) headers: Vec<String>,
}

impl TokenPlaces {
    pub(super) fn new(policy: &Policy) -> Self {
        let token_cookie = policy.token_cookie_name().map(str::to_owned);
        Self { token_cookie, cookies: policy.private_cookies(), headers: policy.private_headers() }
    }
}

/// Returns all headers for an upstream but the assertion.
///
/// What `Connection` names is removed before anything is added, so a client cannot have the
/// gateway's own headers removed.
pub(super) fn compose<'a>(
    exchange: &'a Exchange<'_>,
    identity: Option<&'a Identity>,
    route: &'a Route,
    places: &TokenPlaces,
    timeout_ms: u64,
) -> Headers<'a> {
    let (head, ids) = (exchange.head, &exchange.ids);
    let named = head.header("connection");
    let names = |named: &str, name: &str| named.split(',').any(|listed| listed.trim().eq_ignore_ascii_case(name));
    let is_named = |name: &str| named.is_some_and(|named| names(named, name));
    let is_kept = |name: &str| places.headers.iter().any(|header| is_same_header(header, name));
    let mut headers = Headers::with_capacity(head.headers.len().saturating_add(ADDED));
    for (name, sent) in &head.headers {
        if is_private(name)
            || is_replaced(name)
            || is_named(name)
            || is_kept(name)
            || route.request_headers.covers(name)
            // It is used up. Where none is checked, as at a login, it is the service's.
            || (exchange.proof.is_some() && name == "dpop")
        {
            continue;
        }
        let has_private = name == "cookie" && !places.cookies.is_empty();
        let value = match has_private.then(|| cookies_without(sent, &places.cookies)) {
            Some(None) => continue,
            Some(Some(rest)) => Cow::Owned(rest),
            None => Cow::Borrowed(sent.as_str()),
        };
        let value = if name == "cookie" { join_cookie_lines(value) } else { value };
        let Some(value) = (if value == *sent { Some(value) } else { without_replaced(&value) }) else { continue };
        headers.push((Cow::Borrowed(name), value));
    }
    headers.extend(route.request_headers.set.iter().filter_map(|(name, value)| {
        let value = match value {
            HeaderValue::Text(text) => Cow::Borrowed(text.as_str()),
            HeaderValue::Claim(ClaimValue { claim }) => encode_claim(identity?, claim)?,
        };
        Some((Cow::Borrowed(name.as_str()), value))
    }));
    let mut add = |name: &'static str, value: Cow<'a, str>| headers.push((Cow::Borrowed(name), value));
    if route.forward_authorization {
        // Upstreams read a token from one place, wherever it came from. The client's `Authorization` was not checked
        // if the token was in a header of its own.
        let in_header = exchange.token_header().and_then(|name| head.header(name));
        let in_cookie = || head.cookie(places.token_cookie.as_deref().filter(|_| route.token_cookie)?);
        if let (None, Some(value)) = (in_header, head.header("authorization")) {
            add("authorization", value.into());
        } else if let Some(token) = in_header.or_else(in_cookie) {
            add("authorization", format!("Bearer {token}").into());
        }
    }
    // Removed with the other hop-by-hop headers, and added again for a WebSocket.
    if route.websocket && head.asks_for_websocket() {
        add("upgrade", "websocket".into());
    }
    add("x-request-id", ids.request_id.as_str().into());
    // An upstream can stop work for a client that has its answer already.
    add("x-request-timeout-ms", timeout_ms.to_string().into());
    add("traceparent", ids.traceparent().into());
    if let Some(state) = &ids.tracestate {
        add("tracestate", state.as_str().into());
    }
    if let Some((address, _)) = exchange.client {
        add("x-forwarded-for", address.into());
    }
    add("x-forwarded-proto", head.scheme.as_str().into());
    add("x-forwarded-host", head.host.as_str().into());
    // The upstream needs the prefix to write URLs.
    if let Some((prefix, _)) = route.rewrite().filter(|(_, to)| to.is_empty()) {
        add("x-forwarded-prefix", prefix.into());
    }
    if let Some(identity) = identity {
        add("x-user-id", encode(&identity.user_id, b""));
        if let Some(email) = &identity.email {
            add("x-user-email", encode(email, b""));
        }
        if let Some(roles) = encode_roles(&identity.roles) {
            add("x-user-roles", roles.into());
        }
    }
    headers
}

/// Returns the cookies without those that hold tokens for the gateway alone; `None` if another parser may
/// find such a cookie among the rest.
fn cookies_without(cookies: &str, private: &[String]) -> Option<String> {
    let is_private = |cookie: &str| private.iter().any(|name| Head::cookie_value(cookie, name).is_some());
    let rest: Vec<&str> = cookies.split(';').map(str::trim).filter(|cookie| !is_private(cookie)).collect();
    let rest = rest.join("; ");
    let hides_one = private.iter().any(|name| Head::has_cookie(&rest, name, char::is_whitespace));
    (!rest.is_empty() && !hides_one).then_some(rest)
}

/// Returns the cookies without those that the runtime could not decode. Only a header that is unchanged is
/// forwarded with its own bytes; `None` without another cookie.
fn without_replaced(cookies: &str) -> Option<Cow<'static, str>> {
    let kept: Vec<_> = cookies.split("; ").filter(|cookie| !cookie.contains(char::REPLACEMENT_CHARACTER)).collect();
    (!kept.is_empty()).then(|| kept.join("; ").into())
}

/// Bytes of a cookie's name, which is a token (RFC 9110, section 5.6.2), besides letters and digits.
const TOKEN_SIGNS: &[u8] = b"!#$%&'*+-.^_`|~";

/// Separates cookies of several header lines by `; `: the runtime joins the lines with `, `,
/// which no cookie's value may hold (RFC 6265, section 4.1.1) and services do not split.
///
/// Leaves a name with one of the browsers' prefixes (`__Host-`, `__Secure-`) unchanged. Another
/// host of the domain can set a cookie whose value contains `, __Host-session=x`; it must not
/// become a cookie with a name that only this host may set.
fn join_cookie_lines(cookies: Cow<'_, str>) -> Cow<'_, str> {
    const SEPARATOR: &str = ", ";
    if !cookies.contains(SEPARATOR) {
        return cookies;
    }
    let mut joined = String::with_capacity(cookies.len());
    for (index, part) in cookies.split(SEPARATOR).enumerate() {
        if index > 0 {
            let name = part.split(['=', ';']).next().unwrap_or_default();
            let is_cookie = part.get(name.len()..).is_some_and(|rest| rest.starts_with('='));
            let is_name = !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || TOKEN_SIGNS.contains(&byte))
                && !name.starts_with("__");
            joined.push_str(if is_cookie && is_name { "; " } else { SEPARATOR });
        }
        joined.push_str(part);
    }
    Cow::Owned(joined)
}

/// Returns role names with commas between; `None` when they are too long for a header. A service
/// that reads only some of them might take a missing role for a permission. The assertion has all
/// of them.
fn encode_roles(roles: &[String]) -> Option<String> {
    // A role "user,admin" would arrive as two.
    let mut value = String::new();
    for (index, role) in roles.iter().enumerate() {
        value.push_str(if index == 0 { "" } else { "," });
        value.push_str(&encode(role, b","));
    }
    (value.len() <= limits::ROLES_HEADER_BYTES).then_some(value)
}

/// Returns the value of a claim for a header. A list, an object, a fraction and a text that is too long have none: a service
/// must not get a part of it.
fn encode_claim<'a>(identity: &'a Identity, claim: &ClaimPath) -> Option<Cow<'a, str>> {
    let (_, value) = identity.claims.iter().find(|(path, _)| path == claim)?;
    match value {
        Value::String(text) if !text.is_empty() => Some(encode(text, b"")),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string().into()),
        Value::Bool(value) => Some(if *value { "true" } else { "false" }.into()),
        Value::String(_) | Value::Number(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Encodes text as a header value: visible ASCII and blanks between it stay, and everything else,
/// `%` and `separators` become percent-escaped UTF-8. A blank at an end would be lost, since readers
/// trim.
fn encode<'t>(text: &'t str, separators: &[u8]) -> Cow<'t, str> {
    let begin = text.len().saturating_sub(text.trim_start_matches(' ').len());
    let end = text.trim_end_matches(' ').len();
    let is_plain = |(index, byte): (usize, u8)| match byte {
        b' ' => (begin..end).contains(&index),
        _ => byte.is_ascii_graphic() && byte != b'%' && !separators.contains(&byte),
    };
    if text.bytes().enumerate().all(is_plain) {
        return text.into();
    }
    let mut value = String::with_capacity(text.len());
    for (index, byte) in text.bytes().enumerate() {
        if is_plain((index, byte)) {
            value.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(value, "%{byte:02X}");
        }
    }
    value.into()
}
