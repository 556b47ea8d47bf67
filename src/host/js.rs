//! Declarations of `bindings.js`, `body.js` and `proxy.js`, and of an event's environment and context.

use js_sys::{Function, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

use super::console::log_error;

#[wasm_bindgen]
extern "C" {
    /// The event's environment (`env`): bindings and variables by name.
    #[derive(Clone)]
    pub type Env;

    #[wasm_bindgen(method, structural, indexing_getter)]
    fn get(this: &Env, name: &str) -> JsValue;

    /// The event's context (`ctx`).
    #[derive(Clone)]
    pub type Context;

    /// Keeps the event alive until the promise settles.
    #[wasm_bindgen(method, js_name = waitUntil)]
    pub fn wait_until(this: &Context, promise: &Promise);
}

impl Env {
    /// Returns a variable or a secret.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).as_string()
    }

    /// Returns the id in the version metadata of a deployment; `None` elsewhere.
    pub(super) fn version_id(&self) -> Option<String> {
        let id = Reflect::get(&self.get("CF_VERSION_METADATA"), &JsValue::from_str("id")).ok()?;
        id.as_string().filter(|id| !id.is_empty())
    }

    /// Returns the binding of this name if it takes requests. The log names one that does not.
    pub(super) fn fetcher(&self, name: &str) -> Option<JsValue> {
        let fetcher = self.binding(name)?;
        let takes_requests = Reflect::get(&fetcher, &JsValue::from_str("fetch")).is_ok_and(|fetch| fetch.is_function());
        if !takes_requests {
            log_error(&format!("{name} is bound, and is no service; see wrangler.toml"));
        }
        takes_requests.then_some(fetcher)
    }

    pub(super) fn has_binding(&self, name: &str) -> bool {
        !self.get(name).is_undefined()
    }

    /// Returns the binding of this name. The log names one that is missing.
    pub(super) fn binding(&self, name: &str) -> Option<JsValue> {
        let found = Some(self.get(name)).filter(|found| !found.is_undefined());
        if found.is_none() {
            log_error(&format!("{name} is not bound; see wrangler.toml"));
        }
        found
    }
}

/// Rounds a number of JavaScript down, within the type's bounds.
#[allow(clippy::as_conversions, reason = "there is no other conversion from a float")]
pub(super) const fn whole(number: f64) -> u64 {
    number as u64
}

#[wasm_bindgen(module = "/src/host/bindings.js")]
extern "C" {
    #[wasm_bindgen(js_name = readHead)]
    pub(super) fn read_head(request: &web_sys::Request) -> String;

    pub(super) fn country(request: &web_sys::Request) -> JsValue;

    #[wasm_bindgen(js_name = clientCertificate)]
    pub(super) fn client_certificate(request: &web_sys::Request) -> JsValue;

    pub(super) fn then(promise: &Promise, id: u32, resume: &Function) -> Promise;

    pub(super) fn sleep(millis: u32) -> Promise;

    #[wasm_bindgen(js_name = fetchDocument)]
    pub(super) fn fetch_document(url: &str, timeout_ms: u32, max_bytes: u32) -> Promise;

    pub(super) fn post(url: &str, headers: &web_sys::Headers, body: &str, timeout_ms: u32) -> Promise;

    pub(super) fn ask(
        url: &str,
        authorization: Option<&str>,
        request_id: &str,
        body: &str,
        is_token: bool,
        timeout_ms: u32,
        max_bytes: u32,
    ) -> Promise;

    #[wasm_bindgen(js_name = readStore)]
    pub(super) fn read_store(store: &JsValue, name: &str, cache_s: u32, timeout_ms: u32) -> Promise;

    #[wasm_bindgen(js_name = writeStore)]
    pub(super) fn write_store(store: &JsValue, name: &str, text: &str, keep_s: u32, timeout_ms: u32) -> Promise;

    #[wasm_bindgen(js_name = writeRecords)]
    pub(super) fn write_records(store: &JsValue, lines: &str, timeout_ms: u32) -> Promise;

    #[wasm_bindgen(js_name = askObject)]
    pub(super) fn ask_object(
        namespace: &JsValue,
        name: &str,
        path: &str,
        body: Option<&str>,
        timeout_ms: u32,
        max_bytes: u32,
    ) -> Promise;

    #[wasm_bindgen(js_name = pageKey)]
    pub(super) fn page_key(request: &web_sys::Request, namespace: &JsValue, name: &str, path: &str) -> Option<String>;

    #[wasm_bindgen(js_name = readCachedPage)]
    pub(super) fn read_cached_page(key: &str, timeout_ms: u32) -> Promise;

    #[wasm_bindgen(js_name = cachePage)]
    pub(super) fn cache_page(key: &str, context: &Context, text: &str, keep_s: u32, timeout_ms: u32);

    #[wasm_bindgen(js_name = importKey)]
    pub(super) fn import_key(algorithm: &str, jwk: &str, usage: &str) -> Promise;

    pub(super) fn sign(key: &JsValue, input: &Uint8Array) -> Promise;

    pub(super) fn verify(key: &JsValue, signature: &Uint8Array, input: &Uint8Array) -> Promise;

    pub(super) fn limit(limiter: &JsValue, key: &str, timeout_ms: u32) -> Promise;
}

#[wasm_bindgen(module = "/src/host/body.js")]
extern "C" {
    #[wasm_bindgen(js_name = readBody)]
    pub(super) fn read_body(request: &web_sys::Request, max_bytes: u32, timeout_ms: u32) -> Promise;

    #[wasm_bindgen(js_name = digestBody)]
    pub(super) fn digest_body(request: &web_sys::Request, max_bytes: u32, timeout_ms: u32) -> Promise;

    #[wasm_bindgen(js_name = continueBody)]
    pub(super) fn continue_body(request: &web_sys::Request, is_refused: bool);
}

/// The module that the build step writes next to the Worker's own.
#[cfg(not(test))]
#[wasm_bindgen(raw_module = "./policy.js")]
extern "C" {
    /// The policy that was deployed with the Worker, as a JSON document.
    #[wasm_bindgen(js_name = policy)]
    pub(super) fn built_in_policy() -> String;
}

/// The operators' page, which the build step copies next to it.
#[cfg(not(test))]
#[wasm_bindgen(raw_module = "./operators.js")]
extern "C" {
    /// Keeps the log line of a refusal until it is taken.
    #[wasm_bindgen(js_name = noteRefusal)]
    pub(super) fn note_refusal(line: &str);

    /// Returns the noted refusals as JSON, if there are any, and forgets them.
    #[wasm_bindgen(js_name = takeRefusals)]
    pub(super) fn take_refusals() -> Option<String>;

    pub(super) fn operate(
        request: &web_sys::Request,
        env: &Env,
        path: &str,
        request_id: &str,
        timeout_ms: u32,
    ) -> Promise;
}

/// The validators that the build step writes next to it.
#[cfg(not(test))]
#[wasm_bindgen(raw_module = "./validators.js")]
extern "C" {
    /// The digest of an upstream's validator.
    #[wasm_bindgen(js_name = digestOf)]
    pub(super) fn validator_digest(upstream: &str) -> Option<String>;

    #[wasm_bindgen(js_name = validatorOf)]
    pub(super) fn validator_of(upstream: &str) -> JsValue;
}

/// The tests run without these modules.
#[cfg(test)]
mod built {
    pub(in crate::host) fn built_in_policy() -> String {
        String::new()
    }

    pub(in crate::host) fn note_refusal(_: &str) {}

    pub(in crate::host) fn take_refusals() -> Option<String> {
        None
    }

    pub(in crate::host) fn operate(_: &web_sys::Request, _: &super::Env, _: &str, _: &str, _: u32) -> super::Promise {
        super::Promise::resolve(&wasm_bindgen::JsValue::UNDEFINED)
    }

    pub(in crate::host) fn validator_digest(_: &str) -> Option<String> {
        None
    }

    pub(in crate::host) fn validator_of(_: &str) -> wasm_bindgen::JsValue {
        wasm_bindgen::JsValue::UNDEFINED
    }
}
#[cfg(test)]
pub(super) use built::{built_in_policy, note_refusal, operate, take_refusals, validator_digest, validator_of};

#[wasm_bindgen(module = "/src/host/validate.js")]
extern "C" {
    pub(super) fn validate(
        request: &web_sys::Request,
        validator: &JsValue,
        packed: &str,
        max_bytes: u32,
        timeout_ms: u32,
    ) -> Promise;
}

#[wasm_bindgen(module = "/src/host/proxy.js")]
extern "C" {
    pub(super) fn forward(
        request: &web_sys::Request,
        packed: &str,
        timeout_ms: u32,
        is_timed: bool,
        plan: Option<&str>,
        fetcher: &JsValue,
    ) -> Promise;

    #[wasm_bindgen(js_name = completeAnswer)]
    pub(super) fn complete_answer(request: &web_sys::Request, response: &web_sys::Response, plan: &str) -> Promise;

    pub(super) fn discard(response: &web_sys::Response);

    #[wasm_bindgen(catch, js_name = passOn)]
    pub(super) fn pass_on(
        response: &web_sys::Response,
        changes: &str,
        idle_ms: Option<u32>,
        idle_line: Option<&str>,
        body_bytes: Option<u64>,
    ) -> Result<web_sys::Response, JsValue>;

    #[wasm_bindgen(catch)]
    pub(super) fn answer(
        status: u16,
        head: &str,
        body: &str,
        request: Option<&web_sys::Request>,
        plan: Option<&str>,
    ) -> Result<web_sys::Response, JsValue>;
}
