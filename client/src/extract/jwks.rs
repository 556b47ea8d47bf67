//! [`JwksVerifier`] as the verifier of internal routes, with the rule
//! [`TokenRule::service`](crate::jwks::TokenRule::service).

use std::fmt;

use axum::response::{IntoResponse, Response};

use super::{
    problem,
    service::{ServiceClaims, ServiceVerifier},
};
use crate::jwks::{JwksVerifier, TokenError};

/// Why a service token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadServiceToken(pub TokenError);

impl fmt::Display for BadServiceToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            TokenError::Invalid | TokenError::Expired => formatter.write_str("Invalid service token"),
            TokenError::KeysUnavailable => self.0.fmt(formatter),
        }
    }
}

impl std::error::Error for BadServiceToken {}

/// 401, or 503 if the keys are unavailable.
impl IntoResponse for BadServiceToken {
    fn into_response(self) -> Response {
        match self.0 {
            TokenError::Invalid | TokenError::Expired => {
                problem::unauthorized("service_token_invalid", &self.to_string(), problem::BEARER)
            }
            TokenError::KeysUnavailable => problem::unavailable(self.0.code(), &self.to_string()),
        }
    }
}

impl ServiceVerifier for JwksVerifier {
    type Error = BadServiceToken;

    async fn verify(&self, token: &str) -> Result<ServiceClaims, BadServiceToken> {
        Self::verify(self, token).await.map_err(BadServiceToken)
    }
}
