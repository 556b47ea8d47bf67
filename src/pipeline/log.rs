//! The log record of a request, and its audit event. They hold no header but `User-Agent` and the client's
//! address, no query, no claim but the verified user id, and no word long enough to be a token.

use serde::Serialize;

/// A security event, or a push of API keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Type of its audit event.
    pub(super) event_type: &'static str,
    /// What it did; `None` if it was refused.
    pub(super) result: Option<&'static str>,
}

/// The log record of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogRecord {
    /// Time at which the record was written (RFC 3339); the host sets it.
    pub timestamp: String,
    /// `info`, `warn` for 4xx, `error` for 5xx.
    pub level: &'static str,
    /// Always `gateway`.
    pub service: &'static str,
    /// Id of the deployed version that answered; the host sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_version: Option<String>,
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
    /// `token`, `memory`, `kv` or `issuer`: where the token's key or the record of an API key came from; `introspection` for
    /// an opaque token that was not cached.
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
    /// The security event of the request.
    #[serde(skip)]
    pub received: Option<Received>,
}

impl LogRecord {
    /// Returns the record as JSON.
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// Returns the audit event, as JSON: of a request that was refused with 401, 403 or 429, of each security event, and of
    /// each push of API keys.
    pub fn audit_event(&self) -> Option<String> {
        let is_denied = matches!(self.status, 401 | 403 | 429);
        let (event_type, result, detail) = match self.received {
            Some(Received { event_type, result }) => {
                let outcome = if self.status >= 500 { "failed" } else { "denied" };
                let done = result.map(|result| (event_type, "success", result));
                done.or_else(|| Some((event_type, outcome, self.code?)))?
            }
            None => ("gateway.access", "denied", self.code.filter(|_| is_denied)?),
        };
        let event = AuditEvent {
            detail,
            entity_id: &self.path,
            event_type,
            ip_address: self.ip.as_deref(),
            operation: &format!("{} {}", self.method, self.route.as_deref().unwrap_or("gateway")),
            request_id: &self.request_id,
            result,
            span_id: &self.span_id,
            timestamp: &self.timestamp,
            trace_id: &self.trace_id,
            user_agent: self.user_agent.as_deref(),
            user_id: self.user_id.as_deref(),
        };
        Some(to_json(&event))
    }
}

/// Bytes of nearly all records, audit events and problem documents.
const JSON_BYTES: usize = 1024;

/// Serializes a document without growing its text step by step.
pub(super) fn to_json(document: &impl Serialize) -> String {
    let mut bytes = Vec::with_capacity(JSON_BYTES);
    let written = serde_json::to_writer(&mut bytes, document).ok();
    written.and_then(|()| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// The audit event of a refused request.
#[derive(Serialize)]
struct AuditEvent<'a> {
    detail: &'static str,
    entity_id: &'a str,
    event_type: &'static str,
    ip_address: Option<&'a str>,
    operation: &'a str,
    request_id: &'a str,
    result: &'static str,
    span_id: &'a str,
    timestamp: &'a str,
    trace_id: &'a str,
    user_agent: Option<&'a str>,
    user_id: Option<&'a str>,
}
