//! Why a token is refused. Holds no token, header or claim text.

/// The reason of a refusal, fine-grained for the log and the metrics. What the client is told is
/// decided by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// The token or one of its parts exceeds its bound in [`crate::limits`].
    TooLarge,
    /// Not three parts of canonical base64url.
    Malformed,
    /// The header is not a JSON object of the expected members, or has one twice.
    HeaderMalformed,
    /// `crit`, `b64` or `zip` is present: an extension that is not implemented.
    HeaderExtension,
    /// `typ` is not one that the issuer's policy accepts.
    WrongType,
    /// `alg` is not one that the issuer's policy accepts, or does not fit the key.
    AlgorithmNotAllowed,
    /// The payload is not a JSON object, or has a member twice at any depth.
    ClaimsMalformed,
    /// `iss` is missing or matches no configured issuer.
    UnknownIssuer,
    /// No current key of the issuer has this `kid`.
    UnknownKey,
    /// The signature does not verify.
    BadSignature,
    /// `exp` and leeway have passed.
    Expired,
    /// `nbf` or `iat` is in the future beyond leeway.
    NotYetValid,
    /// A date is missing, not an integer, out of range, or `exp` is not after `iat`.
    BadDates,
    /// `exp - iat` exceeds the policy's limit.
    LifetimeTooLong,
    /// None of the policy's audiences is in `aud`.
    WrongAudience,
    /// `token_type` is not the policy's.
    WrongTokenType,
    /// A claim is not what the issuer's policy requires.
    RequirementUnmet,
    /// A claim of the identity is missing, of the wrong type, too long, or holds characters that a
    /// header must not have.
    BadIdentity,
}

impl TokenError {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::TooLarge,
        Self::Malformed,
        Self::HeaderMalformed,
        Self::HeaderExtension,
        Self::WrongType,
        Self::AlgorithmNotAllowed,
        Self::ClaimsMalformed,
        Self::UnknownIssuer,
        Self::UnknownKey,
        Self::BadSignature,
        Self::Expired,
        Self::NotYetValid,
        Self::BadDates,
        Self::LifetimeTooLong,
        Self::WrongAudience,
        Self::WrongTokenType,
        Self::RequirementUnmet,
        Self::BadIdentity,
    ];

    /// Stable snake_case code for problem bodies, logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "token_too_large",
            Self::Malformed => "token_malformed",
            Self::HeaderMalformed => "token_header_malformed",
            Self::HeaderExtension => "token_header_extension",
            Self::WrongType => "token_type_header_invalid",
            Self::AlgorithmNotAllowed => "token_algorithm_not_allowed",
            Self::ClaimsMalformed => "token_claims_malformed",
            Self::UnknownIssuer => "token_issuer_unknown",
            Self::UnknownKey => "token_key_unknown",
            Self::BadSignature => "token_signature_invalid",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::BadDates => "token_dates_invalid",
            Self::LifetimeTooLong => "token_lifetime_too_long",
            Self::WrongAudience => "token_audience_invalid",
            Self::WrongTokenType => "token_type_invalid",
            Self::RequirementUnmet => "token_requirement_unmet",
            Self::BadIdentity => "token_identity_invalid",
        }
    }
}

impl std::fmt::Display for TokenError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.code())
    }
}

impl std::error::Error for TokenError {}
