//! Every way in which the gateway refuses a request, and the one place where a refusal becomes a
//! status, a code and a text.
//!
//! Refusals that the policy alone decides are in [`Refusal`]. The `code` is for programs and says which
//! check failed ([`TokenError`] has one for each); the text does not.

use super::{findings::Finding, limits};
use portcullis_policy::{Refusal, StepUp};
use portcullis_token::{EventError, EventFault, EventForm, ProofError, TokenError};

/// Defines the denials: name, fields, status, stable code, and the text for the client.
macro_rules! denials {
    ($($(#[$doc:meta])* $name:ident $({ $($field:ident: $type:ty),+ })? = $status:literal $code:literal $detail:literal,)+) => {
        /// A refusal.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant's text is its documentation")]
        pub enum Denial {
            Policy(Refusal),
            Token(TokenError),
            Proof(ProofError),
            /// A security event was refused.
            Event { form: EventForm, error: EventError },
            $($(#[$doc])* $name $({ $($field: $type),+ })?,)+
        }

        impl Denial {
            /// Codes of the denials in the table below; those of the others are in [`Refusal::CODES`],
            /// [`TokenError::ALL`], [`ProofError::ALL`] and [`EventFault::ALL`].
            pub const CODES: &[&str] = &[$($code),+];

            /// Returns status, code and text.
            const fn wording(&self) -> (u16, &'static str, &'static str) {
                match self {
                    Self::Policy(refusal) => refusal.wording(),
                    Self::Token(error @ TokenError::Expired) => (401, error.code(), "Token has expired"),
                    Self::Token(error) => (401, error.code(), "Invalid token"),
                    Self::Proof(error) if error.is_of_token() => (401, error.code(), "Invalid token"),
                    Self::Proof(error) => (401, error.code(), "Invalid DPoP proof"),
                    Self::Event { error, .. } => (400, error.code(), error.text()),
                    $(Self::$name $({ $($field: _),+ })? => ($status, $code, $detail),)+
                }
            }
        }
    };
}

denials! {
    HeadersTooLarge = 431 "headers_too_large" "The request has too many or too long headers",
    HostInvalid = 400 "host_invalid" "The Host header is not a host name",
    BodyUnexpected = 400 "body_unexpected" "A GET or HEAD request must not have a body",
    BodyTooLarge = 413 "body_too_large" "The request's body is longer than this path accepts",
    RequestInvalid { findings: Vec<Finding> } = 400 "request_invalid" "The request is not as this operation describes it",
    ContentUnsupported { findings: Vec<Finding> } = 415 "request_invalid"
        "The request's body has a type that this operation does not take",
    BodyTooSlow = 408 "body_too_slow" "The request's body did not arrive in time",
    /// The answer is for the log alone.
    ClientGone = 400 "client_gone" "The client closed the connection",
    RateLimited { retry_s: u64 } = 429 "rate_limited" "Too many requests; try again later",
    CredentialsMalformed = 401 "credentials_malformed" "Invalid authorization format",
    CredentialsAmbiguous = 401 "credentials_ambiguous" "The request has credentials in more than one place",
    TokenMisplaced = 401 "token_source_invalid" "Invalid token",
    CrossSite = 403 "cross_site" "Pages of other sites may not use the session of this browser",
    OriginUnlisted = 403 "origin_unlisted" "Pages of this origin may not send this request",
    AuthorizationDenied = 403 "authorization_denied" "Insufficient permissions",
    /// `fault` is a code for the log alone.
    AuthorizationUnavailable { retry_ms: u64, fault: &'static str } = 503 "authorization_unavailable"
        "The gateway cannot check the permission at the moment",
    TokenRevoked = 401 "token_revoked" "Token has been revoked",
    RevocationUnknown { retry_ms: u64 } = 503 "revocation_unavailable"
        "The gateway cannot check at the moment whether the token was revoked",
    KeysUnavailable { retry_ms: u64 } = 503 "keys_unavailable" "Authentication service unavailable",
    /// `fault` is a code for the log alone.
    IntrospectionUnavailable { retry_ms: u64, fault: &'static str } = 503 "introspection_unavailable"
        "Authentication service unavailable",
    ProofsUnavailable = 503 "proofs_unavailable" "The gateway cannot check proofs of possession at the moment",
    BackendUnavailable = 503 "signature_backend_unavailable" "The gateway cannot check tokens at the moment",
    /// `fault` is a code for the log alone.
    ApiKeysUnavailable { fault: &'static str } = 503 "api_keys_unavailable" "Authentication service unavailable",
    /// `detail` says where, and what to send instead; it holds nothing of the body.
    ApiKeysMalformed { detail: String } = 400 "api_keys_malformed" "The body is not a list of API keys",
    /// `detail` says where, and what to send instead; it holds nothing of the body.
    PushMalformed { detail: String } = 400 "push_malformed" "The body is not a list of revocations",
    PushTooLarge = 413 "push_too_large" "The list of revocations is too long; send it in several requests",
    ClaimsTooLarge = 403 "claims_too_large" "The claims of the token are too long for this service",
    AssertionUnsigned = 503 "assertion_unavailable" "The gateway cannot sign requests at the moment",
    MetricsTokenWrong = 401 "metrics_token_wrong" "Invalid token",
    MetricsUnavailable = 503 "metrics_unavailable" "The metrics cannot be read at the moment",
    GatewayBusy = 503 "gateway_busy" "Too many requests wait at the gateway",
    /// `fault` names the setting for the log alone; it never holds its value.
    Misconfigured { fault: String } = 503 "gateway_misconfigured" "The gateway is not configured completely",
    Maintenance { retry_s: u64 } = 503 "maintenance" "The service behind the gateway is under maintenance",
    UpstreamBusy = 503 "upstream_busy" "Too many requests are waiting for the service behind the gateway",
    BreakerOpen { retry_ms: u64 } = 503 "upstream_resting"
        "The service behind the gateway failed several times; requests to it are paused",
    /// The same at the service that logs users in.
    AuthenticationBreakerOpen { retry_ms: u64 } = 503 "upstream_resting" "Authentication service unavailable",
    UpstreamUnreachable = 502 "upstream_unreachable" "The service behind the gateway cannot be reached",
    /// The same at the service that logs users in.
    AuthenticationUnavailable = 503 "authentication_unavailable" "Authentication service unavailable",
    UpstreamTimedOut = 504 "upstream_timeout" "The service behind the gateway did not answer in time",
    UpstreamBadAnswer = 502 "upstream_bad_answer" "The service behind the gateway gave no valid answer",
    /// Clocks or secrets of the gateway and the upstream differ.
    UpstreamRejectedAssertion = 502 "upstream_rejected_assertion"
        "The service behind the gateway did not accept the gateway's request",
}

impl Denial {
    /// Returns the status of the answer.
    pub const fn status(&self) -> u16 {
        self.wording().0
    }

    /// Returns the stable code for clients, logs and metrics.
    pub const fn code(&self) -> &'static str {
        self.wording().1
    }

    /// Returns the text for the client.
    pub(super) fn detail(&self) -> &str {
        if let Self::PushMalformed { detail } | Self::ApiKeysMalformed { detail } = self {
            detail
        } else {
            self.wording().2
        }
    }

    /// Returns what is wrong with a request that its document does not describe.
    pub(super) fn findings(&self) -> &[Finding] {
        if let Self::RequestInvalid { findings } | Self::ContentUnsupported { findings } = self {
            findings
        } else {
            &[]
        }
    }

    /// Returns details for the log that no client may see.
    pub(super) fn detail_for_log(&self) -> Option<&str> {
        if let Self::AuthorizationUnavailable { fault, .. }
        | Self::IntrospectionUnavailable { fault, .. }
        | Self::ApiKeysUnavailable { fault } = self
        {
            return Some(fault);
        }
        if let Self::Misconfigured { fault } = self { Some(fault) } else { None }
    }

    /// Returns the `type` and `title` members of a problem document: the family of errors, and the
    /// status in words.
    pub(super) const fn family_and_title(&self) -> (&'static str, &'static str) {
        match self.status() {
            401 => ("authentication_error", "Unauthorized"),
            403 => ("permission_denied", "Forbidden"),
            404 => ("not_found", "Not Found"),
            405 => ("method_not_allowed", "Method Not Allowed"),
            408 => ("validation_error", "Request Timeout"),
            413 => ("payload_too_large", "Content Too Large"),
            414 => ("validation_error", "URI Too Long"),
            415 => ("validation_error", "Unsupported Media Type"),
            429 => ("rate_limited", "Too Many Requests"),
            431 => ("validation_error", "Request Header Fields Too Large"),
            502 => ("upstream_error", "Bad Gateway"),
            503 => ("unavailable", "Service Unavailable"),
            504 => ("upstream_error", "Gateway Timeout"),
            _ => ("validation_error", "Bad Request"),
        }
    }

    /// Returns whether the request tried a token that was never good there. An expired token was good
    /// once, and its owner must learn that it has expired.
    pub(super) fn is_guess(&self) -> bool {
        if let Self::Token(error) | Self::Event { error: EventError::Token(error), .. } = self {
            return *error != TokenError::Expired;
        }
        matches!(
            self,
            Self::CredentialsMalformed
                | Self::TokenMisplaced
                | Self::MetricsTokenWrong
                | Self::Event { error: EventError::Event(EventFault::Sender), .. }
        )
    }

    /// Returns the seconds for `Retry-After`, on 429 and on faults of the gateway or an upstream.
    pub(super) fn retry_after_s(&self) -> Option<u64> {
        if let Self::KeysUnavailable { retry_ms }
        | Self::RevocationUnknown { retry_ms }
        | Self::AuthorizationUnavailable { retry_ms, .. }
        | Self::IntrospectionUnavailable { retry_ms, .. }
        | Self::BreakerOpen { retry_ms }
        | Self::AuthenticationBreakerOpen { retry_ms } = self
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

    /// Returns `WWW-Authenticate` (RFC 6750, section 3; RFC 9470, section 3), on 401 and on a missing permission.
    pub(super) fn challenge(&self) -> Option<String> {
        const REALM: &str = r#"Bearer realm="portcullis""#;
        if *self == Self::Policy(Refusal::CredentialsMissing) {
            return Some(REALM.to_owned());
        }
        if let Self::Policy(Refusal::PermissionMissing { .. }) = self {
            return Some([REALM, r#", error="insufficient_scope""#].concat());
        }
        if let Self::Policy(Refusal::LoginInsufficient { step_up }) = self {
            return Some(step_up_challenge(REALM, self.detail(), step_up));
        }
        let is_request = matches!(self, Self::CredentialsMalformed | Self::CredentialsAmbiguous);
        let error = if is_request {
            "invalid_request"
        } else if *self == Self::Proof(ProofError::NonceNeeded) {
            // RFC 9449, sections 8 and 9.
            "use_dpop_nonce"
        } else if matches!(self, Self::Proof(error) if !error.is_of_token()) {
            "invalid_dpop_proof"
        } else {
            "invalid_token"
        };
        let parts = [REALM, r#", error=""#, error, r#"", error_description=""#, self.detail(), "\""];
        (self.status() == 401).then(|| parts.concat())
    }
}

/// Returns the challenge for another login (RFC 9470, section 3). Validation excludes characters that would end the
/// quotes.
fn step_up_challenge(realm: &str, detail: &str, step_up: &StepUp) -> String {
    let error = r#", error="insufficient_user_authentication", error_description=""#;
    let mut challenge = [realm, error, detail, "\""].concat();
    if !step_up.acr_values.is_empty() {
        challenge.extend([r#", acr_values=""#, &step_up.acr_values, "\""]);
    }
    if let Some(seconds) = step_up.max_age_s {
        challenge.extend([r#", max_age=""#, &seconds.to_string(), "\""]);
    }
    challenge
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::Policy(refusal)
    }
}

impl From<ProofError> for Denial {
    fn from(error: ProofError) -> Self {
        Self::Proof(error)
    }
}

impl From<TokenError> for Denial {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}
