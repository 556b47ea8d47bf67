//! [`Refusal`]: a problem document (RFC 9457), read with limits and redacted.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use portcullis_redact::redact;
use serde_json::Value;

use super::ErrorKind;

/// Bytes of a stable code.
const CODE_BYTES: usize = 64;

/// Field errors of one refusal that are kept.
const FIELDS: usize = 32;

/// The longest `Retry-After` that is accepted: a day. A longer one comes from a wrong clock.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A service's answer with a status from 400 to 599.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Stable code of the contract, such as `token_expired`; `http_<status>` if the answer has
    /// none.
    pub code: String,
    /// A sentence for people.
    pub detail: String,
    /// Id of the request in the service's log.
    pub request_id: Option<String>,
    /// Time until the next try.
    pub retry_after: Option<Duration>,
    /// Errors in single fields of the request.
    pub fields: Vec<FieldError>,
    /// Whether the challenge says `invalid_token` (RFC 6750, section 3.1).
    pub(crate) invalid_token: bool,
}

/// An error in one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Name, as in the request.
    pub field: String,
    /// What the field must contain.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.status, self.code, self.detail)?;
        for FieldError { field, message } in &self.fields {
            write!(formatter, "; {field}: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Returns a refusal with a status and a code, for fakes in tests.
    pub fn new(status: u16, code: &str) -> Self {
        Self {
            status,
            code: code.to_owned(),
            detail: String::new(),
            request_id: None,
            retry_after: None,
            fields: Vec::new(),
            invalid_token: false,
        }
    }

    /// Reads the headers and the body of a refusal. The body is read as a problem document only if
    /// it is declared as JSON.
    pub(crate) fn read(status: u16, headers: &reqwest::header::HeaderMap, body: &[u8], now: SystemTime) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let is_json = header("content-type").is_some_and(|text| text.to_ascii_lowercase().contains("json"));
        let document: Value = if is_json { serde_json::from_slice(body).unwrap_or_default() } else { Value::Null };
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        let code = text("code").filter(|code| is_code(code));
        Self {
            status,
            code: code.map_or_else(|| format!("http_{status}"), str::to_owned),
            detail: text("detail").or_else(|| text("error")).map(redact).unwrap_or_default(),
            request_id: header("x-request-id").or_else(|| text("request_id")).map(redact),
            retry_after: header("retry-after").and_then(|text| parse_retry_after(text, now)),
            fields: document.get("errors").and_then(Value::as_array).map(|all| read_fields(all)).unwrap_or_default(),
            invalid_token: header("www-authenticate").is_some_and(|text| text.contains("error=\"invalid_token\"")),
        }
    }

    pub(super) fn kind(&self) -> ErrorKind {
        match (self.status, self.code.as_str()) {
            // The base URL is a service's instead of the gateway's: other credentials do not help.
            (_, "gateway_required") => ErrorKind::Fault,
            (403, "reauthentication_required") => ErrorKind::ReauthenticationRequired,
            (400 | 413 | 414 | 415 | 422 | 431, _) => ErrorKind::Invalid,
            (401, _) => ErrorKind::Unauthenticated,
            (403, _) => ErrorKind::Forbidden,
            (404, _) => ErrorKind::NotFound,
            (409, _) => ErrorKind::Conflict,
            (412, _) => ErrorKind::Stale,
            (429, _) => ErrorKind::RateLimited,
            (502 | 503, _) => ErrorKind::Unavailable,
            (504, _) => ErrorKind::Timeout,
            (500..=599, _) => ErrorKind::Fault,
            (_, _) => ErrorKind::Refused,
        }
    }
}

fn is_code(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !text.is_empty() && text.len() <= CODE_BYTES && text.bytes().all(is_plain)
}

fn read_fields(all: &[Value]) -> Vec<FieldError> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(redact).unwrap_or_default();
    let read = |value| FieldError { field: text(value, "field"), message: text(value, "message") };
    all.iter().take(FIELDS).map(read).collect()
}

/// Parses `Retry-After`: seconds or a date (RFC 9110, section 10.2.3).
fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn refusal(status: u16, headers: &[(&'static str, &str)], body: &str) -> Refusal {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        let now = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(784_111_770)).unwrap();
        Refusal::read(status, &headers, body.as_bytes(), now)
    }

    const PROBLEM: (&str, &str) = ("content-type", "application/problem+json");

    #[test]
    fn a_problem_document_is_read_and_whatever_else_is_known_by_its_status() {
        let code = |headers: &[(&'static str, &str)], body| refusal(401, headers, body).code;
        assert_eq!(code(&[PROBLEM], r#"{"code":"token_expired"}"#), "token_expired");
        for body in ["", "<html>", "[]", "null", r#"{"code":7}"#, r#"{"code":"not a code"}"#, r#"{"code":""}"#] {
            assert_eq!(code(&[PROBLEM], body), "http_401", "{body}");
        }
        assert_eq!(code(&[("content-type", "text/html")], r#"{"code":"token_expired"}"#), "http_401");
    }

    #[test]
    fn the_members_of_a_problem_are_kept() {
        let read = refusal(
            422,
            &[PROBLEM],
            r#"{"detail":"Some fields are invalid","code":"fields_invalid","request_id":"r1",
                "errors":[{"field":"email","message":"must be an address"},{"field":3}]}"#,
        );
        assert_eq!((read.detail.as_str(), read.request_id.as_deref()), ("Some fields are invalid", Some("r1")));
        assert_eq!(read.fields[0], FieldError { field: "email".into(), message: "must be an address".into() });
        assert_eq!(refusal(400, &[PROBLEM], r#"{"error":"Old text"}"#).detail, "Old text");
    }

    #[test]
    fn a_challenge_may_say_that_the_token_is_invalid() {
        for (challenge, expected) in [("Bearer error=\"invalid_token\"", true), ("Bearer", false)] {
            assert_eq!(refusal(401, &[("www-authenticate", challenge)], "").invalid_token, expected, "{challenge}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_a_day() {
        for (text, seconds) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("999999999999", Some(86_400)),
            ("-1", None),
            ("soon", None),
        ] {
            let read = refusal(503, &[("retry-after", text)], "");
            assert_eq!(read.retry_after, seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_text_that_echoes_a_token_loses_it() {
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl";
        for detail in [format!("bad {token}"), format!("{token}!"), format!("token={token}, \\u0000\\u001b[31m")] {
            let body = format!(r#"{{"detail":"{detail}","errors":[{{"field":"{token}","message":"{token}"}}]}}"#);
            let printed = format!("{0} {0:?}", refusal(401, &[PROBLEM], &body));
            assert!(!printed.contains(token) && !printed.contains('\u{1b}'), "{printed}");
        }
        assert!(refusal(401, &[PROBLEM], &format!(r#"{{"detail":"{}"}}"#, "a ".repeat(5000))).detail.len() <= 256);
    }
}
