//! The gate's ports over the runtime, for one event.

use std::time::Duration;

use js_sys::{Array, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::js;
use crate::{
    gate::ports::{BackendFault, Document, Forward, Forwarded, Ports, UpstreamFault},
    keys::{self, Key},
    token::{self, Algorithm, SignatureOutcome, UnixMillis},
};

/// KV namespace that holds key sets.
const KEYS_BINDING: &str = "KEYS";

/// Variable that switches signature checks to pure Rust with the value `rust`.
const BACKEND_VARIABLE: &str = "SIGNATURE_BACKEND";

/// Seconds for which a location may keep a KV answer; the least that KV takes.
const KV_CACHE_S: u64 = 60;

/// Seconds after which KV drops a set that nobody wrote again: twice the time
/// for which it could be used.
const KV_KEEP_S: u64 = 2 * keys::limits::HARD_MS / 1000;

pub(super) struct World {
    env: worker::Env,
    request: Option<web_sys::Request>,
}

impl World {
    pub(super) fn new(env: worker::Env, request: web_sys::Request) -> Self {
        Self { env, request: Some(request) }
    }

    pub(super) fn without_request(env: worker::Env) -> Self {
        Self { env, request: None }
    }

    fn prefers_rust(&self) -> bool {
        self.env.var(BACKEND_VARIABLE).is_ok_and(|value| value.to_string() == "rust")
    }
}

fn millis(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Puts a fault of our own into the log.
pub(super) fn complain(message: &str) {
    let line = serde_json::json!({ "level": "error", "service": "gateway", "message": message });
    worker::console_error!("{}", line);
}

impl Ports for World {
    type Reply = web_sys::Response;

    fn now(&self) -> UnixMillis {
        UnixMillis(worker::Date::now().as_millis())
    }

    fn random(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        // The ids of a request are for finding it again, not for security: an
        // id that is not random is better than a request that fails.
        if getrandom::getrandom(&mut bytes).is_err() {
            complain("the runtime gave no random bytes");
        }
        bytes
    }

    async fn sleep(&self, millis: u64) {
        worker::Delay::from(Duration::from_millis(millis)).await;
    }

    async fn read_keys(&self, name: &str) -> Option<String> {
        let Ok(store) = self.env.kv(KEYS_BINDING) else {
            complain("the KV namespace KEYS is not bound; see wrangler.toml");
            return None;
        };
        match store.get(name).cache_ttl(KV_CACHE_S).text().await {
            Ok(text) => text,
            Err(_) => {
                complain("key sets cannot be read from KV");
                None
            }
        }
    }

    async fn write_keys(&self, name: &str, text: &str) -> bool {
        let Ok(store) = self.env.kv(KEYS_BINDING) else { return false };
        let written = match store.put(name, text) {
            Ok(options) => options.expiration_ttl(KV_KEEP_S).execute().await.is_ok(),
            Err(_) => false,
        };
        if !written {
            complain("a key set cannot be written to KV");
        }
        written
    }

    async fn fetch_document(&self, url: &str) -> Result<Document, &'static str> {
        let max = u32::try_from(keys::limits::JWKS_BYTES).unwrap_or(u32::MAX);
        let answer = JsFuture::from(js::fetch_document(url, millis(keys::limits::FETCH_MS), max)).await;
        let value = answer.map_err(|_| "jwks_unreachable")?;
        let parts = value.dyn_into::<Array>().map_err(|code| fetch_fault(code.as_string().as_deref()))?;
        let bytes = parts.get(0).dyn_into::<Uint8Array>().map_err(|_| "jwks_unreachable")?;
        Ok(Document { body: bytes.to_vec(), cache_control: parts.get(1).as_string() })
    }

    async fn check_signature(
        &self,
        key: &Key,
        algorithm: Algorithm,
        signing_input: &[u8],
        signature: &[u8],
    ) -> Result<SignatureOutcome, BackendFault> {
        if self.prefers_rust() {
            return Ok(token::check(key.public(), algorithm, signing_input, signature));
        }
        // Copied out of wasm memory: a view would not survive the wait.
        let (signature, input) = (Uint8Array::from(signature), Uint8Array::from(signing_input));
        let verified = js::verify(algorithm.name(), key.thumbprint(), key.canonical_jwk(), &signature, &input);
        match JsFuture::from(verified).await {
            Ok(value) if value == JsValue::TRUE => Ok(SignatureOutcome::Valid),
            Ok(_) => Ok(SignatureOutcome::Invalid),
            Err(_) => {
                complain("WebCrypto failed to check a signature");
                Err(BackendFault)
            }
        }
    }

    async fn forward(&self, forward: &Forward) -> Result<Forwarded<web_sys::Response>, UpstreamFault> {
        let request = self.request.as_ref().ok_or(UpstreamFault::Unreachable)?;
        let head: Vec<&str> =
            forward.headers.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect();
        let sent = js::forward(request, &forward.url, &forward.method, &head.join("\n"), millis(forward.timeout_ms));
        let answer = JsFuture::from(sent).await.map_err(|_| UpstreamFault::Unreachable)?;
        match answer.dyn_into::<web_sys::Response>() {
            Ok(reply) => Ok(Forwarded { status: reply.status(), reply }),
            Err(fault) => Err(match fault.as_string().as_deref() {
                Some("timed_out") => UpstreamFault::TimedOut,
                Some("bad_answer") => UpstreamFault::BadAnswer,
                _ => UpstreamFault::Unreachable,
            }),
        }
    }
}

/// The codes of `rim.js`, as constants.
fn fetch_fault(code: Option<&str>) -> &'static str {
    match code {
        Some("jwks_redirect") => "jwks_redirect",
        Some("jwks_status") => "jwks_status",
        Some("jwks_too_large") => "jwks_too_large",
        Some("jwks_timeout") => "jwks_timeout",
        _ => "jwks_unreachable",
    }
}
