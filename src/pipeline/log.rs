//! The one line that a request leaves in the log. Holds no header, no query, no
//! claim but the verified user id, and no word long enough to be a token.

use serde::Serialize;

use crate::token::UnixMillis;

/// One request, for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// When the line was written (RFC 3339), by the host's clock.
    pub timestamp: String,
    /// `info`, `warn` for 4xx, `error` for 5xx.
    pub level: &'static str,
    /// Always `gateway`.
    pub service: &'static str,
    /// Id of the request, as answered in `X-Request-Id`.
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
    /// Index of the route in the policy, for the metrics.
    #[serde(skip)]
    pub(super) route_index: Option<usize>,
    /// Index of the upstream, for the metrics.
    #[serde(skip)]
    pub(super) upstream_index: Option<usize>,
    /// When the upstream was first asked, and when it had answered or failed.
    #[serde(skip)]
    pub(super) upstream_times: Option<(UnixMillis, UnixMillis)>,
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
    /// Milliseconds spent on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<u64>,
    /// `token` when the token was remembered; else where the key that checked it
    /// was: `memory`, `kv` or `issuer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<&'static str>,
    /// Code of the denial, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What an operator must know of the denial and no client may: which setting is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The client's software, as it calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The client's address, as the platform saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
}

impl LogLine {
    /// The line as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A denial, for whoever reviews who was refused what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditEvent<'a> {
    /// Always `gateway.access`.
    pub event_type: &'static str,
    /// Always `denied`.
    pub result: &'static str,
    /// Verified user, if any.
    pub user_id: Option<&'a str>,
    /// The canonical path.
    pub entity_id: &'a str,
    /// Method and pattern of the route.
    pub operation: String,
    /// Id of the request.
    pub request_id: &'a str,
    /// W3C trace id.
    pub trace_id: &'a str,
    /// W3C id of the gateway's span.
    pub span_id: &'a str,
    /// The client's address.
    pub ip_address: Option<&'a str>,
    /// The client's software, as it calls itself.
    pub user_agent: Option<&'a str>,
    /// Code of the denial.
    pub detail: &'static str,
    /// RFC 3339.
    pub timestamp: &'a str,
}

impl LogLine {
    /// Whether the line is to be written, where this many of a hundred successes are. By
    /// our own span's id, so that no client can choose to be left out. Whatever failed or
    /// was refused is always kept.
    pub fn is_kept(&self, successes: u8) -> bool {
        let chance = self.span_id.get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        self.level != "info" || chance.is_none_or(|chance| chance % 100 < u32::from(successes))
    }

    /// The audit event of a request that was refused for want of a token, a right or
    /// patience; `None` for any other.
    pub fn audit(&self) -> Option<AuditEvent<'_>> {
        let detail = self.code.filter(|_| matches!(self.status, 401 | 403 | 429))?;
        Some(AuditEvent {
            event_type: "gateway.access",
            result: "denied",
            user_id: self.user_id.as_deref(),
            entity_id: &self.path,
            operation: format!("{} {}", self.method, self.route.as_deref().unwrap_or("gateway")),
            request_id: &self.request_id,
            trace_id: &self.trace_id,
            span_id: &self.span_id,
            ip_address: self.ip.as_deref(),
            user_agent: self.user_agent.as_deref(),
            detail,
            timestamp: &self.timestamp,
        })
    }
}

pub(super) const fn level(status: u16) -> &'static str {
    match status {
        500.. => "error",
        400..=499 => "warn",
        _ => "info",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successes_are_sampled_and_everything_else_is_kept() {
        let line =
            |level, number: u32| LogLine { level, span_id: format!("{number:08x}00000000"), ..LogLine::default() };
        for (successes, expected) in [(0, 0), (1, 100), (25, 2500), (100, 10_000)] {
            let kept = (0..10_000).filter(|number| line("info", *number).is_kept(successes)).count();
            assert_eq!(kept, expected, "{successes} of a hundred");
            for level in ["warn", "error"] {
                assert!((0..1000).all(|number| line(level, number).is_kept(successes)));
            }
        }
    }

    #[test]
    fn what_is_refused_is_an_audit_event_and_what_fails_is_not() {
        for (status, code, expected) in [
            (401, Some("token_expired"), true),
            (403, Some("rights_missing"), true),
            (429, Some("rate_limited"), true),
            (404, Some("route_unknown"), false),
            (503, Some("keys_unavailable"), false),
            (401, None, false),
            (200, None, false),
        ] {
            let line = LogLine {
                status,
                code,
                method: "GET".into(),
                path: "/x/7".into(),
                route: Some("/x/{id}".into()),
                ..LogLine::default()
            };
            let event = line.audit();
            assert_eq!(event.is_some(), expected, "{status} {code:?}");
            if let Some(event) = event {
                assert_eq!(
                    (event.operation.as_str(), event.entity_id, Some(event.detail)),
                    ("GET /x/{id}", "/x/7", code)
                );
            }
        }
    }
}
