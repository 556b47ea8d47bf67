//! Every way in which the gate says no, and what the client is told: the one
//! place where a refusal becomes a status, a code and a text.
//!
//! Fine-grained inside (`TokenError` has a reason for each check), a few texts
//! outside: what an attacker learns from a 401 is that it is one.

use crate::token::TokenError;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The target has more than one reading.
    TargetAmbiguous,
    /// The target is too long.
    TargetTooLong,
    /// Too many or too long headers.
    HeadersTooLarge,
    /// A GET or HEAD request has a body, which could not be passed on.
    BodyUnexpected,
    /// The `Host` header is none.
    HostInvalid,
    /// No route names the path.
    RouteUnknown,
    /// Routes name the path, but not with this method.
    MethodNotAllowed {
        /// Value for `Allow`.
        allow: String,
    },
    /// No `Authorization` header.
    CredentialsMissing,
    /// Not one bearer token.
    CredentialsMalformed,
    /// The token is refused.
    Token(TokenError),
    /// The token was good and is revoked.
    TokenRevoked,
    /// Whether the token was revoked cannot be known.
    RevocationUnknown {
        /// Milliseconds until the log may be asked again.
        retry_ms: u64,
    },
    /// A push of revocations is not one.
    PushMalformed {
        /// Where, and what to send instead; holds nothing of what was sent.
        detail: String,
    },
    /// A push of revocations is too long.
    PushTooLarge,
    /// Not the token for `/metrics`.
    MetricsTokenWrong,
    /// The sums cannot be read.
    MetricsUnavailable,
    /// Too many requests.
    RateLimited {
        /// Seconds until it is worth another try.
        retry_s: u64,
    },
    /// A page of an origin that the route does not list asks whether it may ask.
    OriginUnlisted,
    /// A cookie's token, sent because a page of another site has asked.
    CrossSite,
    /// The token is good, its owner has no right to this.
    RightsMissing,
    /// The issuer's keys cannot be had.
    KeysUnavailable {
        /// Milliseconds until the issuer may be asked again.
        retry_ms: u64,
    },
    /// The signature backend failed.
    BackendUnavailable,
    /// Too many requests wait in this isolate.
    GatewayBusy,
    /// A setting or a secret that the route needs is missing or wrong.
    Misconfigured {
        /// Which, and what is wrong with it; for the log alone, and never the value.
        fault: String,
    },
    /// The upstream cannot be reached.
    UpstreamUnreachable,
    /// The client did not send its body in time.
    BodyTooSlow,
    /// The body is longer than the route takes.
    BodyTooLarge,
    /// The client broke off; the answer is for the log alone.
    ClientGone,
    /// The upstream failed several times in a row and is not asked for a while.
    BreakerOpen {
        /// Milliseconds until one request may try.
        retry_ms: u64,
        /// Whether it is the upstream that logs users in.
        of_authentication: bool,
    },
    /// The upstream is under maintenance, and is not asked.
    Maintenance {
        /// Seconds until it may be back.
        retry_s: u64,
    },
    /// As many requests wait for the upstream as may.
    UpstreamBusy,
    /// The upstream that logs users in cannot be reached.
    AuthenticationUnavailable,
    /// The upstream did not answer in time.
    UpstreamTimedOut,
    /// The upstream's answer is no HTTP answer.
    UpstreamBadAnswer,
    /// The upstream took the gateway's assertion for none, because clocks or secrets
    /// differ. The client's session is as good as before.
    UpstreamRejectedAssertion,
}

/// How a denial is put to the client (RFC 9457, RFC 6750, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wording {
    pub(super) status: u16,
    /// The `type` member: the family, for programs that act on families.
    pub(super) family: &'static str,
    /// The `code` member: stable and fine-grained.
    pub(super) code: &'static str,
    pub(super) title: &'static str,
    pub(super) detail: &'static str,
    /// `WWW-Authenticate`, on 401 and 403.
    pub(super) challenge: Option<&'static str>,
}

impl Denial {
    /// Stable code of the denial, for logs and metrics.
    pub fn code(&self) -> &'static str {
        self.wording().code
    }

    /// Status of the answer.
    pub fn status(&self) -> u16 {
        self.wording().status
    }

    /// Seconds for `Retry-After`, on our own trouble.
    pub(super) fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::KeysUnavailable { retry_ms }
            | Self::RevocationUnknown { retry_ms }
            | Self::BreakerOpen { retry_ms, .. } => Some(retry_ms.div_ceil(1000).max(1)),
            Self::RateLimited { retry_s } | Self::Maintenance { retry_s } => Some(*retry_s),
            Self::UpstreamBusy | Self::GatewayBusy => Some(super::limits::BUSY_RETRY_S),
            Self::BackendUnavailable
            | Self::Misconfigured { .. }
            | Self::MetricsUnavailable
            | Self::UpstreamUnreachable
            | Self::AuthenticationUnavailable
            | Self::UpstreamTimedOut
            | Self::UpstreamBadAnswer
            | Self::UpstreamRejectedAssertion => Some(super::limits::UPSTREAM_RETRY_S),
            Self::TargetAmbiguous
            | Self::TargetTooLong
            | Self::HeadersTooLarge
            | Self::HostInvalid
            | Self::RouteUnknown
            | Self::MethodNotAllowed { .. }
            | Self::CredentialsMissing
            | Self::CredentialsMalformed
            | Self::Token(_)
            | Self::TokenRevoked
            | Self::PushMalformed { .. }
            | Self::PushTooLarge
            | Self::MetricsTokenWrong
            | Self::BodyTooSlow
            | Self::BodyUnexpected
            | Self::BodyTooLarge
            | Self::ClientGone
            | Self::OriginUnlisted
            | Self::CrossSite
            | Self::RightsMissing => None,
        }
    }

    /// What is to be said instead of the wording's detail.
    pub(super) fn particular(&self) -> Option<&str> {
        if let Self::PushMalformed { detail } = self { Some(detail) } else { None }
    }

    /// What an operator finds in the log and no client is told.
    pub(super) fn for_log(&self) -> Option<&str> {
        if let Self::Misconfigured { fault } = self { Some(fault) } else { None }
    }

    pub(super) fn wording(&self) -> Wording {
        let plain =
            |status, family, code, title, detail| Wording { status, family, code, title, detail, challenge: None };
        match self {
            Self::TargetAmbiguous => plain(
                400,
                "validation_error",
                "path_ambiguous",
                "Bad Request",
                "The path is ambiguous; send it in canonical form",
            ),
            Self::TargetTooLong => {
                plain(414, "validation_error", "path_too_long", "URI Too Long", "The path or the query is too long")
            }
            Self::HeadersTooLarge => plain(
                431,
                "validation_error",
                "headers_too_large",
                "Request Header Fields Too Large",
                "The request has too many or too long headers",
            ),
            Self::BodyUnexpected => plain(
                400,
                "validation_error",
                "body_unexpected",
                "Bad Request",
                "A GET or HEAD request must not have a body",
            ),
            Self::HostInvalid => {
                plain(400, "validation_error", "host_invalid", "Bad Request", "The Host header is not a host name")
            }
            Self::RouteUnknown => plain(404, "not_found", "route_unknown", "Not Found", "No such path"),
            Self::MethodNotAllowed { .. } => plain(
                405,
                "method_not_allowed",
                "method_not_allowed",
                "Method Not Allowed",
                "The path does not support this method",
            ),
            Self::CredentialsMissing => Wording {
                challenge: Some(r#"Bearer realm="portcullis""#),
                ..unauthenticated("credentials_missing", "Authorization header required")
            },
            Self::CredentialsMalformed => Wording {
                challenge: Some(
                    r#"Bearer realm="portcullis", error="invalid_request", error_description="Invalid authorization format""#,
                ),
                ..unauthenticated("credentials_malformed", "Invalid authorization format")
            },
            Self::Token(TokenError::Expired) => Wording {
                challenge: Some(
                    r#"Bearer realm="portcullis", error="invalid_token", error_description="Token has expired""#,
                ),
                ..unauthenticated(TokenError::Expired.code(), "Token has expired")
            },
            Self::Token(error) => Wording {
                challenge: Some(
                    r#"Bearer realm="portcullis", error="invalid_token", error_description="Invalid token""#,
                ),
                ..unauthenticated(error.code(), "Invalid token")
            },
            Self::TokenRevoked => Wording {
                challenge: Some(
                    r#"Bearer realm="portcullis", error="invalid_token", error_description="Token has been revoked""#,
                ),
                ..unauthenticated("token_revoked", "Token has been revoked")
            },
            Self::RevocationUnknown { .. } => unavailable(
                "revocation_unavailable",
                "The gateway cannot check at the moment whether the token was revoked",
            ),
            Self::PushMalformed { .. } => {
                plain(400, "validation_error", "push_malformed", "Bad Request", "The body is not a list of revocations")
            }
            Self::PushTooLarge => plain(
                413,
                "payload_too_large",
                "push_too_large",
                "Content Too Large",
                "The list of revocations is too long; send it in several requests",
            ),
            Self::MetricsTokenWrong => Wording {
                challenge: Some(
                    r#"Bearer realm="portcullis", error="invalid_token", error_description="Invalid token""#,
                ),
                ..unauthenticated("metrics_token_wrong", "Invalid token")
            },
            Self::MetricsUnavailable => unavailable("metrics_unavailable", "The metrics cannot be read at the moment"),
            Self::RateLimited { .. } => {
                plain(429, "rate_limited", "rate_limited", "Too Many Requests", "Too many requests; try again later")
            }
            Self::OriginUnlisted => plain(
                403,
                "permission_denied",
                "origin_unlisted",
                "Forbidden",
                "Pages of this origin may not send this request",
            ),
            Self::CrossSite => plain(
                403,
                "permission_denied",
                "cross_site",
                "Forbidden",
                "Pages of other sites may not use the session of this browser",
            ),
            Self::RightsMissing => Wording {
                challenge: Some(r#"Bearer realm="portcullis", error="insufficient_scope""#),
                ..plain(403, "permission_denied", "rights_missing", "Forbidden", "Insufficient permissions")
            },
            Self::KeysUnavailable { .. } => unavailable("keys_unavailable", "Authentication service unavailable"),
            Self::AuthenticationUnavailable => {
                unavailable("authentication_unavailable", "Authentication service unavailable")
            }
            Self::BackendUnavailable => {
                unavailable("signature_backend_unavailable", "The gateway cannot check tokens at the moment")
            }
            Self::Misconfigured { .. } => {
                unavailable("gateway_misconfigured", "The gateway is not configured completely")
            }
            Self::GatewayBusy => unavailable("gateway_busy", "Too many requests wait at the gateway"),
            Self::BodyTooSlow => plain(
                408,
                "validation_error",
                "body_too_slow",
                "Request Timeout",
                "The request's body did not arrive in time",
            ),
            Self::BodyTooLarge => plain(
                413,
                "payload_too_large",
                "body_too_large",
                "Content Too Large",
                "The request's body is longer than this path accepts",
            ),
            Self::ClientGone => {
                plain(400, "validation_error", "client_gone", "Bad Request", "The client closed the connection")
            }
            Self::BreakerOpen { of_authentication: true, .. } => {
                unavailable("upstream_resting", "Authentication service unavailable")
            }
            Self::BreakerOpen { of_authentication: false, .. } => unavailable(
                "upstream_resting",
                "The service behind the gateway failed several times; requests to it are paused",
            ),
            Self::Maintenance { .. } => {
                unavailable("maintenance", "The service behind the gateway is under maintenance")
            }
            Self::UpstreamBusy => {
                unavailable("upstream_busy", "Too many requests are waiting for the service behind the gateway")
            }
            Self::UpstreamUnreachable => plain(
                502,
                "upstream_error",
                "upstream_unreachable",
                "Bad Gateway",
                "The service behind the gateway cannot be reached",
            ),
            Self::UpstreamBadAnswer => plain(
                502,
                "upstream_error",
                "upstream_bad_answer",
                "Bad Gateway",
                "The service behind the gateway gave no valid answer",
            ),
            Self::UpstreamRejectedAssertion => plain(
                502,
                "upstream_error",
                "upstream_rejected_assertion",
                "Bad Gateway",
                "The service behind the gateway did not accept the gateway's request",
            ),
            Self::UpstreamTimedOut => plain(
                504,
                "upstream_error",
                "upstream_timeout",
                "Gateway Timeout",
                "The service behind the gateway did not answer in time",
            ),
        }
    }
}

fn unauthenticated(code: &'static str, detail: &'static str) -> Wording {
    Wording { status: 401, family: "authentication_error", code, title: "Unauthorized", detail, challenge: None }
}

fn unavailable(code: &'static str, detail: &'static str) -> Wording {
    Wording { status: 503, family: "unavailable", code, title: "Service Unavailable", detail, challenge: None }
}
