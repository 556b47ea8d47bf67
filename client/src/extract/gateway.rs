//! The gateway's assertion as an axum layer and extractors.
//!
//! A layer verifies `X-Gateway-Assertion` once and adds the [`Verdict`] to the request; the extractors
//! [`Assertion`] and [`AssertedUser`] read it. No other header is trusted: a client that bypasses the
//! gateway can set any of them.
//!
//! A request without a valid assertion is answered 401 with the code `gateway_required` and a challenge
//! of the scheme `Gateway-Assertion`. There is no `Bearer` challenge, because the client's token is not
//! at fault and the client must keep its session. The gateway answers 502 when it receives this
//! challenge.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts, OriginalUri, Request, State},
    http::{Extensions, HeaderMap, HeaderValue, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem;
use crate::assertion::{AssertedUser, Assertion, AssertionError, AssertionKeys, HEADER, Received};

/// Bytes of the gateway's URL in a challenge.
const GATEWAY_URL_BYTES: usize = 2048;

/// Verifies the assertions of the gateway in front of a service. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    audience: Arc<str>,
    keys: AssertionKeys,
    gateway: GatewayUrl,
    now: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// The URL at which clients reach the gateway, for the answer to a request that bypassed it. Stored in
/// the extensions of a request with its [`Verdict`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayUrl(Option<Arc<str>>);

/// The gateway's URL is not an `http:` or `https:` URL without credentials, query and fragment.
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
    /// Parses a URL such as `https://api.example.com`.
    ///
    /// # Errors
    /// [`BadGatewayUrl`]
    pub fn parse(text: &str) -> Result<Self, BadGatewayUrl> {
        let url = reqwest::Url::parse(text).map_err(|_| BadGatewayUrl)?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        let is_base = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
        let text = url.as_str().trim_end_matches('/');
        // Characters of a quoted string that need no escape (RFC 9110, section 5.6.4).
        let is_quotable = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if !is_plain || !is_base || !is_quotable || text.len() > GATEWAY_URL_BYTES {
            return Err(BadGatewayUrl);
        }
        Ok(Self(Some(text.into())))
    }

    /// Returns `WWW-Authenticate` (RFC 9110, section 11.6.1) for a request without a valid assertion. The
    /// gateway recognises the scheme.
    pub fn challenge(&self) -> HeaderValue {
        let realm = self.0.as_deref().unwrap_or("gateway");
        HeaderValue::try_from(format!("Gateway-Assertion realm=\"{realm}\", error=\"gateway_required\""))
            .unwrap_or(HeaderValue::from_static("Gateway-Assertion error=\"gateway_required\""))
    }

    /// Returns the sentence for people.
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
    /// Returns a verifier for the service that the gateway's policy calls `audience`, with the system
    /// clock.
    pub fn new(audience: &str, keys: AssertionKeys) -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { audience: audience.into(), keys, gateway: GatewayUrl::default(), now: Arc::new(now) }
    }

    /// Sets the gateway's URL for answers to requests that bypassed it.
    #[must_use]
    pub fn with_gateway_url(mut self, gateway: GatewayUrl) -> Self {
        self.gateway = gateway;
        self
    }

    /// Sets another clock, in seconds since 1970.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.now = Arc::new(now);
        self
    }

    /// Fetches the gateway's public keys if the request's assertion needs them. The layers do so.
    pub async fn prepare(&self, headers: &HeaderMap) {
        if let Some(assertion) = headers.get(HEADER).and_then(|value| value.to_str().ok()) {
            self.keys.prepare(assertion).await;
        }
    }

    /// Verifies a request's assertion and adds the verdict to the request, for extractors.
    pub fn record(&self, request: &mut Request) -> Verdict {
        let verdict = self.check(request);
        request.extensions_mut().insert(verdict.clone());
        request.extensions_mut().insert(self.gateway.clone());
        verdict
    }

    /// Verifies a request's assertion.
    pub fn check(&self, request: &Request) -> Verdict {
        let mut values = request.headers().get_all(HEADER).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Verdict::Absent,
            (Some(value), None) => value,
            // The gateway sends one. Of two, one may be forged, and a reader of the first might
            // accept it.
            (Some(_), Some(_)) => return Verdict::Refused(AssertionError::Malformed),
        };
        let Ok(text) = value.to_str() else {
            return Verdict::Refused(AssertionError::Malformed);
        };
        // A nested router removes its prefix from the URI; the signed target contains it.
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

/// The result of the verification of a request, stored in its extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is no assertion: the request bypassed the gateway.
    Absent,
    /// The assertion is invalid. The reason is for the log only.
    Refused(AssertionError),
    /// The assertion is valid.
    Vouched(Assertion),
}

impl Verdict {
    /// Returns the assertion, if it is valid.
    pub const fn assertion(&self) -> Option<&Assertion> {
        match self {
            Self::Vouched(assertion) => Some(assertion),
            Self::Absent | Self::Refused(_) => None,
        }
    }

    /// Returns the user, if the assertion is valid and names one.
    pub fn user(&self) -> Option<&AssertedUser> {
        self.assertion()?.user.as_ref()
    }

    /// Returns why the assertion is invalid, for the log.
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
    /// No layer has verified the request, which is a bug of the service: 500.
    Unchecked,
    /// The request has no valid assertion: 401 with [`GatewayUrl::challenge`].
    NotVouched(GatewayUrl),
    /// The gateway's public keys cannot be fetched: 503.
    KeysUnavailable,
    /// The assertion is valid, but names no user: 401.
    NoUser,
}

impl GateRefusal {
    /// Returns the stable code of the answer.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unchecked => "internal",
            Self::NotVouched(_) => "gateway_required",
            Self::KeysUnavailable => "keys_unavailable",
            Self::NoUser => "credentials_missing",
        }
    }
}

impl fmt::Display for GateRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unchecked => "no layer checks the gateway's assertion on this route",
            Self::NotVouched(_) => "the gateway does not vouch for the request",
            Self::KeysUnavailable => "the gateway's public keys cannot be fetched",
            Self::NoUser => "nobody is logged in",
        })
    }
}

impl std::error::Error for GateRefusal {}

impl IntoResponse for GateRefusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unchecked => problem::internal(),
            Self::KeysUnavailable => problem::unavailable(self.code(), "The gateway's keys are unavailable"),
            Self::NotVouched(ref gateway) => problem::unauthorized(self.code(), &gateway.detail(), gateway.challenge()),
            Self::NoUser => problem::unauthorized(self.code(), "Authorization header required", problem::BEARER),
        }
    }
}

/// The layer that verifies and passes every request, for services whose extractors or inner layers
/// refuse. For `axum::middleware::from_fn_with_state(gate, …)`.
pub async fn record_assertion(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    gate.prepare(request.headers()).await;
    gate.record(&mut request);
    next.run(request).await
}

/// The layer that answers 401 to requests that bypassed the gateway. For
/// `axum::middleware::from_fn_with_state(gate, …)`, without [`record_assertion`].
pub async fn require_assertion(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    gate.prepare(request.headers()).await;
    match gate.record(&mut request) {
        Verdict::Vouched(_) => next.run(request).await,
        Verdict::Refused(AssertionError::KeysUnavailable) => GateRefusal::KeysUnavailable.into_response(),
        Verdict::Absent | Verdict::Refused(_) => GateRefusal::NotVouched(gate.gateway).into_response(),
    }
}

fn vouched(extensions: &Extensions) -> Result<&Assertion, GateRefusal> {
    let verdict = extensions.get::<Verdict>().ok_or(GateRefusal::Unchecked)?;
    let gateway = || extensions.get::<GatewayUrl>().cloned().unwrap_or_default();
    match verdict {
        Verdict::Vouched(assertion) => Ok(assertion),
        Verdict::Refused(AssertionError::KeysUnavailable) => Err(GateRefusal::KeysUnavailable),
        Verdict::Absent | Verdict::Refused(_) => Err(GateRefusal::NotVouched(gateway())),
    }
}

/// Extracts the assertion; [`GateRefusal`] without a valid one.
impl<S: Send + Sync> FromRequestParts<S> for Assertion {
    type Rejection = GateRefusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, GateRefusal> {
        vouched(&parts.extensions).cloned()
    }
}

/// Extracts the user; [`GateRefusal`] without one, or without a valid assertion.
impl<S: Send + Sync> FromRequestParts<S> for AssertedUser {
    type Rejection = GateRefusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, GateRefusal> {
        vouched(&parts.extensions)?.user.clone().ok_or(GateRefusal::NoUser)
    }
}

/// Extracts the user, if there is one, on public routes. The request still needs a valid assertion.
impl<S: Send + Sync> OptionalFromRequestParts<S> for AssertedUser {
    type Rejection = GateRefusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, GateRefusal> {
        Ok(vouched(&parts.extensions)?.user.clone())
    }
}
