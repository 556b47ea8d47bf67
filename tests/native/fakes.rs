//! Fake ports: a clock that only `sleep` and `advance` move, a scripted issuer and scripted upstreams, a
//! store in memory. The pure-Rust backend checks signatures.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::LazyLock,
};

use futures_executor::block_on;
use portcullis::pipeline::{
    Answer, BackgroundTask, Gateway, Handled, Head, LogRecord, Misconfiguration, Outcome,
    ports::{
        AssertionSigner, Backchannels, ClientTls, Document, Forwarded, Geolocation, KeyOwner, KeySource, LogPart,
        LogText, MetricsStore, OperatorsPage, PagePart, Ports, ProofLog, Question, QuestionBody, RateLimitCounter,
        Record, RecordStore, RequestValidator, RevocationLog, Runtime, SignatureVerifier, SpanCollector,
        UpstreamClient,
    },
    wire::{AnswerFacts, Fault, Forward, HeaderChanges},
};
use portcullis_token::{
    self as token, Algorithm, SignatureOutcome, UnixMillis,
    keys::{Key, SigningKey},
    revocation::{LogPage, RevocationEntry, limits},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::signer::{Signer, jwks, sign_with};

/// `tests/vectors/tokens.json`.
#[derive(Deserialize)]
pub(crate) struct Vectors {
    /// Seconds; the time for which the tokens were made.
    pub(crate) now: u64,
    pub(crate) jwks: serde_json::Value,
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) expected: String,
}

impl Vectors {
    /// Returns the vectors, which all tests share.
    pub(crate) fn load() -> &'static Self {
        static VECTORS: LazyLock<Vectors> =
            LazyLock::new(|| serde_json::from_str(include_str!("../vectors/tokens.json")).unwrap());
        &VECTORS
    }

    pub(crate) fn token(&self, name: &str) -> &str {
        &self.cases.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no vector {name:?}")).token
    }
}

pub(crate) const SECRET: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// The settings of a developer's machine: secrets, plain HTTP on loopback, and each success in the log.
pub(crate) fn setting(name: &str) -> Option<String> {
    match name {
        "DEVELOPMENT" => Some("true".to_owned()),
        "LOG_SUCCESSES" => Some("100".to_owned()),
        name => name.starts_with("ASSERTION_KEYS_").then(|| SECRET.to_owned()),
    }
}

/// The policy of the repository.
pub(crate) const SHIPPED: &str = include_str!("../../gateway.toml");

/// A policy with one issuer and one route, which is open to its users.
pub(crate) const ME_POLICY: &str = r#"
[issuers.id]
issuer = "https://id.example"
audience = ["api"]
algorithms = ["EdDSA", "ES256"]
jwks_url = "https://id.example/jwks"

[upstreams.app]
url = "https://app.example"

[[routes]]
path = "/me"
methods = ["GET"]
upstream = "app"
access = "user"
"#;

/// Builds a gateway with a policy of TOML text and these settings.
pub(crate) fn configured(policy: &str, settings: impl Fn(&str) -> Option<String>) -> Result<Gateway, Misconfiguration> {
    let policy = portcullis_policy::check(policy).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    Gateway::new(&serde_json::to_string(&policy).unwrap(), settings)
}

/// Builds a gateway with a policy of TOML text and the settings of a developer's machine.
pub(crate) fn gateway_of(policy: &str) -> Gateway {
    configured(policy, setting).unwrap()
}

/// Returns the gateway of a policy, and its ports.
pub(crate) fn setup(policy: &str) -> (Gateway, FakePorts) {
    (gateway_of(policy), FakePorts::new())
}

/// Returns the vectors, the gateway of the shipped policy, and its ports.
pub(crate) fn shipped_setup() -> (&'static Vectors, Gateway, FakePorts) {
    let (gateway, ports) = setup(SHIPPED);
    (Vectors::load(), gateway, ports)
}

/// How the issuer answers.
#[derive(Clone)]
pub(crate) enum Issuer {
    Serves(String),
    /// With this `Cache-Control`.
    ServesFor(String, &'static str),
    /// One document for each URL.
    ServesAt(Vec<(&'static str, String)>),
    Fails(Fault),
    /// After so many milliseconds.
    Slow(String, u64),
}

/// The revocation log, and the cache of a location.
#[derive(Default)]
pub(crate) struct Log {
    /// With the time at which each was appended; numbers count from 1.
    pub(crate) entries: Vec<(UnixMillis, RevocationEntry)>,
    /// The result of every read and append, if set.
    pub(crate) fault: Option<Fault>,
    /// Whether the cache of a location never expires.
    pub(crate) cache_never_expires: bool,
    /// Whether it is larger than a copy may be.
    pub(crate) overflows: bool,
    /// Whether no read ever ends.
    pub(crate) never_answers: bool,
    cached: HashMap<bool, (UnixMillis, String)>,
    /// Reads that reached the log itself.
    pub(crate) reads: usize,
}

impl Log {
    pub(crate) fn append(&mut self, entry: RevocationEntry, now: UnixMillis) {
        self.entries.push((now, entry));
    }

    fn page(&self, part: LogPart<'_>, now: UnixMillis) -> LogPage {
        let newest = u64::try_from(self.entries.len()).unwrap();
        let covers = |at: UnixMillis| now.since(at) < limits::PAGE_COVERS_MS;
        let older = self.entries.iter().filter(|(at, _)| !covers(*at)).count();
        let wanted = |(at, entry): &&(UnixMillis, RevocationEntry)| match part {
            LogPart::Whole => true,
            LogPart::Newest => covers(*at),
            LogPart::Entries(keys) => keys.contains(&entry.key),
        };
        let from = if part == LogPart::Newest { u64::try_from(older).unwrap() + 1 } else { 0 };
        let entries: Vec<_> = self.entries.iter().filter(wanted).map(|(_, entry)| *entry).collect();
        let overflows = self.overflows && part == LogPart::Whole;
        LogPage { as_of: now, newest, from, overflows, entries: if overflows { vec![] } else { entries } }
    }

    fn read(&mut self, part: LogPart<'_>, may_be_cached: bool, now: UnixMillis) -> Result<LogText, Fault> {
        let (is_newest, keep_ms) = match part {
            LogPart::Newest => (true, limits::PAGE_KEEP_MS),
            LogPart::Whole => (false, limits::WHOLE_KEEP_MS),
            LogPart::Entries(_) => (false, 0),
        };
        let cached = self.cached.get(&is_newest).filter(|(at, _)| self.cache_never_expires || now.since(*at) < keep_ms);
        if let Some((_, text)) = cached.filter(|_| may_be_cached) {
            return Ok(LogText { text: text.clone(), cached: true });
        }
        self.reads += 1;
        if let Some(code) = self.fault {
            return Err(code);
        }
        let text = self.page(part, now).to_json().unwrap();
        if keep_ms > 0 {
            self.cached.insert(is_newest, (now, text.clone()));
        }
        Ok(LogText { text, cached: false })
    }
}

/// A request that an upstream received.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) max_body_bytes: Option<u64>,
    pub(crate) binding: Option<String>,
}

/// A question that a policy decision point received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) url: String,
    pub(crate) authorization: Option<String>,
    pub(crate) request_id: String,
    pub(crate) body: serde_json::Value,
}

pub(crate) struct FakePorts {
    pub(crate) now: Cell<UnixMillis>,
    pub(crate) issuer: RefCell<Issuer>,
    pub(crate) store: RefCell<HashMap<String, String>>,
    pub(crate) store_reads: Cell<usize>,
    pub(crate) store_writes: Cell<usize>,
    pub(crate) store_fails: Cell<bool>,
    /// Seconds for which records are kept, by name.
    pub(crate) kept_s: RefCell<HashMap<String, Option<u64>>>,
    /// What another isolate appends to the log during the next write of records.
    pub(crate) ended_meanwhile: RefCell<Option<RevocationEntry>>,
    /// Milliseconds of a read.
    pub(crate) store_takes_ms: Cell<u64>,
    pub(crate) fetches: Cell<usize>,
    pub(crate) forwarded: RefCell<Vec<Sent>>,
    pub(crate) upstream: Cell<Result<u16, Fault>>,
    /// Whether upstreams answer before the client has sent its whole body.
    pub(crate) upstream_answers_early: Cell<bool>,
    /// Whether requests that are sent to upstreams get no answer.
    pub(crate) upstream_never_answers: Cell<bool>,
    /// Whether no fetch and no sleep ever ends.
    pub(crate) issuer_never_answers: Cell<bool>,
    /// Hosts that cannot be reached.
    pub(crate) down: RefCell<Vec<&'static str>>,
    /// Headers of upstreams' answers.
    pub(crate) answer_headers: RefCell<Vec<(&'static str, &'static str)>>,
    random_state: Cell<u64>,
    pub(crate) backend_fails: Cell<bool>,
    pub(crate) signer_fails: Cell<bool>,
    /// Bindings that are not there.
    pub(crate) unbound: RefCell<Vec<String>>,
    /// Signature checks that were made.
    pub(crate) checks: Cell<usize>,
    /// Those with keys of clients.
    pub(crate) client_checks: Cell<usize>,
    pub(crate) log: RefCell<Log>,
    /// Requests by limit and key.
    pub(crate) counted: RefCell<HashMap<String, usize>>,
    /// Requests that each limit allows.
    pub(crate) limit: Cell<usize>,
    /// The counts of all isolates.
    pub(crate) metrics: RefCell<HashMap<String, f64>>,
    pub(crate) metrics_fail: Cell<bool>,
    /// Messages that a collector received, each with its URL, headers and number of dropped spans.
    pub(crate) spans: RefCell<Vec<(String, serde_json::Value)>>,
    /// Why the body cannot be read.
    pub(crate) body_fault: Cell<Option<Fault>>,
    /// The request's body.
    pub(crate) body: RefCell<Vec<u8>>,
    /// The answer of policy decision points, and the questions that they got.
    pub(crate) decision: RefCell<Result<(u64, String), Fault>>,
    pub(crate) questions: RefCell<Vec<Asked>>,
    pub(crate) decision_never_comes: Cell<bool>,
    /// The client's country, and how often it was asked for.
    pub(crate) country: RefCell<Option<String>>,
    /// The fingerprint of the client's certificate.
    pub(crate) certificate: RefCell<Option<String>>,
    /// The proofs that were used on strict routes.
    pub(crate) proofs: RefCell<HashMap<String, UnixMillis>>,
    pub(crate) countries_asked: Cell<usize>,
    /// Deferred tasks.
    pub(crate) tasks: RefCell<Vec<BackgroundTask>>,
    /// What the validator returns.
    pub(crate) validator: RefCell<Result<String, Fault>>,
    /// What the validator was asked: upstream, method, target, and bytes of the body.
    pub(crate) validated: RefCell<Vec<(String, String, String, u64)>>,
}

/// The result of a request.
pub(crate) struct Seen {
    pub(crate) outcome: Outcome<()>,
    pub(crate) is_logged: bool,
    /// Empty if the record is not logged.
    pub(crate) record: LogRecord,
}

impl From<Handled<()>> for Seen {
    fn from(Handled { outcome, record, .. }: Handled<()>) -> Self {
        Self { outcome, is_logged: record.is_some(), record: record.unwrap_or_default() }
    }
}

impl FakePorts {
    /// Returns ports at the time of the vectors, with an issuer that serves their keys.
    pub(crate) fn new() -> Self {
        let vectors = Vectors::load();
        Self {
            now: Cell::new(UnixMillis::from_secs(vectors.now)),
            issuer: RefCell::new(Issuer::Serves(vectors.jwks.to_string())),
            store: RefCell::default(),
            store_reads: Cell::new(0),
            store_writes: Cell::new(0),
            store_fails: Cell::new(false),
            kept_s: RefCell::default(),
            ended_meanwhile: RefCell::default(),
            store_takes_ms: Cell::new(0),
            fetches: Cell::new(0),
            forwarded: RefCell::default(),
            upstream: Cell::new(Ok(200)),
            upstream_answers_early: Cell::new(false),
            upstream_never_answers: Cell::new(false),
            issuer_never_answers: Cell::new(false),
            down: RefCell::default(),
            answer_headers: RefCell::default(),
            random_state: Cell::new(9),
            backend_fails: Cell::new(false),
            signer_fails: Cell::new(false),
            unbound: RefCell::default(),
            checks: Cell::new(0),
            client_checks: Cell::new(0),
            log: RefCell::default(),
            counted: RefCell::default(),
            limit: Cell::new(usize::MAX),
            metrics: RefCell::default(),
            metrics_fail: Cell::new(false),
            spans: RefCell::default(),
            body: RefCell::default(),
            body_fault: Cell::new(None),
            decision: RefCell::new(Ok((200, r#"{"decision":true}"#.to_owned()))),
            questions: RefCell::default(),
            decision_never_comes: Cell::new(false),
            country: RefCell::default(),
            certificate: RefCell::default(),
            proofs: RefCell::default(),
            countries_asked: Cell::new(0),
            tasks: RefCell::default(),
            validator: RefCell::new(Ok(String::new())),
            validated: RefCell::default(),
        }
    }

    /// Has the issuer serve the keys of these signers.
    pub(crate) fn publish(&self, signers: &[&Signer]) {
        *self.issuer.borrow_mut() = Issuer::Serves(jwks(signers));
    }

    pub(crate) fn advance(&self, millis: u64) {
        self.now.set(self.now.get().plus(millis));
    }

    /// Sends one request through the gateway and runs its background tasks.
    pub(crate) fn send(&self, gateway: &Gateway, method: &str, target: &str, headers: &[(&str, &str)]) -> Seen {
        self.send_to("https://edge.example", gateway, method, target, headers)
    }

    /// Sends one request to an origin of the gateway, and runs its background tasks.
    pub(crate) fn send_to(
        &self,
        origin: &str,
        gateway: &Gateway,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Seen {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let head = Head::new(method.to_owned(), &format!("{origin}{target}"), headers);
        let handled = block_on(gateway.handle(&head, self));
        self.run_tasks(gateway);
        handled.into()
    }

    /// Runs the deferred tasks.
    pub(crate) fn run_tasks(&self, gateway: &Gateway) {
        for task in self.tasks.take() {
            block_on(gateway.run(task, self));
        }
    }

    /// Requests one of the gateway's own endpoints as an operator on a developer's machine.
    pub(crate) fn send_as_operator(&self, gateway: &Gateway, path: &str) -> Seen {
        self.send(gateway, "GET", path, &[("cf-connecting-ip", "127.0.0.1")])
    }

    /// Sends one request with a bearer token.
    pub(crate) fn send_token(&self, gateway: &Gateway, method: &str, target: &str, token: &str) -> Seen {
        self.send(gateway, method, target, &[("authorization", &format!("Bearer {token}"))])
    }
}

impl Runtime for FakePorts {
    fn worker_version(&self) -> Option<String> {
        Some("the-version".to_owned())
    }

    fn defer(&self, task: BackgroundTask) {
        self.tasks.borrow_mut().push(task);
    }

    fn now(&self) -> UnixMillis {
        self.now.get()
    }

    async fn sleep(&self, millis: u64) {
        if self.issuer_never_answers.get() {
            return std::future::pending().await;
        }
        self.advance(millis);
    }

    fn random(&self) -> [u8; 48] {
        // Knuth's linear congruential generator: the same numbers in every run.
        let mut state = self.random_state.get();
        let bytes = std::array::from_fn(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u8::try_from(state >> 56).unwrap()
        });
        self.random_state.set(state);
        bytes
    }
}

impl Backchannels for FakePorts {
    async fn ask(&self, question: &Question<'_>) -> Result<(u64, Vec<u8>), Fault> {
        self.questions.borrow_mut().push(Asked {
            url: question.url.to_owned(),
            authorization: question.authorization.map(str::to_owned),
            request_id: question.request_id.to_owned(),
            body: match question.body {
                QuestionBody::Json(text) => serde_json::from_str(text).unwrap(),
                QuestionBody::Token(text) => text.into(),
            },
        });
        if self.decision_never_comes.get() {
            return std::future::pending().await;
        }
        let (status, body) = self.decision.borrow().clone()?;
        if body.len() > portcullis::pipeline::limits::BACKCHANNEL_BYTES {
            return Err(Fault::TooLarge);
        }
        Ok((status, body.into_bytes()))
    }
}

impl ClientTls for FakePorts {
    fn client_certificate(&self) -> Option<String> {
        self.certificate.borrow().clone()
    }
}

impl ProofLog for FakePorts {
    async fn note_proof(&self, proof: &str, keep_until: UnixMillis) -> Result<bool, Fault> {
        if let Some(fault) = self.log.borrow().fault {
            return Err(fault);
        }
        Ok(self.proofs.borrow_mut().insert(proof.to_owned(), keep_until).is_none_or(|until| until <= self.now.get()))
    }
}

impl Geolocation for FakePorts {
    fn country(&self) -> Option<String> {
        self.countries_asked.set(self.countries_asked.get() + 1);
        self.country.borrow().clone()
    }
}

impl KeySource for FakePorts {
    async fn read_keys(&self, name: &str) -> Option<String> {
        self.store_reads.set(self.store_reads.get() + 1);
        self.advance(self.store_takes_ms.get());
        self.store.borrow().get(name).cloned()
    }

    async fn write_keys(&self, name: &str, text: &str) -> bool {
        self.store_writes.set(self.store_writes.get() + 1);
        if self.store_fails.get() {
            return false;
        }
        self.store.borrow_mut().insert(name.to_owned(), text.to_owned());
        true
    }

    async fn fetch_document(&self, url: &str) -> Result<Document, Fault> {
        self.fetches.set(self.fetches.get() + 1);
        if self.issuer_never_answers.get() {
            return std::future::pending().await;
        }
        let (body, cache_control) = match &*self.issuer.borrow() {
            Issuer::Serves(body) => (body.clone(), None),
            Issuer::ServesFor(body, cache_control) => (body.clone(), Some((*cache_control).to_owned())),
            Issuer::ServesAt(places) => match places.iter().find(|(place, _)| *place == url) {
                Some((_, body)) => (body.clone(), None),
                None => return Err(Fault::BadStatus),
            },
            Issuer::Fails(fault) => return Err(*fault),
            Issuer::Slow(body, millis) => {
                self.advance(*millis);
                (body.clone(), None)
            }
        };
        Ok(Document { body: body.into_bytes(), cache_control })
    }
}

impl RecordStore for FakePorts {
    async fn read_record(&self, name: &str) -> Result<Option<String>, Fault> {
        self.store_reads.set(self.store_reads.get() + 1);
        if self.store_fails.get() { Err(Fault::TimedOut) } else { Ok(self.store.borrow().get(name).cloned()) }
    }

    async fn write_records(&self, records: &[Record]) -> Result<(), Fault> {
        self.store_writes.set(self.store_writes.get() + 1);
        if self.store_fails.get() {
            return Err(Fault::TimedOut);
        }
        for Record { name, text, keep_s } in records {
            assert!(keep_s.is_none_or(|secs| secs >= 60), "KV refuses {keep_s:?}");
            self.store.borrow_mut().insert(name.clone(), text.clone());
            self.kept_s.borrow_mut().insert(name.clone(), *keep_s);
        }
        if let Some(entry) = self.ended_meanwhile.borrow_mut().take() {
            self.log.borrow_mut().append(entry, self.now.get());
        }
        Ok(())
    }
}

impl SignatureVerifier for FakePorts {
    async fn check_signature(
        &self,
        (key, owner): (&Key, KeyOwner),
        algorithm: Algorithm,
        signing_input: &[u8],
        signature: &[u8],
    ) -> Result<SignatureOutcome, Fault> {
        self.checks.set(self.checks.get() + 1);
        self.client_checks.set(self.client_checks.get() + usize::from(owner == KeyOwner::Client));
        if self.backend_fails.get() {
            return Err(Fault::Unreachable);
        }
        Ok(token::check_signature(&key.public, algorithm, signing_input, signature))
    }
}

impl AssertionSigner for FakePorts {
    async fn sign_assertion(&self, key: &SigningKey, signing_input: &[u8]) -> Result<Vec<u8>, Fault> {
        if self.signer_fails.get() {
            return Err(Fault::Unreachable);
        }
        let jwk: serde_json::Value = serde_json::from_str(key.private_jwk().unwrap()).unwrap();
        Ok(sign_with(&jwk, signing_input))
    }
}

impl RateLimitCounter for FakePorts {
    async fn limit(&self, binding: &str, key: &str) -> bool {
        let mut counted = self.counted.borrow_mut();
        let count: &mut usize = counted.entry(format!("{binding} {key}")).or_default();
        *count += 1;
        *count <= self.limit.get()
    }

    fn has_limit(&self, _: &str) -> bool {
        self.limit.get() > 0
    }
}

impl SpanCollector for FakePorts {
    async fn send_spans(&self, url: &str, headers: &str, body: &str, dropped: u64) {
        self.spans.borrow_mut().push((format!("{url} {headers} {dropped}"), serde_json::from_str(body).unwrap()));
    }
}

impl MetricsStore for FakePorts {
    async fn add_metrics(&self, text: &str) -> bool {
        let arrives = !self.metrics_fail.get();
        if arrives {
            let added: HashMap<String, f64> = serde_json::from_str(text).unwrap();
            for (series, value) in added {
                *self.metrics.borrow_mut().entry(series).or_default() += value;
            }
        }
        arrives
    }

    async fn read_metrics(&self) -> Result<String, Fault> {
        if self.metrics_fail.get() {
            return Err(Fault::Unreachable);
        }
        Ok(serde_json::to_string(&*self.metrics.borrow()).unwrap())
    }
}

impl OperatorsPage for FakePorts {
    async fn operate(&self, path: &str, _: &str) -> Result<PagePart, Fault> {
        let content_policy = Some("default-src 'none'".to_owned());
        Ok(PagePart { status: 200, content_type: "text/html".to_owned(), body: path.to_owned(), content_policy })
    }
}

impl RevocationLog for FakePorts {
    async fn read_log(&self, part: LogPart<'_>, may_be_cached: bool) -> Result<LogText, Fault> {
        if self.log.borrow().never_answers {
            return std::future::pending().await;
        }
        self.log.borrow_mut().read(part, may_be_cached, self.now.get())
    }

    async fn append_log(&self, page: &str) -> bool {
        let mut log = self.log.borrow_mut();
        if log.fault.is_none() {
            for entry in LogPage::from_json(page).unwrap().entries {
                log.append(entry, self.now.get());
            }
        }
        log.fault.is_none()
    }
}

impl Ports for FakePorts {
    async fn read_body(&self, max: usize) -> Result<Vec<u8>, Fault> {
        let body = self.body.borrow();
        if body.len() > max { Err(Fault::TooLarge) } else { Ok(body.clone()) }
    }
}

impl RequestValidator for FakePorts {
    async fn validate(&self, upstream: &str, request: &Forward<'_>, max_bytes: u64) -> Result<String, Fault> {
        let (method, target) = (request.method.to_owned(), request.url.clone());
        self.validated.borrow_mut().push((upstream.to_owned(), method, target, max_bytes));
        self.validator.borrow().clone()
    }
}

impl UpstreamClient for FakePorts {
    type Reply = ();

    async fn forward(&self, forward: &Forward<'_>) -> Result<Forwarded<()>, Fault> {
        self.forwarded.borrow_mut().push(Sent {
            url: forward.url.clone(),
            max_body_bytes: forward.body.as_ref().map(|body| body.max_bytes),
            binding: forward.binding.map(str::to_owned),
            headers: forward.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        });
        if forward.binding.is_some_and(|binding| !self.has_service(binding)) {
            return Err(Fault::NotBound);
        }
        if self.down.borrow().iter().any(|host| forward.url.contains(host)) {
            return Err(Fault::Unreachable);
        }
        if self.upstream_never_answers.get() {
            return std::future::pending().await;
        }
        let status = self.upstream.get()?;
        let names: Vec<_> = self.answer_headers.borrow().iter().map(|(name, _)| *name).collect();
        let body_ended = if self.upstream_answers_early.get() { "" } else { "1" };
        let facts = AnswerFacts::parse(&format!("{body_ended}\n{status}\n{}", names.join("\n")))?;
        Ok(Forwarded { reply: (), url: forward.url.clone(), facts })
    }

    async fn digest_body(&self, max_bytes: u64, _: u64) -> Result<[u8; 32], Fault> {
        let body = self.body.borrow();
        if u64::try_from(body.len()).unwrap() > max_bytes {
            return Err(Fault::TooLarge);
        }
        self.body_fault.get().map_or_else(|| Ok(Sha256::digest(&*body).into()), Err)
    }

    fn has_service(&self, binding: &str) -> bool {
        !self.unbound.borrow().contains(&binding.to_owned())
    }

    fn header(&self, (): &(), name: &str) -> Option<String> {
        let headers = self.answer_headers.borrow();
        headers.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    fn discard(&self, (): ()) {}

    fn resolve(&self, reference: &str, base: &str) -> Option<String> {
        url::Url::parse(base).unwrap().join(reference).ok().map(String::from)
    }
}

/// Returns status and code of the answer; `ok` for that of an upstream.
pub(crate) fn verdict(handled: &Seen) -> (u16, &'static str) {
    (handled.record.status, handled.record.code.unwrap_or("ok"))
}

/// The gateway's own answer.
pub(crate) fn answer(handled: &Seen) -> &Answer {
    match &handled.outcome {
        Outcome::Answered(answer) => answer,
        Outcome::Forwarded { .. } => panic!("forwarded"),
    }
}

pub(crate) fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

/// Parses changes as `passOn` of proxy.js does: names to remove, and headers to append.
pub(crate) fn parse_changes(changes: &HeaderChanges) -> (Vec<&str>, Vec<(&str, &str)>) {
    let mut lines = changes.as_wire().split('\n');
    let removed = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    (removed, std::iter::from_fn(|| Some((lines.next()?, lines.next()?))).collect())
}
