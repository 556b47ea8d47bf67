//! What a token must be.

/// Accepted clock difference between issuer and receiver, in seconds.
pub const LEEWAY_S: u64 = 30;

/// A signature algorithm (RFC 7518, section 3.1; RFC 8037). There is no HMAC, so that a public key can
/// never be used as a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, moduli of 2048 to 8192 bits.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::RS256),
            "ES256" => Some(Self::ES256),
            "EdDSA" | "Ed25519" => Some(Self::EdDSA),
            _ => None,
        }
    }
}

/// The properties that a token must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRule {
    /// `iss` (exact comparison).
    pub issuer: String,
    /// A value of `aud`.
    pub audience: String,
    /// `typ`, such as `service+jwt` or `at+jwt`. Tokens of other types are signed with the same keys.
    pub typ: String,
    /// Accepted algorithms.
    pub algorithms: Vec<Algorithm>,
}

impl TokenRule {
    /// Returns the rule for service tokens of the auth service for the service with this name.
    pub fn service(audience: &str) -> Self {
        Self::auth_service("service+jwt", audience)
    }

    /// Returns the rule for access tokens of the auth service. A valid signature does not show whether
    /// the session still exists.
    pub fn access() -> Self {
        Self::auth_service("at+jwt", "api")
    }

    fn auth_service(typ: &str, audience: &str) -> Self {
        Self {
            issuer: "auth-service".to_owned(),
            audience: audience.to_owned(),
            typ: typ.to_owned(),
            algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        }
    }
}
