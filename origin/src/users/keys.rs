//! Verifies service tokens with the keys that the auth service publishes.

use std::time::Duration;

use portcullis_client::{
    ClientError,
    jwks::{Algorithm, JwksVerifier, KeyPolicy, TokenRule},
};

use super::SERVICE;
use crate::{clock::Clock, limits};

/// Returns a verifier of the tokens of an issuer, with the keys of the auth service at a base URL.
///
/// # Errors
/// When the HTTP client cannot be set up.
pub fn service_verifier(auth_url: &str, issuer: &str, clock: Clock) -> Result<JwksVerifier, ClientError> {
    let policy = KeyPolicy {
        refresh_after: limits::JWKS_FRESH,
        max_age: Duration::from_millis(limits::JWKS_KEPT_MS.unsigned_abs()),
        cool_down: limits::JWKS_COOL_DOWN,
        back_off: limits::JWKS_BACK_OFF,
    };
    let rule =
        TokenRule { issuer: issuer.to_string(), algorithms: vec![Algorithm::RS256], ..TokenRule::service(SERVICE) };
    let now = move || u64::try_from(clock.now() / 1000).unwrap_or_default();
    Ok(JwksVerifier::new(auth_url, rule)?.with_policy(policy).with_clock(now))
}
