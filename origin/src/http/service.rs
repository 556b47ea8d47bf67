//! Calls from one service to another. The service token authenticates the caller, never a header.

use std::{future::Future, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
pub use portcullis_client::extract::ServiceClaims;
use portcullis_client::{
    extract::{self, ServiceRefusal},
    trace::TraceContext,
};

use super::{ApiError, request_log::trace_context};
use crate::signing::ISSUER;

/// Verifies the signature and the times of service tokens.
pub trait ServiceVerifier: Send + Sync + 'static {
    /// Returns the claims of a valid token.
    ///
    /// # Errors
    /// 401 for an invalid token, 503 if the keys are not available.
    fn verify(&self, token: &str) -> impl Future<Output = Result<ServiceClaims, ApiError>> + Send;
}

/// The requirements of an internal route.
#[derive(Debug)]
pub struct ServiceRule<V> {
    /// Verifies tokens.
    pub verifier: Arc<V>,
    /// Name of this service, which is the `aud` of tokens for it.
    pub audience: &'static str,
    /// Names of the services that may call.
    pub callers: Arc<[String]>,
}

// Not derived, because `V` need not be `Clone`.
impl<V> Clone for ServiceRule<V> {
    fn clone(&self) -> Self {
        Self { verifier: Arc::clone(&self.verifier), audience: self.audience, callers: Arc::clone(&self.callers) }
    }
}

/// The middleware of internal routes.
pub async fn require_service<V: ServiceVerifier>(
    State(rule): State<ServiceRule<V>>,
    request: Request,
    next: Next,
) -> Response {
    let rule = extract::ServiceRule {
        verifier: Arc::new(Verifier(rule.verifier)),
        issuer: ISSUER,
        audience: rule.audience,
        callers: rule.callers,
    };
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

struct Verifier<V>(Arc<V>);

impl<V: ServiceVerifier> extract::ServiceVerifier for Verifier<V> {
    type Error = ApiError;

    async fn verify(&self, token: &str) -> Result<ServiceClaims, ApiError> {
        self.0.verify(token).await
    }
}

impl From<ServiceRefusal<Self>> for ApiError {
    fn from(refusal: ServiceRefusal<Self>) -> Self {
        match (refusal.code_and_text(), refusal) {
            (_, ServiceRefusal::Verifier(error)) => error,
            (Some((code, detail)), ServiceRefusal::NotAuthorized) => Self::service_not_authorized(code, detail),
            (Some((code, detail)), _) => Self::unauthorized(code, detail),
            (None, _) => Self::internal(),
        }
    }
}
