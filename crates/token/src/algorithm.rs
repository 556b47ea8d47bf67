//! Signature algorithms that an issuer can be allowed (RFC 7518, section 3.1;
//! RFC 8037, section 3.1).

macro_rules! algorithms {
    ($($(#[$doc:meta])* $algorithm:ident = $name:literal $kind:ident,)*) => {
        /// An asymmetric JWS algorithm. There is no `none` and no HMAC: a client's token is never checked
        /// with a secret, so an issuer's public key can never be used as one (algorithm confusion).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Algorithm {
            $($(#[$doc])* $algorithm,)*
        }

        impl Algorithm {
            /// All algorithms.
            pub const ALL: &[Self] = &[$(Self::$algorithm,)*];

            /// The registered name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$algorithm => $name,)*
                }
            }

            /// The kind of key that it works with.
            pub const fn key_kind(self) -> KeyKind {
                match self {
                    $(Self::$algorithm => KeyKind::$kind,)*
                }
            }
        }
    };
}

algorithms! {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256 = "RS256" Rsa,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384 = "RS384" Rsa,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512 = "RS512" Rsa,
    /// RSASSA-PSS with SHA-256, MGF1 of the same hash, a salt of its length.
    Ps256 = "PS256" Rsa,
    /// RSASSA-PSS with SHA-384.
    Ps384 = "PS384" Rsa,
    /// RSASSA-PSS with SHA-512.
    Ps512 = "PS512" Rsa,
    /// ECDSA on P-256 with SHA-256; the signature is `r || s`.
    Es256 = "ES256" P256,
    /// ECDSA on P-384 with SHA-384.
    Es384 = "ES384" P384,
    /// ECDSA on P-521 with SHA-512.
    Es512 = "ES512" P521,
    /// EdDSA on Curve25519, the only curve that is accepted.
    EdDsa = "EdDSA" Ed25519,
}

impl Algorithm {
    /// Finds an algorithm by its registered, case-sensitive name. `Ed25519` is the newer name of
    /// `EdDSA` (RFC 9864, section 2.2).
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }
}

/// The kind of key that an algorithm works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA.
    Rsa,
    /// A point on P-256.
    P256,
    /// A point on P-384.
    P384,
    /// A point on P-521.
    P521,
    /// A point on Curve25519 in Edwards form.
    Ed25519,
}
