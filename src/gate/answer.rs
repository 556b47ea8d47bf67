//! An answer that the gate gives itself.

use serde_json::{Value, json};

use super::Denial;

/// Status, headers and body of an answer of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: Vec<(&'static str, String)>,
    /// JSON text.
    pub body: String,
}

impl Answer {
    /// A JSON document that must not be stored by anybody in between.
    pub(super) fn json(status: u16, request_id: &str, document: &Value) -> Self {
        Self::build(status, "application/json", request_id, document)
    }

    /// A text that must not be stored by anybody in between.
    pub(super) fn text(request_id: &str, content_type: &str, body: String) -> Self {
        Self { body, ..Self::build(200, content_type, request_id, &Value::Null) }
    }

    /// The problem document of a denial (RFC 9457). `operation` is the route's
    /// pattern, never the path that the client sent.
    pub(super) fn problem(denial: &Denial, operation: &str, request_id: &str) -> Self {
        let wording = denial.wording();
        let detail = denial.particular().unwrap_or(wording.detail);
        let document = json!({
            "type": wording.family,
            "title": wording.title,
            "status": wording.status,
            "detail": detail,
            "error": detail,
            "code": wording.code,
            "operation": operation,
            "request_id": request_id,
        });
        let mut answer = Self::build(wording.status, "application/problem+json", request_id, &document);
        if let Some(challenge) = wording.challenge {
            answer.headers.push(("www-authenticate", challenge.to_owned()));
        }
        if let Some(seconds) = denial.retry_after_s() {
            answer.headers.push(("retry-after", seconds.to_string()));
        }
        if let Denial::MethodNotAllowed { allow } = denial {
            answer.headers.push(("allow", allow.clone()));
        }
        answer
    }

    fn build(status: u16, content_type: &str, request_id: &str, document: &Value) -> Self {
        Self {
            status,
            headers: vec![
                ("content-type", content_type.to_owned()),
                ("cache-control", "no-store".to_owned()),
                ("x-content-type-options", "nosniff".to_owned()),
                ("x-request-id", request_id.to_owned()),
            ],
            body: document.to_string(),
        }
    }
}
