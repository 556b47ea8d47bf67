//! The audit trail as administrators read it: the newest first, a page at a time.

use axum::{
    Json as Answer,
    extract::{Query, State, rejection::QueryRejection},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Auth, session};
use crate::{
    clock::{parse_rfc3339, rfc3339},
    http::{ApiError, User, openapi::refuses},
    limits,
    store::audit::{self as stored, Filter, Outcome},
};

const CURSOR_INVALID: ApiError =
    ApiError::bad_request("cursor_invalid", "cursor must be the next of an earlier answer");

/// What may be asked for. Parameters of other names are ignored.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Who did it.
    #[param(value_type = Option<Uuid>, nullable = false)]
    user_id: Option<String>,
    /// What was done.
    #[param(
        nullable = false,
        pattern = "^[A-Za-z0-9._-]+$",
        min_length = 1,
        max_length = 100,
        example = "role.create"
    )]
    event_type: Option<String>,
    /// How it ended.
    #[param(value_type = Option<Ending>, nullable = false)]
    result: Option<String>,
    /// To what it was done.
    #[param(nullable = false, pattern = "^[A-Za-z0-9._-]+$", min_length = 1, max_length = 100)]
    entity_id: Option<String>,
    /// Not before this time.
    #[param(nullable = false, format = DateTime, example = "2026-01-02T03:04:05Z")]
    from: Option<String>,
    /// Before this time.
    #[param(nullable = false, format = DateTime, example = "2026-01-03T03:04:05Z")]
    to: Option<String>,
    /// Events at most.
    #[param(value_type = Option<i64>, nullable = false, minimum = 1, maximum = 100, default = 50)]
    limit: Option<String>,
    /// `next` of the page before.
    #[param(nullable = false, format = "cursor")]
    cursor: Option<String>,
}

/// How something ended.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "the form of Outcome's words")]
enum Ending {
    Success,
    Denied,
    Failure,
}

/// Something that was done, or tried.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    #[schema(example = "role.create")]
    event_type: String,
    #[schema(value_type = Ending)]
    result: &'static str,
    /// Who did it, or whose account it is about.
    user_id: Option<Uuid>,
    /// To what it was done.
    entity_id: Option<String>,
    /// Method and template of the route, or the command.
    #[schema(example = "POST /api/v1/auth/roles")]
    operation: String,
    request_id: Option<String>,
    trace_id: Option<String>,
    span_id: Option<String>,
    ip_address: Option<String>,
    user_agent: Option<String>,
    /// Why it was refused, or the second thing that it was about.
    detail: Option<String>,
    #[schema(format = DateTime, example = "2026-01-02T03:04:05Z")]
    timestamp: String,
}

/// A page of the trail.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Events {
    events: Vec<Event>,
    /// The cursor of the next page, if there is one.
    next: Option<String>,
}

/// Reads the audit trail, the newest first.
#[utoipa::path(
    get,
    path = "/api/v1/auth/audit",
    operation_id = "listEvents",
    tag = "Operations",
    security(("accessToken" = [])),
    params(Asked),
    responses(
        (status = 200, description = "What was done, and by whom.", body = Events),
        refuses::Always, refuses::Credentials, refuses::Rights
    )
)]
pub(super) async fn list(
    State(auth): State<Auth>,
    user: User,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Answer<Events>, ApiError> {
    session::live_admin(&auth, &user).await?;
    let invalid = |_| ApiError::bad_request("filter_invalid", "A filter is given twice or cannot be read");
    let Query(asked) = asked.map_err(invalid)?;
    let limit = limit(asked.limit.as_deref())?;
    let filter = filter(asked)?;
    // One more than is told says whether there is a next page.
    let mut found = auth.audit.list(&filter, limit.saturating_add(1)).await?;
    let has_more = i64::try_from(found.len()).is_ok_and(|count| count > limit);
    if has_more {
        found.pop();
    }
    let next = found.last().filter(|_| has_more).map(|(id, _)| URL_SAFE_NO_PAD.encode(id.to_be_bytes()));
    let events = found.into_iter().map(|(_, event)| event.into()).collect();
    Ok(Answer(Events { events, next }))
}

impl From<stored::Event> for Event {
    fn from(event: stored::Event) -> Self {
        Self {
            event_type: event.event_type,
            result: event.result.as_str(),
            user_id: event.user_id,
            entity_id: event.entity_id,
            operation: event.operation,
            request_id: event.request_id,
            trace_id: event.trace_id,
            span_id: event.span_id,
            ip_address: event.ip_address,
            user_agent: event.user_agent,
            detail: event.detail,
            timestamp: rfc3339(event.at),
        }
    }
}

fn limit(text: Option<&str>) -> Result<i64, ApiError> {
    let limit = text.map_or(Some(limits::AUDIT_PAGE_DEFAULT), |text| text.parse().ok());
    let invalid = ApiError::bad_request("filter_invalid", "limit must be 1 to 100");
    limit.filter(|limit| limits::PAGE.contains(limit)).ok_or(invalid)
}

fn filter(asked: Asked) -> Result<Filter, ApiError> {
    /// A value that is there must be one.
    fn read<T>(
        text: Option<String>,
        read: impl FnOnce(&str) -> Option<T>,
        detail: &'static str,
    ) -> Result<Option<T>, ApiError> {
        let invalid = ApiError::bad_request("filter_invalid", detail);
        text.map(|text| read(&text).ok_or(invalid)).transpose()
    }
    let word = |text: &str| {
        let fits = (1..=limits::AUDIT_WORD_BYTES).contains(&text.len());
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (fits && text.bytes().all(is_plain)).then(|| text.to_owned())
    };
    let entity = |text: &str| Uuid::parse_str(text).ok().map(|id| id.to_string()).or_else(|| word(text));
    let cursor = |text: String| {
        let bytes: [u8; 8] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        Some(i64::from_be_bytes(bytes)).filter(|id| *id > 0)
    };
    Ok(Filter {
        user_id: read(asked.user_id, |text| Uuid::parse_str(text).ok(), "user_id must be an id")?,
        event_type: read(asked.event_type, word, "event_type must be a name such as role.create")?,
        result: read(asked.result, Outcome::parse, "result must be success, denied or failure")?,
        entity_id: read(asked.entity_id, entity, "entity_id must be an id")?,
        from: read(asked.from, parse_rfc3339, "from must be a time as of RFC 3339")?,
        to: read(asked.to, parse_rfc3339, "to must be a time as of RFC 3339")?,
        before: asked.cursor.map(|text| cursor(text).ok_or(CURSOR_INVALID)).transpose()?,
    })
}
