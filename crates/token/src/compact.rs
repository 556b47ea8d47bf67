//! The compact serialisation (RFC 7515, section 7.1): three parts of canonical base64url, bounded
//! before anything is allocated.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    algorithm::Algorithm,
    claims::{self, VerifiedToken},
    error::TokenError,
    event::{self, EventError, EventPolicy, SecurityEvent},
    header::{self, Header},
    json::StrictObject,
    limits,
    policy::TokenPolicy,
    signature::SignatureOutcome,
    time::UnixMillis,
};

/// A well-formed token whose signature has not been checked. Its claims cannot be read.
#[derive(Clone)]
pub struct UnverifiedToken<'a> {
    signing_input: &'a [u8],
    header: Header,
    claims: StrictObject,
    signature: Vec<u8>,
}

/// Parses the compact form.
///
/// Accepts base64url in its canonical spelling only: no padding, no `+/`, no stray trailing bits.
/// Otherwise a client could spell the signature of one token in several ways and fill the token cache with them.
///
/// # Errors
/// [`TokenError::TooLarge`], [`TokenError::Malformed`], the header's errors,
/// [`TokenError::ClaimsMalformed`], and [`TokenError::BadSignature`] for an empty signature.
pub fn parse(token: &str) -> Result<UnverifiedToken<'_>, TokenError> {
    check_size(token)?;
    let parts = Parts::split(token)?;
    let (header, claims, signature) = (parts.header()?, parts.claims()?, parts.signature()?);
    Ok(UnverifiedToken { signing_input: parts.signing_input.as_bytes(), header, claims, signature })
}

/// Returns whether a text resembles a JWT with a signature, whole or damaged: the first of its parts begins like a JSON object
/// in base64url (RFC 7515, section 7.1), and it has not the five parts of an encrypted one (RFC 7516, section 7.1).
pub fn is_jwt(text: &str) -> bool {
    let Some((header, rest)) = text.split_once('.') else { return false };
    let dots = rest.bytes().filter(|byte| *byte == b'.').count();
    let is_object = |header: Vec<u8>| header.trim_ascii_start().starts_with(b"{");
    dots > 0 && dots != 3 && decode(header.trim_end_matches('=')).is_ok_and(is_object)
}

pub(crate) fn check_size(token: &str) -> Result<(), TokenError> {
    if token.len() > limits::TOKEN_BYTES { Err(TokenError::TooLarge) } else { Ok(()) }
}

/// A token's parts, encoded.
pub(crate) struct Parts<'a> {
    /// Header, dot and payload.
    pub(crate) signing_input: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    pub(crate) fn split(token: &'a str) -> Result<Self, TokenError> {
        let (signing_input, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or(TokenError::Malformed)?;
        if payload.contains('.') {
            return Err(TokenError::Malformed);
        }
        Ok(Self { signing_input, header, payload, signature })
    }

    pub(crate) fn header(&self) -> Result<Header, TokenError> {
        header::read(&self.header_object()?)
    }

    /// The header, without a member of an extension.
    pub(crate) fn header_object(&self) -> Result<StrictObject, TokenError> {
        if self.header.len() > limits::HEADER_BYTES {
            return Err(TokenError::TooLarge);
        }
        header::parse(&decode(self.header)?)
    }

    pub(crate) fn claims(&self) -> Result<StrictObject, TokenError> {
        StrictObject::parse(&decode(self.payload)?).ok_or(TokenError::ClaimsMalformed)
    }

    pub(crate) fn signature(&self) -> Result<Vec<u8>, TokenError> {
        let signature = decode(self.signature)?;
        match signature.len() {
            0 => Err(TokenError::BadSignature),
            1..=limits::SIGNATURE_BYTES => Ok(signature),
            _ => Err(TokenError::TooLarge),
        }
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
        self.claims.string("iss").ok_or(TokenError::UnknownIssuer)
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
    /// `now`. The only constructor of a [`VerifiedToken`] for tokens with signatures.
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

    /// Selects the algorithm for the signature check of a security event token, as
    /// [`UnverifiedToken::select_algorithm`] does.
    ///
    /// # Errors
    /// [`TokenError::AlgorithmNotAllowed`], [`TokenError::WrongType`].
    pub fn select_event_algorithm(&self, policy: &EventPolicy) -> Result<Algorithm, TokenError> {
        event::select_algorithm(&self.header, policy)
    }

    /// Admits a security event token: requires a valid signature, then every claim that its form asks for, at
    /// `now`. The only constructor of a [`SecurityEvent`].
    ///
    /// # Errors
    /// [`TokenError::BadSignature`] first, then the claims' errors.
    pub fn admit_event(
        self,
        outcome: SignatureOutcome,
        policy: &EventPolicy,
        now: UnixMillis,
    ) -> Result<SecurityEvent, EventError> {
        match outcome {
            SignatureOutcome::Valid => event::verify(&self.claims, policy, now),
            SignatureOutcome::Invalid => Err(TokenError::BadSignature.into()),
        }
    }
}
