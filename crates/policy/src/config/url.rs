//! Which URLs the gateway sends requests to.

/// Checks an upstream's URL: scheme and authority alone, as [`check_url`].
///
/// # Errors
/// What is wrong, to be put behind the URL in a sentence.
pub fn check_base_url(url: &str) -> Result<(), &'static str> {
    let authority = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .ok_or("must begin with https:// (or http:// on loopback)")?;
    if authority.strip_suffix('/').unwrap_or(authority).contains(['/', '?', '#', '@']) {
        return Err("must be scheme and host alone, such as https://users.example.com; no path, query or credentials");
    }
    check_url(url)
}

/// HTTPS anywhere, plain HTTP on loopback only: on any other network whoever
/// listens would read tokens, and whoever writes would choose our keys.
///
/// # Errors
/// What is wrong, to be put behind the URL in a sentence.
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
