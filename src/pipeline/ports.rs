//! What the gate needs of the world. `edge` provides it from the runtime,
//! native tests from scripts.

use std::borrow::Cow;

use crate::{
    keys::Key,
    revocation::RevocationKey,
    token::{Algorithm, SignatureOutcome, UnixMillis},
};

/// The gate's view of the world, for one request.
#[allow(async_fn_in_trait, reason = "an isolate has one thread; no future is ever sent")]
pub trait Ports {
    /// What an upstream's answer is to the rim: the gate never looks inside.
    type Reply;

    /// The time.
    fn now(&self) -> UnixMillis;

    /// Fresh random bytes, for the ids of one request.
    fn random(&self) -> [u8; 48];

    /// Lets `millis` pass.
    async fn sleep(&self, millis: u64);

    /// Reads a stored key set; `None` when there is none or the store fails.
    async fn read_keys(&self, name: &str) -> Option<String>;

    /// Stores a key set, and says whether it is stored. A failure is the rim's
    /// to log: the set is in use.
    async fn write_keys(&self, name: &str, text: &str) -> bool;

    /// Asks an issuer for a document (its key set, or where that is): no redirect,
    /// at most [`crate::keys::limits::JWKS_BYTES`] and
    /// [`crate::keys::limits::FETCH_MS`].
    ///
    /// # Errors
    /// A stable code that says why not.
    async fn fetch_document(&self, url: &str) -> Result<Document, &'static str>;

    /// Checks a signature.
    ///
    /// # Errors
    /// [`BackendFault`] when the check could not be made at all.
    async fn check_signature(
        &self,
        key: &Key,
        algorithm: Algorithm,
        signing_input: &[u8],
        signature: &[u8],
    ) -> Result<SignatureOutcome, BackendFault>;

    /// Counts one more under a key of a limiter's binding, and says whether that is still
    /// within the limit. True when the limiter fails; that is the rim's to log.
    async fn limit(&self, binding: &str, key: &str) -> bool;

    /// Sends spans to a collector, with the headers that its setting has. `dropped` is how
    /// many found no place before. A failure is the rim's to log.
    async fn send_spans(&self, url: &str, headers: &str, body: &str, dropped: u64);

    /// Whether a limiter is bound.
    fn has_limit(&self, binding: &str) -> bool;

    /// Adds to the sums of all isolates: a JSON object of numbers by series. False when
    /// they did not arrive.
    async fn add_metrics(&self, text: &str) -> bool;

    /// The sums, in the same form.
    ///
    /// # Errors
    /// A stable code that says why not.
    async fn read_metrics(&self) -> Result<String, &'static str>;

    /// Reads a part of the revocation log, at most
    /// [`crate::revocation::limits::PAGE_BYTES`] in
    /// [`crate::revocation::limits::ASK_MS`] (the whole of it:
    /// [`crate::revocation::limits::ASK_WHOLE_MS`]). `may_be_kept` allows for an answer that
    /// this location kept from another isolate's question.
    ///
    /// # Errors
    /// A stable code that says why not.
    async fn read_log(&self, part: LogPart<'_>, may_be_kept: bool) -> Result<LogText, &'static str>;

    /// Adds a page's entries to the log, and says whether they are in it for good. A
    /// failure is the rim's to log.
    async fn append_log(&self, page: &str) -> bool;

    /// Reads the request's body.
    ///
    /// # Errors
    /// [`BodyFault`].
    async fn read_body(&self, max: usize) -> Result<Vec<u8>, BodyFault>;

    /// Sends the request, its body streamed, to an upstream.
    ///
    /// # Errors
    /// [`UpstreamFault`].
    async fn forward(&self, forward: &Forward<'_>) -> Result<Forwarded<Self::Reply>, UpstreamFault>;

    /// Lets go of an answer that nobody will read.
    fn discard(&self, reply: Self::Reply);
}

/// An issuer's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The body.
    pub body: Vec<u8>,
    /// `Cache-Control`, as sent.
    pub cache_control: Option<String>,
}

/// What is asked of the revocation log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPart<'a> {
    /// What the last minute brought.
    Newest,
    /// All of it.
    Whole,
    /// What there is under these marks.
    Entries(&'a [RevocationKey]),
}

/// The log's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogText {
    /// A [`crate::revocation::LogPage`] as JSON.
    pub text: String,
    /// Whether it was kept from an earlier question.
    pub kept: bool,
}

/// A request's body cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// It is longer than allowed.
    TooLarge,
    /// It ended before its end.
    Broken,
}

/// The signature backend failed: our trouble, never the token's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendFault;

/// A request as an upstream is to receive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward<'a> {
    /// Absolute URL; its path and query are the canonical target.
    pub url: String,
    /// The client's method.
    pub method: &'a str,
    /// All headers, in order.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Milliseconds from the request's end until the answer's headers must be there.
    pub timeout_ms: u64,
    /// Milliseconds for the client to send its body.
    pub body_timeout_ms: u64,
    /// Bytes that the body may have.
    pub max_body_bytes: u64,
    /// Whether the answer's body is going to be read on its way.
    pub is_timed: bool,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded<R> {
    /// The answer, its body not yet read.
    pub reply: R,
    /// Its status.
    pub status: u16,
    /// Whether it says when to come back (`Retry-After`).
    pub asks_for_pause: bool,
    /// Whether the client had sent its whole body by then.
    pub body_ended: bool,
    /// `WWW-Authenticate` of a 401.
    pub challenge: Option<String>,
}

/// Why an upstream gave no answer that can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamFault {
    /// No connection, or the upstream broke it before the headers came, whether or not the
    /// client still had to send.
    Unreachable,
    /// No headers within the time.
    TimedOut,
    /// A status that is not one (below 200 or above 599).
    BadAnswer,
    /// The client did not send its body in time: no fault of the upstream's.
    BodySlow,
    /// The client's body is longer than allowed: no fault of the upstream's.
    BodyTooLarge,
    /// The client broke off: no fault of the upstream's.
    ClientGone,
    /// The upstream broke off after the client had sent nothing for a while: it may have
    /// given up on the client.
    BrokeOff,
    /// The upstream did not take what the client sent.
    Stalled,
}
