//! The ports of the pipeline over the runtime, for one event.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
};

use js_sys::{Array, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};
use worker::worker_sys::ext::ResponseExt as _;

use super::{console::log_error, js, metrics_object, poll_promise::PromisePoller, revocation_object};
use crate::pipeline::{
    BackgroundTask, limits,
    ports::{
        AssertionSigner, Backchannels, ClientTls, Document, Forwarded, Geolocation, KeyOwner, KeySource, LogPart,
        LogText, MetricsStore, OperatorsPage, PagePart, Ports, ProofLog, Question, QuestionBody, RateLimitCounter,
        Record, RecordStore, RequestValidator, RevocationLog, Runtime, SignatureVerifier, SpanCollector,
        UpstreamClient,
    },
    wire::{self, AnswerFacts, DrainPlan, EarlyAnswerPlan, Fault, Forward},
};
use portcullis_token::{
    self as token, Algorithm, SignatureOutcome, UnixMillis,
    keys::{self, Key, SigningKey},
    revocation,
};

/// KV namespace that holds key sets and the pushed policy.
pub(super) const KEYS_BINDING: &str = "KEYS";

/// Durable Object namespace of the revocation log, and the object's name.
const REVOCATION_LOG: (&str, &str) = ("REVOCATIONS", "log");

/// Durable Object namespace of the metrics, and the object's name.
const METRICS: (&str, &str) = ("METRICS", "sums");

/// Path of that object for recent refusals; operators.js answers it.
const REFUSALS_PATH: &str = "/refusals";

/// Variable that selects signature checks in pure Rust with the value `rust`.
const BACKEND_VARIABLE: &str = "SIGNATURE_BACKEND";

thread_local! {
    /// Random bytes that were not used yet.
    static POOL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Keys that were imported, by owner.
    static IMPORTED: RefCell<Vec<ImportedKey>> = const { RefCell::new(Vec::new()) };
    static IMPORTED_OF_CLIENTS: RefCell<Vec<ImportedKey>> = const { RefCell::new(Vec::new()) };
    /// Private keys that were imported, by their JWK.
    static SIGNING: RefCell<Vec<(String, JsValue)>> = const { RefCell::new(Vec::new()) };
    /// Id of the deployed version. Each logged request has it, and to look it up costs a tenth of a refusal.
    static VERSION: OnceCell<Option<String>> = const { OnceCell::new() };
    /// Whether signatures are checked in pure Rust. The variable does not change within an isolate.
    static PREFERS_RUST: OnceCell<bool> = const { OnceCell::new() };
}

/// A key that the runtime has imported.
struct ImportedKey {
    algorithm: Algorithm,
    /// RFC 7638.
    thumbprint: String,
    value: JsValue,
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
    pub(super) fn new(env: js::Env, asked: Option<(web_sys::Request, js::Context)>, poller: Rc<PromisePoller>) -> Self {
        Self { event: Rc::new(Event { env, asked, tasks: RefCell::default() }), poller }
    }

    pub(super) fn without_request(env: js::Env) -> Self {
        Self::new(env, None, PromisePoller::of_executor())
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

    /// Waits for the parts of an answer, the first of which is its status.
    async fn parts(&self, promise: Promise, may_take_ms: u64) -> Result<(u64, Array), Fault> {
        let parts = self.poller.wait(promise, may_take_ms).await.map_err(|error| rejection(&error))?;
        let parts = parts.unchecked_into::<Array>();
        Ok((js::whole(parts.get(0).as_f64().unwrap_or_default()), parts))
    }

    /// Receives an answer that an upstream sent before the end of the client's body. One that refuses the
    /// rest is read first, because it is lost with the upstream's connection.
    async fn receive_early(
        &self,
        client: &web_sys::Request,
        reply: web_sys::Response,
        facts: &AnswerFacts,
        drain: &DrainPlan,
    ) -> Result<web_sys::Response, Fault> {
        let is_refused = facts.refuses_body();
        js::continue_body(client, is_refused);
        let content_length = if is_refused { self.header(&reply, "content-length") } else { return Ok(reply) };
        let Some(plan) = EarlyAnswerPlan::new(facts, content_length.as_deref(), drain) else { return Ok(reply) };
        let completed = js::complete_answer(client, &reply, &wire::write_plan(&plan));
        let completed = self.poller.wait(completed, plan.time_ms).await.map_err(|_| Fault::Unreachable)?;
        Ok(completed.unchecked_into())
    }

    /// Returns the runtime's form of a key. Each isolate imports a key once.
    async fn import_key(&self, (key, owner): (&Key, KeyOwner), algorithm: Algorithm) -> Result<JsValue, JsValue> {
        let imported_keys = if owner == KeyOwner::Client { &IMPORTED_OF_CLIENTS } else { &IMPORTED };
        let is_same = |known: &&ImportedKey| known.algorithm == algorithm && known.thumbprint == key.thumbprint;
        let known = imported_keys.with_borrow(|keys| keys.iter().find(is_same).map(|known| known.value.clone()));
        if let Some(value) = known {
            return Ok(value);
        }
        let imported = js::import_key(algorithm.name(), key.canonical_jwk(), "verify");
        let value = self.poller.wait(imported, limits::RUNTIME_MS).await?;
        imported_keys.with_borrow_mut(|keys| {
            if keys.len() >= limits::IMPORTED_KEYS {
                keys.clear();
            }
            keys.push(ImportedKey { algorithm, thumbprint: key.thumbprint.clone(), value: value.clone() });
        });
        Ok(value)
    }

    /// Returns the runtime's form of a private key. Each isolate imports a key once.
    async fn import_signing_key(&self, algorithm: Algorithm, jwk: &str) -> Result<JsValue, JsValue> {
        let known = SIGNING.with_borrow(|keys| keys.iter().find(|(known, _)| known == jwk).map(|(_, key)| key.clone()));
        if let Some(value) = known {
            return Ok(value);
        }
        let imported = js::import_key(algorithm.name(), jwk, "sign");
        let value = self.poller.wait(imported, limits::RUNTIME_MS).await?;
        SIGNING.with_borrow_mut(|keys| {
            if keys.len() >= limits::IMPORTED_KEYS {
                keys.clear();
            }
            keys.push((jwk.to_owned(), value.clone()));
        });
        Ok(value)
    }

    /// Sends a request to a Durable Object: a POST with a body, or a GET. Returns the body of its answer.
    async fn ask_object(
        &self,
        (namespace, name): (&str, &str),
        (path, body): (&str, Option<&str>),
        timeout_ms: u64,
        max_bytes: usize,
    ) -> Result<String, Fault> {
        let namespace = self.event.env.binding(namespace).ok_or(Fault::NotBound)?;
        let asked = js::ask_object(&namespace, name, path, body, number(timeout_ms), number(max_bytes));
        match self.parts(asked, timeout_ms).await? {
            (200 | 204, parts) => parts.get(1).as_string().ok_or(Fault::TooLarge),
            _ => Err(Fault::BadStatus),
        }
    }
}

/// Returns the fault of a rejected promise.
fn rejection(error: &JsValue) -> Fault {
    let name = Reflect::get(error, &JsValue::from_str("name")).ok();
    Fault::of_rejection(name.and_then(|name| name.as_string()).as_deref())
}

/// Returns whether signatures are checked in pure Rust.
pub(super) fn prefers_rust(env: &js::Env) -> bool {
    PREFERS_RUST.with(|known| *known.get_or_init(|| env.text(BACKEND_VARIABLE).is_some_and(|value| value == "rust")))
}

/// Narrows a bound to what crosses without a copy.
pub(super) fn number(value: impl TryInto<u32>) -> u32 {
    value.try_into().unwrap_or(u32::MAX)
}

impl Runtime for WorkerPorts {
    fn worker_version(&self) -> Option<String> {
        VERSION.with(|known| known.get_or_init(|| self.event.env.version_id()).clone())
    }

    fn defer(&self, task: BackgroundTask) {
        self.event.tasks.borrow_mut().push(task);
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(js::whole(self.poller.now()))
    }

    async fn sleep(&self, millis: u64) {
        let _ = self.poller.wait(js::sleep(number(millis)), millis).await;
    }

    fn random(&self) -> [u8; 48] {
        POOL.with_borrow_mut(|pool| {
            if pool.is_empty() {
                let mut bytes = vec![0; limits::RANDOM_BYTES];
                // No secret depends on ids: predictable ones that differ are better than a failed request.
                if getrandom::getrandom(&mut bytes).is_err() {
                    log_error("the runtime gave no random bytes");
                    bytes.fill_with(|| u8::try_from(js::whole(js_sys::Math::random() * 256.0)).unwrap_or_default());
                }
                *pool = bytes;
            }
            let rest = pool.len().saturating_sub(48);
            pool.split_off(rest).try_into().unwrap_or([0; 48])
        })
    }
}

impl Backchannels for WorkerPorts {
    async fn ask(&self, question: &Question<'_>) -> Result<(u64, Vec<u8>), Fault> {
        let Question { url, authorization, request_id, body, timeout_ms } = *question;
        let max_bytes = number(limits::BACKCHANNEL_BYTES);
        let (QuestionBody::Json(text) | QuestionBody::Token(text)) = body;
        let is_token = matches!(body, QuestionBody::Token(_));
        let asked = js::ask(url, authorization, request_id, text, is_token, number(timeout_ms), max_bytes);
        let (status, parts) = self.parts(asked, timeout_ms).await?;
        let bytes = parts.get(1).dyn_into::<Uint8Array>().map_err(|_| Fault::TooLarge)?;
        Ok((status, bytes.to_vec()))
    }
}

impl Geolocation for WorkerPorts {
    fn country(&self) -> Option<String> {
        js::country(self.request()?).as_string()
    }
}

impl ClientTls for WorkerPorts {
    fn client_certificate(&self) -> Option<String> {
        js::client_certificate(self.request()?).as_string()
    }
}

impl ProofLog for WorkerPorts {
    async fn note_proof(&self, proof: &str, keep_until: UnixMillis) -> Result<bool, Fault> {
        // Proofs are spread by the first letter of their ids, which are digests.
        let shard = proof.get(..1).unwrap_or_default();
        let (namespace, _) = REVOCATION_LOG;
        let name = ["proofs/", shard].concat();
        let body = format!("{proof} {}", keep_until.0);
        let request = (revocation_object::PROOF_PATH, Some(body.as_str()));
        let answer = self.ask_object((namespace, &name), request, limits::PROOF_LOG_MS, 8).await;
        answer.map(|text| text.is_empty()).inspect_err(|_| log_error("the log of proofs failed"))
    }
}

impl KeySource for WorkerPorts {
    async fn read_keys(&self, name: &str) -> Option<String> {
        let store = self.event.env.binding(KEYS_BINDING)?;
        let read = js::read_store(&store, name, limits::KV_CACHE_S, number(limits::KV_MS));
        let read = self.poller.wait(read, limits::KV_MS).await;
        read.inspect_err(|_| log_error("key sets cannot be read from KV")).ok()?.as_string()
    }

    async fn write_keys(&self, name: &str, text: &str) -> bool {
        let Some(store) = self.event.env.binding(KEYS_BINDING) else { return false };
        let written = js::write_store(&store, name, text, number(limits::KV_KEEP_S), number(limits::KV_MS));
        let written = self.poller.wait(written, limits::KV_MS).await;
        written.inspect_err(|_| log_error("a key set cannot be written to KV")).is_ok()
    }

    async fn fetch_document(&self, url: &str) -> Result<Document, Fault> {
        let (timeout_ms, max_bytes) = (keys::limits::FETCH_MS, keys::limits::JWKS_BYTES);
        let fetched = js::fetch_document(url, number(timeout_ms), number(max_bytes));
        let (status, parts) = self.parts(fetched, timeout_ms).await?;
        if status != 200 {
            return Err(Fault::of_status(status));
        }
        let bytes = parts.get(1).dyn_into::<Uint8Array>().map_err(|_| Fault::TooLarge)?;
        Ok(Document { body: bytes.to_vec(), cache_control: parts.get(2).as_string() })
    }
}

impl RecordStore for WorkerPorts {
    async fn read_record(&self, name: &str) -> Result<Option<String>, Fault> {
        let store = self.event.env.binding(KEYS_BINDING).ok_or(Fault::NotBound)?;
        let read = js::read_store(&store, name, limits::KV_CACHE_S, number(limits::KV_MS));
        let read = self.poller.wait(read, limits::KV_MS).await;
        read.map(|text| text.as_string()).map_err(|error| {
            log_error("API keys cannot be read from KV");
            rejection(&error)
        })
    }

    async fn write_records(&self, records: &[Record]) -> Result<(), Fault> {
        let store = self.event.env.binding(KEYS_BINDING).ok_or(Fault::NotBound)?;
        let mut lines = String::new();
        for Record { name, text, keep_s } in records {
            let keep_s = keep_s.unwrap_or_default().to_string();
            lines.extend([name, "\n", text, "\n", &keep_s, "\n"]);
        }
        let written = js::write_records(&store, &lines, number(limits::KV_MS));
        self.poller.wait(written, limits::KV_MS).await.map(|_| ()).map_err(|error| {
            log_error("API keys cannot be written to KV");
            rejection(&error)
        })
    }
}

impl SignatureVerifier for WorkerPorts {
    async fn check_signature(
        &self,
        key: (&Key, KeyOwner),
        algorithm: Algorithm,
        signing_input: &[u8],
        signature: &[u8],
    ) -> Result<SignatureOutcome, Fault> {
        if cfg!(feature = "rust-signatures") && prefers_rust(&self.event.env) {
            return Ok(token::check_signature(&key.0.public, algorithm, signing_input, signature));
        }
        // The runtime throws at an Ed25519 signature of another length. A bad signature must not look like
        // a fault of the runtime.
        if algorithm == Algorithm::EdDsa && signature.len() != limits::ED25519_SIGNATURE_BYTES {
            return Ok(SignatureOutcome::Invalid);
        }
        let failed = |error| {
            log_error("WebCrypto failed to check a signature");
            rejection(&error)
        };
        let key = self.import_key(key, algorithm).await.map_err(failed)?;
        // Copied out of wasm memory, because a view is invalid after the wait.
        let (signature, input) = (Uint8Array::from(signature), Uint8Array::from(signing_input));
        let verified = self.poller.wait(js::verify(&key, &signature, &input), limits::RUNTIME_MS).await;
        let is_valid = verified.map_err(failed)?;
        Ok(if is_valid == JsValue::TRUE { SignatureOutcome::Valid } else { SignatureOutcome::Invalid })
    }
}

impl AssertionSigner for WorkerPorts {
    async fn sign_assertion(&self, key: &SigningKey, signing_input: &[u8]) -> Result<Vec<u8>, Fault> {
        // The error's text may hold a part of the key, so it is not logged.
        let failed = |error| {
            log_error("WebCrypto failed to sign an assertion");
            rejection(&error)
        };
        let jwk = key.private_jwk().ok_or(Fault::NotBound)?;
        let imported = self.import_signing_key(key.public.algorithm, jwk).await.map_err(failed)?;
        let signed = js::sign(&imported, &Uint8Array::from(signing_input));
        let signature = self.poller.wait(signed, limits::RUNTIME_MS).await.map_err(failed)?;
        Ok(Uint8Array::new(&signature).to_vec())
    }
}

impl RateLimitCounter for WorkerPorts {
    async fn limit(&self, binding: &str, key: &str) -> bool {
        let Some(limiter) = self.event.env.binding(binding) else { return true };
        let counted = js::limit(&limiter, key, number(limits::COUNTER_MS));
        let counted = self.poller.wait(counted, limits::COUNTER_MS).await;
        let counted =
            counted.inspect_err(|_| log_error(&format!("the rate limit {binding} failed; it is not applied")));
        !counted.is_ok_and(|is_within| is_within == JsValue::FALSE)
    }

    fn has_limit(&self, binding: &str) -> bool {
        self.event.env.has_binding(binding)
    }
}

impl SpanCollector for WorkerPorts {
    async fn send_spans(&self, url: &str, headers: &str, body: &str, dropped: u64) {
        let Ok(headers) = exporter_headers(headers) else {
            return log_error("OTEL_EXPORTER_OTLP_HEADERS is not name=value,name=value");
        };
        let sent = js::post(url, &headers, body, number(limits::SPANS_SEND_MS));
        let sent = self.poller.wait(sent, limits::SPANS_SEND_MS).await;
        if !sent.is_ok_and(|status| status.as_f64().is_some_and(|status| (200.0..300.0).contains(&status))) {
            log_error("the collector did not accept the spans; they are dropped");
        } else if dropped > 0 {
            log_error(&format!("{dropped} spans were dropped, because too many waited for the collector"));
        }
    }
}

/// Parses an exporter's headers: comma-separated name=value pairs with percent-encoded values
/// (OpenTelemetry, after W3C Baggage).
fn exporter_headers(text: &str) -> Result<web_sys::Headers, JsValue> {
    let headers = web_sys::Headers::new()?;
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        // Without "=" the item is no pair; the secret must not be cut.
        let (name, value) = pair.split_once('=').ok_or(JsValue::UNDEFINED)?;
        headers.append(name.trim(), &String::from(js_sys::decode_uri_component(value.trim())?))?;
    }
    headers.set("content-type", "application/json")?;
    Ok(headers)
}

impl MetricsStore for WorkerPorts {
    async fn add_metrics(&self, text: &str) -> bool {
        if let Some(refusals) = js::take_refusals() {
            // Those that do not arrive are in the log.
            let request = (REFUSALS_PATH, Some(refusals.as_str()));
            let _ = self.ask_object(METRICS, request, limits::SUMS_MS, 0).await;
        }
        let request = (metrics_object::ADD_PATH, Some(text));
        self.ask_object(METRICS, request, limits::SUMS_MS, 0).await.is_ok()
    }

    async fn read_metrics(&self) -> Result<String, Fault> {
        let request = (metrics_object::READ_PATH, None);
        self.ask_object(METRICS, request, limits::SUMS_MS, limits::SUMS_BYTES).await
    }
}

impl OperatorsPage for WorkerPorts {
    async fn operate(&self, path: &str, request_id: &str) -> Result<PagePart, Fault> {
        let (request, _) = self.event.asked.as_ref().ok_or(Fault::NotBound)?;
        let asked = js::operate(request, &self.event.env, path, request_id, number(limits::SUMS_MS));
        let (status, parts) = self.parts(asked, limits::SUMS_MS).await?;
        let text = |index| parts.get(index).as_string();
        Ok(PagePart {
            status: u16::try_from(status).unwrap_or(503),
            content_type: text(1).unwrap_or_default(),
            body: text(2).unwrap_or_default(),
            content_policy: text(3),
        })
    }
}

impl RevocationLog for WorkerPorts {
    async fn read_log(&self, part: LogPart<'_>, may_be_cached: bool) -> Result<LogText, Fault> {
        use revocation::limits::{ASK_MS, ASK_WHOLE_MS, CACHE_MS, PAGE_BYTES, PAGE_KEEP_MS, WHOLE_KEEP_MS};
        let (path, ask_ms, keep_ms) = match part {
            LogPart::Newest => (revocation_object::NEWEST_PATH.to_owned(), ASK_MS, Some(PAGE_KEEP_MS)),
            LogPart::Whole => (revocation_object::WHOLE_PATH.to_owned(), ASK_WHOLE_MS, Some(WHOLE_KEEP_MS)),
            LogPart::Entries(keys) => {
                let keys: Vec<_> = keys.iter().map(|key| String::from(*key)).collect();
                (format!("{}{}", revocation_object::ENTRIES_PATH, keys.join(",")), ASK_MS, None)
            }
        };
        let (namespace, name) = REVOCATION_LOG;
        let namespace = self.event.env.binding(namespace).ok_or(Fault::NotBound)?;
        let (request, context) = self.event.asked.as_ref().ok_or(Fault::NotBound)?;
        let cached_as =
            keep_ms.and_then(|ms| Some((js::page_key(request, &namespace, name, &path)?, number(ms / 1000))));
        if let Some((key, _)) = cached_as.as_ref().filter(|_| may_be_cached) {
            let cached = js::read_cached_page(key, number(CACHE_MS));
            if let Some(text) = self.poller.wait(cached, CACHE_MS).await.ok().and_then(|text| text.as_string()) {
                return Ok(LogText { text, cached: true });
            }
        }
        let text = self.ask_object(REVOCATION_LOG, (&path, None), ask_ms, PAGE_BYTES).await?;
        if let Some((key, keep_s)) = cached_as {
            js::cache_page(&key, context, &text, keep_s, number(ask_ms));
        }
        Ok(LogText { text, cached: false })
    }

    async fn append_log(&self, page: &str) -> bool {
        let request = (revocation_object::APPEND_PATH, Some(page));
        let appended = self.ask_object(REVOCATION_LOG, request, revocation::limits::ASK_MS, 0).await;
        appended.inspect_err(|_| log_error("the revocation log took no entry")).is_ok()
    }
}

impl Ports for WorkerPorts {
    async fn read_body(&self, max_bytes: usize) -> Result<Vec<u8>, Fault> {
        let request = self.request().ok_or(Fault::ClientGone)?;
        let read = js::read_body(request, number(max_bytes), number(limits::PUSH_BODY_MS));
        let body =
            self.poller.wait(read, limits::PUSH_BODY_MS).await.map_err(|error| {
                if rejection(&error) == Fault::TimedOut { Fault::BodySlow } else { Fault::ClientGone }
            })?;
        Ok(body.dyn_into::<Uint8Array>().map_err(|_| Fault::TooLarge)?.to_vec())
    }
}

impl RequestValidator for WorkerPorts {
    async fn validate(&self, upstream: &str, request: &Forward<'_>, max_bytes: u64) -> Result<String, Fault> {
        let client = self.request().ok_or(Fault::ClientGone)?;
        let body_ms = request.body.as_ref().map_or(0, |body| body.time_ms);
        let (validator, packed) = (js::validator_of(upstream), wire::write_request(request));
        let checked = js::validate(client, &validator, &packed, number(max_bytes), number(body_ms));
        let text = self.poller.wait(checked, body_ms).await.map_err(|error| rejection(&error))?;
        text.as_string().ok_or(Fault::NotBound)
    }
}

impl UpstreamClient for WorkerPorts {
    type Reply = web_sys::Response;

    async fn forward(&self, request: &Forward<'_>) -> Result<Forwarded<web_sys::Response>, Fault> {
        let client = self.request().ok_or(Fault::Unreachable)?;
        let fetcher = match request.binding {
            Some(name) => self.event.env.fetcher(name).ok_or(Fault::NotBound)?,
            None => JsValue::UNDEFINED,
        };
        let plan = request.body.as_ref().map(wire::write_plan);
        let body_ms = request.body.as_ref().map_or(0, |body| body.time_ms);
        let packed = wire::write_request(request);
        let timeout_ms = number(request.timeout_ms);
        let sent = js::forward(client, &packed, timeout_ms, request.is_timed, plan.as_deref(), &fetcher);
        let may_take_ms = request.timeout_ms.saturating_add(body_ms);
        let answer = self.poller.wait(sent, may_take_ms).await.map_err(|_| Fault::Unreachable)?;
        // The value comes from proxy.js. Each check of its type would be a call into the runtime.
        let parts = answer.unchecked_into::<Array>();
        let (reply, text) = (parts.get(0), parts.get(1).as_string().unwrap_or_default());
        if reply.is_undefined() {
            return Err(Fault::of_forward(&text));
        }
        let reply = reply.unchecked_into::<web_sys::Response>();
        // Without a WebSocket, the runtime cannot pass a 101 on.
        let facts = AnswerFacts::parse(&text).ok().filter(|facts| facts.status != 101 || reply.websocket().is_some());
        let Some(facts) = facts else {
            js::discard(&reply);
            return Err(Fault::BadStatus);
        };
        let reply = match &request.body {
            Some(body) if !facts.body_ended => self.receive_early(client, reply, &facts, &body.drain).await?,
            Some(_) | None => reply,
        };
        Ok(Forwarded { reply, url: request.url.clone(), facts })
    }

    async fn digest_body(&self, max_bytes: u64, time_ms: u64) -> Result<[u8; 32], Fault> {
        let request = self.request().ok_or(Fault::ClientGone)?;
        let read = js::digest_body(request, number(max_bytes), number(time_ms));
        let digest =
            self.poller.wait(read, time_ms).await.map_err(|error| {
                if rejection(&error) == Fault::TimedOut { Fault::BodySlow } else { Fault::ClientGone }
            })?;
        // No digest: the body is too long.
        Uint8Array::new(&digest).to_vec().try_into().map_err(|_| Fault::TooLarge)
    }

    fn has_service(&self, binding: &str) -> bool {
        self.event.env.fetcher(binding).is_some()
    }

    fn header(&self, reply: &web_sys::Response, name: &str) -> Option<String> {
        reply.headers().get(name).ok().flatten()
    }

    fn discard(&self, reply: web_sys::Response) {
        js::discard(&reply);
    }

    fn resolve(&self, reference: &str, base: &str) -> Option<String> {
        web_sys::Url::new_with_base(reference, base).ok().map(|url| url.href())
    }
}
