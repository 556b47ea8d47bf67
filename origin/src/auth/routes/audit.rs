//! The audit log, for administrators.

use axum::{
    Json as Answer,
    extract::{Query, State, rejection::QueryRejection},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::{Auth, access::Admin},
    clock::parse_rfc3339,
    http::ApiError,
    limits,
    store::audit::{Event, Filter, Outcome},
};

const CURSOR_INVALID: ApiError =
    ApiError::bad_request("cursor_invalid", "cursor must be the next of an earlier answer");

/// Filters of the log. Other parameters are ignored.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filters {
    /// The user who made the request.
    #[param(value_type = Option<Uuid>, nullable = false)]
    user_id: Option<String>,
    /// The event type.
    #[param(
        nullable = false,
        pattern = "^[A-Za-z0-9._-]+$",
        min_length = 1,
        max_length = 100,
        example = "role.create"
    )]
    event_type: Option<String>,
    /// The result.
    #[param(value_type = Option<Outcome>, nullable = false)]
    result: Option<String>,
    /// The entity that the event is about.
    #[param(nullable = false, pattern = "^[A-Za-z0-9._-]+$", min_length = 1, max_length = 100)]
    entity_id: Option<String>,
    /// Earliest time, inclusive.
    #[param(nullable = false, format = DateTime, example = "2026-01-02T03:04:05Z")]
    from: Option<String>,
    /// Latest time, exclusive.
    #[param(nullable = false, format = DateTime, example = "2026-01-03T03:04:05Z")]
    to: Option<String>,
    /// The most events to return.
    #[param(value_type = Option<i64>, nullable = false, minimum = 1, maximum = 100, default = 50)]
    limit: Option<String>,
    /// `next` of the previous page.
    #[param(nullable = false, format = "cursor")]
    cursor: Option<String>,
}

/// A page of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Events {
    events: Vec<Event>,
    /// Cursor of the next page, if there is one.
    next: Option<String>,
}

/// Lists the events of the audit log, the newest first.
#[utoipa::path(
    get,
    path = "/api/v1/auth/audit",
    params(Filters),
    responses((status = 200, description = "A page of events.", body = Events))
)]
pub(super) async fn list_events(
    _: Admin,
    State(auth): State<Auth>,
    filters: Result<Query<Filters>, QueryRejection>,
) -> Result<Answer<Events>, ApiError> {
    let invalid = |_| ApiError::bad_request("filter_invalid", "A filter is given twice or cannot be read");
    let Query(filters) = filters.map_err(invalid)?;
    let limit = limit(filters.limit.as_deref())?;
    let filter = filter(filters)?;
    // One more than is returned tells whether there is a next page.
    let mut found = auth.audit.list(&filter, limit.saturating_add(1)).await?;
    let has_more = i64::try_from(found.len()).is_ok_and(|count| count > limit);
    if has_more {
        found.pop();
    }
    let next = found.last().filter(|_| has_more).map(|(id, _)| URL_SAFE_NO_PAD.encode(id.to_be_bytes()));
    let events = found.into_iter().map(|(_, event)| event).collect();
    Ok(Answer(Events { events, next }))
}

fn limit(text: Option<&str>) -> Result<i64, ApiError> {
    let limit = text.map_or(Some(limits::AUDIT_PAGE_DEFAULT), |text| text.parse().ok());
    let invalid = ApiError::bad_request("filter_invalid", "limit must be 1 to 100");
    limit.filter(|limit| limits::PAGE.contains(limit)).ok_or(invalid)
}

fn filter(filters: Filters) -> Result<Filter, ApiError> {
    /// Parses a value, if there is one.
    fn parse<T>(
        text: Option<String>,
        parse: impl FnOnce(&str) -> Option<T>,
        detail: &'static str,
    ) -> Result<Option<T>, ApiError> {
        let invalid = ApiError::bad_request("filter_invalid", detail);
        text.map(|text| parse(&text).ok_or(invalid)).transpose()
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
        user_id: parse(filters.user_id, |text| Uuid::parse_str(text).ok(), "user_id must be an id")?,
        event_type: parse(filters.event_type, word, "event_type must be a name such as role.create")?,
        result: parse(filters.result, Outcome::parse, "result must be success, denied or failure")?,
        entity_id: parse(filters.entity_id, entity, "entity_id must be an id")?,
        from: parse(filters.from, parse_rfc3339, "from must be a time as of RFC 3339")?,
        to: parse(filters.to, parse_rfc3339, "to must be a time as of RFC 3339")?,
        before: filters.cursor.map(|text| cursor(text).ok_or(CURSOR_INVALID)).transpose()?,
    })
}
