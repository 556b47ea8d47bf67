//! Opaque tokens: texts without claims of their own. The claims are what their authority states about them: the answer of
//! an introspection endpoint (RFC 7662, section 2.2), or the record of a store. They are then checked like the claims of a
//! JWT.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    claims::{self, VerifiedToken},
    error::TokenError,
    json::StrictObject,
    policy::TokenPolicy,
    time::UnixMillis,
};

/// Admits a token by the answer of its introspection endpoint. An answer without `exp` counts for `fresh_s` seconds.
///
/// `token_type` must be that of an access token: the endpoint may answer for refresh tokens, too (RFC 7662, section 2.1).
///
/// The token's id is the digest of `jti`, because some servers state the token itself there. It is the digest of the token
/// only without `jti`: a server may accept a token in several spellings, and all of them have the same `jti`.
///
/// # Errors
/// [`TokenError::Inactive`], [`TokenError::WrongTokenType`], then the claims' errors.
pub fn admit_introspected(
    (token, mut answer): (&str, StrictObject),
    policy: &TokenPolicy,
    fresh_s: u64,
    now: UnixMillis,
) -> Result<VerifiedToken, TokenError> {
    if answer.member("active") != Some(&Value::Bool(true)) {
        return Err(TokenError::Inactive);
    }
    let is_type = |name: &str| answer.string("token_type").is_some_and(|given| given.eq_ignore_ascii_case(name));
    let is_dpop = is_type("DPoP");
    if !is_dpop && !is_type("Bearer") {
        return Err(TokenError::WrongTokenType);
    }
    let id = Sha256::digest(answer.string("jti").filter(|id| !id.is_empty()).unwrap_or(token));
    answer.insert("jti", URL_SAFE_NO_PAD.encode(id).into());
    let verified = admit_stated(answer, policy, fresh_s, now)?;
    // A bound token names its key (RFC 9449, section 6.2). Without the name, it would count as a bearer token.
    let has_key = verified.identity().confirmation.as_ref().is_some_and(|bound| bound.key.is_some());
    if is_dpop && !has_key { Err(TokenError::WrongTokenType) } else { Ok(verified) }
}

/// Admits a token by what its authority states. A member that is absent is filled in so that it grants least: without
/// `exp`, the statement counts for `fresh_s` seconds; without `iat`, the token is as old as the policy allows, so that each
/// revocation of its user's tokens applies to it; without `iss`, it is of the authority's issuer.
///
/// # Errors
/// The claims' errors.
pub fn admit_stated(
    mut statement: StrictObject,
    policy: &TokenPolicy,
    fresh_s: u64,
    now: UnixMillis,
) -> Result<VerifiedToken, TokenError> {
    statement.insert_missing("iss", policy.issuer.as_str().into());
    statement.insert_missing("exp", now.secs().saturating_add(fresh_s).into());
    let expires_at = statement.member("exp").and_then(claims::date).ok_or(TokenError::BadDates)?;
    let oldest = expires_at.secs().saturating_sub(policy.max_lifetime_s).min(now.secs());
    statement.insert_missing("iat", oldest.into());
    claims::verify(&statement, policy, now)
}
