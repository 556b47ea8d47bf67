//! The signature check in pure Rust: the backend of native tests and of `explain`, and a fallback
//! of the Worker for WebCrypto.

use jwt_compact::{
    AlgorithmSignature as _,
    alg::{Ed25519, Rsa},
};
use p384::ecdsa::signature::Verifier as _;

use crate::algorithm::Algorithm;

/// A public key that has been validated: a point lies on its curve, a modulus is within its bounds.
/// Points of the NIST curves are in the form of SEC 1 (section 2.3.3: 04, x, y), so that a Worker
/// without this backend contains none of their arithmetic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA.
    Rsa(rsa::RsaPublicKey),
    /// ECDSA on P-256.
    P256(Box<[u8]>),
    /// ECDSA on P-384.
    P384(Box<[u8]>),
    /// ECDSA on P-521.
    P521(Box<[u8]>),
    /// EdDSA.
    Ed25519(ed25519_dalek::VerifyingKey),
}

/// The result of a signature check. A backend that fails reports its own error instead, so that its
/// failure is a 503 and never a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureOutcome {
    /// The key made the signature over exactly these bytes.
    Valid,
    /// It did not.
    Invalid,
}

/// Checks `signature` over `signing_input`. Invalid for a key of another kind than the algorithm's.
pub fn check_signature(
    key: &PublicKey,
    algorithm: Algorithm,
    signing_input: &[u8],
    signature: &[u8],
) -> SignatureOutcome {
    /// ECDSA by the crate of a curve: their keys have no trait in common that makes them of a point.
    macro_rules! ecdsa {
        ($curve:ident, $point:expr) => {
            $curve::ecdsa::VerifyingKey::from_sec1_bytes($point).is_ok_and(|key| {
                let signature = $curve::ecdsa::Signature::from_slice(signature);
                signature.is_ok_and(|signature| key.verify(signing_input, &signature).is_ok())
            })
        };
    }
    let rsa = |scheme: Rsa| matches!(key, PublicKey::Rsa(key) if by(&scheme, key, signing_input, signature));
    let is_valid = match algorithm {
        Algorithm::Rs256 => rsa(Rsa::rs256()),
        Algorithm::Rs384 => rsa(Rsa::rs384()),
        Algorithm::Rs512 => rsa(Rsa::rs512()),
        Algorithm::Ps256 => rsa(Rsa::ps256()),
        Algorithm::Ps384 => rsa(Rsa::ps384()),
        Algorithm::Ps512 => rsa(Rsa::ps512()),
        Algorithm::Es256 => matches!(key, PublicKey::P256(point) if ecdsa!(p256, point)),
        Algorithm::Es384 => matches!(key, PublicKey::P384(point) if ecdsa!(p384, point)),
        Algorithm::Es512 => matches!(key, PublicKey::P521(point) if ecdsa!(p521, point)),
        Algorithm::EdDsa => matches!(key, PublicKey::Ed25519(key) if by(&Ed25519, key, signing_input, signature)),
    };
    if is_valid { SignatureOutcome::Valid } else { SignatureOutcome::Invalid }
}

fn by<A: jwt_compact::Algorithm>(algorithm: &A, key: &A::VerifyingKey, signing_input: &[u8], signature: &[u8]) -> bool {
    A::Signature::try_from_slice(signature)
        .is_ok_and(|signature| algorithm.verify_signature(&signature, key, signing_input))
}
