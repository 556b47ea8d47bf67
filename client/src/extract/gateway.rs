//! The gateway's word for a request, as an axum layer and as extractors.
//!
//! A layer checks `X-Gateway-Assertion` once and leaves the [`Verdict`] with the
//! request; [`Assertion`] and [`AssertedUser`] are extractors that read it. No other
//! header is looked at: whoever goes around the gateway may write anything there.
//!
//! A request without a valid assertion is answered 401 with the code `gateway_required`
//! and a challenge of the scheme `Gateway-Assertion`, never with a `Bearer` challenge:
//! the client's token is not at fault, so a client must not end its session, and the
//! gateway answers 502 when it receives this challenge itself.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts, OriginalUri, Request, State},
    http::{Extensions, HeaderValue, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem;
use crate::assertion::{AssertedUser, Assertion, AssertionError, AssertionKeys, HEADER, Received};

/// Bytes of the longest gateway URL that a challenge names.
const GATEWAY_URL_BYTES: usize = 2048;

/// What a service needs to know of the gateway before it. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    audience: Arc<str>,
    keys: AssertionKeys,
    gateway: GatewayUrl,
    now: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// Where clients reach the gateway, for the answer to a request that did not come
/// through it. Kept in a request's extensions next to its [`Verdict`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayUrl(Option<Arc<str>>);

/// The gateway's URL is not an `http:` or `https:` URL without credentials, query and
/// fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadGatewayUrl;

impl fmt::Display for BadGatewayUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "the gateway's URL must be an http: or https: URL without credentials, query and fragment, \
             such as https://api.example.com",
        )
    }
}

impl std::error::Error for BadGatewayUrl {}

impl GatewayUrl {
    /// Reads a URL such as `https://api.example.com`.
    ///
    /// # Errors
    /// [`BadGatewayUrl`]
    pub fn parse(text: &str) -> Result<Self, BadGatewayUrl> {
        let url = reqwest::Url::parse(text).map_err(|_| BadGatewayUrl)?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        let is_base = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
        let text = url.as_str().trim_end_matches('/');
        // What a quoted string (RFC 9110, section 5.6.4) takes without an escape.
        let is_quotable = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if !is_plain || !is_base || !is_quotable || text.len() > GATEWAY_URL_BYTES {
            return Err(BadGatewayUrl);
        }
        Ok(Self(Some(text.into())))
    }

    /// The value of `WWW-Authenticate` (RFC 9110, section 11.6.1) for a request without a
    /// valid assertion. The gateway recognises the scheme.
    pub fn challenge(&self) -> HeaderValue {
        let realm = self.0.as_deref().unwrap_or("gateway");
        HeaderValue::try_from(format!("Gateway-Assertion realm=\"{realm}\", error=\"gateway_required\""))
            .unwrap_or(HeaderValue::from_static("Gateway-Assertion error=\"gateway_required\""))
    }

    /// The sentence for people.
    pub fn detail(&self) -> String {
        match self.0.as_deref() {
            Some(url) => format!("The request did not come through the gateway; send it to {url}"),
            None => "The request did not come through the gateway; send it there".to_owned(),
        }
    }
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
        Self { audience: audience.into(), keys, gateway: GatewayUrl::default(), now: Arc::new(now) }
    }

    /// With the gateway's URL, which requests that did not come through it are told.
    #[must_use]
    pub fn with_gateway_url(mut self, gateway: GatewayUrl) -> Self {
        self.gateway = gateway;
        self
    }

    /// With another clock, in seconds since 1970.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.now = Arc::new(now);
        self
    }

    /// Checks a request's assertion and leaves the verdict with the request, for extractors.
    pub fn record(&self, request: &mut Request) -> Verdict {
        let verdict = self.check(request);
        request.extensions_mut().insert(verdict.clone());
        request.extensions_mut().insert(self.gateway.clone());
        verdict
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateRefusal {
    /// No layer has checked the request: a mistake in the service, answered 500.
    Unchecked,
    /// The gateway does not vouch for it: 401 with [`GatewayUrl::challenge`].
    NotVouched(GatewayUrl),
    /// The gateway vouches for it, but nobody is logged in: 401.
    NoUser,
}

impl GateRefusal {
    /// Stable code, as in the answer.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unchecked => "internal",
            Self::NotVouched(_) => "gateway_required",
            Self::NoUser => "credentials_missing",
        }
    }
}

impl fmt::Display for GateRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unchecked => "no layer checks the gateway's assertion on this route",
            Self::NotVouched(_) => "the gateway does not vouch for the request",
            Self::NoUser => "nobody is logged in",
        })
    }
}

impl std::error::Error for GateRefusal {}

impl IntoResponse for GateRefusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unchecked => problem::internal(),
            Self::NotVouched(ref gateway) => problem::unauthorized(self.code(), &gateway.detail(), gateway.challenge()),
            Self::NoUser => problem::unauthorized(self.code(), "Authorization header required", problem::BEARER),
        }
    }
}

/// The layer that checks and lets everything pass, for services whose extractors or
/// inner layers refuse. With `axum::middleware::from_fn_with_state(gate, …)`.
pub async fn record_assertion(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    gate.record(&mut request);
    next.run(request).await
}

/// The layer that checks and answers 401 to whatever did not come through the
/// gateway. With `axum::middleware::from_fn_with_state(gate, …)`; it does without
/// [`record_assertion`].
pub async fn require_assertion(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    if gate.record(&mut request).assertion().is_some() {
        next.run(request).await
    } else {
        GateRefusal::NotVouched(gate.gateway).into_response()
    }
}

fn vouched(extensions: &Extensions) -> Result<&Assertion, GateRefusal> {
    let verdict = extensions.get::<Verdict>().ok_or(GateRefusal::Unchecked)?;
    let gateway = || extensions.get::<GatewayUrl>().cloned().unwrap_or_default();
    verdict.assertion().ok_or_else(|| GateRefusal::NotVouched(gateway()))
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
