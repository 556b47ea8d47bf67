//! Requests from the gateway: the check of the assertion, the request id, the log line, and the
//! rendering of errors.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use portcullis_client::{
    assertion::{Assertion, AssertionError, AssertionKeys},
    extract::{self, BadGatewayUrl, GateRefusal, GatewayUrl},
    trace::TraceContext,
};

use super::{
    ApiError,
    request_log::{RequestFields, trace_context},
};
use crate::{clock::Clock, ids, limits};

/// What a service needs to authenticate the gateway.
#[derive(Debug, Clone)]
pub struct GatewayAuth {
    audience: &'static str,
    check: extract::Gate,
    gateway: GatewayUrl,
    /// Whether loopback callers may use some routes without the gateway (`AUTH_DIRECT`).
    pub(super) direct: bool,
    clock: Clock,
}

impl GatewayAuth {
    /// Makes the check for the service that the gateway's policy calls `audience`, behind the gateway
    /// at a URL.
    ///
    /// # Errors
    /// [`BadGatewayUrl`].
    pub fn new(
        audience: &'static str,
        keys: AssertionKeys,
        gateway_url: &str,
        clock: Clock,
    ) -> Result<Self, BadGatewayUrl> {
        let gateway = GatewayUrl::parse(gateway_url)?;
        let time = clock.clone();
        let now = move || u64::try_from(time.now()).unwrap_or_default() / 1000;
        let check = extract::Gate::new(audience, keys).with_gateway_url(gateway.clone()).with_clock(now);
        Ok(Self { audience, check, gateway, direct: false, clock })
    }

    /// Switches direct mode on or off.
    #[must_use]
    pub const fn with_direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Renders an error of a middleware outside [`observe`].
    pub fn render(&self, error: &ApiError, operation: &str) -> Response {
        let request_id = ids::fresh(self.clock.now()).unwrap_or_default().to_string();
        tracing::error!(service = self.audience, request_id, operation, code = error.code(), "request");
        let mut response = error.render(operation, &request_id, &self.gateway);
        let headers = response.headers_mut();
        headers.extend(HeaderValue::from_str(&request_id).ok().map(|id| (HeaderName::from_static("x-request-id"), id)));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Middleware around the routes: assigns the request id, checks the assertion once, limits the time,
/// renders errors, and logs one line.
pub async fn observe(State(auth): State<GatewayAuth>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let verdict = auth.check.record(&mut request);
    let request_id = match verdict.assertion() {
        Some(assertion) => assertion.request_id.clone(),
        None => ids::fresh(auth.clock.now()).unwrap_or_default().to_string(),
    };
    let refused = verdict.refusal().map(AssertionError::code);
    let mut fields = RequestFields::asserted(&request, &verdict);
    let method = request.method().to_string();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let trace = verdict.assertion().and_then(|_| trace_context(request.headers()));
    let mut work = pin!(TraceContext::scope(trace, next.run(request)));
    // A panic of a handler is an error like any other, with a log line and an audit event.
    let work = poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(ApiError::internal().into_response()))
    });
    let mut response = match tokio::time::timeout(limits::REQUEST_TIME, work).await {
        Ok(response) => response,
        Err(_) => ApiError::unavailable("request_timeout", "The request took too long").into_response(),
    };
    if let Some(direct) = response.extensions_mut().remove::<RequestFields>() {
        fields = direct;
    }
    let service_trace = response.extensions_mut().remove::<TraceContext>();
    let error = response.extensions_mut().remove::<ApiError>();
    if let Some(error) = &error {
        let allow = response.headers().get("allow").cloned();
        response = error.render(route.as_deref().unwrap_or("unmatched"), &request_id, &auth.gateway);
        if let Some(allow) = allow {
            response.headers_mut().insert("allow", allow);
        }
    }
    if let Some(trace) = service_trace {
        fields.trace_id = Some(trace.trace_id());
        fields.span_id = Some(trace.span_id());
        response.extensions_mut().insert(trace);
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", value);
    }
    // Tokens and profiles must not be cached; a cacheable answer has its own header. RFC 6749,
    // section 5.1, requires this of each answer with a token.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let status = response.status().as_u16();
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                service = auth.audience,
                request_id,
                trace_id = fields.trace_id,
                span_id = fields.span_id,
                user_id = fields.user_id,
                method,
                route,
                path = fields.path,
                status,
                duration_ms,
                code = error.as_ref().map(ApiError::code),
                assertion = refused,
                user_agent = fields.user_agent,
                ip = fields.ip,
                "request"
            )
        };
    }
    match status {
        500.. => line!(error),
        400..=499 => line!(warn),
        _ => line!(info),
    }
    response
}

/// The middleware of routes for the gateway only: a request without a valid assertion is 401.
pub async fn require_assertion(
    assertion: Result<Assertion, GateRefusal>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    assertion?;
    Ok(next.run(request).await)
}

impl From<GateRefusal> for ApiError {
    fn from(refusal: GateRefusal) -> Self {
        match refusal {
            GateRefusal::Unchecked | GateRefusal::NotVouched(_) => Self::gateway_required(),
            GateRefusal::KeysUnavailable => Self::unavailable("keys_unavailable", "The gateway's keys are unavailable"),
            GateRefusal::NoUser => Self::credentials_missing(),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware, routing::get};
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    #[tokio::test]
    async fn a_panic_of_a_handler_is_a_problem_document_with_a_request_id() {
        let keys = AssertionKeys::parse(&format!("k1:{}", "A".repeat(43))).unwrap();
        let auth = GatewayAuth::new("auth", keys, "http://127.0.0.1:9", Clock::default()).unwrap();
        let app = Router::new()
            .route(
                "/",
                get(|| async {
                    if true {
                        panic!("a fault")
                    }
                }),
            )
            .layer(middleware::from_fn_with_state(auth, observe));
        let response = TowerToHyperService::new(app).call(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status().as_u16(), 500);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(!response.headers()["x-request-id"].is_empty());
    }
}
