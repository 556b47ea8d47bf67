//! Discovery documents of OpenID providers (OpenID Connect Discovery 1.0, sections 3 and 4).

use super::{jwks::KeySetError, limits};
use crate::{json::StrictObject, policy::TENANT_PLACEHOLDER};

/// Stands for all tenants in the URL of a document that they share.
const ALL_TENANTS: &str = "common";

/// Returns the URL of an issuer's document: the well-known path appended to `iss`, without a
/// trailing slash of `iss` (section 4.1). For a template, the document that all tenants share.
pub fn discovery_url(issuer: &str) -> String {
    let issuer = issuer.replacen(TENANT_PLACEHOLDER, ALL_TENANTS, 1);
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(&issuer))
}

/// Reads the URL of the key set from the document of `issuer`. The caller decides whether that URL may be fetched.
///
/// # Errors
/// [`KeySetError::DiscoveryMalformed`], [`KeySetError::WrongIssuer`].
pub fn parse_discovery(body: &[u8], issuer: &str) -> Result<String, KeySetError> {
    if body.len() > limits::JWKS_BYTES {
        return Err(KeySetError::DiscoveryMalformed);
    }
    let document = StrictObject::parse(body).ok_or(KeySetError::DiscoveryMalformed)?;
    let text = |name: &str| document.string(name).ok_or(KeySetError::DiscoveryMalformed);
    if text("issuer")? != issuer {
        return Err(KeySetError::WrongIssuer);
    }
    let url = text("jwks_uri")?;
    (url.len() <= limits::URL_BYTES).then(|| url.to_owned()).ok_or(KeySetError::DiscoveryMalformed)
}
