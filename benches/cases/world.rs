//! A world behind the gate's ports that costs next to nothing: time stands still, chance is
//! always the same, whoever is asked answers at once. `tests/native/fakes.rs` has the one that
//! can be told what to do, and remembers what it was asked: that would be measured, too.

use std::cell::RefCell;

use portcullis::pipeline::{
    BackgroundTask,
    ports::{
        AssertionSigner, Backchannels, ClientTls, Document, Forwarded, Geolocation, KeyOwner, KeySource, LogPart,
        LogText, MetricsStore, OperatorsPage, PagePart, Ports, ProofLog, Question, RateLimitCounter, Record,
        RecordStore, RequestValidator, RevocationLog, Runtime, SignatureVerifier, SpanCollector, UpstreamClient,
    },
    wire::{AnswerFacts, Fault, Forward},
};
use portcullis_token::{
    self as token, Algorithm, SignatureOutcome, UnixMillis,
    keys::{Key, SigningKey},
    revocation::LogPage,
};
use serde::Deserialize;

/// `tests/vectors/tokens.json`.
#[derive(Deserialize)]
pub(crate) struct Vectors {
    /// Seconds; the time for which the tokens were made.
    pub(crate) now: u64,
    jwks: serde_json::Value,
    cases: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    token: String,
}

impl Vectors {
    pub(crate) fn load() -> Self {
        serde_json::from_str(include_str!("../../tests/vectors/tokens.json")).unwrap()
    }

    pub(crate) fn token(&self, name: &str) -> String {
        self.cases.iter().find(|vector| vector.name == name).unwrap().token.clone()
    }
}

/// The settings of a developer's machine (secrets, and plain HTTP on loopback) that counts its requests and
/// logs as few successes as a deployment.
pub(crate) fn setting(name: &str) -> Option<String> {
    match name {
        "DEVELOPMENT" => Some("true".to_owned()),
        "LOG_SUCCESSES" => Some("10".to_owned()),
        "METRICS_TOKEN" => Some("a-token-for-the-scraper".to_owned()),
        name => {
            name.starts_with("ASSERTION_KEYS_").then(|| "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".to_owned())
        }
    }
}

pub(crate) struct World {
    now: UnixMillis,
    jwks: String,
    pub(crate) tasks: RefCell<Vec<BackgroundTask>>,
}

impl World {
    pub(crate) fn new(vectors: &Vectors) -> Self {
        Self { now: UnixMillis::from_secs(vectors.now), jwks: vectors.jwks.to_string(), tasks: RefCell::default() }
    }
}

impl Runtime for World {
    fn defer(&self, task: BackgroundTask) {
        self.tasks.borrow_mut().push(task);
    }

    fn now(&self) -> UnixMillis {
        self.now
    }

    async fn sleep(&self, _: u64) {}

    fn worker_version(&self) -> Option<String> {
        None
    }

    fn random(&self) -> [u8; 48] {
        [0x5a; 48]
    }
}

impl Backchannels for World {
    async fn ask(&self, _: &Question<'_>) -> Result<(u64, Vec<u8>), Fault> {
        Err(Fault::Unreachable)
    }
}

impl ClientTls for World {
    fn client_certificate(&self) -> Option<String> {
        None
    }
}

impl ProofLog for World {
    async fn note_proof(&self, _: &str, _: UnixMillis) -> Result<bool, Fault> {
        Ok(true)
    }
}

impl Geolocation for World {
    fn country(&self) -> Option<String> {
        None
    }
}

impl KeySource for World {
    async fn read_keys(&self, _: &str) -> Option<String> {
        None
    }

    async fn write_keys(&self, _: &str, _: &str) -> bool {
        true
    }

    async fn fetch_document(&self, _: &str) -> Result<Document, Fault> {
        Ok(Document { body: self.jwks.clone().into_bytes(), cache_control: None })
    }
}

impl RecordStore for World {
    async fn read_record(&self, _: &str) -> Result<Option<String>, Fault> {
        Ok(None)
    }

    async fn write_records(&self, _: &[Record]) -> Result<(), Fault> {
        Ok(())
    }
}

impl SignatureVerifier for World {
    async fn check_signature(
        &self,
        (key, _): (&Key, KeyOwner),
        algorithm: Algorithm,
        signing_input: &[u8],
        signature: &[u8],
    ) -> Result<SignatureOutcome, Fault> {
        Ok(token::check_signature(&key.public, algorithm, signing_input, signature))
    }
}

impl AssertionSigner for World {
    async fn sign_assertion(&self, _: &SigningKey, _: &[u8]) -> Result<Vec<u8>, Fault> {
        Err(Fault::Unreachable)
    }
}

impl RateLimitCounter for World {
    async fn limit(&self, _: &str, _: &str) -> bool {
        true
    }

    fn has_limit(&self, _: &str) -> bool {
        true
    }
}

impl SpanCollector for World {
    async fn send_spans(&self, _: &str, _: &str, _: &str, _: u64) {}
}

impl MetricsStore for World {
    async fn add_metrics(&self, _: &str) -> bool {
        true
    }

    async fn read_metrics(&self) -> Result<String, Fault> {
        Ok("{}".to_owned())
    }
}

impl OperatorsPage for World {
    async fn operate(&self, _: &str, _: &str) -> Result<PagePart, Fault> {
        Err(Fault::NotBound)
    }
}

impl RevocationLog for World {
    async fn read_log(&self, _: LogPart<'_>, _: bool) -> Result<LogText, Fault> {
        let page = LogPage { as_of: self.now, newest: 0, from: 0, overflows: false, entries: vec![] };
        Ok(LogText { text: page.to_json().unwrap(), cached: false })
    }

    async fn append_log(&self, _: &str) -> bool {
        true
    }
}

impl Ports for World {
    async fn read_body(&self, _: usize) -> Result<Vec<u8>, Fault> {
        Ok(vec![])
    }
}

impl RequestValidator for World {
    async fn validate(&self, _: &str, _: &Forward<'_>, _: u64) -> Result<String, Fault> {
        Ok(String::new())
    }
}

impl UpstreamClient for World {
    type Reply = ();

    async fn forward(&self, request: &Forward<'_>) -> Result<Forwarded<()>, Fault> {
        let facts = AnswerFacts::parse("1\n200\ncontent-type\ndate\ncontent-length")?;
        Ok(Forwarded { reply: (), url: request.url.clone(), facts })
    }

    async fn digest_body(&self, _: u64, _: u64) -> Result<[u8; 32], Fault> {
        Ok([0; 32])
    }

    fn has_service(&self, _: &str) -> bool {
        true
    }

    fn header(&self, (): &(), _: &str) -> Option<String> {
        None
    }

    fn discard(&self, (): ()) {}

    fn resolve(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}
