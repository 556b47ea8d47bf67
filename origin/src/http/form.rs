//! The forms of OAuth's endpoints.

use axum::http::HeaderMap;

use super::{ApiError, read::media_type};

/// A form whose parameters are each given at most once; one without a value counts as omitted
/// (RFC 6749, section 3.2). Not `Debug`, because values are tokens.
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Parses a body.
    ///
    /// # Errors
    /// 400 `invalid_request` (RFC 6749, section 5.2).
    pub fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, ApiError> {
        if media_type(headers) != "application/x-www-form-urlencoded" {
            return Err(ApiError::bad_grant(
                "invalid_request",
                "Send a form with Content-Type: application/x-www-form-urlencoded",
            ));
        }
        let mut parameters: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
        parameters.sort_unstable();
        if parameters.iter().zip(parameters.iter().skip(1)).any(|((one, _), (next, _))| one == next) {
            return Err(ApiError::bad_grant("invalid_request", "A parameter is given more than once"));
        }
        parameters.retain(|(_, value)| !value.is_empty());
        Ok(Self(parameters))
    }

    /// Requires that the form has no credentials: a client that authenticates with the `Authorization` header must not use
    /// a second method (RFC 6749, section 2.3).
    ///
    /// # Errors
    /// 400 `invalid_request`.
    pub fn require_no_credentials(&self) -> Result<(), ApiError> {
        let is_credential = |(name, _): &(String, String)| name == "client_secret" || name == "client_assertion";
        if self.0.iter().any(is_credential) {
            return Err(ApiError::bad_grant("invalid_request", "Credentials belong in the Authorization header only"));
        }
        Ok(())
    }

    /// Takes a parameter.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.swap_remove(index).1)
    }
}
