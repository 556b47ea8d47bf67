//! The check of a base URL.

use std::net::IpAddr;

use reqwest::Url;

use crate::error::ClientError;

/// Where `http:` is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plaintext {
    /// On loopback addresses only, so that passwords cross no network in the clear.
    LoopbackOnly,
    /// Anywhere, for services on a private network.
    Anywhere,
}

/// Validates a base URL and returns it without the final slash.
pub(crate) fn parse_base_url(text: &str, plaintext: Plaintext) -> Result<String, ClientError> {
    let url = Url::parse(text).map_err(|_| ClientError::Invalid("the base URL is not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ClientError::Invalid("the base URL contains credentials, which would end in logs"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(ClientError::Invalid("the base URL has a query or a fragment"));
    }
    match url.scheme() {
        "https" if cfg!(feature = "tls") => {}
        "https" => return Err(ClientError::Invalid("https needs the feature `tls`")),
        "http" if plaintext == Plaintext::Anywhere || is_loopback(&url) => {}
        "http" => {
            return Err(ClientError::Invalid(
                "http sends passwords in the clear; use https (http is for loopback addresses only)",
            ));
        }
        _ => return Err(ClientError::Invalid("the base URL is neither https nor http")),
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_https_or_on_this_machine() {
        for (text, expected) in [
            ("https://api.example.com", Ok("https://api.example.com")),
            ("https://api.example.com/", Ok("https://api.example.com")),
            ("https://api.example.com/gate/", Ok("https://api.example.com/gate")),
            ("http://127.0.0.1:8787", Ok("http://127.0.0.1:8787")),
            ("http://127.9.9.9", Ok("http://127.9.9.9")),
            ("http://[::1]:8787", Ok("http://[::1]:8787")),
            ("http://localhost:8787/", Ok("http://localhost:8787")),
            ("http://api.example.com", Err("in the clear")),
            ("http://127.0.0.1.example.com", Err("in the clear")),
            ("http://localhost.example.com", Err("in the clear")),
            ("http://10.0.0.1", Err("in the clear")),
            ("ftp://api.example.com", Err("neither")),
            ("https://ada:hunter2@api.example.com", Err("credentials")),
            ("https://api.example.com?x=1", Err("query")),
            ("https://api.example.com#x", Err("fragment")),
            ("api.example.com", Err("not a URL")),
            ("", Err("not a URL")),
        ] {
            match (parse_base_url(text, Plaintext::LoopbackOnly), expected) {
                (Ok(base), Ok(expected)) => assert_eq!(base, expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        assert!(
            parse_base_url("http://users.internal:8081/", Plaintext::Anywhere).is_ok_and(|base| base.ends_with("8081"))
        );
    }
}
