//! Signature algorithms that an issuer can be allowed (RFC 7518, section 3.1; RFC 8037, section 3.1).

use crate::named_enum::named_enum;

named_enum! {
    /// An asymmetric JWS algorithm. There is no `none` and no HMAC: a client's token is never checked
    /// with a secret, so an issuer's public key can never be used as one (algorithm confusion).
    Algorithm,
    /// The registered name.
    name,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256 = "RS256",
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384 = "RS384",
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512 = "RS512",
    /// RSASSA-PSS with SHA-256, MGF1 of the same hash, a salt of its length.
    Ps256 = "PS256",
    /// RSASSA-PSS with SHA-384.
    Ps384 = "PS384",
    /// RSASSA-PSS with SHA-512.
    Ps512 = "PS512",
    /// ECDSA on P-256 with SHA-256; the signature is `r || s`.
    Es256 = "ES256",
    /// ECDSA on P-384 with SHA-384.
    Es384 = "ES384",
    /// ECDSA on P-521 with SHA-512.
    Es512 = "ES512",
    /// EdDSA on Curve25519, the only curve that is accepted.
    EdDsa = "EdDSA",
}

impl Algorithm {
    /// `kty` and, unless any will do, `crv` of its keys (RFC 7518, section 6; RFC 8037, section 2).
    pub(crate) const fn key_type(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => ("RSA", None),
            Self::Es256 => ("EC", Some("P-256")),
            Self::Es384 => ("EC", Some("P-384")),
            Self::Es512 => ("EC", Some("P-521")),
            Self::EdDsa => ("OKP", Some("Ed25519")),
        }
    }

    /// Finds an algorithm by its registered, case-sensitive name. `Ed25519` is the newer name of
    /// `EdDSA` (RFC 9864, section 2.2).
    pub fn from_name(name: &str) -> Option<Self> {
        let name = if name == "Ed25519" { Self::EdDsa.name() } else { name };
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }
}
