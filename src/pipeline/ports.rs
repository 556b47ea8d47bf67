//! The ports of the pipeline: what its services need from outside. The host implements them with
//! the runtime, tests with fakes. Each service asks for the ports that it uses, and no more.

#![allow(async_fn_in_trait, reason = "an isolate has one thread; no future is ever sent")]

use std::net::IpAddr;

use super::wire::{AnswerFacts, Fault, Forward};
use portcullis_token::{
    Algorithm, SignatureOutcome, UnixMillis,
    keys::{Key, SigningKey},
    revocation::{RevocationEntry, RevocationKey},
};

/// Time, random bytes, and work after the answer.
pub trait Runtime {
    /// Returns the current time.
    fn now(&self) -> UnixMillis;

    /// Waits for `millis` milliseconds.
    async fn sleep(&self, millis: u64);

    /// Returns fresh random bytes, enough for the ids of one request.
    fn random(&self) -> [u8; 48];

    /// Schedules a task that [`super::Gateway::run`] carries out once the client has its answer.
    fn defer(&self, task: BackgroundTask);

    /// Returns the id of the deployed version that runs; `None` if the platform names none.
    fn worker_version(&self) -> Option<String>;
}

/// Where the client is.
pub trait Geolocation {
    /// Returns the client's country (ISO 3166-1 alpha-2) as the platform knows it, never from a header.
    fn country(&self) -> Option<String>;
}

/// Issuers' key sets.
pub trait KeySource: Runtime {
    /// Reads a key set from the store that all isolates share; `None` when there is none or the
    /// store fails.
    async fn read_keys(&self, name: &str) -> Option<String>;

    /// Writes a key set to that store and returns whether it is stored. The host logs a failure.
    async fn write_keys(&self, name: &str, text: &str) -> bool;

    /// Fetches a key set or a discovery document within the bounds of
    /// [`portcullis_token::keys::limits`], without following redirects.
    async fn fetch_document(&self, url: &str) -> Result<Document, Fault>;
}

/// Records that all isolates share, with eventual consistency.
pub trait RecordStore: Runtime {
    /// Reads a record; `None` if there is none. The host logs a failure.
    async fn read_record(&self, name: &str) -> Result<Option<String>, Fault>;

    /// Writes records. All of them are durable unless it fails, which the host logs.
    async fn write_records(&self, records: &[Record]) -> Result<(), Fault>;
}

/// A record of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name, without line breaks.
    pub name: String,
    /// Its text, without line breaks.
    pub text: String,
    /// Seconds after which the store deletes it, if ever.
    pub keep_s: Option<u64>,
}

/// Whose key it is. Clients are many, so their keys must not displace others from a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOwner {
    /// An issuer, or the gateway.
    Issuer,
    /// A client that makes proofs.
    Client,
}

/// Signature checks.
pub trait SignatureVerifier {
    /// Checks a signature. A [`Fault`] is one of the gateway, never of the token.
    async fn check_signature(
        &self,
        key: (&Key, KeyOwner),
        algorithm: Algorithm,
        signing_input: &[u8],
        signature: &[u8],
    ) -> Result<SignatureOutcome, Fault>;
}

/// Signatures of assertions.
pub trait AssertionSigner: SignatureVerifier {
    /// Signs with a private key, in the form of a JWS (RFC 7518, section 3.4; RFC 8037, section 3.1). A key that is only
    /// published is a [`Fault`], too.
    async fn sign_assertion(&self, key: &SigningKey, signing_input: &[u8]) -> Result<Vec<u8>, Fault>;
}

/// Servers that are asked before a request is admitted.
pub trait Backchannels: Runtime {
    /// Posts a question without following redirects. Returns the status and the body of the answer, within
    /// [`super::limits::BACKCHANNEL_BYTES`].
    async fn ask(&self, question: &Question<'_>) -> Result<(u64, Vec<u8>), Fault>;
}

/// A question to a policy decision point or an introspection endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// The endpoint.
    pub url: &'a str,
    /// `Authorization`, if it has one.
    pub authorization: Option<&'a str>,
    /// `X-Request-ID`, by which its log is compared with the gateway's.
    pub request_id: &'a str,
    /// The body.
    pub body: QuestionBody<'a>,
    /// Milliseconds to the end of the answer.
    pub timeout_ms: u64,
}

/// What a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuestionBody<'a> {
    /// JSON.
    Json(&'a str),
    /// An access token, which the host sends as a form (RFC 7662, section 2.1).
    Token(&'a str),
}

/// The revocation log of all isolates.
pub trait RevocationLog: Runtime {
    /// Reads a part of the log within the bounds of [`portcullis_token::revocation::limits`].
    /// `may_be_cached` allows a page that this location has cached.
    async fn read_log(&self, part: LogPart<'_>, may_be_cached: bool) -> Result<LogText, Fault>;

    /// Appends a page's entries and returns whether they are stored durably. The host logs a failure.
    async fn append_log(&self, page: &str) -> bool;
}

/// The runtime's rate limit counters.
pub trait RateLimitCounter: Runtime {
    /// Counts one event under a key of a binding and returns whether it is within the limit.
    /// Returns true when the counter fails, which the host logs.
    async fn limit(&self, binding: &str, key: &str) -> bool;

    /// Returns whether a counter is bound.
    fn has_limit(&self, binding: &str) -> bool;
}

/// The sums of all isolates' metrics.
pub trait MetricsStore: Runtime {
    /// Adds to the sums (a JSON object of numbers by series) and returns whether they arrived.
    async fn add_metrics(&self, text: &str) -> bool;

    /// Reads the sums, in the same form.
    async fn read_metrics(&self) -> Result<String, Fault>;
}

/// The operators' page and what it shows, which the host keeps and reads.
pub trait OperatorsPage: Runtime {
    /// Answers a permitted request for the page, or to a path of its operations.
    async fn operate(&self, path: &str, request_id: &str) -> Result<PagePart, Fault>;
}

/// An answer of the host for the operators' page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagePart {
    /// HTTP status.
    pub status: u16,
    /// Media type.
    pub content_type: String,
    /// The page, or a JSON document.
    pub body: String,
    /// Content security policy of the page.
    pub content_policy: Option<String>,
}

/// The collector of spans.
pub trait SpanCollector: Runtime {
    /// Sends spans with the headers of the exporter's setting. `dropped` counts the spans that
    /// were discarded before. The host logs a failure.
    async fn send_spans(&self, url: &str, headers: &str, body: &str, dropped: u64);
}

/// What the platform knows of the client's TLS connection.
pub trait ClientTls {
    /// Returns the SHA-256 of the client's certificate in hexadecimal, if the platform has verified it.
    fn client_certificate(&self) -> Option<String>;
}

/// The proofs that were used on strict routes of all isolates.
pub trait ProofLog: Runtime {
    /// Notes the use of a proof, by its id, until a time. Returns whether it is the first.
    async fn note_proof(&self, proof: &str, keep_until: UnixMillis) -> Result<bool, Fault>;
}

/// The validators that the build compiled from OpenAPI documents.
pub trait RequestValidator {
    /// Checks a request, whose `url` is the target alone, against the document of an upstream. A body that must be read for
    /// this, of at most `max_bytes`, is kept for [`UpstreamClient::forward`]. Returns the result and the findings, in
    /// lines.
    async fn validate(&self, upstream: &str, request: &Forward<'_>, max_bytes: u64) -> Result<String, Fault>;
}

/// The connection to upstreams.
pub trait UpstreamClient: Runtime {
    /// The host's handle of an upstream's answer; the pipeline passes it on unseen.
    type Reply;

    /// Sends the request, its body streamed, to an upstream; [`Fault::NotBound`] without its binding.
    async fn forward(&self, request: &Forward<'_>) -> Result<Forwarded<Self::Reply>, Fault>;

    /// Reads the request's body, keeps it for [`UpstreamClient::forward`], and returns its SHA-256.
    async fn digest_body(&self, max_bytes: u64, time_ms: u64) -> Result<[u8; 32], Fault>;

    /// Returns whether a binding is there that takes requests.
    fn has_service(&self, binding: &str) -> bool;

    /// Returns a header of an answer; several lines are joined by commas.
    fn header(&self, reply: &Self::Reply, name: &str) -> Option<String>;

    /// Discards an answer that is not passed on.
    fn discard(&self, reply: Self::Reply);

    /// Resolves an answer's reference against a base to an absolute URL, with the runtime's parser.
    /// Browsers accept more spellings than RFC 3986 has (backslashes, tabs, `http:/host`), and so
    /// does this parser.
    fn resolve(&self, reference: &str, base: &str) -> Option<String>;
}

/// All ports, as a whole request needs them.
pub trait Ports:
    Backchannels
    + Geolocation
    + ClientTls
    + KeySource
    + ProofLog
    + RecordStore
    + RevocationLog
    + RateLimitCounter
    + MetricsStore
    + OperatorsPage
    + SpanCollector
    + RequestValidator
    + UpstreamClient
    + AssertionSigner
{
    /// Reads the whole body of the request.
    async fn read_body(&self, max_bytes: usize) -> Result<Vec<u8>, Fault>;
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
    /// A [`portcullis_token::revocation::LogPage`] as JSON.
    pub text: String,
    /// Whether the page came from this location's cache.
    pub cached: bool,
}

/// An upstream's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded<R> {
    /// The host's handle of the answer, its body not yet read.
    pub reply: R,
    /// URL that answered.
    pub url: String,
    /// What the pipeline knows of it.
    pub facts: AnswerFacts,
}

/// Work for after the answer; [`super::Gateway::run`] carries it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackgroundTask {
    /// Read the revocation log; the local copy is past its freshness.
    ReadRevocationLog,
    /// Append an entry to the revocation log again, which did not take it.
    AppendRevocation(RevocationEntry),
    /// Have the runtime count a refused token.
    CountFailedAuth {
        /// Index of the limit in the policy.
        limit: usize,
        /// The client's network.
        network: Option<IpAddr>,
    },
    /// Send the metrics and the spans in a few seconds.
    Flush,
    /// Send the spans now: a batch is full.
    SendSpans,
    /// A task of the key set of the issuer with this index.
    Keys(usize, KeyTask),
}

/// Work on an issuer's key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyTask {
    /// Fetch it if that is due.
    Refresh,
    /// Fetch it although it is fresh: the schedule is due, or the issuer revoked a key.
    Renew,
    /// Write it to the store.
    Store,
}
