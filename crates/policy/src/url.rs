//! URLs to which the gateway may send requests.

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

/// Checks that a URL is HTTPS, or plain HTTP on loopback: on any other network an attacker could read
/// tokens or replace keys.
///
/// # Errors
/// The fault, as the rest of a sentence that begins with the URL.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    let (plain, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err("must begin with https:// (or http:// on loopback)"),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    if authority.is_empty() || !authority.chars().all(allowed) || !url.chars().all(|c| c.is_ascii_graphic()) {
        return Err("is not a URL; write https://host or https://host:port");
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            if !port.parse::<u16>().is_ok_and(|port| port != 0) {
                return Err("has no valid port; write a number from 1 to 65535");
            }
            host
        }
        _ => authority,
    };
    if plain && !matches!(host, "127.0.0.1" | "localhost" | "[::1]") {
        return Err("sends tokens over plain HTTP; write https:// (http:// is for 127.0.0.1 and localhost)");
    }
    Ok(())
}
