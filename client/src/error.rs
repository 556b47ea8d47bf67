//! Errors of this crate: [`ClientError`] for every call, [`Refusal`] for what a service answered
//! (RFC 9457), and [`StoreError`] for a session's store.
//!
//! Errors end in logs. None holds a token, a password, a URL or a body. Text from a service is
//! bounded, and words long enough to be a token are removed.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use portcullis_redact::redact;
use serde_json::Value;

/// Bytes of a stable code.
const CODE_BYTES: usize = 64;

/// Field errors of one refusal that are kept.
const FIELDS: usize = 32;

/// The longest `Retry-After` that is accepted: a day. A longer one comes from a wrong clock.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// The call or a setting is invalid, and nothing was sent. The text names the fault.
    Invalid(&'static str),
    /// The connection could not be established: nothing was sent.
    Unreachable,
    /// No answer in time. The service may have processed the call.
    Timeout,
    /// The connection broke off. The service may have processed the call.
    Lost,
    /// The circuit breaker is open after several failures in a row: nothing was sent.
    BreakerOpen {
        /// Time until the next call may be sent.
        retry_after: Duration,
    },
    /// The answer violates the contract.
    Malformed {
        /// HTTP status of the answer.
        status: u16,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The service answered with a status from 400 to 599.
    Refused(Box<Refusal>),
    /// There is no session, or it has ended: log in (again).
    LoggedOut,
    /// The session's store failed.
    Store(StoreError),
}

/// What a program can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Correct the call: 400, 413, 415, 422, or rejected by this crate.
    Invalid,
    /// Log in or use other credentials: 401, or no session.
    Unauthenticated,
    /// The user lacks the right: 403.
    Forbidden,
    /// Ask the user for the current password and send it with the change, or log in again: 403
    /// `reauthentication_required`.
    ReauthenticationRequired,
    /// The resource does not exist: 404.
    NotFound,
    /// The name is taken, or the resource is in use: 409.
    Conflict,
    /// The resource has another version: read it again, decide whether the change still applies,
    /// and send it with the new version. 412, `version_mismatch`.
    Stale,
    /// Wait: 429.
    RateLimited,
    /// Try again later: no connection, 502, 503, or an open circuit breaker.
    Unavailable,
    /// No answer in time, or 504.
    Timeout,
    /// The service is at fault: another 5xx, an answer that violates the contract, or
    /// `gateway_required`, which a service sends when it is called without the gateway.
    Fault,
    /// Another refusal.
    Refused,
    /// The session's store failed.
    Store,
}

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

/// Why a session's store failed. Holds no path and no part of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process or task holds the lock for too long.
    Busy,
    /// The content is not a session.
    Malformed,
    /// Users other than the owner can read the file.
    Exposed,
    /// The store cannot be read or written.
    Io(std::io::ErrorKind),
    /// A failure of another implementation, in its own words.
    Other(&'static str),
}

impl ClientError {
    /// Returns what a program can do about the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Unreachable | Self::Lost | Self::BreakerOpen { .. } => ErrorKind::Unavailable,
            Self::Timeout => ErrorKind::Timeout,
            Self::Malformed { .. } => ErrorKind::Fault,
            Self::LoggedOut => ErrorKind::Unauthenticated,
            Self::Store(_) => ErrorKind::Store,
            Self::Refused(refusal) => refusal.kind(),
        }
    }

    /// Returns the status of the answer, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            Self::Malformed { status, .. } => Some(*status),
            Self::Invalid(_)
            | Self::Unreachable
            | Self::Timeout
            | Self::Lost
            | Self::BreakerOpen { .. }
            | Self::LoggedOut
            | Self::Store(_) => None,
        }
    }

    /// Returns a stable code: the service's, or this crate's own.
    pub fn code(&self) -> &str {
        match self {
            Self::Invalid(_) => "call_invalid",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Lost => "connection_lost",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::Malformed { .. } => "answer_malformed",
            Self::Refused(refusal) => &refusal.code,
            Self::LoggedOut => "logged_out",
            Self::Store(error) => error.code(),
        }
    }

    /// Returns the time until the next try, if the service or the circuit breaker names one.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::BreakerOpen { retry_after } = self { Some(*retry_after) } else { self.refusal()?.retry_after }
    }

    /// Returns the service's refusal.
    pub fn refusal(&self) -> Option<&Refusal> {
        if let Self::Refused(refusal) = self { Some(refusal) } else { None }
    }

    /// Returns the service's sentence for people.
    pub fn detail(&self) -> Option<&str> {
        Some(self.refusal()?.detail.as_str()).filter(|detail| !detail.is_empty())
    }

    /// Returns the id of the request in the service's log.
    pub fn request_id(&self) -> Option<&str> {
        self.refusal()?.request_id.as_deref()
    }

    /// Returns the errors in single fields of the request.
    pub fn fields(&self) -> &[FieldError] {
        self.refusal().map_or(&[], |refusal| &refusal.fields)
    }

    /// Whether the auth service says that a refresh token's session is over: the token is unknown,
    /// expired or spent (`token_invalid`), or revoked (`token_revoked`). Another 401, of a proxy or
    /// of a service called without the gateway, says nothing about the session.
    pub(crate) fn ends_session(&self) -> bool {
        self.refusal().is_some_and(|refusal| {
            refusal.status == 401 && matches!(refusal.code.as_str(), "token_invalid" | "token_revoked")
        })
    }

    /// Whether the access token was refused and a refresh may help: it has expired, was revoked,
    /// or its signing key is gone. A wrong password is 401 too, and not this.
    pub fn wants_refresh(&self) -> bool {
        self.refusal().is_some_and(|refusal| {
            refusal.status == 401 && (refusal.code.starts_with("token_") || refusal.invalid_token)
        })
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(fault) => write!(formatter, "the call is not valid: {fault}"),
            Self::Unreachable => formatter.write_str("no connection to the service"),
            Self::Timeout => formatter.write_str("no answer in time"),
            Self::Lost => formatter.write_str("the connection broke off"),
            Self::BreakerOpen { retry_after } => {
                write!(formatter, "the service failed several times; it is asked again in {} s", retry_after.as_secs())
            }
            Self::Malformed { status, reason } => write!(formatter, "the answer ({status}) is malformed: {reason}"),
            Self::Refused(refusal) => refusal.fmt(formatter),
            Self::LoggedOut => formatter.write_str("there is no session, or it has ended"),
            Self::Store(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<StoreError> for ClientError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Refusal> for ClientError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
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

    fn kind(&self) -> ErrorKind {
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

impl StoreError {
    /// Whether a login resolves the error, by replacing the content.
    pub(crate) const fn is_resolved_by_login(self) -> bool {
        matches!(self, Self::Malformed | Self::Exposed)
    }

    /// Returns a stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Busy => "store_busy",
            Self::Malformed => "store_malformed",
            Self::Exposed => "store_exposed",
            Self::Io(_) | Self::Other(_) => "store_failed",
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => formatter.write_str("the session's store is locked by another process or task"),
            Self::Malformed => {
                formatter.write_str("the session's store does not hold a session; log in again, which replaces it")
            }
            Self::Exposed => formatter.write_str(
                "the session's file can be read by others; log in again, which ends that session and replaces the \
                 file, or chmod it to 600 if no other user can have read it",
            ),
            Self::Io(kind) => write!(formatter, "the session's store cannot be read or written: {kind}"),
            Self::Other(fault) => write!(formatter, "the session's store failed: {fault}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

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

    #[test]
    fn each_status_has_a_kind() {
        use ErrorKind::*;
        for (status, kind) in [
            (400, Invalid),
            (401, Unauthenticated),
            (403, Forbidden),
            (404, NotFound),
            (405, Refused),
            (409, Conflict),
            (412, Stale),
            (413, Invalid),
            (415, Invalid),
            (422, Invalid),
            (429, RateLimited),
            (500, Fault),
            (502, Unavailable),
            (503, Unavailable),
            (504, Timeout),
        ] {
            assert_eq!(ClientError::from(Refusal::new(status, "x")).kind(), kind, "{status}");
        }
    }

    #[test]
    fn each_error_says_what_happened_what_to_do_and_when() {
        let second = Duration::from_secs(1);
        let refused = || {
            let mut refusal = refusal(503, &[PROBLEM], r#"{"code":"down","detail":"Later","request_id":"r1"}"#);
            refusal.retry_after = Some(second);
            ClientError::from(refusal)
        };
        let open = ClientError::BreakerOpen { retry_after: second };
        let malformed = ClientError::Malformed { status: 200, reason: "no JSON" };
        for (error, kind, code, status, text) in [
            (ClientError::Invalid("no host"), ErrorKind::Invalid, "call_invalid", None, "no host"),
            (ClientError::Unreachable, ErrorKind::Unavailable, "unreachable", None, "no connection"),
            (ClientError::Timeout, ErrorKind::Timeout, "timeout", None, "in time"),
            (ClientError::Lost, ErrorKind::Unavailable, "connection_lost", None, "broke off"),
            (open, ErrorKind::Unavailable, "breaker_open", None, "asked again in 1 s"),
            (malformed, ErrorKind::Fault, "answer_malformed", Some(200), "no JSON"),
            (refused(), ErrorKind::Unavailable, "down", Some(503), "503 down: Later"),
            (ClientError::LoggedOut, ErrorKind::Unauthenticated, "logged_out", None, "no session"),
            (StoreError::Busy.into(), ErrorKind::Store, "store_busy", None, "locked"),
        ] {
            assert_eq!((error.kind(), error.code(), error.status()), (kind, code, status), "{error:?}");
            assert!(error.to_string().contains(text), "{error}");
            let waits = matches!(error, ClientError::BreakerOpen { .. } | ClientError::Refused(_));
            assert_eq!(error.retry_after(), waits.then_some(second), "{error}");
        }
        assert_eq!((refused().detail(), refused().request_id()), (Some("Later"), Some("r1")));
        assert_eq!(ClientError::from(Refusal::new(404, "x")).detail(), None);
        assert_eq!((ClientError::Lost.detail(), ClientError::Lost.fields()), (None, &[][..]));
    }

    #[test]
    fn a_service_that_was_reached_without_the_gateway_asks_for_no_login() {
        assert_eq!(ClientError::from(Refusal::new(401, "gateway_required")).kind(), ErrorKind::Fault);
    }

    #[test]
    fn only_a_403_that_asks_for_the_password_has_a_kind_of_its_own() {
        for (status, code, kind) in [
            (403, "reauthentication_required", ErrorKind::ReauthenticationRequired),
            (403, "forbidden", ErrorKind::Forbidden),
            (403, "http_403", ErrorKind::Forbidden),
            (401, "reauthentication_required", ErrorKind::Unauthenticated),
            (502, "reauthentication_required", ErrorKind::Unavailable),
        ] {
            let error = ClientError::from(Refusal::new(status, code));
            assert_eq!(error.kind(), kind, "{status} {code}");
            assert!(!error.wants_refresh(), "{status} {code}: another access token does not help");
        }
    }

    #[test]
    fn only_a_refused_token_wants_a_refresh() {
        for (status, code, wanted) in [
            (401, "token_expired", true),
            (401, "token_revoked", true),
            (401, "token_key_unknown", true),
            (401, "invalid_credentials", false),
            (401, "credentials_missing", false),
            (401, "gateway_required", false),
            (502, "upstream_rejected_assertion", false),
            (403, "token_expired", false),
        ] {
            assert_eq!(ClientError::from(Refusal::new(status, code)).wants_refresh(), wanted, "{status} {code}");
        }
        let foreign = refusal(401, &[("www-authenticate", "Bearer error=\"invalid_token\"")], "");
        assert!(ClientError::from(foreign).wants_refresh());
    }

    #[test]
    fn each_failure_of_a_store_says_what_to_look_at() {
        for (error, code, text) in [
            (StoreError::Busy, "store_busy", "locked"),
            (StoreError::Malformed, "store_malformed", "log in again, which replaces it"),
            (StoreError::Exposed, "store_exposed", "log in again, which ends that session"),
            (StoreError::Exposed, "store_exposed", "chmod it to 600"),
            (StoreError::Io(std::io::ErrorKind::StorageFull), "store_failed", "storage"),
            (StoreError::Other("the card is not there"), "store_failed", "the card is not there"),
        ] {
            assert_eq!(error.code(), code);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
