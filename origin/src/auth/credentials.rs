//! Service tokens by client credentials (RFC 6749, section 4.4), and their
//! check on this service's own internal routes.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::{Json as Answer, extract::State, http::HeaderMap};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Auth, Keyring, token};
use crate::{
    clock::Clock,
    http::{ApiError, Body, ServiceClaims, ServiceVerifier, credentials},
    limits, signing, users,
};

const INVALID_CLIENT: ApiError = ApiError::bad_client("Invalid service credentials");

/// Who may get a token for whom.
const ALLOWED: &[(&str, &str)] = &[(super::SERVICE, users::SERVICE), (users::SERVICE, super::SERVICE)];

/// POST /api/v1/auth/token.
pub(super) async fn issue(
    State(auth): State<Auth>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Answer<Value>, ApiError> {
    let caller = authenticate(&auth, &headers)?;
    let form = std::str::from_utf8(&body).unwrap_or_default();
    let field = |name: &str| {
        let mut values = form.split('&').filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == name);
        values.next().map(|(_, value)| value)
    };
    if field("grant_type") != Some("client_credentials") {
        return Err(ApiError::bad_grant("unsupported_grant_type", "grant_type must be client_credentials"));
    }
    let audience = field("audience").unwrap_or_default();
    if !ALLOWED.contains(&(caller, audience)) {
        return Err(ApiError::bad_grant("invalid_target", "audience is not a service that this one may call"));
    }
    Ok(Answer(json!({
        "access_token": token::service(&auth, caller, audience)?,
        "token_type": "Bearer",
        "expires_in": limits::SERVICE_TOKEN_MS / 1000,
    })))
}

fn authenticate(auth: &Auth, headers: &HeaderMap) -> Result<&'static str, ApiError> {
    let decoded = credentials(headers, "basic")
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or(INVALID_CLIENT)?;
    let (name, secret) = decoded.split_once(':').ok_or(INVALID_CLIENT)?;
    let (name, expected) = auth.services.iter().find(|(known, _)| *known == name).ok_or(INVALID_CLIENT)?;
    verify_slices_are_equal(secret.as_bytes(), expected.expose().as_bytes()).map_err(|_| INVALID_CLIENT)?;
    Ok(name)
}

/// Checks service tokens with this process's own keys.
#[derive(Debug)]
pub(super) struct OwnKeys {
    pub(super) keyring: Arc<Keyring>,
    pub(super) clock: Clock,
}

impl ServiceVerifier for OwnKeys {
    async fn verify(&self, text: &str) -> Result<ServiceClaims, ApiError> {
        signing::verify(&self.keyring.public(), token::SERVICE_TYPE, text, self.clock.now())
            .map_err(|_| ApiError::unauthorized("service_token_invalid", "Invalid service token"))
    }
}
