//! Strict extractors: JSON bodies with a declared type and a limited size, ids in paths, credentials.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, header, request::Parts},
};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::ApiError;
use crate::limits;

/// A JSON body. Members that the type does not name are ignored, which prevents mass assignment
/// (`roles`, `id`).
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let essence = media_type(request.headers());
        if essence != "application/json" && !(essence.starts_with("application/") && essence.ends_with("+json")) {
            return Err(ApiError::unsupported_media_type());
        }
        let Body(body) = Body::from_request(request, state).await?;
        parse(&body).map(Self)
    }
}

/// A JSON merge patch (RFC 7396): an object, whose members that the type does not name are ignored.
/// Other kinds of patches (`application/json-patch+json`) are rejected instead of ignored.
#[derive(Debug)]
pub struct MergePatch<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for MergePatch<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !["application/merge-patch+json", "application/json"].contains(&media_type(request.headers()).as_str()) {
            return Err(ApiError::unsupported_media_type());
        }
        let Body(body) = Body::from_request(request, state).await?;
        // serde would deserialise a struct from an array as well.
        let document: serde_json::Map<String, serde_json::Value> = parse(&body)?;
        T::deserialize(serde_json::Value::Object(document)).map(Self).map_err(|_| SHAPE)
    }
}

/// Returns the media type of a body without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

const SHAPE: ApiError = ApiError::bad_request("json_shape", "A field is missing or of the wrong type");

/// A body as bytes, of at most [`limits::BODY_BYTES`].
///
/// A longer body is read and discarded up to [`limits::DRAIN_BYTES`]: closing a connection with an
/// unread body resets it, and the gateway would see a broken service instead of the 413.
#[derive(Debug)]
pub struct Body(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let mut body = request.into_body();
        let (mut kept, mut size) = (Vec::new(), 0_usize);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::bad_request("body_unreadable", "The body did not arrive whole"))?;
            let Some(part) = frame.data_ref() else { continue };
            size = size.saturating_add(part.len());
            if size <= limits::BODY_BYTES {
                kept.extend_from_slice(part);
            } else if size > limits::DRAIN_BYTES {
                break;
            }
        }
        if size > limits::BODY_BYTES { Err(ApiError::too_large()) } else { Ok(Self(kept.into())) }
    }
}

/// A JSON body that may be absent or null.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Body(body) = Body::from_request(request, state).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        Ok(Self(parse::<Option<T>>(&body)?.unwrap_or_default()))
    }
}

/// Parses JSON. serde_json limits the depth to 128. The text of its error may quote the body and is not
/// part of the answer.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_data() { SHAPE } else { ApiError::bad_request("json_syntax", "The body is not valid JSON") }
    })
}

/// The only path parameter as an id. A parameter that is not an id is 404.
#[derive(Debug, Clone, Copy)]
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<Uuid>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(ApiError::not_found()),
        }
    }
}

/// The two path parameters as ids. A parameter that is not an id is 404.
#[derive(Debug, Clone, Copy)]
pub struct Ids(pub Uuid, pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<(Uuid, Uuid)>::from_request_parts(parts, state).await {
            Ok(Path((outer, inner))) => Ok(Self(outer, inner)),
            Err(_) => Err(ApiError::not_found()),
        }
    }
}

/// Returns the credentials of an `Authorization` header with a scheme.
pub fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (named, rest) = value.split_once(' ')?;
    Some(rest.trim_start()).filter(|rest| named.eq_ignore_ascii_case(scheme) && !rest.is_empty())
}
