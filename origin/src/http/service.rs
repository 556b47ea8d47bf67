//! Calls from one service to another. The service token authenticates the caller, never a header.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
pub use portcullis_client::extract::{ServiceClaims, ServiceRule, ServiceVerifier};
use portcullis_client::{
    extract::{BadServiceToken, ServiceRefusal},
    jwks::TokenError,
    trace::TraceContext,
};

use super::{ApiError, request_log::trace_context};

/// The middleware of internal routes.
pub async fn require_service<V>(State(rule): State<ServiceRule<V>>, request: Request, next: Next) -> Response
where
    V: ServiceVerifier,
    V::Error: Into<ApiError>,
{
    match rule.check(request.headers()).await {
        Ok(_) => {
            let trace = trace_context(request.headers());
            let mut response = TraceContext::scope(trace, next.run(request)).await;
            if let Some(trace) = trace {
                // For the log line and the audit log, whose middlewares are outside this one.
                response.extensions_mut().insert(trace);
            }
            response
        }
        Err(refusal) => ApiError::from(refusal).into_response(),
    }
}

impl From<BadServiceToken> for ApiError {
    fn from(BadServiceToken(error): BadServiceToken) -> Self {
        if error == TokenError::KeysUnavailable {
            Self::unavailable(error.code(), "Authentication service unavailable")
        } else {
            Self::unauthorized("service_token_invalid", "Invalid service token")
        }
    }
}

impl<E: Into<Self>> From<ServiceRefusal<E>> for ApiError {
    fn from(refusal: ServiceRefusal<E>) -> Self {
        match (refusal.code_and_text(), refusal) {
            (_, ServiceRefusal::Verifier(error)) => error.into(),
            (Some((code, detail)), ServiceRefusal::NotAuthorized) => Self::service_not_authorized(code, detail),
            (Some((code, detail)), _) => Self::unauthorized(code, detail),
            (None, _) => Self::internal(),
        }
    }
}
