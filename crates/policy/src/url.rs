//! URLs to which the gateway may send requests, and the hosts in them.

use std::net::{Ipv4Addr, Ipv6Addr};

use portcullis_resilience::is_without_public_name;

/// Checks an upstream's URL: scheme and authority only, as [`check_url`].
///
/// # Errors
/// The fault, as the rest of a sentence that begins with the URL.
pub fn check_base_url(url: &str) -> Result<(), &'static str> {
    let authority = url.split_once("://").map_or("", |(_, authority)| authority);
    if authority.strip_suffix('/').unwrap_or(authority).contains(['/', '?', '#', '@']) {
        return Err("must be scheme and host alone, such as https://users.example.com; no path, query or credentials");
    }
    check_url(url)
}

/// Checks the URL of a host behind a binding, or on a private network: as [`check_base_url`], but plain HTTP is allowed to
/// a host without a public name, which only a private network has. Requests to other hosts may cross the internet.
///
/// # Errors
/// The fault, as the rest of a sentence that begins with the URL.
pub fn check_bound_url(url: &str) -> Result<(), &'static str> {
    let Some(rest) = url.strip_prefix("http://") else { return check_base_url(url) };
    check_base_url(&["https://", rest].concat())?;
    if is_private_http(url) {
        return Ok(());
    }
    Err(
        "sends tokens over plain HTTP to a public host; write https:// (http:// with a binding or PRIVATE_NETWORK is for \
         private addresses, names of one label, .internal and .local)",
    )
}

/// Returns whether a URL is plain HTTP to a host without a public name.
pub fn is_private_http(url: &str) -> bool {
    let authority = url.strip_prefix("http://").and_then(|rest| rest.split(['/', '?', '#']).next());
    authority.and_then(|authority| host_and_port(authority).ok()).is_some_and(|(host, _)| is_without_public_name(host))
}

/// Checks the gateway's own URL: as [`check_base_url`], and in the spelling of browsers, because clients compare
/// identifiers of resources byte by byte (RFC 9728, section 3.3).
///
/// # Errors
/// The fault, as the rest of a sentence that begins with the URL.
pub fn check_public_url(url: &str) -> Result<(), &'static str> {
    check_base_url(url)?;
    if is_origin(url) {
        return Ok(());
    }
    Err("must be in lower case, without a slash at its end and without the port that the scheme implies")
}

/// Checks that a URL is HTTPS, or plain HTTP on loopback: on any other network an attacker could read
/// tokens or replace keys.
///
/// # Errors
/// The fault, as the rest of a sentence that begins with the URL.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    let parts = url.split_once("://").filter(|(scheme, _)| ["https", "http"].contains(scheme));
    let (scheme, rest) = parts.ok_or("must begin with https:// (or http:// on loopback)")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if !url.chars().all(|c| c.is_ascii_graphic()) {
        return Err("is not a URL; write https://host or https://host:port");
    }
    let (host, _) = host_and_port(authority)?;
    if scheme == "http" && !matches!(host, "127.0.0.1" | "localhost" | "[::1]") {
        return Err("sends tokens over plain HTTP; write https:// (http:// is for 127.0.0.1 and localhost)");
    }
    Ok(())
}

/// `https://app.example.com`, or with `*.` before the host; not `*`. As browsers write it: in lower case,
/// without the scheme's own port.
pub(crate) fn is_origin(text: &str) -> bool {
    let bare = text.replacen("://*.", "://", 1);
    let is_written = |(scheme, authority): (&str, &str)| {
        let own_port = if scheme == "https" { 443 } else { 80 };
        ["https", "http"].contains(&scheme) && host_and_port(authority).is_ok_and(|(_, port)| port != Some(own_port))
    };
    !text.contains(|c: char| c.is_ascii_uppercase()) && bare.split_once("://").is_some_and(is_written)
}

/// Splits the authority of a URL without credentials.
///
/// # Errors
/// The fault, as the rest of a sentence that begins with the URL.
pub(crate) fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if !is_host(host) {
        return Err("has no valid host; write https://host or https://host:port");
    }
    let Some(text) = port else { return Ok((host, None)) };
    let port = text.parse().ok().filter(|port: &u16| *port != 0 && port.to_string() == text);
    port.map(|port| (host, Some(port))).ok_or("has no valid port; write a number from 1 to 65535")
}

/// Returns host and port of a base URL, in one spelling.
pub(crate) fn place(url: &str) -> String {
    let (scheme, authority) = url.split_once("://").unwrap_or(("", url));
    let authority = authority.trim_end_matches('/');
    let (host, port) = host_and_port(authority).unwrap_or((authority, None));
    let port = port.unwrap_or(if scheme == "http" { 80 } else { 443 });
    format!("{}:{port}", host.trim_end_matches('.').to_ascii_lowercase())
}

/// Returns whether a text is a name of labels, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let is_label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let name = text.strip_suffix('.').unwrap_or(text);
    // URL parsers take a host whose last label is a number for an IPv4 address.
    let is_number =
        |label: &str| label.to_ascii_lowercase().starts_with("0x") || label.chars().all(|c| c.is_ascii_digit());
    let is_name = !name.rsplit('.').next().is_some_and(is_number);
    name.split('.').all(is_label) && (is_name || text.parse::<Ipv4Addr>().is_ok())
}
