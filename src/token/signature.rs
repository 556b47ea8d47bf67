//! The pure-Rust signature check: the native tests' backend, the second opinion
//! that must agree with WebCrypto, and a fallback that a variable switches on.

use jwt_compact::{Algorithm as _, AlgorithmSignature as _, alg::Rsa};

/// An RSA public key in the form the pure-Rust backend wants.
pub use rsa::RsaPublicKey;

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

/// RSASSA-PKCS1-v1_5 with SHA-256 over `signing_input` (RFC 7518, section 3.3).
pub fn check_rs256(key: &RsaPublicKey, signing_input: &[u8], signature: &[u8]) -> SignatureOutcome {
    let Ok(signature) = <Rsa as jwt_compact::Algorithm>::Signature::try_from_slice(signature) else {
        return SignatureOutcome::Invalid;
    };
    if Rsa::rs256().verify_signature(&signature, key, signing_input) {
        SignatureOutcome::Valid
    } else {
        SignatureOutcome::Invalid
    }
}
