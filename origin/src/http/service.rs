//! Calls from one service to another: the token decides, never the headers.

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

use super::{ApiError, gate::trace_of};

/// Checks a service token's signature and times.
pub trait ServiceVerifier: Send + Sync + 'static {
    /// The claims.
    ///
    /// # Errors
    /// 401 for the token's fault, 503 when the keys cannot be had.
    fn verify(&self, token: &str) -> impl Future<Output = Result<ServiceClaims, ApiError>> + Send;
}

/// What an internal route asks of its caller.
#[derive(Debug)]
pub struct ServiceRule<V> {
    /// Checks tokens.
    pub verifier: Arc<V>,
    /// This service's name: the `aud` of tokens for it.
    pub audience: &'static str,
    /// Services that may call.
    pub callers: Arc<[String]>,
}

// Not derived: a verifier need not be clonable to be shared.
impl<V> Clone for ServiceRule<V> {
    fn clone(&self) -> Self {
        Self { verifier: Arc::clone(&self.verifier), audience: self.audience, callers: Arc::clone(&self.callers) }
    }
}

/// The layer of internal routes.
pub async fn require_service<V: ServiceVerifier>(
    State(rule): State<ServiceRule<V>>,
    request: Request,
    next: Next,
) -> Response {
    let rule = extract::ServiceRule {
        verifier: Arc::new(Verifier(rule.verifier)),
        issuer: crate::auth::ISSUER,
        audience: rule.audience,
        callers: rule.callers,
    };
    match rule.check(request.headers()).await {
        Ok(_) => {
            let trace = trace_of(request.headers());
            let mut response = TraceContext::scope(trace, next.run(request)).await;
            if let Some(trace) = trace {
                // For the log and the audit trail, whose layers are outside this one.
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
        match (refusal.told(), refusal) {
            (_, ServiceRefusal::Verifier(error)) => error,
            (Some((code, detail)), ServiceRefusal::NotAuthorized) => Self::service_not_authorized(code, detail),
            (Some((code, detail)), _) => Self::unauthorized(code, detail),
            (None, _) => Self::internal(),
        }
    }
}
