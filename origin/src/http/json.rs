//! JSON bodies, read strictly: declared as JSON, bounded, of the right shape.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{StatusCode, header},
    response::IntoResponse as _,
};
use serde::de::DeserializeOwned;

use super::ApiError;

/// A JSON body. Members that the type does not name are ignored, so none of
/// them (`roles`, `id`) can be assigned by a client.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence != "application/json" && !(essence.starts_with("application/") && essence.ends_with("+json")) {
            return Err(ApiError::unsupported_media_type());
        }
        let body = Bytes::from_request(request, state).await.map_err(|rejection: BytesRejection| {
            if rejection.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::too_large()
            } else {
                ApiError::bad_request("body_unreadable", "The body did not arrive whole")
            }
        })?;
        // serde_json bounds the depth to 128; its error's text may quote the
        // body and is not told.
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            if error.is_data() {
                ApiError::bad_request("json_shape", "A field is missing or of the wrong type")
            } else {
                ApiError::bad_request("json_syntax", "The body is not valid JSON")
            }
        })
    }
}
