//! The `Idempotency-Key` of a request (draft-ietf-httpapi-idempotency-key-header): a client that lost
//! the answer repeats the request with the same key, and the operation is performed once.

use aws_lc_rs::digest::{SHA256, digest};
use axum::{extract::FromRequestParts, http::request::Parts};

use utoipa::{
    IntoParams,
    openapi::{
        path::{Parameter, ParameterIn},
        schema::ObjectBuilder,
    },
};

use super::{ApiError, openapi::header_parameter};
use crate::limits;

/// SHA-256 of the key, if there is one. The key itself is not stored, so that a reader of the database
/// cannot replay the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<[u8; 32]>);

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = ObjectBuilder::new()
            .min_length(Some(*limits::IDEMPOTENCY_KEY_BYTES.start()))
            .max_length(Some(*limits::IDEMPOTENCY_KEY_BYTES.end()))
            .pattern(Some("^[!-~]*$"));
        let text = "Random key of this registration: a request that repeats it does not register twice.";
        vec![header_parameter("Idempotency-Key", text, schema)]
    }
}

const INVALID: ApiError = ApiError::bad_request(
    "idempotency_key_invalid",
    "Idempotency-Key must be one value of 16 to 128 visible ASCII characters",
);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let bytes = value.as_bytes();
        // Two keys are ambiguous.
        if values.next().is_some()
            || !limits::IDEMPOTENCY_KEY_BYTES.contains(&bytes.len())
            || !bytes.iter().all(u8::is_ascii_graphic)
        {
            return Err(INVALID);
        }
        Ok(Self(digest(&SHA256, bytes).as_ref().try_into().ok()))
    }
}
