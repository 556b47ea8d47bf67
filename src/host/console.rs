//! Writes to the Worker's log.

use wasm_bindgen::JsValue;

/// Logs a line of a request.
pub(super) fn log_line(line: &str) {
    web_sys::console::log_1(&JsValue::from_str(line));
}

/// Logs a fault of the gateway itself.
pub(super) fn log_error(message: &str) {
    let line = serde_json::json!({ "level": "error", "service": "gateway", "message": message });
    web_sys::console::error_1(&JsValue::from_str(&line.to_string()));
}

/// Returns a line about the answer of a request.
pub(super) fn warning(message: &str, request_id: &str) -> String {
    serde_json::json!({ "level": "warn", "service": "gateway", "message": message, "request_id": request_id })
        .to_string()
}
