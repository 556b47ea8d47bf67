//! The default answer to a refusal: a problem document (RFC 9457) with the members that older clients
//! read. It contains no text from the request.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::json;

/// Challenge of a refusal that a valid token would avoid (RFC 6750, section 3).
pub(super) const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"portcullis\"");

/// Challenge of a refusal that no token of this caller avoids (RFC 6750, section 3.1).
const INSUFFICIENT: HeaderValue = HeaderValue::from_static("Bearer realm=\"portcullis\", error=\"insufficient_scope\"");

/// Returns a problem document, with `WWW-Authenticate` if there is a challenge.
fn answer(
    status: StatusCode,
    family: &'static str,
    code: &'static str,
    detail: &str,
    challenge: Option<HeaderValue>,
) -> Response {
    let document = json!({
        "type": family,
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
        "error": detail,
        "code": code,
    });
    let mut response = (status, document.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(challenge) = challenge {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Returns 401.
pub(super) fn unauthorized(code: &'static str, detail: &str, challenge: HeaderValue) -> Response {
    answer(StatusCode::UNAUTHORIZED, "authentication_error", code, detail, Some(challenge))
}

/// Returns 403.
pub(super) fn forbidden(code: &'static str, detail: &str) -> Response {
    answer(StatusCode::FORBIDDEN, "permission_denied", code, detail, Some(INSUFFICIENT))
}

/// Returns 503 with `Retry-After`.
pub(super) fn unavailable(code: &'static str, detail: &str) -> Response {
    let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, "unavailable", code, detail, None);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

/// Returns 500: the service lacks a layer, which is a bug of the service.
pub(super) fn internal() -> Response {
    answer(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "internal", "Something went wrong", None)
}
