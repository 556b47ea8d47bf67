//! Calls from one service to another: the token decides, never the headers.

use std::{future::Future, sync::Arc};

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;

use super::{ApiError, credentials};

/// Claims of a service token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServiceClaims {
    /// Issuer.
    pub iss: String,
    /// The calling service.
    pub sub: String,
    /// The called service.
    pub aud: String,
    /// `service`.
    pub token_type: String,
}

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
    pub callers: &'static [&'static str],
}

// Not derived: a verifier need not be clonable to be shared.
impl<V> Clone for ServiceRule<V> {
    fn clone(&self) -> Self {
        Self { verifier: Arc::clone(&self.verifier), audience: self.audience, callers: self.callers }
    }
}

/// The layer of internal routes.
pub async fn require_service<V: ServiceVerifier>(
    State(rule): State<ServiceRule<V>>,
    request: Request,
    next: Next,
) -> Response {
    match check(&rule, request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn check<V: ServiceVerifier>(rule: &ServiceRule<V>, headers: &HeaderMap) -> Result<(), ApiError> {
    let caller = headers
        .get("x-service-caller")
        .and_then(|value| value.to_str().ok())
        .filter(|name| !name.is_empty())
        .ok_or(ApiError::unauthorized("service_caller_missing", "Service caller not identified"))?;
    let token = credentials(headers, "bearer")
        .ok_or(ApiError::unauthorized("service_token_missing", "Service token required"))?;
    let claims = rule.verifier.verify(token).await?;
    if claims.iss != crate::auth::ISSUER || claims.token_type != "service" || claims.aud != rule.audience {
        return Err(ApiError::unauthorized("service_token_invalid", "Invalid service token"));
    }
    if claims.sub != caller || !rule.callers.contains(&caller) {
        return Err(ApiError::unauthorized("service_not_authorized", "Token not authorized for this service"));
    }
    Ok(())
}
