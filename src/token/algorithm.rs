//! Signature algorithms (RFC 7518, section 3.1) that an issuer can be allowed.

use serde::{Deserialize, Serialize};

/// An asymmetric JWS algorithm. There is no `none` and no HMAC here: a client's
/// token can never be checked with a secret, so the public key of an issuer can
/// never be used as one (the algorithm-confusion attack).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
}

impl Algorithm {
    /// The names `gateway.toml` and a key's `alg` may use.
    pub const NAMES: &'static [&'static str] = &["RS256"];

    /// Exact, case-sensitive match of the registered name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            _ => None,
        }
    }

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
        }
    }
}
