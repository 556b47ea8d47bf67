//! The ports of the pipeline: what its services need from outside. The host implements them with
//! the runtime, tests with fakes. Each service asks for the ports that it uses, and no more.

use std::borrow::Cow;

use super::background::BackgroundTask;
use crate::{
    keys::Key,
    revocation::RevocationKey,
    token::{Algorithm, SignatureOutcome, UnixMillis},
};

/// Time.
#[allow(async_fn_in_trait, reason = "an isolate has one thread; no future is ever sent")]
pub trait Clock {
    /// Returns the current time.
    fn now(&self) -> UnixMillis;

    /// Waits for `millis` milliseconds.
    async fn sleep(&self, millis: u64);
}

/// Random bytes.
pub trait Random {
    /// Returns fresh random bytes, enough for the ids of one request.
    fn random(&self) -> [u8; 48];
}

/// Work after the answer.
pub trait Background {
    /// Schedules a task that [`super::Gateway::run`] carries out once the client has its answer.
    fn defer(&self, task: BackgroundTask);
}

/// The store of key sets that all isolates share.
#[allow(async_fn_in_trait, reason = "an isolate has one thread; no future is ever sent")]
pub trait KeyStore {
    /// Reads a key set; `None` when there is none or the store fails.
    async fn read_keys(&self, name: &str) -> Option<String>;

    /// Writes a key set and returns whether it is stored. The host logs a failure.
    async fn write_keys(&self, name: &str, text: &str) -> bool;
}

/// Issuers' documents: key sets and discovery.
#[allow(async_fn_in_trait, reason = "an isolate has one thread; no future is ever sent")]
pub trait KeyFetcher {
    /// Fetches a document without following redirects: at most
    /// [`crate::keys::limits::JWKS_BYTES`] within [`crate::keys::limits::FETCH_MS`].
    ///
    /// # Errors
    /// A stable code.
    async fn fetch_document(&self, url: &str) -> Result<Document, &'static str>;
}

/// Signature checks.
#[allow(async_fn_in_trait, reason = "an isolate has one thread; no future is ever sent")]
pub trait SignatureVerifier {
    /// Checks a signature.
    ///
    /// # Errors
    /// [`BackendFault`] when the check could not be made.
    async fn check_signature(
        &self,
        key: &Key,
        algorithm: Algorithm,
        signing_input: &[u8],
        signature: &[u8],
    ) -> Result<SignatureOutcome, BackendFault>;
}

/// The revocation log of all isolates.
#[allow(async_fn_in_trait, reason = "an isolate has one thread; no future is ever sent")]
pub trait RevocationLog {
    /// Reads a part of the log: at most [`crate::revocation::limits::PAGE_BYTES`] within
    /// [`crate::revocation::limits::ASK_MS`], or
    /// [`crate::revocation::limits::ASK_WHOLE_MS`] for the whole log. `may_be_cached` allows a
    /// page that this location has cached.
    ///
    /// # Errors
    /// A stable code.
    async fn read_log(&self, part: LogPart<'_>, may_be_cached: bool) -> Result<LogText, &'static str>;

    /// Appends a page's entries and returns whether they are stored durably. The host logs a
    /// failure.
    async fn append_log(&self, page: &str) -> bool;
}

/// The runtime's rate limit counters.
#[allow(async_fn_in_trait, reason = "an isolate has one thread; no future is ever sent")]
pub trait RateLimitCounter {
    /// Counts one event under a key of a binding and returns whether it is within the limit.
    /// Returns true when the counter fails, which the host logs.
    async fn limit(&self, binding: &str, key: &str) -> bool;

    /// Returns whether a counter is bound.
    fn has_limit(&self, binding: &str) -> bool;
}

/// The sums of all isolates' metrics.
#[allow(async_fn_in_trait, reason = "an isolate has one thread; no future is ever sent")]
pub trait MetricsStore {
    /// Adds to the sums (a JSON object of numbers by series) and returns whether they arrived.
    async fn add_metrics(&self, text: &str) -> bool;

    /// Reads the sums, in the same form.
    ///
    /// # Errors
    /// A stable code.
    async fn read_metrics(&self) -> Result<String, &'static str>;
}

/// The collector of spans.
#[allow(async_fn_in_trait, reason = "an isolate has one thread; no future is ever sent")]
pub trait SpanCollector {
    /// Sends spans with the headers of the exporter's setting. `dropped` counts the spans that
    /// were discarded before. The host logs a failure.
    async fn send_spans(&self, url: &str, headers: &str, body: &str, dropped: u64);
}

/// The body of the request.
#[allow(async_fn_in_trait, reason = "an isolate has one thread; no future is ever sent")]
pub trait RequestBody {
    /// Reads the whole body.
    ///
    /// # Errors
    /// [`BodyFault`].
    async fn read_body(&self, max_bytes: usize) -> Result<Vec<u8>, BodyFault>;
}

/// The connection to upstreams.
#[allow(async_fn_in_trait, reason = "an isolate has one thread; no future is ever sent")]
pub trait UpstreamClient {
    /// The host's handle of an upstream's answer; the pipeline passes it on unseen.
    type Reply;

    /// Sends the request, its body streamed, to an upstream.
    ///
    /// # Errors
    /// [`UpstreamFault`].
    async fn forward(&self, request: &Forward<'_>) -> Result<Forwarded<Self::Reply>, UpstreamFault>;

    /// Discards an answer that is not passed on.
    fn discard(&self, reply: Self::Reply);
}

/// All ports, as a whole request needs them.
pub trait Ports:
    Clock
    + Random
    + Background
    + KeyStore
    + KeyFetcher
    + SignatureVerifier
    + RevocationLog
    + RateLimitCounter
    + MetricsStore
    + SpanCollector
    + RequestBody
    + UpstreamClient
{
}

impl<T> Ports for T where
    T: Clock
        + Random
        + Background
        + KeyStore
        + KeyFetcher
        + SignatureVerifier
        + RevocationLog
        + RateLimitCounter
        + MetricsStore
        + SpanCollector
        + RequestBody
        + UpstreamClient
{
}

/// An issuer's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The body.
    pub body: Vec<u8>,
    /// `Cache-Control`, as sent.
    pub cache_control: Option<String>,
}

/// A part of the revocation log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPart<'a> {
    /// The entries of the last minute.
    Newest,
    /// All entries.
    Whole,
    /// The entries of these keys.
    Entries(&'a [RevocationKey]),
}

/// A page of the revocation log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogText {
    /// A [`crate::revocation::LogPage`] as JSON.
    pub text: String,
    /// Whether the page came from this location's cache.
    pub cached: bool,
}

/// The request's body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// It is longer than allowed.
    TooLarge,
    /// The connection ended before the body.
    Broken,
}

/// The signature backend failed: a fault of the gateway, never of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendFault;

/// A request for an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward<'a> {
    /// Absolute URL; its path and query are the canonical target.
    pub url: String,
    /// The client's method.
    pub method: &'a str,
    /// All headers, in order.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Milliseconds from the request's end to the answer's headers.
    pub timeout_ms: u64,
    /// Milliseconds for the client to send its body.
    pub body_timeout_ms: u64,
    /// Bytes of the body, at most.
    pub max_body_bytes: u64,
    /// Whether the answer's body will be read on its way.
    pub is_timed: bool,
}

/// An upstream's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded<R> {
    /// The answer, its body not yet read.
    pub reply: R,
    /// Its status.
    pub status: u16,
    /// Whether it has `Retry-After`.
    pub asks_for_pause: bool,
    /// Whether the client had sent its whole body by then.
    pub body_ended: bool,
    /// `WWW-Authenticate` of a 401.
    pub challenge: Option<String>,
}

/// Why an upstream gave no answer that can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamFault {
    /// No connection, or the upstream closed it before the headers arrived.
    Unreachable,
    /// No headers within the time.
    TimedOut,
    /// A status below 200 or above 599.
    BadAnswer,
    /// The client did not send its body in time.
    BodySlow,
    /// The client's body is longer than allowed.
    BodyTooLarge,
    /// The client closed the connection.
    ClientGone,
    /// The upstream closed the connection after the client had sent nothing for a while.
    BrokeOff,
    /// The upstream did not read what the client sent.
    Stalled,
}
