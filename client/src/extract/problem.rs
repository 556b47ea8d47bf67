//! The answer of a refusal that nobody renders: a problem document (RFC 9457) with
//! the members that older clients read. It holds no text from the request.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::json;

/// A problem document with `WWW-Authenticate` (RFC 6750, section 3) where it is 401.
pub(super) fn answer(status: StatusCode, family: &'static str, code: &'static str, detail: &'static str) -> Response {
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
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"portcullis\""));
    }
    response
}

/// 401.
pub(super) fn unauthorized(code: &'static str, detail: &'static str) -> Response {
    answer(StatusCode::UNAUTHORIZED, "authentication_error", code, detail)
}

/// 500: this service is put together wrongly. The cause is for its developer.
pub(super) fn internal() -> Response {
    answer(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "internal", "Something went wrong")
}
