//! The compact serialisation (RFC 7515, section 7.1): three parts of canonical base64url, bounded
//! before anything is allocated.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    algorithm::Algorithm,
    check::Check,
    claims::{self, VerifiedToken},
    error::TokenError,
    header::{self, Header},
    json::StrictObject,
    limits,
    policy::TokenPolicy,
    signature::SignatureOutcome,
    time::UnixMillis,
};

/// A well-formed token whose signature has not been checked. Its claims cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct UnverifiedToken<'a> {
    signing_input: &'a [u8],
    pub(crate) header: Header,
    pub(crate) claims: StrictObject,
    signature: Vec<u8>,
}

/// Parses the compact form.
///
/// Accepts base64url in its canonical spelling only: no padding, no `+/`, no stray trailing bits.
/// Otherwise one token would have several spellings, and a revocation or cache entry for one would
/// miss the others.
///
/// # Errors
/// [`TokenError::TooLarge`], [`TokenError::Malformed`], the header's errors,
/// [`TokenError::ClaimsMalformed`], and [`TokenError::BadSignature`] for an empty signature.
pub fn parse(token: &str) -> Result<UnverifiedToken<'_>, TokenError> {
    let mut draft = Draft::new(token);
    for (_, check) in FORM_CHECKS {
        check(&mut draft)?;
    }
    draft.finish().ok_or(TokenError::Malformed)
}

/// A token's parts, while they are decoded.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    token: &'a str,
    signing_input: &'a str,
    header_text: &'a str,
    payload_text: &'a str,
    signature_text: &'a str,
    pub(crate) header: Option<Header>,
    pub(crate) claims: Option<StrictObject>,
    signature: Vec<u8>,
}

type FormCheck = fn(&mut Draft<'_>) -> Result<(), TokenError>;

/// What is checked before an issuer's policy is known, in order. [`Check::Form`] is needed by those
/// that follow it.
pub(crate) const FORM_CHECKS: [(Check, FormCheck); 5] = [
    (Check::Size, check_size),
    (Check::Form, split),
    (Check::Header, decode_header),
    (Check::Payload, decode_payload),
    (Check::SignatureForm, decode_signature),
];

impl<'a> Draft<'a> {
    pub(crate) fn new(token: &'a str) -> Self {
        Self {
            token,
            signing_input: "",
            header_text: "",
            payload_text: "",
            signature_text: "",
            header: None,
            claims: None,
            signature: Vec::new(),
        }
    }

    pub(crate) fn finish(self) -> Option<UnverifiedToken<'a>> {
        let Self { signing_input, header, claims, signature, .. } = self;
        Some(UnverifiedToken { signing_input: signing_input.as_bytes(), header: header?, claims: claims?, signature })
    }
}

fn check_size(draft: &mut Draft<'_>) -> Result<(), TokenError> {
    if draft.token.len() > limits::TOKEN_BYTES { Err(TokenError::TooLarge) } else { Ok(()) }
}

fn split(draft: &mut Draft<'_>) -> Result<(), TokenError> {
    (draft.signing_input, draft.signature_text) = draft.token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    (draft.header_text, draft.payload_text) = draft.signing_input.split_once('.').ok_or(TokenError::Malformed)?;
    if draft.payload_text.contains('.') { Err(TokenError::Malformed) } else { Ok(()) }
}

fn decode_header(draft: &mut Draft<'_>) -> Result<(), TokenError> {
    if draft.header_text.len() > limits::HEADER_BYTES {
        return Err(TokenError::TooLarge);
    }
    draft.header = Some(header::parse(&decode(draft.header_text)?)?);
    Ok(())
}

fn decode_payload(draft: &mut Draft<'_>) -> Result<(), TokenError> {
    draft.claims = Some(StrictObject::parse(&decode(draft.payload_text)?).ok_or(TokenError::ClaimsMalformed)?);
    Ok(())
}

fn decode_signature(draft: &mut Draft<'_>) -> Result<(), TokenError> {
    draft.signature = decode(draft.signature_text)?;
    match draft.signature.len() {
        0 => Err(TokenError::BadSignature),
        1..=limits::SIGNATURE_BYTES => Ok(()),
        _ => Err(TokenError::TooLarge),
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

impl UnverifiedToken<'_> {
    /// The `iss` that the token claims, for choosing the policy that it is checked against. Of no
    /// other use until the signature is verified.
    ///
    /// # Errors
    /// [`TokenError::UnknownIssuer`] when it is missing or not a string (an array that contains the
    /// right issuer is not the right issuer).
    pub fn unverified_issuer(&self) -> Result<&str, TokenError> {
        self.claims.string("iss").ok().flatten().ok_or(TokenError::UnknownIssuer)
    }

    /// The `kid` of the header: a hint which key to try, never a reason to trust it.
    pub fn unverified_kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// Selects the algorithm for the signature check: one that the issuer's policy lists. The
    /// header names one of these; it cannot choose another.
    ///
    /// # Errors
    /// [`TokenError::AlgorithmNotAllowed`], [`TokenError::WrongType`].
    pub fn select_algorithm(&self, policy: &TokenPolicy) -> Result<Algorithm, TokenError> {
        let algorithm = self.header.algorithm(policy)?;
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

    /// Admits the token: requires a valid signature, then every claim that the policy asks for, at
    /// `now`. The only constructor of a [`VerifiedToken`].
    ///
    /// # Errors
    /// [`TokenError::BadSignature`] first, then the claims' errors.
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
