//! Errors of this crate: [`ClientError`] for every call, [`Refusal`] for what a service answered
//! (RFC 9457), and [`StoreError`] for a session's store.
//!
//! Errors end in logs. None holds a token, a password, a URL or a body. Text from a service is
//! bounded, and words long enough to be a token are removed.

mod refusal;
mod store;

use std::{fmt, time::Duration};

pub use refusal::{FieldError, Refusal};
pub use store::StoreError;

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
        if let Self::Malformed { status, .. } = self { Some(*status) } else { Some(self.refusal()?.status) }
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

#[cfg(test)]
mod tests {
    use super::*;

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
            ClientError::from(Refusal {
                detail: "Later".to_owned(),
                request_id: Some("r1".to_owned()),
                retry_after: Some(second),
                ..Refusal::new(503, "down")
            })
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
        let foreign = Refusal { invalid_token: true, ..Refusal::new(401, "http_401") };
        assert!(ClientError::from(foreign).wants_refresh());
    }
}
