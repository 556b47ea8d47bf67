//! Sender-constrained tokens: the key or the certificate that a token is bound to (`cnf`, RFC 7800).

use serde_json::Value;

use crate::{error::TokenError, json::StrictObject, limits};

/// What the sender of a bound token must prove. If both are there, both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// Thumbprint of the key of its proofs (`jkt`, RFC 9449, section 6.1).
    pub key: Option<String>,
    /// SHA-256 of its client certificate, in base64url (`x5t#S256`, RFC 8705, section 3.1).
    pub certificate: Option<String>,
}

/// Reads the confirmation of a token. Members of other methods are ignored (RFC 7800, section 3.1).
///
/// # Errors
/// [`TokenError::BadIdentity`]: one that is malformed must not count as none.
pub(crate) fn read(claims: &StrictObject) -> Result<Option<Box<Confirmation>>, TokenError> {
    let methods = match claims.member("cnf") {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_object().ok_or(TokenError::BadIdentity)?,
    };
    let digest = |name: &str| match methods.get(name) {
        None => Ok(None),
        Some(value) => {
            let text = value.as_str().filter(|text| limits::is_digest(text)).ok_or(TokenError::BadIdentity)?;
            Ok(Some(text.to_owned()))
        }
    };
    let (key, certificate) = (digest("jkt")?, digest("x5t#S256")?);
    let is_bound = key.is_some() || certificate.is_some();
    Ok(is_bound.then(|| Box::new(Confirmation { key, certificate })))
}
