//! Why a token is refused. Holds no token, header or claim text.

use std::{error::Error, fmt};

use crate::named_enum::named_enum;

named_enum! {
    /// The reason of a refusal, fine-grained for the log and the metrics. What the client is told
    /// is decided by the caller.
    TokenError,
    /// Stable snake_case code for problem bodies, logs and metrics.
    code,
    /// The token or one of its parts exceeds its bound in [`crate::limits`].
    TooLarge = "token_too_large",
    /// Not three parts of canonical base64url.
    Malformed = "token_malformed",
    /// The header is not a JSON object of the expected members, or has one twice.
    HeaderMalformed = "token_header_malformed",
    /// `crit`, `b64` or `zip` is present: an extension that is not implemented.
    HeaderExtension = "token_header_extension",
    /// `typ` is not one that the issuer's policy accepts.
    WrongType = "token_type_header_invalid",
    /// `alg` is not one that the issuer's policy accepts, or does not fit the key.
    AlgorithmNotAllowed = "token_algorithm_not_allowed",
    /// The payload is not a JSON object, or has a member twice at any depth.
    ClaimsMalformed = "token_claims_malformed",
    /// `iss` is missing or matches no configured issuer.
    UnknownIssuer = "token_issuer_unknown",
    /// No current key of the issuer has this `kid`.
    UnknownKey = "token_key_unknown",
    /// The signature does not verify.
    BadSignature = "token_signature_invalid",
    /// Its authorization server says that it is not active, or no store knows it.
    Inactive = "token_inactive",
    /// `exp` and leeway have passed.
    Expired = "token_expired",
    /// `nbf` or `iat` is in the future beyond leeway.
    NotYetValid = "token_not_yet_valid",
    /// A date is missing, not a number, out of range, or `exp` is not after `iat`.
    BadDates = "token_dates_invalid",
    /// `exp - iat` exceeds the policy's limit.
    LifetimeTooLong = "token_lifetime_too_long",
    /// None of the policy's audiences is in `aud`.
    WrongAudience = "token_audience_invalid",
    /// `token_type` is not the policy's, or the token is a security event token.
    WrongTokenType = "token_type_invalid",
    /// A claim is not what the issuer's policy requires.
    RequirementUnmet = "token_requirement_unmet",
    /// A claim of the identity is missing, of the wrong type, too long, or holds characters that a
    /// header must not have.
    BadIdentity = "token_identity_invalid",
}

impl fmt::Display for TokenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl Error for TokenError {}
