//! Discovery documents of OpenID providers (OpenID Connect Discovery 1.0, sections 3 and 4).

use super::limits;
use crate::{json::StrictObject, policy::TENANT_PLACEHOLDER};

/// Why a discovery document is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscoveryError {
    /// Not a bounded JSON object with `issuer` and `jwks_uri`.
    Malformed,
    /// It is another issuer's (section 4.3), whose keys must not count for this one.
    WrongIssuer,
}

impl DiscoveryError {
    /// Stable code for logs and `/status`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "discovery_malformed",
            Self::WrongIssuer => "discovery_issuer_mismatch",
        }
    }
}

/// Stands for all tenants in the URL of a document that they share.
const ALL_TENANTS: &str = "common";

/// Returns the URL of an issuer's document: the well-known path appended to `iss`, without a
/// trailing slash of `iss` (section 4.1). For a template, the document that all tenants share.
pub fn discovery_url(issuer: &str) -> String {
    let issuer = issuer.replacen(TENANT_PLACEHOLDER, ALL_TENANTS, 1);
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(&issuer))
}

/// Reads the URL of the key set from the document of `issuer`. The caller decides whether that URL
/// may be fetched.
///
/// # Errors
/// [`DiscoveryError`].
pub fn parse_discovery(body: &[u8], issuer: &str) -> Result<String, DiscoveryError> {
    if body.len() > limits::JWKS_BYTES {
        return Err(DiscoveryError::Malformed);
    }
    let document = StrictObject::parse(body).ok_or(DiscoveryError::Malformed)?;
    let text = |name: &str| document.string(name).ok().flatten().ok_or(DiscoveryError::Malformed);
    if text("issuer")? != issuer {
        return Err(DiscoveryError::WrongIssuer);
    }
    let url = text("jwks_uri")?;
    if url.len() > limits::URL_BYTES {
        return Err(DiscoveryError::Malformed);
    }
    Ok(url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_names_its_own_issuers_keys_or_is_refused() {
        use DiscoveryError::{Malformed, WrongIssuer};
        let good =
            r#"{"issuer":"https://id.example","jwks_uri":"https://keys.example/jwks","scopes_supported":["openid"]}"#;
        let long =
            format!(r#"{{"issuer":"https://id.example","jwks_uri":"https://{}"}}"#, "a".repeat(limits::URL_BYTES));
        for (body, expected) in [
            (good, Ok("https://keys.example/jwks".to_owned())),
            (r#"{"issuer":"https://id.example/","jwks_uri":"https://keys.example"}"#, Err(WrongIssuer)),
            (r#"{"issuer":"https://ID.example","jwks_uri":"https://keys.example"}"#, Err(WrongIssuer)),
            (r#"{"issuer":"https://evil.example","jwks_uri":"https://keys.example"}"#, Err(WrongIssuer)),
            (r#"{"issuer":["https://id.example"],"jwks_uri":"https://keys.example"}"#, Err(Malformed)),
            (r#"{"issuer":"https://id.example"}"#, Err(Malformed)),
            (r#"{"issuer":"https://id.example","jwks_uri":7}"#, Err(Malformed)),
            (r#"{"issuer":"https://id.example","issuer":"x","jwks_uri":"https://keys.example"}"#, Err(Malformed)),
            ("<html>", Err(Malformed)),
            ("", Err(Malformed)),
            (&long, Err(Malformed)),
        ] {
            assert_eq!(parse_discovery(body.as_bytes(), "https://id.example"), expected, "{body}");
        }
        assert_eq!(
            parse_discovery(" ".repeat(limits::JWKS_BYTES + 1).as_bytes(), "https://id.example"),
            Err(Malformed)
        );
    }

    #[test]
    fn the_document_is_below_the_issuers_path() {
        for (issuer, url) in [
            ("https://id.example", "https://id.example/.well-known/openid-configuration"),
            ("https://id.example/", "https://id.example/.well-known/openid-configuration"),
            ("https://id.example/{tenantid}/v2.0", "https://id.example/common/v2.0/.well-known/openid-configuration"),
            ("https://id.example/realms/shop", "https://id.example/realms/shop/.well-known/openid-configuration"),
        ] {
            assert_eq!(discovery_url(issuer), url);
        }
    }
}
