//! Proofs of possession (DPoP, RFC 9449, section 4): a client signs each request's method and URL, and the hash of its
//! token, with the key that the token is bound to.
//!
//! - [`parse_proof`] decodes a proof. It brings its own key, which counts only if it is the token's.
//! - [`UnverifiedProof::admit`] is the only constructor of a [`VerifiedProof`].
//!
//! Whether a proof was seen before is for the caller to know.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    algorithm::Algorithm::{self, EdDsa, Es256, Ps256, Rs256},
    claims::date,
    compact::Parts,
    error::TokenError,
    json::StrictObject,
    keys::{
        Key,
        jwk::{self, select_algorithm},
    },
    limits,
    named_enum::named_enum,
    signature::SignatureOutcome,
    time::UnixMillis,
};

/// Algorithms that proofs may be signed with.
pub const PROOF_ALGORITHMS: [Algorithm; 4] = [Es256, EdDsa, Rs256, Ps256];

named_enum! {
    /// Why a request's sender is not known to be the owner of its token.
    ProofError,
    /// Stable snake_case code for problem bodies, logs and metrics.
    code,
    /// The token is bound to a key or a certificate, and was sent without the proof of it.
    TokenBound = "token_bound",
    /// The token is bound to a certificate, and the client has shown another one or none.
    WrongCertificate = "certificate_mismatch",
    /// The token is bound to nothing, where a bound one is needed.
    TokenUnbound = "token_unbound",
    /// The proof is of another key than the token's.
    WrongKey = "proof_key_mismatch",
    /// There is no proof.
    Missing = "proof_missing",
    /// The proof exceeds its bound in [`crate::limits`].
    TooLarge = "proof_too_large",
    /// Not one compact JWS of a JSON header and JSON claims, or with an extension.
    Malformed = "proof_malformed",
    /// `typ` is not `dpop+jwt`.
    WrongType = "proof_type_invalid",
    /// `alg` is not one of [`PROOF_ALGORITHMS`].
    AlgorithmNotAllowed = "proof_algorithm_not_allowed",
    /// `jwk` is missing, private, symmetric, weak, malformed, or does not fit `alg`.
    BadKey = "proof_key_invalid",
    /// The signature does not verify.
    BadSignature = "proof_signature_invalid",
    /// `htm` is not the request's method.
    WrongMethod = "proof_method_mismatch",
    /// `htu` is not the request's URL.
    WrongUrl = "proof_url_mismatch",
    /// `ath` is not the hash of the token.
    WrongToken = "proof_token_mismatch",
    /// `nonce` is missing or has expired; the answer has another.
    NonceNeeded = "proof_nonce_needed",
    /// `iat` is missing, too old or in the future.
    BadTime = "proof_time_invalid",
    /// `jti` is missing, empty or too long.
    BadId = "proof_id_invalid",
    /// The proof was used before.
    Replayed = "proof_replayed",
}

impl ProofError {
    /// Whether the token is wrong, and no other proof would do (RFC 9449, section 7.1).
    pub const fn is_of_token(self) -> bool {
        matches!(self, Self::TokenBound | Self::WrongCertificate | Self::TokenUnbound | Self::WrongKey)
    }
}

/// A well-formed proof whose signature has not been checked.
pub struct UnverifiedProof<'a> {
    signing_input: &'a [u8],
    header: StrictObject,
    algorithm: Algorithm,
    thumbprint: String,
    claims: StrictObject,
    signature: Vec<u8>,
}

/// What the claims of a proof must say about its request.
pub struct ExpectedProof<'a> {
    /// The request's method.
    pub method: &'a str,
    /// Whether a text is the request's URL.
    pub is_url: &'a dyn Fn(&str) -> bool,
    /// The request's token, as sent; `None` of a request for a token (RFC 9449, section 5).
    pub token: Option<&'a str>,
    /// Whether a text is a nonce that says when the proof was made; `None` if `iat` has to say it.
    pub is_nonce: Option<&'a dyn Fn(&str) -> bool>,
}

/// Identifies a proof, by its key and its `jti`.
pub type ProofId = [u8; 16];

/// A proof whose signature and claims were checked. Constructed only by [`UnverifiedProof::admit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedProof(ProofId);

impl VerifiedProof {
    /// The proof's id. A client that sends it a second time replays it.
    pub fn id(self) -> ProofId {
        self.0
    }
}

/// Parses a proof, and checks its header.
///
/// # Errors
/// [`ProofError::TooLarge`], [`ProofError::Malformed`], and those about `typ`, `alg` and `jwk`.
pub fn parse_proof(text: &str) -> Result<UnverifiedProof<'_>, ProofError> {
    if text.len() > limits::PROOF_BYTES {
        return Err(ProofError::TooLarge);
    }
    let malformed = |error| if error == TokenError::TooLarge { ProofError::TooLarge } else { ProofError::Malformed };
    let parts = Parts::split(text).map_err(malformed)?;
    let header = parts.header_object().map_err(malformed)?;
    if !header.string("typ").is_some_and(|typ| typ.eq_ignore_ascii_case("dpop+jwt")) {
        return Err(ProofError::WrongType);
    }
    let algorithm = header.string("alg").and_then(Algorithm::from_name);
    let algorithm = algorithm.filter(|algorithm| PROOF_ALGORITHMS.contains(algorithm));
    let algorithm = algorithm.ok_or(ProofError::AlgorithmNotAllowed)?;
    let jwk = header.member("jwk").and_then(Value::as_object).ok_or(ProofError::BadKey)?;
    select_algorithm(jwk, &[algorithm]).map_err(|_| ProofError::BadKey)?;
    let thumbprint = jwk::unverified_thumbprint(jwk, algorithm).ok_or(ProofError::BadKey)?;
    let claims = parts.claims().map_err(malformed)?;
    let signature = parts.signature().map_err(malformed)?;
    let signing_input = parts.signing_input.as_bytes();
    Ok(UnverifiedProof { signing_input, header, algorithm, thumbprint, claims, signature })
}

impl UnverifiedProof<'_> {
    /// The thumbprint of its key (RFC 7638).
    pub fn unverified_thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// When it says that it was made (`iat`).
    pub fn unverified_issued_at(&self) -> Option<UnixMillis> {
        self.claims.member("iat").and_then(date)
    }

    /// The algorithm for the signature check.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Validates its key, which takes up to 0.5 ms.
    ///
    /// # Errors
    /// [`ProofError::BadKey`].
    pub fn key(&self) -> Result<Key, ProofError> {
        let jwk = self.header.member("jwk").and_then(Value::as_object).ok_or(ProofError::BadKey)?;
        let key = Key::parse(jwk, self.algorithm).map_err(|_| ProofError::BadKey)?;
        // The members may have been in another spelling than the key's own.
        if key.thumbprint == self.thumbprint { Ok(key) } else { Err(ProofError::BadKey) }
    }

    /// The bytes that were signed.
    pub fn signing_input(&self) -> &[u8] {
        self.signing_input
    }

    /// The decoded signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Admits the proof: requires a valid signature, then every claim (RFC 9449, section 4.3), at `now`.
    ///
    /// # Errors
    /// [`ProofError::BadSignature`] first, then the claims' errors.
    pub fn admit(
        self,
        outcome: SignatureOutcome,
        expected: &ExpectedProof<'_>,
        now: UnixMillis,
    ) -> Result<VerifiedProof, ProofError> {
        let Self { claims, thumbprint, .. } = self;
        if outcome == SignatureOutcome::Invalid {
            return Err(ProofError::BadSignature);
        }
        if claims.string("htm") != Some(expected.method) {
            return Err(ProofError::WrongMethod);
        }
        if !claims.string("htu").is_some_and(expected.is_url) {
            return Err(ProofError::WrongUrl);
        }
        if let Some(token) = expected.token
            && claims.string("ath") != Some(&digest(token))
        {
            return Err(ProofError::WrongToken);
        }
        if let Some(is_nonce) = expected.is_nonce
            && !claims.string("nonce").is_some_and(is_nonce)
        {
            return Err(ProofError::NonceNeeded);
        }
        // A nonce says it as well, so that clients with a wrong clock are served, too (RFC 9449, section 4.3).
        let is_recent = |issued: UnixMillis| {
            let is_in_time = issued <= now.plus(limits::PROOF_AHEAD_MS) && now < issued.plus(limits::PROOF_AGE_MS);
            is_in_time || expected.is_nonce.is_some()
        };
        if !claims.member("iat").and_then(date).is_some_and(is_recent) {
            return Err(ProofError::BadTime);
        }
        let id = claims.string("jti").filter(|id| (1..=limits::PROOF_ID_BYTES).contains(&id.len()));
        let hash = Sha256::digest([&thumbprint, id.ok_or(ProofError::BadId)?].concat());
        hash.first_chunk().copied().map(VerifiedProof).ok_or(ProofError::BadId)
    }
}

/// Returns the SHA-256 of a text in base64url, as `ath` has that of the token.
fn digest(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}
