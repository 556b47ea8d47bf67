//! The names of the checks.

use crate::named_enum::named_enum;

named_enum! {
    /// A check of a token, in the order in which they are made. Verification stops at the first that fails.
    Check,
    /// Name for people.
    name,
    /// The text is within its bounds.
    Size = "size",
    /// Three parts (RFC 7515, section 7.1).
    Form = "form",
    /// The header is a JSON object with `alg` and without extensions.
    Header = "header",
    /// The payload is a JSON object without repeated members.
    Payload = "payload",
    /// The third part can be a signature.
    SignatureForm = "signature form",
    /// `iss` names a configured issuer.
    Issuer = "issuer",
    /// `alg` is one that the issuer signs with.
    Algorithm = "algorithm",
    /// `typ` is one that the issuer's policy accepts.
    Type = "type",
    /// The issuer publishes a key that fits.
    Key = "key",
    /// The signature verifies.
    Signature = "signature",
    /// `exp`, `iat` and `nbf` are dates, and `exp` is after `iat`.
    Dates = "dates",
    /// `exp - iat` is within the policy's limit.
    Lifetime = "lifetime",
    /// `exp` has not passed.
    Expiry = "expiry",
    /// `iat` and `nbf` are not in the future.
    Start = "start",
    /// The audience is one of the policy's.
    Audience = "audience",
    /// `token_type` is the policy's, and the token is no security event token.
    TokenType = "token_type",
    /// The claims are what the policy requires.
    Requirements = "requirements",
    /// The claims of the identity are well-formed.
    Identity = "identity",
}
