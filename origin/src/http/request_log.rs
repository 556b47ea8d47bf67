//! The log fields of a request that come from the request itself. They are logged only if the gateway
//! vouches for the request or direct mode admitted it: other callers could write anything there.

use std::net::IpAddr;

use axum::{extract::Request, http::HeaderMap};
use portcullis_client::{extract::Verdict, trace::TraceContext};

use portcullis_redact::redact;

/// Log fields of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestFields {
    pub(super) user_id: Option<String>,
    pub(super) trace_id: Option<String>,
    pub(super) span_id: Option<String>,
    pub(super) path: Option<String>,
    pub(super) user_agent: Option<String>,
    pub(super) ip: Option<String>,
}

impl RequestFields {
    /// The fields of a request with an assertion; empty without one.
    pub(super) fn asserted(request: &Request, verdict: &Verdict) -> Self {
        if verdict.assertion().is_none() {
            return Self::default();
        }
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let traceparent = |index: usize, length: usize| {
            let part = header("traceparent")?.split('-').nth(index)?;
            Some(part.to_owned()).filter(|part| part.len() == length)
        };
        Self {
            user_id: verdict.user().map(|user| user.id.clone()),
            trace_id: traceparent(1, 32),
            span_id: traceparent(2, 16),
            path: Some(redact(request.uri().path())),
            user_agent: header("user-agent").map(redact),
            ip: header("x-forwarded-for").map(redact),
        }
    }

    /// The fields of a request that direct mode admitted. The middleware of direct mode adds them to
    /// the extensions of the response.
    pub(super) fn direct(request: &Request, address: IpAddr, user_id: Option<String>) -> Self {
        let user_agent = request.headers().get("user-agent").and_then(|value| value.to_str().ok());
        Self {
            user_id,
            trace_id: None,
            span_id: None,
            path: Some(redact(request.uri().path())),
            user_agent: user_agent.map(redact),
            ip: Some(address.to_string()),
        }
    }
}

/// Parses the trace context of a request. Only the gateway's and services' values are trusted.
pub(super) fn trace_context(headers: &HeaderMap) -> Option<TraceContext> {
    TraceContext::parse(headers.get(TraceContext::HEADER)?.to_str().ok()?)
}
