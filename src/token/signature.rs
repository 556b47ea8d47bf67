//! The pure-Rust signature check: the native tests' backend, the second opinion
//! that must agree with WebCrypto, and a fallback that a variable switches on.

use jwt_compact::{
    AlgorithmSignature as _,
    alg::{Ed25519, Es256, Rsa},
};
use p384::ecdsa::signature::Verifier as _;
use p521::elliptic_curve::sec1::ToEncodedPoint as _;

use super::Algorithm;

/// A public key in the form the pure-Rust backend wants. Its parts were checked
/// by whoever made it: a point lies on its curve, a modulus has its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA.
    Rsa(rsa::RsaPublicKey),
    /// ECDSA on P-256.
    P256(p256::ecdsa::VerifyingKey),
    /// ECDSA on P-384.
    P384(p384::ecdsa::VerifyingKey),
    /// ECDSA on P-521; boxed, for it is larger than the others.
    P521(Box<p521::PublicKey>),
    /// EdDSA.
    Ed25519(ed25519_dalek::VerifyingKey),
}

/// What a signature backend found. A backend that could not look reports its
/// own fault instead (see `gate::ports`), so that its trouble is a 503 and
/// never a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureOutcome {
    /// The signature is the key's, over exactly these bytes.
    Valid,
    /// It is not.
    Invalid,
}

/// Checks `signature` over `signing_input`. A key of another kind than the
/// algorithm's has signed nothing with it.
pub fn check(key: &PublicKey, algorithm: Algorithm, signing_input: &[u8], signature: &[u8]) -> SignatureOutcome {
    let valid = match (key, algorithm) {
        (PublicKey::Rsa(key), Algorithm::Rs256) => by(&Rsa::rs256(), key, signing_input, signature),
        (PublicKey::Rsa(key), Algorithm::Rs384) => by(&Rsa::rs384(), key, signing_input, signature),
        (PublicKey::Rsa(key), Algorithm::Rs512) => by(&Rsa::rs512(), key, signing_input, signature),
        (PublicKey::Rsa(key), Algorithm::Ps256) => by(&Rsa::ps256(), key, signing_input, signature),
        (PublicKey::Rsa(key), Algorithm::Ps384) => by(&Rsa::ps384(), key, signing_input, signature),
        (PublicKey::Rsa(key), Algorithm::Ps512) => by(&Rsa::ps512(), key, signing_input, signature),
        (PublicKey::P256(key), Algorithm::Es256) => by(&Es256, key, signing_input, signature),
        (PublicKey::P384(key), Algorithm::Es384) => p384::ecdsa::Signature::from_slice(signature)
            .is_ok_and(|signature| key.verify(signing_input, &signature).is_ok()),
        (PublicKey::P521(key), Algorithm::Es512) => check_p521(key, signing_input, signature),
        (PublicKey::Ed25519(key), Algorithm::EdDsa) => by(&Ed25519, key, signing_input, signature),
        (
            PublicKey::Rsa(_) | PublicKey::P256(_) | PublicKey::P384(_) | PublicKey::P521(_) | PublicKey::Ed25519(_),
            _,
        ) => false,
    };
    if valid { SignatureOutcome::Valid } else { SignatureOutcome::Invalid }
}

fn by<A: jwt_compact::Algorithm>(algorithm: &A, key: &A::VerifyingKey, signing_input: &[u8], signature: &[u8]) -> bool {
    A::Signature::try_from_slice(signature)
        .is_ok_and(|signature| algorithm.verify_signature(&signature, key, signing_input))
}

fn check_p521(key: &p521::PublicKey, signing_input: &[u8], signature: &[u8]) -> bool {
    // The crate's verifying key cannot be compared or printed, so it is made here.
    let Ok(key) = p521::ecdsa::VerifyingKey::from_encoded_point(&key.to_encoded_point(false)) else { return false };
    p521::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| key.verify(signing_input, &signature).is_ok())
}
