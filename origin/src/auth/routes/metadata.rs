//! Authorization server metadata (RFC 8414).

use axum::{Json as Answer, extract::State, http::header::CACHE_CONTROL, response::IntoResponse};
use portcullis_token::PROOF_ALGORITHMS;
use serde::Serialize;
use utoipa::ToSchema;

use super::keys::cache_control;
use crate::{
    auth::Auth,
    http::{ApiError, openapi::refuses},
};

/// The metadata of the authorization server (RFC 8414, section 2).
// It names what clients can reach through the gateway. The endpoints for service tokens and introspection are left out,
// because they are for services inside the network: the gateway does not route them, and no answer to clients names an
// internal address. So there is no grant, either: login and refresh are not grants of RFC 6749. The two empty lists say so.
// Section 3.2 omits empty lists, but `response_types_supported` is required, and without `grant_types_supported` clients
// assume the authorization code and implicit grants (section 2).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Metadata {
    /// `iss` of tokens.
    #[schema(example = "https://api.example.com")]
    issuer: String,
    #[schema(example = "https://api.example.com/.well-known/jwks.json")]
    jwks_uri: String,
    #[schema(example = "https://api.example.com/api/v1/auth/revoke")]
    revocation_endpoint: String,
    revocation_endpoint_auth_methods_supported: [&'static str; 1],
    response_types_supported: [&'static str; 0],
    grant_types_supported: [&'static str; 0],
    /// Algorithms of proofs (RFC 9449, section 5.1).
    dpop_signing_alg_values_supported: Vec<&'static str>,
}

/// The metadata of the authorization server (RFC 8414).
///
/// It exists if `TOKEN_ISSUER` and `PUBLIC_URL` are the same URL, because clients compare the issuer with the URL at which they
/// find it (section 3.3).
#[utoipa::path(
    get,
    path = "/.well-known/oauth-authorization-server",
    responses((status = 200, description = "The metadata.", body = Metadata), refuses::Missing)
)]
pub(super) async fn metadata(State(auth): State<Auth>) -> Result<impl IntoResponse, ApiError> {
    let public_url = auth.public_url.as_deref().filter(|url| *url == &*auth.issuer);
    let public_url = public_url.ok_or(ApiError::no_metadata())?;
    let metadata = Metadata {
        issuer: auth.issuer.to_string(),
        jwks_uri: format!("{public_url}/.well-known/jwks.json"),
        revocation_endpoint: format!("{public_url}/api/v1/auth/revoke"),
        revocation_endpoint_auth_methods_supported: ["none"],
        response_types_supported: [],
        grant_types_supported: [],
        dpop_signing_alg_values_supported: PROOF_ALGORITHMS.iter().map(|algorithm| algorithm.name()).collect(),
    };
    Ok(([(CACHE_CONTROL, cache_control())], Answer(metadata)))
}
