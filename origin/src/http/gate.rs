//! Who a request is from, what it is called, and the line it leaves in the log.

use std::{net::IpAddr, time::Instant};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use portcullis_client::{
    assertion::{AssertedUser, Assertion, AssertionError, AssertionKeys},
    extract::{self, BadGatewayUrl, GateRefusal, GatewayUrl, Verdict},
    trace::TraceContext,
};
use uuid::Uuid;

use super::{
    ApiError,
    direct::{DirectCaller, DirectLog},
};
use crate::{clock::Clock, ids, limits};

/// What a service needs to know of the gateway before it.
#[derive(Debug, Clone)]
pub struct Gate {
    audience: &'static str,
    check: extract::Gate,
    gateway: GatewayUrl,
    /// Whether loopback callers may use some routes without the gateway (`AUTH_DIRECT`).
    pub(super) direct: bool,
    clock: Clock,
}

impl Gate {
    /// For the service that the gateway's policy calls `audience`, behind the gateway at a URL.
    ///
    /// # Errors
    /// [`BadGatewayUrl`]
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

    /// With direct mode on or off.
    #[must_use]
    pub const fn with_direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }
}

/// The outermost layer: names the request, checks its assertion once, renders
/// errors, and logs one line.
pub async fn observe(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let verdict = gate.check.record(&mut request);
    let request_id = match verdict.assertion() {
        Some(assertion) => assertion.request_id.clone(),
        None => ids::fresh(gate.clock.now()).unwrap_or_default().to_string(),
    };
    let mut user_id = verdict.user().map(|user| user.id.clone());
    let refused = verdict.refusal().map(AssertionError::code);
    let mut told = Told::by_gateway(&request, &verdict);
    let method = request.method().to_string();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    // The gateway's word alone: from a stranger it would be free text in two logs.
    let trace = verdict.assertion().and_then(|_| trace_of(request.headers()));
    let work = TraceContext::scope(trace, next.run(request));
    let mut response = match tokio::time::timeout(limits::REQUEST_TIME, work).await {
        Ok(response) => response,
        Err(_) => ApiError::unavailable("request_timeout", "The request took too long").into_response(),
    };
    if let Some(direct) = response.extensions_mut().remove::<DirectLog>() {
        user_id = direct.user_id;
        told = direct.told;
    }
    let called = response.extensions_mut().remove::<TraceContext>();
    let error = response.extensions_mut().remove::<ApiError>();
    if let Some(error) = &error {
        let allow = response.headers().get("allow").cloned();
        response = error.render(route.as_deref().unwrap_or("unmatched"), &request_id, &gate.gateway);
        if let Some(allow) = allow {
            response.headers_mut().insert("allow", allow);
        }
    }
    if let Some(called) = called {
        told.trace_id = Some(called.trace_id());
        told.span_id = Some(called.span_id());
        response.extensions_mut().insert(called);
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", value);
    }
    // Tokens and profiles are for whoever asked; what may be kept says so itself
    // (RFC 6749, section 5.1, asks for this of every answer with a token).
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let status = response.status().as_u16();
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                service = gate.audience,
                request_id,
                trace_id = told.trace_id,
                span_id = told.span_id,
                user_id,
                method,
                route,
                path = told.path,
                status,
                duration_ms,
                code = error.as_ref().map(ApiError::code),
                assertion = refused,
                user_agent = told.user_agent,
                ip = told.ip,
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

/// The trace that a request says it is of. To be believed of the gateway and of services.
pub(super) fn trace_of(headers: &HeaderMap) -> Option<TraceContext> {
    TraceContext::parse(headers.get(TraceContext::HEADER)?.to_str().ok()?)
}

/// The inner layer of everything that only the gateway may ask: without its
/// word, 401, whatever other headers say.
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
            GateRefusal::NoUser => Self::credentials_missing(),
        }
    }
}

/// What the gateway tells of a request, for the log. Without its word, nothing: a
/// stranger may write anything there.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    trace_id: Option<String>,
    span_id: Option<String>,
    path: Option<String>,
    user_agent: Option<String>,
    ip: Option<String>,
}

impl Told {
    fn by_gateway(request: &Request, verdict: &Verdict) -> Self {
        if verdict.assertion().is_none() {
            return Self::default();
        }
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let traceparent = |index: usize, length: usize| {
            let part = header("traceparent")?.split('-').nth(index)?;
            Some(part.to_owned()).filter(|part| part.len() == length)
        };
        Self {
            trace_id: traceparent(1, 32),
            span_id: traceparent(2, 16),
            path: Some(tame(request.uri().path())),
            user_agent: header("user-agent").map(tame),
            ip: header("x-forwarded-for").map(tame),
        }
    }
}

impl Told {
    /// What is logged of a request that direct mode admitted.
    pub(super) fn by_peer(request: &Request, address: IpAddr) -> Self {
        let user_agent = request.headers().get("user-agent").and_then(|value| value.to_str().ok());
        Self {
            trace_id: None,
            span_id: None,
            path: Some(tame(request.uri().path())),
            user_agent: user_agent.map(tame),
            ip: Some(address.to_string()),
        }
    }
}

/// Whether the gateway vouches for a request.
pub(super) fn is_vouched_for(extensions: &axum::http::Extensions) -> bool {
    extensions.get::<Verdict>().is_some_and(|verdict| verdict.assertion().is_some())
}

/// Text from a client, fit for a log: bounded, and every word that is longer than an
/// id replaced, because people paste tokens into paths.
pub(super) fn tame(text: &str) -> String {
    let separators = ['/', ' ', ';', ',', '(', ')'];
    text.chars()
        .take(limits::LOG_TEXT_CHARS)
        .collect::<String>()
        .split_inclusive(separators)
        .map(|word| if word.trim_end_matches(separators).len() > limits::LOG_WORD_BYTES { "[long]" } else { word })
        .collect()
}

/// The user that the gateway vouches for. Extracting one on a request without
/// is 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub id: Uuid,
    /// Roles, as of the token.
    pub roles: Vec<String>,
    /// Session.
    pub session_id: Option<Uuid>,
}

impl User {
    /// Whether the user has a role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if let Some(caller) = parts.extensions.get::<DirectCaller>() {
            return caller.user.clone().ok_or(ApiError::credentials_missing());
        }
        let user = <AssertedUser as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        Ok(Self {
            id: Uuid::parse_str(&user.id).map_err(|_| ApiError::invalid_token())?,
            roles: user.roles,
            session_id: user.session_id.as_deref().and_then(|id| Uuid::parse_str(id).ok()),
        })
    }
}
