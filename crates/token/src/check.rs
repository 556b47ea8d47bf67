//! The names of the checks.

/// A check of a token. Verification stops at the first that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The text is within its bounds.
    Size,
    /// Three parts (RFC 7515, section 7.1).
    Form,
    /// The header is a JSON object with `alg` and without extensions.
    Header,
    /// The payload is a JSON object without repeated members.
    Payload,
    /// The third part can be a signature.
    SignatureForm,
    /// `iss` names a configured issuer.
    Issuer,
    /// `alg` is one that the issuer signs with.
    Algorithm,
    /// `typ` is one that the issuer's policy accepts.
    Type,
    /// The issuer publishes a key that fits.
    Key,
    /// The signature verifies.
    Signature,
    /// `exp`, `iat` and `nbf` are dates, and `exp` is after `iat`.
    Dates,
    /// `exp - iat` is within the policy's limit.
    Lifetime,
    /// `exp` has not passed.
    Expiry,
    /// `iat` and `nbf` are not in the future.
    Start,
    /// The audience is one of the policy's.
    Audience,
    /// `token_type` is the policy's.
    TokenType,
    /// The claims are what the policy requires.
    Requirements,
    /// The claims of the identity are well-formed.
    Identity,
}

impl Check {
    /// All checks, in the order in which they are made.
    pub const ALL: [Self; 18] = [
        Self::Size,
        Self::Form,
        Self::Header,
        Self::Payload,
        Self::SignatureForm,
        Self::Issuer,
        Self::Algorithm,
        Self::Type,
        Self::Key,
        Self::Signature,
        Self::Dates,
        Self::Lifetime,
        Self::Expiry,
        Self::Start,
        Self::Audience,
        Self::TokenType,
        Self::Requirements,
        Self::Identity,
    ];

    /// Name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Form => "form",
            Self::Header => "header",
            Self::Payload => "payload",
            Self::SignatureForm => "signature form",
            Self::Issuer => "issuer",
            Self::Algorithm => "algorithm",
            Self::Type => "type",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Dates => "dates",
            Self::Lifetime => "lifetime",
            Self::Expiry => "expiry",
            Self::Start => "start",
            Self::Audience => "audience",
            Self::TokenType => "token_type",
            Self::Requirements => "requirements",
            Self::Identity => "identity",
        }
    }
}
