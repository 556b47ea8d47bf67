//! Declarations of `bindings.js` and `proxy.js`, and of an event's environment and context.

use js_sys::{Function, Promise, Uint8Array};
use wasm_bindgen::prelude::*;

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

    /// Returns the binding of this name.
    pub(super) fn binding(&self, name: &str) -> Option<JsValue> {
        Some(self.get(name)).filter(|found| !found.is_undefined())
    }
}

#[wasm_bindgen(module = "/src/host/bindings.js")]
extern "C" {
    #[wasm_bindgen(js_name = readHead)]
    pub(super) fn read_head(request: &web_sys::Request) -> String;

    pub(super) fn resolve(reference: &str, base: &str) -> Option<String>;

    pub(super) fn then(promise: &Promise, index: u32, turn: u32, resume: &Function) -> Promise;

    pub(super) fn sleep(millis: u32) -> Promise;

    #[wasm_bindgen(js_name = fetchDocument)]
    pub(super) fn fetch_document(url: &str, timeout_ms: u32, max_bytes: u32) -> Promise;

    #[wasm_bindgen(js_name = sendSpans)]
    pub(super) fn send_spans(url: &str, headers: &str, body: &str, timeout_ms: u32) -> Promise;

    #[wasm_bindgen(js_name = readBody)]
    pub(super) fn read_body(request: &web_sys::Request, max_bytes: u32, timeout_ms: u32) -> Promise;

    #[wasm_bindgen(js_name = readLog)]
    pub(super) fn read_log(
        request: &web_sys::Request,
        context: &Context,
        namespace: &JsValue,
        path: &str,
        may_be_kept: bool,
        keep_s: u32,
        timeout_ms: u32,
        max_bytes: u32,
    ) -> Promise;

    #[wasm_bindgen(js_name = readStore)]
    pub(super) fn read_store(store: &JsValue, name: &str, cache_s: u32, timeout_ms: u32) -> Promise;

    #[wasm_bindgen(js_name = writeStore)]
    pub(super) fn write_store(store: &JsValue, name: &str, text: &str, keep_s: u32, timeout_ms: u32) -> Promise;

    pub(super) fn limit(limiter: &JsValue, key: &str) -> Promise;

    #[wasm_bindgen(js_name = askObject)]
    pub(super) fn ask_object(namespace: &JsValue, name: &str, path: &str, timeout_ms: u32, max_bytes: u32) -> Promise;

    #[wasm_bindgen(js_name = tellObject)]
    pub(super) fn tell_object(namespace: &JsValue, name: &str, path: &str, body: &str, timeout_ms: u32) -> Promise;

    pub(super) fn verify(
        algorithm: &str,
        thumbprint: &str,
        jwk: &str,
        signature: &Uint8Array,
        input: &Uint8Array,
    ) -> Promise;
}

/// The module that the build step writes next to the Worker's own.
#[cfg(not(test))]
#[wasm_bindgen(raw_module = "./policy.js")]
extern "C" {
    /// The policy that was deployed with the Worker, as a JSON document.
    #[wasm_bindgen(js_name = policy)]
    pub(super) fn built_in_policy() -> String;
}

/// The tests run without that module.
#[cfg(test)]
pub(super) fn built_in_policy() -> String {
    String::new()
}

#[wasm_bindgen(module = "/src/host/proxy.js")]
extern "C" {
    pub(super) fn forward(
        request: &web_sys::Request,
        packed: &str,
        timeout_ms: u32,
        body_ms: u32,
        max_body_bytes: f64,
        is_timed: bool,
    ) -> Promise;

    pub(super) fn discard(response: &web_sys::Response);

    #[wasm_bindgen(catch, js_name = passOn)]
    pub(super) fn pass_on(
        response: &web_sys::Response,
        status: u16,
        packed: &str,
        idle_ms: Option<u32>,
    ) -> Result<web_sys::Response, JsValue>;

    #[wasm_bindgen(catch)]
    pub(super) fn answer(
        request: Option<&web_sys::Request>,
        status: u16,
        head: &str,
        body: &str,
    ) -> Result<web_sys::Response, JsValue>;
}
