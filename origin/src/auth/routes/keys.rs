//! The signing keys: the public ones, for verifying tokens, and their rotation.

use axum::{
    Json as Answer,
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::IntoResponse,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::{Auth, KeySet, access::Admin, audit_log::AuditContext},
    clock::rfc3339,
    http::ApiError,
    limits,
};

const JWKS_TYPE: &str = "application/jwk-set+json";

pub(super) fn cache_control() -> String {
    format!("public, max-age={}", limits::JWKS_MAX_AGE_S)
}

/// The keys that verify tokens (RFC 7517).
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    responses((status = 200, description = "The key set.", body = KeySet, content_type = "application/jwk-set+json"))
)]
pub(super) async fn jwks(State(auth): State<Auth>) -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, JWKS_TYPE.to_owned()), (CACHE_CONTROL, cache_control())];
    (headers, serde_json::to_string(&auth.keyring.jwks()).map_err(|_| ApiError::internal()))
}

/// The key that signs now, as PEM.
#[utoipa::path(
    get,
    path = "/api/v1/auth/public-key",
    responses((status = 200, description = "The public key.", body = String, content_type = "application/x-pem-file"))
)]
pub(super) async fn public_key(State(auth): State<Auth>) -> Result<impl IntoResponse, ApiError> {
    let key = auth.keyring.signer(auth.clock.now()).ok_or(ApiError::internal())?;
    let pem = key.to_pem().map_err(|_| ApiError::internal())?;
    Ok(([(CONTENT_TYPE, "application/x-pem-file".to_owned()), (CACHE_CONTROL, cache_control())], pem))
}

/// A rotation of the keys.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rotation {
    /// The new key.
    kid: String,
    /// The key that signed until now.
    previous_kid: String,
    /// When the new key begins to sign: gateways have it by then.
    #[schema(format = DateTime, example = "2026-01-02T03:19:05Z")]
    signs_from: String,
}

/// Makes a new signing key.
#[utoipa::path(
    post,
    path = "/api/v1/auth/keys/rotate",
    responses((status = 200, description = "The key is published, and signs soon.", body = Rotation))
)]
pub(super) async fn rotate_keys(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    audit: AuditContext,
) -> Result<Answer<Rotation>, ApiError> {
    let rotated = auth.keyring.rotate(&auth.clock).await.map_err(|fault| {
        tracing::error!(%fault, "the signing keys cannot be rotated");
        ApiError::unavailable("keys_unavailable", "Authentication service unavailable")
    })?;
    audit.set_entity(&rotated.kid);
    tracing::info!(kid = rotated.kid, previous_kid = rotated.previous_kid, user_id = %admin.id, "signing keys rotated");
    Ok(Answer(Rotation {
        kid: rotated.kid,
        previous_kid: rotated.previous_kid,
        signs_from: rfc3339(rotated.signs_from),
    }))
}
