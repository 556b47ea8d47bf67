//! A scripted world behind the gate's ports: a clock that only sleeping moves,
//! an issuer and upstreams that answer as told, a store in memory. Signatures
//! are checked for real, by the pure-Rust backend.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use futures_executor::block_on;
use portcullis::pipeline::{
    Answer, BackgroundTask, Gateway, Handled, Head, Outcome,
    ports::{
        BackendFault, Background, Clock, Document, Forwarded, KeyFetcher, KeyStore, LogPart, LogText, MetricsStore,
        Ports, Random, RateLimitCounter, RequestBody, RevocationLog, SignatureVerifier, SpanCollector, UpstreamClient,
        UrlParser,
    },
    wire::{AnswerFacts, Fault, Forward},
};
use portcullis_token::{
    self as token, Algorithm, SignatureOutcome, UnixMillis,
    keys::Key,
    revocation::{LogPage, RevocationEntry, limits},
};
use serde::Deserialize;

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
    pub(crate) fn load() -> Self {
        serde_json::from_str(include_str!("../vectors/tokens.json")).unwrap()
    }

    pub(crate) fn token(&self, name: &str) -> &str {
        &self.cases.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no vector {name:?}")).token
    }
}

pub(crate) const SECRET: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// The settings of a developer's machine: secrets, and plain HTTP on loopback.
pub(crate) fn setting(name: &str) -> Option<String> {
    match name {
        "DEVELOPMENT" => Some("true".to_owned()),
        name => name.starts_with("ASSERTION_KEYS_").then(|| SECRET.to_owned()),
    }
}

/// The gateway's shipped policy with its secrets set.
pub(crate) fn shipped_gate() -> Gateway {
    let policy = portcullis_policy::check(include_str!("../../gateway.toml")).unwrap();
    Gateway::new(&serde_json::to_string(&policy).unwrap(), setting).unwrap()
}

/// How the scripted issuer answers.
#[derive(Clone)]
pub(crate) enum Issuer {
    Serves(String),
    /// With this `Cache-Control`.
    ServesFor(String, &'static str),
    /// One document a URL.
    ServesAt(Vec<(&'static str, String)>),
    Fails(Fault),
    /// After so many milliseconds.
    Slow(String, u64),
}

/// The revocation log, and what a location keeps of it.
#[derive(Default)]
pub(crate) struct Log {
    /// With the time at which each was noted; numbers count from 1.
    pub(crate) entries: Vec<(UnixMillis, RevocationEntry)>,
    /// What every question gets instead of an answer.
    pub(crate) fault: Option<Fault>,
    /// Whether a kept page never grows old.
    pub(crate) keeps_for_ever: bool,
    /// Whether it is larger than a copy may be.
    pub(crate) overflows: bool,
    kept: HashMap<bool, (UnixMillis, String)>,
    /// Questions that reached the log itself.
    pub(crate) asked: usize,
}

impl Log {
    pub(crate) fn note(&mut self, entry: RevocationEntry, now: UnixMillis) {
        self.entries.push((now, entry));
    }

    fn page(&self, part: LogPart<'_>, now: UnixMillis) -> LogPage {
        let newest = u64::try_from(self.entries.len()).unwrap();
        let covers = |at: UnixMillis| now.since(at) < limits::PAGE_COVERS_MS;
        let older = self.entries.iter().filter(|(at, _)| !covers(*at)).count();
        let wanted = |(at, entry): &&(UnixMillis, RevocationEntry)| match part {
            LogPart::Whole => true,
            LogPart::Newest => covers(*at),
            LogPart::Entries(marks) => marks.contains(&entry.key),
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
        let kept = self.kept.get(&is_newest).filter(|(at, _)| self.keeps_for_ever || now.since(*at) < keep_ms);
        if let Some((_, text)) = kept.filter(|_| may_be_cached) {
            return Ok(LogText { text: text.clone(), cached: true });
        }
        self.asked += 1;
        if let Some(code) = self.fault {
            return Err(code);
        }
        let text = self.page(part, now).to_json().unwrap();
        if keep_ms > 0 {
            self.kept.insert(is_newest, (now, text.clone()));
        }
        Ok(LogText { text, cached: false })
    }
}

/// What an upstream was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) max_body_bytes: Option<u64>,
}

pub(crate) struct World {
    pub(crate) now: Cell<UnixMillis>,
    pub(crate) issuer: RefCell<Issuer>,
    pub(crate) store: RefCell<HashMap<String, String>>,
    pub(crate) store_writes: Cell<usize>,
    pub(crate) store_fails: Cell<bool>,
    pub(crate) fetches: Cell<usize>,
    pub(crate) forwarded: RefCell<Vec<Sent>>,
    pub(crate) upstream: Cell<Result<u16, Fault>>,
    /// Whether requests that are sent to upstreams get no answer.
    pub(crate) is_silent: Cell<bool>,
    /// Whether the issuer never answers and no time passes.
    pub(crate) is_stuck: Cell<bool>,
    /// Hosts that cannot be reached.
    pub(crate) down: RefCell<Vec<&'static str>>,
    /// Headers of upstreams' answers.
    pub(crate) answer_headers: RefCell<Vec<(&'static str, &'static str)>>,
    chance: Cell<u64>,
    pub(crate) backend_fails: Cell<bool>,
    /// Signature checks that were made.
    pub(crate) checks: Cell<usize>,
    pub(crate) log: RefCell<Log>,
    /// Requests by limit and key.
    pub(crate) counted: RefCell<HashMap<String, usize>>,
    /// How many each limit allows for.
    pub(crate) limit: Cell<usize>,
    /// What all isolates have counted.
    pub(crate) sums: RefCell<HashMap<String, f64>>,
    pub(crate) sums_fail: Cell<bool>,
    /// What collectors got: where to, with which headers, how many were dropped; and what.
    pub(crate) spans: RefCell<Vec<(String, serde_json::Value)>>,
    /// The request's body.
    pub(crate) body: RefCell<Vec<u8>>,
    /// Deferred tasks.
    pub(crate) tasks: RefCell<Vec<BackgroundTask>>,
}

impl World {
    pub(crate) fn new(vectors: &Vectors) -> Self {
        Self {
            now: Cell::new(UnixMillis::from_secs(vectors.now)),
            issuer: RefCell::new(Issuer::Serves(vectors.jwks.to_string())),
            store: RefCell::default(),
            store_writes: Cell::new(0),
            store_fails: Cell::new(false),
            fetches: Cell::new(0),
            forwarded: RefCell::default(),
            upstream: Cell::new(Ok(200)),
            is_silent: Cell::new(false),
            is_stuck: Cell::new(false),
            down: RefCell::default(),
            answer_headers: RefCell::default(),
            chance: Cell::new(9),
            backend_fails: Cell::new(false),
            checks: Cell::new(0),
            log: RefCell::default(),
            counted: RefCell::default(),
            limit: Cell::new(usize::MAX),
            sums: RefCell::default(),
            sums_fail: Cell::new(false),
            spans: RefCell::default(),
            body: RefCell::default(),
            tasks: RefCell::default(),
        }
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.now.set(self.now.get().plus(millis));
    }

    /// Sends one request through the gate and carries out its background tasks.
    pub(crate) fn send(&self, gate: &Gateway, method: &str, target: &str, headers: &[(&str, &str)]) -> Handled<()> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let head = Head::new(method.to_owned(), &format!("https://edge.example{target}"), headers);
        let handled = block_on(gate.handle(&head, self));
        self.run_tasks(gate);
        handled
    }

    /// Carries out the tasks that were deferred until after an answer.
    pub(crate) fn run_tasks(&self, gate: &Gateway) {
        for task in self.tasks.take() {
            block_on(gate.run(task, self));
        }
    }

    /// An own endpoint's answer to an operator, who is at the developer's machine itself.
    pub(crate) fn ask_as_operator(&self, gate: &Gateway, path: &str) -> Handled<()> {
        self.send(gate, "GET", path, &[("cf-connecting-ip", "127.0.0.1")])
    }

    /// As `send`, with a bearer token.
    pub(crate) fn send_token(&self, gate: &Gateway, method: &str, target: &str, token: &str) -> Handled<()> {
        self.send(gate, method, target, &[("authorization", &format!("Bearer {token}"))])
    }
}

impl Background for World {
    fn defer(&self, task: BackgroundTask) {
        self.tasks.borrow_mut().push(task);
    }
}

impl Clock for World {
    fn now(&self) -> UnixMillis {
        self.now.get()
    }

    async fn sleep(&self, millis: u64) {
        if self.is_stuck.get() {
            return std::future::pending().await;
        }
        self.pass(millis);
    }
}

impl Random for World {
    fn random(&self) -> [u8; 48] {
        // Knuth's generator: no two alike, and the same in every run.
        let mut state = self.chance.get();
        let bytes = std::array::from_fn(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u8::try_from(state >> 56).unwrap()
        });
        self.chance.set(state);
        bytes
    }
}

impl KeyStore for World {
    async fn read_keys(&self, name: &str) -> Option<String> {
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
}

impl KeyFetcher for World {
    async fn fetch_document(&self, url: &str) -> Result<Document, Fault> {
        self.fetches.set(self.fetches.get() + 1);
        if self.is_stuck.get() {
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
                self.pass(*millis);
                (body.clone(), None)
            }
        };
        Ok(Document { body: body.into_bytes(), cache_control })
    }
}

impl SignatureVerifier for World {
    async fn check_signature(
        &self,
        key: &Key,
        algorithm: Algorithm,
        signing_input: &[u8],
        signature: &[u8],
    ) -> Result<SignatureOutcome, BackendFault> {
        self.checks.set(self.checks.get() + 1);
        if self.backend_fails.get() {
            return Err(BackendFault);
        }
        Ok(token::check_signature(key.public(), algorithm, signing_input, signature))
    }
}

impl RateLimitCounter for World {
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

impl SpanCollector for World {
    async fn send_spans(&self, url: &str, headers: &str, body: &str, dropped: u64) {
        self.spans.borrow_mut().push((format!("{url} {headers} {dropped}"), serde_json::from_str(body).unwrap()));
    }
}

impl MetricsStore for World {
    async fn add_metrics(&self, text: &str) -> bool {
        let arrives = !self.sums_fail.get();
        if arrives {
            let added: HashMap<String, f64> = serde_json::from_str(text).unwrap();
            for (series, value) in added {
                *self.sums.borrow_mut().entry(series).or_default() += value;
            }
        }
        arrives
    }

    async fn read_metrics(&self) -> Result<String, Fault> {
        if self.sums_fail.get() {
            return Err(Fault::Unreachable);
        }
        Ok(serde_json::to_string(&*self.sums.borrow()).unwrap())
    }
}

impl RevocationLog for World {
    async fn read_log(&self, part: LogPart<'_>, may_be_cached: bool) -> Result<LogText, Fault> {
        self.log.borrow_mut().read(part, may_be_cached, self.now.get())
    }

    async fn append_log(&self, page: &str) -> bool {
        let mut log = self.log.borrow_mut();
        if log.fault.is_none() {
            for entry in LogPage::from_json(page).unwrap().entries {
                log.note(entry, self.now.get());
            }
        }
        log.fault.is_none()
    }
}

impl RequestBody for World {
    async fn read_body(&self, max: usize) -> Result<Vec<u8>, Fault> {
        let body = self.body.borrow();
        if body.len() > max { Err(Fault::TooLarge) } else { Ok(body.clone()) }
    }
}

impl UpstreamClient for World {
    type Reply = ();

    async fn forward(&self, forward: &Forward<'_>) -> Result<Forwarded<()>, Fault> {
        self.forwarded.borrow_mut().push(Sent {
            url: forward.url.clone(),
            max_body_bytes: forward.body.as_ref().map(|body| body.max_bytes),
            headers: forward.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        });
        if self.down.borrow().iter().any(|host| forward.url.contains(host)) {
            return Err(Fault::Unreachable);
        }
        if self.is_silent.get() {
            return std::future::pending().await;
        }
        let status = self.upstream.get()?;
        let names: Vec<_> = self.answer_headers.borrow().iter().map(|(name, _)| *name).collect();
        let facts = AnswerFacts::parse(&format!("1\n{status}\n{}", names.join("\n")))?;
        Ok(Forwarded { reply: (), url: forward.url.clone(), facts })
    }

    fn header(&self, (): &(), name: &str) -> Option<String> {
        let headers = self.answer_headers.borrow();
        headers.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    fn discard(&self, (): ()) {}
}

impl Ports for World {}

impl UrlParser for World {
    fn resolve(&self, reference: &str, base: &str) -> Option<String> {
        url::Url::parse(base).unwrap().join(reference).ok().map(String::from)
    }
}

/// Status and code of what the client got; `ok` for an upstream's answer.
pub(crate) fn verdict(handled: &Handled<()>) -> (u16, &'static str) {
    (handled.record.status, handled.record.code.unwrap_or("ok"))
}

/// The gateway's own answer.
pub(crate) fn answer(handled: &Handled<()>) -> &Answer {
    match &handled.outcome {
        Outcome::Answered(answer) => answer,
        Outcome::Forwarded { .. } => panic!("forwarded"),
    }
}

pub(crate) fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}
