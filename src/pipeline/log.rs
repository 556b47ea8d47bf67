//! The log record of a request, and its audit event. They hold no header but `User-Agent` and the client's
//! address, no query, no claim but the verified user id, and no word long enough to be a token.

use serde::Serialize;
use serde_json::json;

/// The log record of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogRecord {
    /// Time at which the record was written (RFC 3339); the host sets it.
    pub timestamp: String,
    /// `info`, `warn` for 4xx, `error` for 5xx.
    pub level: &'static str,
    /// Always `gateway`.
    pub service: &'static str,
    /// `X-Request-Id` of the answer.
    pub request_id: String,
    /// W3C trace id.
    pub trace_id: String,
    /// W3C id of the gateway's span.
    pub span_id: String,
    /// Verified user, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Method.
    pub method: String,
    /// Pattern of the route, if one was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Canonical path without query.
    pub path: String,
    /// Status of the answer.
    pub status: u16,
    /// Milliseconds from the request's arrival to the answer's headers.
    pub duration_ms: u64,
    /// Upstream, if the request got that far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Milliseconds that the upstream took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<u64>,
    /// `token`, `memory`, `kv` or `issuer`: where the token's key came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<&'static str>,
    /// Code of the denial, if the request was denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Details for operators alone: which setting is wrong, or what did not happen behind a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// `User-Agent`, redacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The client's address, from the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
}

impl LogRecord {
    /// Returns the record as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns whether the record is written in any case: of a denial, of a failure, or with details.
    pub(super) fn is_always_logged(&self) -> bool {
        self.level != "info" || self.detail.is_some()
    }

    /// Returns the audit event of a request that was refused with 401, 403 or 429, as JSON.
    pub fn audit_event(&self) -> Option<String> {
        let code = self.code.filter(|_| matches!(self.status, 401 | 403 | 429))?;
        let event = json!({
            "event_type": "gateway.access",
            "result": "denied",
            "user_id": self.user_id,
            "entity_id": self.path,
            "operation": format!("{} {}", self.method, self.route.as_deref().unwrap_or("gateway")),
            "request_id": self.request_id,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "ip_address": self.ip,
            "user_agent": self.user_agent,
            "detail": code,
            "timestamp": self.timestamp,
        });
        Some(event.to_string())
    }
}
