//! The ports of the pipeline over the runtime, for one event.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
};

use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};

use super::{
    console::log_error,
    durable_object, js, metrics_object,
    poll_promise::{PromisePoller, Wait},
    revocation_object,
};
use crate::pipeline::{
    BackgroundTask, limits,
    ports::{
        BackendFault, Background, Clock, Document, Forwarded, KeyFetcher, KeyStore, LogPart, LogText, MetricsStore,
        Random, RateLimitCounter, RequestBody, RevocationLog, SignatureVerifier, SpanCollector, UpstreamClient,
        UrlParser,
    },
    wire::{self, AnswerFacts, Fault, Forward},
};
use portcullis_token::{
    self as token, Algorithm, SignatureOutcome, UnixMillis,
    keys::{self, Key},
    revocation,
};

/// KV namespace that holds key sets and the pushed policy.
const KEYS_BINDING: &str = "KEYS";

/// Durable Object namespace of the revocation log.
const LOG_BINDING: &str = "REVOCATIONS";

/// Name of the log's object.
const LOG_NAME: &str = "log";

/// Durable Object namespace of the metrics' sums, and the object's name.
const SUMS_BINDING: &str = "METRICS";
const SUMS_NAME: &str = "sums";

/// Milliseconds for the sums, for which only the operator's scraper waits.
const SUMS_MS: u64 = 5_000;

/// Most bytes of the sums.
const SUMS_BYTES: u32 = 16 * 1024 * 1024;

/// Variable that selects signature checks in pure Rust with the value `rust`.
const BACKEND_VARIABLE: &str = "SIGNATURE_BACKEND";

/// Seconds for which a location may cache a KV answer: KV's minimum.
pub(super) const KV_CACHE_S: u32 = 60;

/// Seconds after which KV deletes a set that is not written again: twice its longest use.
const KV_KEEP_S: u64 = 2 * keys::limits::HARD_MS / 1000;

/// Random bytes of one call into the runtime: enough for 64 requests.
const RANDOM_BYTES: usize = 48 * 64;

/// Milliseconds for KV, which normally answers within a second.
pub(super) const KV_MS: u64 = 5_000;

/// Milliseconds for signatures and counters of the runtime.
const OWN_MS: u64 = 10_000;

thread_local! {
    static POOL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Whether signatures are checked in pure Rust. The variable does not change within an isolate.
    static PREFERS_RUST: OnceCell<bool> = const { OnceCell::new() };
}

pub(super) struct WorkerPorts {
    event: Rc<Event>,
    /// The poller of the one future that has these ports.
    poller: Rc<PromisePoller>,
}

/// The state that a request and its background tasks share.
struct Event {
    env: js::Env,
    /// The request and its event's context.
    asked: Option<(web_sys::Request, js::Context)>,
    tasks: RefCell<Vec<BackgroundTask>>,
}

impl WorkerPorts {
    pub(super) fn new(
        env: js::Env,
        request: web_sys::Request,
        context: js::Context,
        poller: Rc<PromisePoller>,
    ) -> Self {
        Self::of(env, Some((request, context)), poller)
    }

    pub(super) fn without_request(env: js::Env) -> Self {
        Self::of(env, None, PromisePoller::of_executor())
    }

    fn of(env: js::Env, asked: Option<(web_sys::Request, js::Context)>, poller: Rc<PromisePoller>) -> Self {
        Self { event: Rc::new(Event { env, asked, tasks: RefCell::default() }), poller }
    }

    /// Returns the ports for a background task, which waits for promises of its own.
    pub(super) fn behind_answer(&self, poller: Rc<PromisePoller>) -> Self {
        Self { event: Rc::clone(&self.event), poller }
    }

    /// Returns the event's request.
    pub(super) fn request(&self) -> Option<&web_sys::Request> {
        self.event.asked.as_ref().map(|(request, _)| request)
    }

    /// Returns the tasks that were deferred until after the answer.
    pub(super) fn take_tasks(&self) -> Vec<BackgroundTask> {
        self.event.tasks.take()
    }

    /// Waits for a promise that settles within `may_take_ms` milliseconds.
    fn wait(&self, promise: Promise, may_take_ms: u64) -> Wait {
        self.poller.wait(promise, may_take_ms)
    }

    /// Returns a Durable Object namespace. The first call checks the binding's kind.
    fn namespace(&self, binding: &str) -> Option<JsValue> {
        let found = self.event.env.binding(binding);
        if found.is_none() {
            log_error(&format!("the Durable Object namespace {binding} is not bound; see wrangler.toml"));
        }
        found
    }

    async fn tell(&self, binding: &str, name: &str, path: &str, body: &str, timeout_ms: u64) -> bool {
        let Some(namespace) = self.namespace(binding) else { return false };
        let told = js::tell_object(&namespace, name, path, body, millis(timeout_ms));
        self.wait(told, timeout_ms).await.is_ok_and(|value| value == JsValue::TRUE)
    }
}

/// Returns the KV namespace of key sets and the pushed policy.
pub(super) fn store(env: &js::Env) -> Option<JsValue> {
    let found = env.binding(KEYS_BINDING);
    if found.is_none() {
        log_error("the KV namespace KEYS is not bound; see wrangler.toml");
    }
    found
}

/// Returns whether signatures are checked in pure Rust.
pub(super) fn prefers_rust(env: &js::Env) -> bool {
    PREFERS_RUST.with(|known| *known.get_or_init(|| env.text(BACKEND_VARIABLE).is_some_and(|value| value == "rust")))
}

pub(super) fn millis(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Background for WorkerPorts {
    fn defer(&self, task: BackgroundTask) {
        self.event.tasks.borrow_mut().push(task);
    }
}

impl Clock for WorkerPorts {
    fn now(&self) -> UnixMillis {
        durable_object::whole_millis(self.poller.now())
    }

    async fn sleep(&self, millis: u64) {
        let _ = self.wait(js::sleep(self::millis(millis)), millis).await;
    }
}

impl Random for WorkerPorts {
    fn random(&self) -> [u8; 48] {
        POOL.with_borrow_mut(|pool| {
            if pool.is_empty() {
                let mut bytes = vec![0; RANDOM_BYTES];
                // Ids of a request serve tracing, not security: a predictable id is better than a
                // failed request.
                if getrandom::getrandom(&mut bytes).is_err() {
                    log_error("the runtime gave no random bytes");
                }
                *pool = bytes;
            }
            let rest = pool.len().saturating_sub(48);
            pool.split_off(rest).try_into().unwrap_or([0; 48])
        })
    }
}

impl KeyStore for WorkerPorts {
    async fn read_keys(&self, name: &str) -> Option<String> {
        let store = store(&self.event.env)?;
        match self.wait(js::read_store(&store, name, KV_CACHE_S, millis(KV_MS)), KV_MS).await {
            Ok(text) => text.as_string(),
            Err(_) => {
                log_error("key sets cannot be read from KV");
                None
            }
        }
    }

    async fn write_keys(&self, name: &str, text: &str) -> bool {
        let Some(store) = store(&self.event.env) else { return false };
        let written = js::write_store(&store, name, text, millis(KV_KEEP_S), millis(KV_MS));
        let written = self.wait(written, KV_MS).await.is_ok();
        if !written {
            log_error("a key set cannot be written to KV");
        }
        written
    }
}

impl KeyFetcher for WorkerPorts {
    async fn fetch_document(&self, url: &str) -> Result<Document, Fault> {
        let max = u32::try_from(keys::limits::JWKS_BYTES).unwrap_or(u32::MAX);
        let fetched = js::fetch_document(url, millis(keys::limits::FETCH_MS), max);
        let answer = self.wait(fetched, keys::limits::FETCH_MS).await;
        let value = answer.map_err(|_| Fault::Unreachable)?;
        let parts = value.dyn_into::<Array>().map_err(fault)?;
        let bytes = parts.get(0).dyn_into::<Uint8Array>().map_err(|_| Fault::Unreachable)?;
        Ok(Document { body: bytes.to_vec(), cache_control: parts.get(1).as_string() })
    }
}

impl SignatureVerifier for WorkerPorts {
    async fn check_signature(
        &self,
        key: &Key,
        algorithm: Algorithm,
        signing_input: &[u8],
        signature: &[u8],
    ) -> Result<SignatureOutcome, BackendFault> {
        if cfg!(feature = "rust-signatures") && prefers_rust(&self.event.env) {
            return Ok(token::check_signature(key.public(), algorithm, signing_input, signature));
        }
        // Copied out of wasm memory, because a view is invalid after the wait.
        let (signature, input) = (Uint8Array::from(signature), Uint8Array::from(signing_input));
        let verified = js::verify(algorithm.name(), key.thumbprint(), key.canonical_jwk(), &signature, &input);
        match self.wait(verified, OWN_MS).await {
            Ok(value) if value == JsValue::TRUE => Ok(SignatureOutcome::Valid),
            Ok(_) => Ok(SignatureOutcome::Invalid),
            Err(_) => {
                log_error("WebCrypto failed to check a signature");
                Err(BackendFault)
            }
        }
    }
}

impl RateLimitCounter for WorkerPorts {
    async fn limit(&self, binding: &str, key: &str) -> bool {
        let Some(limiter) = self.event.env.binding(binding) else {
            log_error(&format!("the rate limit {binding} is not bound; see wrangler.toml"));
            return true;
        };
        match self.wait(js::limit(&limiter, key), OWN_MS).await {
            Ok(value) => value != JsValue::FALSE,
            Err(_) => {
                log_error(&format!("the rate limit {binding} failed"));
                true
            }
        }
    }

    fn has_limit(&self, binding: &str) -> bool {
        self.event.env.binding(binding).is_some()
    }
}

impl SpanCollector for WorkerPorts {
    async fn send_spans(&self, url: &str, headers: &str, body: &str, dropped: u64) {
        let sent = js::send_spans(url, headers, body, millis(limits::SPANS_SEND_MS));
        let sent = self.wait(sent, limits::SPANS_SEND_MS).await;
        match sent.ok().and_then(|name| name.as_string()).as_deref() {
            Some("") if dropped == 0 => {}
            Some("") => log_error(&format!("{dropped} spans were dropped, because too many waited for the collector")),
            name if Fault::from_name(name) == Fault::BadSetting => {
                log_error("OTEL_EXPORTER_OTLP_HEADERS is not name=value,name=value");
            }
            _ => log_error("the collector did not accept the spans; they are dropped"),
        }
    }
}

impl MetricsStore for WorkerPorts {
    async fn add_metrics(&self, text: &str) -> bool {
        self.tell(SUMS_BINDING, SUMS_NAME, metrics_object::ADD_PATH, text, SUMS_MS).await
    }

    async fn read_metrics(&self) -> Result<String, Fault> {
        let namespace = self.namespace(SUMS_BINDING).ok_or(Fault::NotBound)?;
        let asked = js::ask_object(&namespace, SUMS_NAME, metrics_object::READ_PATH, millis(SUMS_MS), SUMS_BYTES);
        let answer = self.wait(asked, SUMS_MS).await.map_err(|_| Fault::Unreachable)?;
        let parts = answer.dyn_into::<Array>().map_err(|_| Fault::Unreachable)?;
        parts.get(0).as_string().ok_or(Fault::Unreachable)
    }
}

impl RevocationLog for WorkerPorts {
    async fn read_log(&self, part: LogPart<'_>, may_be_cached: bool) -> Result<LogText, Fault> {
        let ask_ms = if part == LogPart::Whole { revocation::limits::ASK_WHOLE_MS } else { revocation::limits::ASK_MS };
        let (path, keep_ms) = match part {
            LogPart::Newest => (revocation_object::NEWEST_PATH.to_owned(), revocation::limits::PAGE_KEEP_MS),
            LogPart::Whole => (revocation_object::WHOLE_PATH.to_owned(), revocation::limits::WHOLE_KEEP_MS),
            LogPart::Entries(marks) => {
                let marks: Vec<String> = marks.iter().map(|mark| mark.to_text()).collect();
                (format!("{}{}", revocation_object::MARKS_PATH, marks.join(",")), 0)
            }
        };
        let namespace = self.namespace(LOG_BINDING).ok_or(Fault::NotBound)?;
        let (request, context) = self.event.asked.as_ref().ok_or(Fault::NotBound)?;
        let max = u32::try_from(revocation::limits::PAGE_BYTES).unwrap_or(u32::MAX);
        let keep_s = millis(keep_ms / 1000);
        let answer = js::read_log(request, context, &namespace, &path, may_be_cached, keep_s, millis(ask_ms), max);
        let parts =
            self.wait(answer, ask_ms).await.map_err(|_| Fault::Unreachable)?.dyn_into::<Array>().map_err(fault)?;
        let text = parts.get(0).as_string().ok_or(Fault::Unreachable)?;
        Ok(LogText { text, cached: parts.get(1) == JsValue::TRUE })
    }

    async fn append_log(&self, page: &str) -> bool {
        let appended =
            self.tell(LOG_BINDING, LOG_NAME, revocation_object::APPEND_PATH, page, revocation::limits::ASK_MS).await;
        if !appended {
            log_error("the revocation log took no entry");
        }
        appended
    }
}

impl RequestBody for WorkerPorts {
    async fn read_body(&self, max_bytes: usize) -> Result<Vec<u8>, Fault> {
        let (request, _) = self.event.asked.as_ref().ok_or(Fault::ClientGone)?;
        let read = js::read_body(request, u32::try_from(max_bytes).unwrap_or(u32::MAX), millis(limits::PUSH_BODY_MS));
        let body = self.wait(read, limits::PUSH_BODY_MS).await.map_err(|_| Fault::ClientGone)?;
        Ok(body.dyn_into::<Uint8Array>().map_err(fault)?.to_vec())
    }
}

impl UpstreamClient for WorkerPorts {
    type Reply = web_sys::Response;

    async fn forward(&self, request: &Forward<'_>) -> Result<Forwarded<web_sys::Response>, Fault> {
        let (client, _) = self.event.asked.as_ref().ok_or(Fault::Unreachable)?;
        let sent = js::forward(
            client,
            &wire::write_request(request),
            millis(request.timeout_ms),
            millis(request.body_timeout_ms),
            u32::try_from(request.max_body_bytes).map_or(f64::from(u32::MAX), f64::from),
            request.is_timed,
        );
        // An early answer is read completely before it is passed on.
        let may_take_ms = request.timeout_ms.saturating_add(request.body_timeout_ms).saturating_add(OWN_MS);
        let answer = self.wait(sent, may_take_ms).await.map_err(|_| Fault::Unreachable)?;
        // The value comes from proxy.js. Each check of its type would be a call into the runtime.
        let parts = answer.unchecked_into::<Array>();
        let facts = AnswerFacts::from_wire(parts.get(1).as_string().unwrap_or_default())
            .map_err(|text| Fault::of_forward(parts.get(0).as_string().as_deref(), &text))?;
        Ok(Forwarded { reply: parts.get(0).unchecked_into(), facts })
    }

    fn discard(&self, reply: web_sys::Response) {
        js::discard(&reply);
    }
}

impl UrlParser for WorkerPorts {
    fn resolve(&self, reference: &str, base: &str) -> Option<String> {
        js::resolve(reference, base)
    }
}

/// Parses the fault that a function of `bindings.js` returned.
fn fault(name: impl Into<JsValue>) -> Fault {
    Fault::from_name(name.into().as_string().as_deref())
}
