//! The compact serialisation (RFC 7515, section 7.1): three parts of canonical
//! base64url, bounded before anything is allocated.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    Algorithm, SignatureOutcome, TokenError, TokenPolicy, UnixMillis,
    claims::{self, VerifiedToken},
    header::{self, Header},
    json::StrictObject,
    limits,
};

/// A token that is well-formed and nothing more. Its claims cannot be read
/// until a signature check said [`SignatureOutcome::Valid`].
#[derive(Debug, Clone, PartialEq)]
pub struct UnverifiedToken<'a> {
    signing_input: &'a [u8],
    signature: Vec<u8>,
    header: Header,
    claims: StrictObject,
}

/// Parses the compact form.
///
/// Base64url is taken in its one canonical spelling only: no padding, no `+/`,
/// no stray trailing bits. Otherwise one token would have several spellings,
/// and a revocation or cache entry made for one would miss the others.
///
/// # Errors
/// [`TokenError::TooLarge`], [`TokenError::Malformed`], the header's and
/// [`TokenError::ClaimsMalformed`].
pub fn parse(token: &str) -> Result<UnverifiedToken<'_>, TokenError> {
    if token.len() > limits::TOKEN_BYTES {
        return Err(TokenError::TooLarge);
    }
    let (signing_input, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = signing_input.split_once('.').ok_or(TokenError::Malformed)?;
    if payload.contains('.') {
        return Err(TokenError::Malformed);
    }
    if header.len() > limits::HEADER_BYTES {
        return Err(TokenError::TooLarge);
    }
    let header = header::parse(&decode(header)?)?;
    let claims = StrictObject::parse(&decode(payload)?).ok_or(TokenError::ClaimsMalformed)?;
    let signature = decode(signature)?;
    if signature.is_empty() {
        return Err(TokenError::BadSignature);
    }
    if signature.len() > limits::SIGNATURE_BYTES {
        return Err(TokenError::TooLarge);
    }
    Ok(UnverifiedToken { signing_input: signing_input.as_bytes(), signature, header, claims })
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

impl UnverifiedToken<'_> {
    /// The `iss` that the token claims, to choose the policy by which it is
    /// judged. Good for nothing else until the signature was checked.
    ///
    /// # Errors
    /// [`TokenError::UnknownIssuer`] when it is missing or not one string (an
    /// array with the right issuer in it is not the right issuer).
    pub fn unverified_issuer(&self) -> Result<&str, TokenError> {
        match self.claims.string("iss") {
            Ok(Some(issuer)) => Ok(issuer),
            Ok(None) | Err(_) => Err(TokenError::UnknownIssuer),
        }
    }

    /// The `kid` of the header: a hint which key to try, never a reason to
    /// trust it.
    pub fn unverified_kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The algorithm to check the signature with: one that the issuer's policy
    /// lists. The header can only name one of these; it cannot choose another.
    ///
    /// # Errors
    /// [`TokenError::AlgorithmNotAllowed`], [`TokenError::WrongType`].
    pub fn select_algorithm(&self, policy: &TokenPolicy) -> Result<Algorithm, TokenError> {
        let algorithm = Algorithm::from_name(&self.header.alg).ok_or(TokenError::AlgorithmNotAllowed)?;
        if !policy.algorithms.contains(&algorithm) {
            return Err(TokenError::AlgorithmNotAllowed);
        }
        self.header.check_type(policy)?;
        Ok(algorithm)
    }

    /// The bytes that were signed: encoded header, dot, encoded payload.
    pub fn signing_input(&self) -> &[u8] {
        self.signing_input
    }

    /// The decoded signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The only way to a [`VerifiedToken`]: a valid signature, then every claim that
    /// the policy asks for, at `now`.
    ///
    /// # Errors
    /// [`TokenError::BadSignature`] first, then the claims' own.
    pub fn admit(
        self,
        outcome: SignatureOutcome,
        policy: &TokenPolicy,
        now: UnixMillis,
    ) -> Result<VerifiedToken, TokenError> {
        match outcome {
            SignatureOutcome::Valid => claims::verify(&self.claims, policy, now),
            SignatureOutcome::Invalid => Err(TokenError::BadSignature),
        }
    }
}
