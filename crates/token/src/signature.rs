//! The signature check in pure Rust: the backend of native tests and of `explain`, and a fallback
//! of the Worker for WebCrypto.

use jwt_compact::{
    AlgorithmSignature as _,
    alg::{Ed25519, Es256, Rsa},
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
    let valid = match (key, algorithm) {
        (PublicKey::Rsa(key), Algorithm::Rs256) => by(&Rsa::rs256(), key, signing_input, signature),
        (PublicKey::Rsa(key), Algorithm::Rs384) => by(&Rsa::rs384(), key, signing_input, signature),
        (PublicKey::Rsa(key), Algorithm::Rs512) => by(&Rsa::rs512(), key, signing_input, signature),
        (PublicKey::Rsa(key), Algorithm::Ps256) => by(&Rsa::ps256(), key, signing_input, signature),
        (PublicKey::Rsa(key), Algorithm::Ps384) => by(&Rsa::ps384(), key, signing_input, signature),
        (PublicKey::Rsa(key), Algorithm::Ps512) => by(&Rsa::ps512(), key, signing_input, signature),
        (PublicKey::P256(point), Algorithm::Es256) => p256::ecdsa::VerifyingKey::from_sec1_bytes(point)
            .is_ok_and(|key| by(&Es256, &key, signing_input, signature)),
        (PublicKey::P384(point), Algorithm::Es384) => check_p384(point, signing_input, signature),
        (PublicKey::P521(point), Algorithm::Es512) => check_p521(point, signing_input, signature),
        (PublicKey::Ed25519(key), Algorithm::EdDsa) => by(&Ed25519, key, signing_input, signature),
        // Listed, so that the compiler asks for the arm of a new algorithm.
        (
            _,
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512
            | Algorithm::Es256
            | Algorithm::Es384
            | Algorithm::Es512
            | Algorithm::EdDsa,
        ) => false,
    };
    if valid { SignatureOutcome::Valid } else { SignatureOutcome::Invalid }
}

fn by<A: jwt_compact::Algorithm>(algorithm: &A, key: &A::VerifyingKey, signing_input: &[u8], signature: &[u8]) -> bool {
    A::Signature::try_from_slice(signature)
        .is_ok_and(|signature| algorithm.verify_signature(&signature, key, signing_input))
}

fn check_p384(point: &[u8], signing_input: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = p384::ecdsa::VerifyingKey::from_sec1_bytes(point) else { return false };
    p384::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| key.verify(signing_input, &signature).is_ok())
}

fn check_p521(point: &[u8], signing_input: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = p521::ecdsa::VerifyingKey::from_sec1_bytes(point) else { return false };
    p521::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| key.verify(signing_input, &signature).is_ok())
}
