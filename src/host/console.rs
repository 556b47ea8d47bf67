//! Writes to the Worker's log.

use portcullis_token::object;
use wasm_bindgen::JsValue;

/// Logs a line of a request.
pub(super) fn log_line(line: &str) {
    web_sys::console::log_1(&JsValue::from_str(line));
}

/// Logs a fault of the gateway itself.
pub(super) fn log_error(message: &str) {
    let line = object([("level", "error".into()), ("service", "gateway".into()), ("message", message.into())]);
    web_sys::console::error_1(&JsValue::from_str(&line.to_string()));
}

/// Returns a line about the answer of a request.
pub(super) fn warning(message: &str, request_id: &str) -> String {
    let [level, service] = [("level", "warn".into()), ("service", "gateway".into())];
    object([level, service, ("message", message.into()), ("request_id", request_id.into())]).to_string()
}
