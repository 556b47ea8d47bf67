//! Every way in which the gateway refuses a request, and the one place where a refusal becomes a
//! status, a code and a text.
//!
//! Codes are fine-grained ([`TokenError`] has one for each check); texts are few, so that an
//! attacker learns from a 401 only that it is one.

use super::{
    authenticator::AuthError, limits, rate_limiter::LimitExceeded, revocation_checker::RevocationError,
    upstream::ForwardError, wire::Fault,
};
use portcullis_policy::OnDown;
use portcullis_token::TokenError;

/// A refusal; [`Denial::wording`] says what each one means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[rustfmt::skip]
#[allow(missing_docs, reason = "each variant's text is its documentation")]
pub enum Denial {
    TargetAmbiguous,
    TargetTooLong,
    HeadersTooLarge,
    BodyUnexpected,
    HostInvalid,
    RouteUnknown,
    /// `allow` is the value of `Allow`.
    MethodNotAllowed { allow: String },
    CredentialsMissing,
    CredentialsMalformed,
    Token(TokenError),
    TokenRevoked,
    RevocationUnknown { retry_ms: u64 },
    /// `detail` says where, and what to send instead; it holds nothing of the body.
    PushMalformed { detail: String },
    PushTooLarge,
    MetricsTokenWrong,
    MetricsUnavailable,
    RateLimited { retry_s: u64 },
    OriginUnlisted,
    CrossSite,
    PermissionMissing,
    KeysUnavailable { retry_ms: u64 },
    BackendUnavailable,
    GatewayBusy,
    /// `fault` names the setting for the log alone; it never holds its value.
    Misconfigured { fault: String },
    UpstreamUnreachable,
    BodyTooSlow,
    BodyTooLarge,
    /// The answer is for the log alone.
    ClientGone,
    BreakerOpen { retry_ms: u64, of_authentication: bool },
    Maintenance { retry_s: u64 },
    UpstreamBusy,
    AuthenticationUnavailable,
    UpstreamTimedOut,
    UpstreamBadAnswer,
    /// Clocks or secrets of the gateway and the upstream differ.
    UpstreamRejectedAssertion,
}

/// A denial as the client sees it (RFC 9457).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wording {
    pub(super) status: u16,
    /// The `code` member: stable and fine-grained.
    pub(super) code: &'static str,
    pub(super) detail: &'static str,
}

impl Wording {
    /// Returns the `type` member: the family of errors.
    pub(super) const fn family(self) -> &'static str {
        match self.status {
            401 => "authentication_error",
            403 => "permission_denied",
            404 => "not_found",
            405 => "method_not_allowed",
            413 => "payload_too_large",
            429 => "rate_limited",
            502 | 504 => "upstream_error",
            503 => "unavailable",
            _ => "validation_error",
        }
    }

    /// Returns the `title` member: the status in words.
    pub(super) const fn title(self) -> &'static str {
        match self.status {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            413 => "Content Too Large",
            414 => "URI Too Long",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            _ => "Bad Request",
        }
    }
}

impl Denial {
    /// Returns the stable code for logs and metrics.
    pub fn code(&self) -> &'static str {
        self.wording().code
    }

    /// Returns the status of the answer.
    pub fn status(&self) -> u16 {
        self.wording().status
    }

    /// Returns whether the request tried a token that was never good. An expired token was good
    /// once, and its owner must learn that it has expired.
    pub(super) const fn is_guess(&self) -> bool {
        if let Self::Token(error) = self {
            !matches!(error, TokenError::Expired)
        } else {
            matches!(self, Self::CredentialsMalformed | Self::MetricsTokenWrong)
        }
    }

    /// Returns the seconds for `Retry-After`, on 429 and on faults of the gateway or an upstream.
    pub(super) fn retry_after_s(&self) -> Option<u64> {
        if let Self::KeysUnavailable { retry_ms }
        | Self::RevocationUnknown { retry_ms }
        | Self::BreakerOpen { retry_ms, .. } = self
        {
            return Some(retry_ms.div_ceil(1000).max(1));
        }
        if let Self::RateLimited { retry_s } | Self::Maintenance { retry_s } = self {
            return Some(*retry_s);
        }
        if matches!(self, Self::UpstreamBusy | Self::GatewayBusy) {
            return Some(limits::BUSY_RETRY_S);
        }
        (self.status() >= 500).then_some(limits::UPSTREAM_RETRY_S)
    }

    /// Returns `WWW-Authenticate` (RFC 6750, section 3), on 401 and on a missing permission.
    pub(super) fn challenge(&self) -> Option<String> {
        const REALM: &str = r#"Bearer realm="portcullis""#;
        if matches!(self, Self::CredentialsMissing) {
            return Some(REALM.to_owned());
        }
        if matches!(self, Self::PermissionMissing) {
            return Some(format!(r#"{REALM}, error="insufficient_scope""#));
        }
        let Wording { status, detail, .. } = self.wording();
        let error = if matches!(self, Self::CredentialsMalformed) { "invalid_request" } else { "invalid_token" };
        (status == 401).then(|| format!(r#"{REALM}, error="{error}", error_description="{detail}""#))
    }

    /// Returns the text for the client.
    pub(super) fn detail(&self) -> &str {
        if let Self::PushMalformed { detail } = self { detail } else { self.wording().detail }
    }

    /// Returns details for the log that no client may see.
    pub(super) fn detail_for_log(&self) -> Option<&str> {
        if let Self::Misconfigured { fault } = self { Some(fault) } else { None }
    }

    /// Returns status, code and text.
    #[rustfmt::skip]
    pub(super) fn wording(&self) -> Wording {
        let (status, code, detail) = match self {
            Self::TargetAmbiguous => (400, "path_ambiguous", "The path is ambiguous; send it in canonical form"),
            Self::TargetTooLong => (414, "path_too_long", "The path or the query is too long"),
            Self::HeadersTooLarge => (431, "headers_too_large", "The request has too many or too long headers"),
            Self::BodyUnexpected => (400, "body_unexpected", "A GET or HEAD request must not have a body"),
            Self::HostInvalid => (400, "host_invalid", "The Host header is not a host name"),
            Self::RouteUnknown => (404, "route_unknown", "No such path"),
            Self::MethodNotAllowed { .. } => (405, "method_not_allowed", "The path does not support this method"),
            Self::CredentialsMissing => (401, "credentials_missing", "Authorization header required"),
            Self::CredentialsMalformed => (401, "credentials_malformed", "Invalid authorization format"),
            Self::Token(error @ TokenError::Expired) => (401, error.code(), "Token has expired"),
            Self::Token(error) => (401, error.code(), "Invalid token"),
            Self::TokenRevoked => (401, "token_revoked", "Token has been revoked"),
            Self::RevocationUnknown { .. } => (503, "revocation_unavailable", "The gateway cannot check at the moment whether the token was revoked"),
            Self::PushMalformed { .. } => (400, "push_malformed", "The body is not a list of revocations"),
            Self::PushTooLarge => (413, "push_too_large", "The list of revocations is too long; send it in several requests"),
            Self::MetricsTokenWrong => (401, "metrics_token_wrong", "Invalid token"),
            Self::MetricsUnavailable => (503, "metrics_unavailable", "The metrics cannot be read at the moment"),
            Self::RateLimited { .. } => (429, "rate_limited", "Too many requests; try again later"),
            Self::OriginUnlisted => (403, "origin_unlisted", "Pages of this origin may not send this request"),
            Self::CrossSite => (403, "cross_site", "Pages of other sites may not use the session of this browser"),
            Self::PermissionMissing => (403, "rights_missing", "Insufficient permissions"),
            Self::KeysUnavailable { .. } => (503, "keys_unavailable", "Authentication service unavailable"),
            Self::AuthenticationUnavailable => (503, "authentication_unavailable", "Authentication service unavailable"),
            Self::BackendUnavailable => (503, "signature_backend_unavailable", "The gateway cannot check tokens at the moment"),
            Self::Misconfigured { .. } => (503, "gateway_misconfigured", "The gateway is not configured completely"),
            Self::GatewayBusy => (503, "gateway_busy", "Too many requests wait at the gateway"),
            Self::BodyTooSlow => (408, "body_too_slow", "The request's body did not arrive in time"),
            Self::BodyTooLarge => (413, "body_too_large", "The request's body is longer than this path accepts"),
            Self::ClientGone => (400, "client_gone", "The client closed the connection"),
            Self::BreakerOpen { of_authentication: true, .. } => (503, "upstream_resting", "Authentication service unavailable"),
            Self::BreakerOpen { .. } => (503, "upstream_resting", "The service behind the gateway failed several times; requests to it are paused"),
            Self::Maintenance { .. } => (503, "maintenance", "The service behind the gateway is under maintenance"),
            Self::UpstreamBusy => (503, "upstream_busy", "Too many requests are waiting for the service behind the gateway"),
            Self::UpstreamUnreachable => (502, "upstream_unreachable", "The service behind the gateway cannot be reached"),
            Self::UpstreamBadAnswer => (502, "upstream_bad_answer", "The service behind the gateway gave no valid answer"),
            Self::UpstreamRejectedAssertion => (502, "upstream_rejected_assertion", "The service behind the gateway did not accept the gateway's request"),
            Self::UpstreamTimedOut => (504, "upstream_timeout", "The service behind the gateway did not answer in time"),
        };
        Wording { status, code, detail }
    }

    /// Returns the denial for a request that has no answer of an upstream.
    pub(super) fn of_upstream(error: ForwardError, on_down: OnDown, assertion_fault: Option<&str>) -> Self {
        let of_authentication = on_down == OnDown::AuthenticationUnavailable;
        match error {
            ForwardError::Unsigned => {
                Self::Misconfigured { fault: assertion_fault.unwrap_or("the assertion cannot be signed").to_owned() }
            }
            ForwardError::Busy => Self::UpstreamBusy,
            ForwardError::Open { retry_ms } => Self::BreakerOpen { retry_ms, of_authentication },
            ForwardError::RejectedAssertion => Self::UpstreamRejectedAssertion,
            ForwardError::Fault(fault) => match fault {
                Fault::TimedOut | Fault::Stalled => Self::UpstreamTimedOut,
                Fault::BadStatus => Self::UpstreamBadAnswer,
                Fault::BodySlow => Self::BodyTooSlow,
                Fault::TooLarge => Self::BodyTooLarge,
                Fault::ClientGone => Self::ClientGone,
                Fault::Unreachable | Fault::BrokeOff | Fault::Redirected | Fault::NotBound => {
                    if of_authentication {
                        Self::AuthenticationUnavailable
                    } else {
                        Self::UpstreamUnreachable
                    }
                }
            },
        }
    }
}

impl From<AuthError> for Denial {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Token(error) => Self::Token(error),
            AuthError::KeysUnavailable { retry_ms } => Self::KeysUnavailable { retry_ms },
            AuthError::BackendUnavailable => Self::BackendUnavailable,
        }
    }
}

impl From<RevocationError> for Denial {
    fn from(error: RevocationError) -> Self {
        match error {
            RevocationError::Revoked => Self::TokenRevoked,
            RevocationError::Unknown { retry_ms } => Self::RevocationUnknown { retry_ms },
        }
    }
}

impl From<LimitExceeded> for Denial {
    fn from(LimitExceeded { retry_s }: LimitExceeded) -> Self {
        Self::RateLimited { retry_s }
    }
}
