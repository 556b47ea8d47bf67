//! Errors as problem documents (RFC 9457), with the members that older clients read.

use std::borrow::Cow;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use portcullis_client::extract::GatewayUrl;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    limits,
    store::{error_kind, log_error},
};

/// Media type of a problem document (RFC 9457).
pub(super) const PROBLEM_TYPE: &str = "application/problem+json";

/// Error code for a request that bypassed the gateway.
const GATEWAY_REQUIRED: &str = "gateway_required";

/// An error. Contains no text from a request except the names of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    family: &'static str,
    code: &'static str,
    detail: &'static str,
    retry_after_s: Option<u64>,
    fields: Vec<FieldError>,
    /// Whether the answer has the members and the media type of RFC 6749, for the clients of OAuth's endpoints.
    oauth: bool,
    database_error: Option<&'static str>,
}

const REAUTHENTICATION_REQUIRED: &str = "reauthentication_required";

/// The summary of a rendered error, in the extensions of its response for the middlewares outside the
/// one that renders it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportedError {
    /// The stable code.
    pub code: &'static str,
    /// The kind of the database error that caused it.
    pub database_error: Option<&'static str>,
}

/// The answer to a refused request (RFC 9457), of a service or of the gateway, with members for older
/// clients.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Family of the refusal.
    #[schema(example = "not_found")]
    r#type: &'static str,
    /// The status in words.
    #[schema(example = "Not Found")]
    title: &'static str,
    #[schema(example = 404, minimum = 400, maximum = 599)]
    status: u16,
    /// The reason, in a sentence.
    #[schema(example = "Not found")]
    detail: String,
    /// The same as `detail`; at OAuth's endpoints a code of RFC 6749, section 5.2.
    #[schema(example = "Not found")]
    error: String,
    /// The stable code, for programs.
    #[schema(example = "not_found")]
    code: &'static str,
    /// Method and template of the route, if one matched.
    #[schema(example = "GET /api/v1/users/{id}")]
    operation: String,
    /// Id of the request, in every log.
    #[schema(example = "0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f")]
    request_id: String,
    /// Faults of fields (422 only).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    errors: Option<Vec<FieldError>>,
    /// RFC 6749, section 5.2 (OAuth's endpoints only).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error_description: Option<&'static str>,
}

/// An error in one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Name of the field in the request.
    #[schema(example = "email")]
    pub field: &'static str,
    /// Requirement that the value does not meet.
    #[schema(example = "must be given")]
    pub message: &'static str,
}

impl ApiError {
    const fn new(status: StatusCode, family: &'static str, code: &'static str, detail: &'static str) -> Self {
        Self {
            status,
            family,
            code,
            detail,
            retry_after_s: None,
            fields: Vec::new(),
            oauth: false,
            database_error: None,
        }
    }

    /// 400.
    pub const fn bad_request(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "validation_error", code, detail)
    }

    /// 400 of OAuth's endpoints, with a code of RFC 6749, section 5.2.
    pub const fn bad_grant(code: &'static str, detail: &'static str) -> Self {
        let mut error = Self::bad_request(code, detail);
        error.oauth = true;
        error
    }

    /// 401 of OAuth's endpoints: the client's name or secret is wrong.
    pub const fn bad_client(detail: &'static str) -> Self {
        let mut error = Self::unauthorized("invalid_client", detail);
        error.oauth = true;
        error
    }

    /// 422: the body has the right shape but invalid values.
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        let mut error = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "validation_error",
            "fields_invalid",
            "Some fields are invalid",
        );
        error.fields = fields;
        error
    }

    /// 422 for a role that does not exist.
    pub fn unknown_role() -> Self {
        Self::invalid(vec![FieldError { field: "roles", message: "must be names of roles" }])
    }

    /// 422 for an `Idempotency-Key` of another registration.
    pub const fn key_reused() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "validation_error",
            "idempotency_key_reused",
            "The Idempotency-Key was used for another registration",
        )
    }

    /// 401.
    pub const fn unauthorized(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", code, detail)
    }

    /// 401 for an invalid token or assertion.
    pub const fn invalid_token() -> Self {
        Self::unauthorized("token_invalid", "Invalid token")
    }

    /// 401 for a request that bypassed the gateway. [`Self::render`] adds the gateway's URL and its own
    /// challenge.
    pub const fn gateway_required() -> Self {
        Self::unauthorized(GATEWAY_REQUIRED, "The request did not come through the gateway")
    }

    /// 401 for a request without a token.
    pub const fn credentials_missing() -> Self {
        Self::unauthorized("credentials_missing", "Authorization header required")
    }

    /// 401 for an `Authorization` header that is not `Bearer <token>`.
    pub const fn credentials_malformed() -> Self {
        Self::unauthorized("credentials_malformed", "Invalid authorization format")
    }

    /// 401 for an expired token.
    pub const fn token_expired() -> Self {
        Self::unauthorized("token_expired", "Token has expired")
    }

    /// 401 for a token whose session or account has ended.
    pub const fn token_revoked() -> Self {
        Self::unauthorized("token_revoked", "Token has been revoked")
    }

    /// 401 for a wrong password and for an unknown account, which the answer does not distinguish.
    pub const fn invalid_credentials() -> Self {
        Self::unauthorized("invalid_credentials", "Invalid email or password")
    }

    /// 403 for a change of the caller's own account that an access token alone must not make, because it
    /// may be stolen.
    pub const fn reauthentication_required() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "permission_denied",
            REAUTHENTICATION_REQUIRED,
            "Send current_password, or log in again and repeat this within five minutes",
        )
    }

    /// 403 for a service, because the user's session has ended.
    pub const fn session_ended() -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_denied", "session_ended", "The user's session has ended")
    }

    /// 403 for a service, because the user's current password is wrong. A 401 would concern the service's
    /// own token.
    pub const fn password_wrong() -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_denied", "password_wrong", "The user's password is wrong")
    }

    /// 429 after wrong passwords.
    pub const fn login_delayed(retry_after_s: u64) -> Self {
        Self::rate_limited("login_delayed", "Too many failed attempts; try again later", retry_after_s)
    }

    /// 429 after many changes of an e-mail address, each of which reveals whether an address is taken.
    pub const fn email_change_delayed(retry_after_s: u64) -> Self {
        Self::rate_limited("email_change_delayed", "Too many changes of the email; try again later", retry_after_s)
    }

    /// 403.
    pub const fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_denied", "rights_missing", "Insufficient permissions")
    }

    /// 403 for a service that may not call an internal route.
    pub const fn service_not_authorized(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_denied", code, detail)
    }

    /// 404 for the metadata of a service whose settings name no URLs.
    pub const fn no_metadata() -> Self {
        let mut error = Self::not_found();
        error.detail = "Metadata needs TOKEN_ISSUER and PUBLIC_URL, both the same URL";
        error
    }

    /// 404.
    pub const fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "not_found", "Not found")
    }

    /// 405.
    pub const fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "method_not_allowed",
            "The path does not take this method",
        )
    }

    /// 409.
    pub const fn conflict(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", code, detail)
    }

    /// 409 for an e-mail address that another account has.
    pub const fn email_taken() -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "email_taken", "Email already registered")
    }

    /// 409 for a write of a deleted profile, which an older write must not restore.
    pub const fn profile_deleted() -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "profile_deleted", "The profile was deleted")
    }

    /// 409 for the deletion of the only administrator.
    pub const fn last_admin() -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "last_admin", "The last administrator cannot be deleted")
    }

    /// 412: `If-Match` names another version.
    pub const fn version_mismatch() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "conflict",
            "version_mismatch",
            "It was changed meanwhile: read it again, and send its ETag as If-Match",
        )
    }

    /// 413.
    pub const fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "body_too_large", "The body is too large")
    }

    /// 415.
    pub const fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "validation_error",
            "content_type_unsupported",
            "Send JSON with Content-Type: application/json",
        )
    }

    /// 429 with `Retry-After`.
    pub const fn rate_limited(code: &'static str, detail: &'static str, retry_after_s: u64) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", code, detail);
        error.retry_after_s = Some(retry_after_s);
        error
    }

    /// 503 with `Retry-After`.
    pub const fn unavailable(code: &'static str, detail: &'static str) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", code, detail);
        error.retry_after_s = Some(2);
        error
    }

    /// An error of the gateway, for the OpenAPI documents.
    pub(super) const fn of_gateway(status: StatusCode, code: &'static str, detail: &'static str) -> Self {
        Self::new(status, "upstream_error", code, detail)
    }

    /// 500. The cause is logged and not part of the answer.
    pub const fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "internal", "Something went wrong")
    }

    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// Returns the media type: OAuth's clients read errors as JSON only (RFC 6749, section 5.2).
    pub(super) const fn media_type(&self) -> &'static str {
        if self.oauth { "application/json" } else { PROBLEM_TYPE }
    }

    /// Returns the problem document.
    pub(super) fn problem(&self, operation: &str, request_id: &str) -> Problem {
        self.problem_with(self.detail, operation, request_id)
    }

    fn problem_with(&self, detail: &str, operation: &str, request_id: &str) -> Problem {
        Problem {
            r#type: self.family,
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: detail.to_owned(),
            error: if self.oauth { self.code.to_owned() } else { detail.to_owned() },
            code: self.code,
            operation: operation.to_owned(),
            request_id: request_id.to_owned(),
            errors: Some(self.fields.clone()).filter(|fields| !fields.is_empty()),
            error_description: self.oauth.then_some(self.detail),
        }
    }

    /// Renders the response.
    pub(super) fn render(&self, operation: &str, request_id: &str, gateway: &GatewayUrl) -> Response {
        let is_bypass = self.code == GATEWAY_REQUIRED;
        let detail = if is_bypass { Cow::Owned(gateway.detail()) } else { Cow::Borrowed(self.detail) };
        let problem = self.problem_with(&detail, operation, request_id);
        let mut response = (self.status, Json(problem)).into_response();
        response.extensions_mut().insert(ReportedError { code: self.code, database_error: self.database_error });
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type()));
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 6750, section 3.1: the reason, if the request had a token.
            let challenge = match self.code {
                _ if self.oauth => "Basic realm=\"portcullis\"",
                "token_invalid" => {
                    "Bearer realm=\"portcullis\", error=\"invalid_token\", error_description=\"Invalid token\""
                }
                "token_revoked" => {
                    "Bearer realm=\"portcullis\", error=\"invalid_token\", error_description=\"Token has been revoked\""
                }
                "token_expired" => {
                    "Bearer realm=\"portcullis\", error=\"invalid_token\", error_description=\"Token has expired\""
                }
                "credentials_malformed" => {
                    "Bearer realm=\"portcullis\", error=\"invalid_request\", error_description=\"Invalid authorization format\""
                }
                _ => "Bearer realm=\"portcullis\"",
            };
            let challenge = if is_bypass { gateway.challenge() } else { HeaderValue::from_static(challenge) };
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if self.status == StatusCode::FORBIDDEN {
            // RFC 9470, section 3, if another login would suffice.
            let challenge = match self.code {
                REAUTHENTICATION_REQUIRED => {
                    "Bearer realm=\"portcullis\", error=\"insufficient_user_authentication\", max_age=\"300\""
                }
                _ => "Bearer realm=\"portcullis\", error=\"insufficient_scope\"",
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Adds the error to the extensions of the response for the outermost middleware, which renders it.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// A failed database is 503. The text of the error may contain values and is not part of the answer.
impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        log_error(&error);
        let mut refusal = Self::unavailable("store_unavailable", "The service cannot reach its database");
        refusal.database_error = Some(error_kind(&error));
        refusal
    }
}
const _: () =
    assert!(limits::RECENT_LOGIN_MS == 300 * 1000, "the texts of reauthentication_required name five minutes");
