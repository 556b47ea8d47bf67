//! The one line that a request leaves in the log. Holds no header, no query, no
//! claim but the verified user id, and no word long enough to be a token.

use serde::Serialize;

use super::limits;

/// One request, for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogLine {
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

pub(super) const fn level(status: u16) -> &'static str {
    match status {
        500.. => "error",
        400..=499 => "warn",
        _ => "info",
    }
}

/// What ends a word. None of these is in base64url, so no token is cut in two.
const SEPARATORS: [char; 6] = ['/', ' ', ';', ',', '(', ')'];

/// Text from a client, fit for a log: bounded, and every run of characters that
/// is long enough to be a token replaced. People paste tokens into paths.
pub(super) fn tame(text: &str) -> String {
    let mut tamed = String::new();
    for piece in text.split_inclusive(SEPARATORS) {
        if piece.trim_end_matches(SEPARATORS).len() > limits::LOG_WORD_BYTES {
            tamed.push_str("[long]");
            if piece.ends_with('/') {
                tamed.push('/');
            }
        } else {
            tamed.push_str(piece);
        }
        if tamed.len() > limits::LOG_TEXT_BYTES {
            break;
        }
    }
    tamed.chars().filter(|c| !c.is_control()).take(limits::LOG_TEXT_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_token_is_not_logged() {
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl";
        assert_eq!(tame(&format!("/a/{token}/b")), "/a/[long]/b");
        assert_eq!(tame(token), "[long]");
        assert_eq!(tame(&format!("curl/8 {token}")), "curl/8 [long]");
        assert_eq!(
            tame("/api/v1/users/0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f"),
            "/api/v1/users/0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f"
        );
        let refresh = "k7Qe0Zr1hVw2xUy3TzA4sB5rC6qD7pE8oF9nG0mH1lI";
        assert_eq!(tame(&format!("/refresh/{refresh}/{refresh}")), "/refresh/[long]/[long]");
        assert_eq!(tame("a\nb\0c"), "abc");
        assert!(tame(&"ab/".repeat(1000)).len() <= limits::LOG_TEXT_BYTES);
    }
}
