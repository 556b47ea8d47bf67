//! Proofs of possession (RFC 9449, section 5): a client that sends one with a login or a refresh gets tokens that are bound
//! to its key.
//!
//! A proof is not remembered: who sends it again needs the password or the refresh token as well, and gets tokens that
//! are of no use without the key. A refresh with a spent token needs a proof that is newer than the session's last
//! refresh, so a request that was captured ends no session.

use axum::{extract::FromRequestParts, http::request::Parts};
use portcullis_token::{
    ExpectedProof, SignatureOutcome, UnixMillis, check_signature, limits::PROOF_BYTES, parse_proof,
};

use super::Auth;
use crate::http::ApiError;

/// The thumbprint (RFC 7638) of the key that a client has proved to hold, and the milliseconds since 1970 of the proof's `iat`;
/// `None` without a proof, and if the service's `PUBLIC_URL` is not set.
pub(super) struct ProvenKey(pub(super) Option<(String, i64)>);

/// The proof, or its absence, is not what the session needs (RFC 9449, section 5).
pub(super) const INVALID_PROOF: ApiError = ApiError::bad_request("invalid_dpop_proof", "Invalid DPoP proof");

impl FromRequestParts<Auth> for ProvenKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, auth: &Auth) -> Result<Self, ApiError> {
        let mut sent = parts.headers.get_all("dpop").iter();
        let (Some(public_url), Some(value)) = (&auth.public_url, sent.next()) else { return Ok(Self(None)) };
        let text = value.to_str().ok().filter(|text| text.len() <= PROOF_BYTES && sent.next().is_none());
        let proven = text.and_then(|text| verify(text, parts, public_url, auth.clock.now()));
        proven.map(|proven| Self(Some(proven))).ok_or(INVALID_PROOF)
    }
}

/// Verifies a proof of a request for tokens, and returns the thumbprint of its key, and its `iat`.
fn verify(text: &str, parts: &Parts, public_url: &str, now: i64) -> Option<(String, i64)> {
    let proof = parse_proof(text).ok()?;
    let issued_at = i64::try_from(proof.unverified_issued_at()?.0).ok()?;
    let key = proof.key().ok()?;
    let outcome = check_signature(&key.public, proof.algorithm(), proof.signing_input(), proof.signature());
    let path = parts.uri.path();
    let is_url = |url: &str| {
        let url = url.split(['?', '#']).next().unwrap_or_default();
        url.strip_prefix(public_url) == Some(path)
    };
    let expected = ExpectedProof { method: parts.method.as_str(), is_url: &is_url, token: None, is_nonce: None };
    proof.admit(outcome, &expected, UnixMillis(u64::try_from(now).ok()?)).ok()?;
    (outcome == SignatureOutcome::Valid).then_some((key.thumbprint, issued_at))
}
