//! The gateway's word for a request, as an axum layer and as extractors.
//!
//! A layer checks `X-Gateway-Assertion` once and leaves the [`Verdict`] with the
//! request; [`Assertion`] and [`AssertedUser`] are extractors that read it. No other
//! header is looked at: whoever goes around the gateway may write anything there.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts, OriginalUri, Request, State},
    http::{Extensions, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem;
use crate::assertion::{AssertedUser, Assertion, AssertionError, AssertionKeys, HEADER, Received};

/// What a service needs to know of the gateway before it. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    audience: Arc<str>,
    keys: AssertionKeys,
    now: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gate").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl Gate {
    /// For a service that the gateway's policy calls `audience`, with the system's clock.
    pub fn new(audience: &str, keys: AssertionKeys) -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { audience: audience.into(), keys, now: Arc::new(now) }
    }

    /// With another clock, in seconds since 1970.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.now = Arc::new(now);
        self
    }

    /// Checks a request's assertion.
    pub fn check(&self, request: &Request) -> Verdict {
        let mut values = request.headers().get_all(HEADER).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Verdict::Absent,
            (Some(value), None) => value,
            // The gateway sends one. Of two, somebody else wrote one, and a reader
            // that takes the first might take that.
            (Some(_), Some(_)) => return Verdict::Refused(AssertionError::Malformed),
        };
        let Ok(text) = value.to_str() else {
            return Verdict::Refused(AssertionError::Malformed);
        };
        // A nested router cuts its prefix off the URI; what was signed has it.
        let uri = request.extensions().get::<OriginalUri>().map_or_else(|| request.uri(), |OriginalUri(uri)| uri);
        let received = Received {
            audience: &self.audience,
            method: request.method().as_str(),
            target: uri.path_and_query().map_or("/", |target| target.as_str()),
            now: (self.now)(),
        };
        match self.keys.verify(text, &received) {
            Ok(assertion) => Verdict::Vouched(assertion),
            Err(error) => Verdict::Refused(error),
        }
    }
}

/// What the check of a request found, kept in its extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is no assertion: it did not come through the gateway.
    Absent,
    /// There is one that does not hold. The reason is for the log alone.
    Refused(AssertionError),
    /// The gateway vouches for it.
    Vouched(Assertion),
}

impl Verdict {
    /// The assertion, if it holds.
    pub const fn assertion(&self) -> Option<&Assertion> {
        match self {
            Self::Vouched(assertion) => Some(assertion),
            Self::Absent | Self::Refused(_) => None,
        }
    }

    /// The user, if the assertion holds and names one.
    pub fn user(&self) -> Option<&AssertedUser> {
        self.assertion()?.user.as_ref()
    }

    /// Why the assertion does not hold, for the log.
    pub const fn refusal(&self) -> Option<AssertionError> {
        match self {
            Self::Refused(error) => Some(*error),
            Self::Absent | Self::Vouched(_) => None,
        }
    }
}

/// Why an extractor or a layer refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateRefusal {
    /// No layer has checked the request: a mistake in the service, answered 500.
    Unchecked,
    /// The gateway does not vouch for it: 401.
    NotVouched,
    /// The gateway vouches for it, but nobody is logged in: 401.
    NoUser,
}

impl GateRefusal {
    /// Stable code, as in the answer.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unchecked => "internal",
            Self::NotVouched => "assertion_required",
            Self::NoUser => "credentials_missing",
        }
    }
}

impl fmt::Display for GateRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unchecked => "no layer checks the gateway's assertion on this route",
            Self::NotVouched => "the gateway does not vouch for the request",
            Self::NoUser => "nobody is logged in",
        })
    }
}

impl std::error::Error for GateRefusal {}

impl IntoResponse for GateRefusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unchecked => problem::internal(),
            Self::NotVouched => problem::unauthorized(self.code(), "Invalid token"),
            Self::NoUser => problem::unauthorized(self.code(), "Authorization header required"),
        }
    }
}

/// The layer that checks and lets everything pass, for services whose extractors or
/// inner layers refuse. With `axum::middleware::from_fn_with_state(gate, …)`.
pub async fn record_assertion(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let verdict = gate.check(&request);
    request.extensions_mut().insert(verdict);
    next.run(request).await
}

/// The layer that checks and answers 401 to whatever did not come through the
/// gateway. With `axum::middleware::from_fn_with_state(gate, …)`; it does without
/// [`record_assertion`].
pub async fn require_assertion(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let verdict = gate.check(&request);
    let vouched = verdict.assertion().is_some();
    request.extensions_mut().insert(verdict);
    if vouched { next.run(request).await } else { GateRefusal::NotVouched.into_response() }
}

fn vouched(extensions: &Extensions) -> Result<&Assertion, GateRefusal> {
    extensions.get::<Verdict>().ok_or(GateRefusal::Unchecked)?.assertion().ok_or(GateRefusal::NotVouched)
}

/// The gateway's word; without it, [`GateRefusal`].
impl<S: Send + Sync> FromRequestParts<S> for Assertion {
    type Rejection = GateRefusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, GateRefusal> {
        vouched(&parts.extensions).cloned()
    }
}

/// The user; without one, or without the gateway's word, [`GateRefusal`].
impl<S: Send + Sync> FromRequestParts<S> for AssertedUser {
    type Rejection = GateRefusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, GateRefusal> {
        vouched(&parts.extensions)?.user.clone().ok_or(GateRefusal::NoUser)
    }
}

/// The user where there is one, on public routes. The gateway must vouch for the
/// request all the same.
impl<S: Send + Sync> OptionalFromRequestParts<S> for AssertedUser {
    type Rejection = GateRefusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, GateRefusal> {
        Ok(vouched(&parts.extensions)?.user.clone())
    }
}
