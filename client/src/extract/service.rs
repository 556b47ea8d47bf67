//! Calls from one service to another, as an axum layer. The service token decides, never the other
//! headers. A [`ServiceVerifier`] checks the signature and the times of a token; this module decides
//! which services may call.

use std::{fmt, future::Future, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::problem;

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

/// Verifies the signature and the times of a service token.
pub trait ServiceVerifier: Send + Sync + 'static {
    /// Why a token is refused, or cannot be verified: unavailable keys are 503, never 401.
    type Error: Send;

    /// Verifies a token and returns its claims.
    ///
    /// # Errors
    /// The verifier's own.
    fn verify(&self, token: &str) -> impl Future<Output = Result<ServiceClaims, Self::Error>> + Send;
}

/// The callers that an internal route accepts.
#[derive(Debug)]
pub struct ServiceRule<V> {
    /// Verifies tokens.
    pub verifier: Arc<V>,
    /// Issuer of the tokens: `iss`.
    pub issuer: Arc<str>,
    /// Name of this service: `aud`.
    pub audience: &'static str,
    /// Services that may call.
    pub callers: Arc<[String]>,
}

// Not derived, because that would require `V: Clone`.
impl<V> Clone for ServiceRule<V> {
    fn clone(&self) -> Self {
        Self {
            verifier: Arc::clone(&self.verifier),
            issuer: Arc::clone(&self.issuer),
            audience: self.audience,
            callers: Arc::clone(&self.callers),
        }
    }
}

/// The calling service; an extractor behind [`require_service`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCaller {
    /// Its name, from the token.
    pub name: String,
}

/// Why a call is refused. `E` is the verifier's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceRefusal<E> {
    /// `X-Service-Caller` is missing.
    CallerMissing,
    /// There is no bearer token.
    TokenMissing,
    /// The token is not a service token of the issuer for this service.
    TokenInvalid,
    /// The token belongs to another service than `X-Service-Caller` names: 401.
    CallerMismatch,
    /// The token is valid, but its service may not call this route: 403.
    NotAuthorized,
    /// The verifier refused the token or could not verify it.
    Verifier(E),
}

impl<E> ServiceRefusal<E> {
    /// Whether the caller is known but may not call this route, which is 403. Every other refusal,
    /// except the verifier's own, is 401.
    pub const fn is_forbidden(&self) -> bool {
        matches!(self, Self::NotAuthorized)
    }

    /// Returns the stable code and the text of the answer; `None` for the verifier's own.
    pub fn code_and_text(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::CallerMissing => Some(("service_caller_missing", "Service caller not identified")),
            Self::TokenMissing => Some(("service_token_missing", "Service token required")),
            Self::TokenInvalid => Some(("service_token_invalid", "Invalid service token")),
            Self::CallerMismatch => Some(("service_caller_mismatch", "Token not authorized for this service")),
            Self::NotAuthorized => Some(("service_not_authorized", "Token not authorized for this service")),
            Self::Verifier(_) => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for ServiceRefusal<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.code_and_text()) {
            (Self::Verifier(error), _) => error.fmt(formatter),
            (_, Some((_, text))) => formatter.write_str(text),
            (_, None) => Ok(()),
        }
    }
}

impl<E: std::error::Error> std::error::Error for ServiceRefusal<E> {}

impl<E: IntoResponse> IntoResponse for ServiceRefusal<E> {
    fn into_response(self) -> Response {
        let is_forbidden = self.is_forbidden();
        match (self.code_and_text(), self) {
            (_, Self::Verifier(error)) => error.into_response(),
            (Some((code, detail)), _) if is_forbidden => problem::forbidden(code, detail),
            (Some((code, detail)), _) => problem::unauthorized(code, detail, problem::BEARER),
            (None, _) => problem::internal(),
        }
    }
}

impl<V: ServiceVerifier> ServiceRule<V> {
    /// Checks the headers of a call: the caller's name, its token, whether both agree, and whether the
    /// caller may call this route.
    ///
    /// # Errors
    /// [`ServiceRefusal`].
    pub async fn check(&self, headers: &HeaderMap) -> Result<ServiceCaller, ServiceRefusal<V::Error>> {
        let caller = headers
            .get("x-service-caller")
            .and_then(|value| value.to_str().ok())
            .filter(|name| !name.is_empty())
            .ok_or(ServiceRefusal::CallerMissing)?;
        let token = bearer(headers).ok_or(ServiceRefusal::TokenMissing)?;
        let claims = self.verifier.verify(token).await.map_err(ServiceRefusal::Verifier)?;
        // Access tokens of users are signed with the same keys.
        if *claims.iss != *self.issuer || claims.token_type != "service" || claims.aud != self.audience {
            return Err(ServiceRefusal::TokenInvalid);
        }
        if claims.sub != caller {
            return Err(ServiceRefusal::CallerMismatch);
        }
        if !self.callers.iter().any(|name| name == caller) {
            return Err(ServiceRefusal::NotAuthorized);
        }
        Ok(ServiceCaller { name: claims.sub })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    Some(rest.trim_start()).filter(|rest| scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty())
}

/// The layer of internal routes, for `axum::middleware::from_fn_with_state(rule, …)`.
pub async fn require_service<V>(State(rule): State<ServiceRule<V>>, mut request: Request, next: Next) -> Response
where
    V: ServiceVerifier,
    V::Error: IntoResponse,
{
    match rule.check(request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Extracts the caller; 401 on a route without [`require_service`].
impl<S: Send + Sync> FromRequestParts<S> for ServiceCaller {
    type Rejection = ServiceRefusal<std::convert::Infallible>;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or(ServiceRefusal::CallerMissing)
    }
}
