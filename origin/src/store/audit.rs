//! The audit log. Rows are added and, after [`crate::limits::AUDIT_MS`], deleted. The only change to
//! a row erases network address and user agent once the account is deleted.

use serde::Serialize;
use sqlx::{Row as _, any::AnyRow};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Database;
use crate::clock::serialize_rfc3339;

/// The result of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The operation was performed.
    Success,
    /// The caller lacks the permission, or must wait.
    Denied,
    /// The operation was not performed for another reason.
    Failure,
}

impl Outcome {
    /// Returns the value in the database and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
            Self::Failure => "failure",
        }
    }

    /// Parses a value of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Success, Self::Denied, Self::Failure].into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// An event of the audit log.
// Contains no token, no password, and nothing of a body except ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Event {
    /// Type.
    #[schema(example = "role.create")]
    pub event_type: String,
    /// Result.
    pub result: Outcome,
    /// The user who made the request, or whose account it was about.
    pub user_id: Option<Uuid>,
    /// The entity that the event is about.
    pub entity_id: Option<String>,
    /// Method and template of the route, or the command.
    #[schema(example = "POST /api/v1/auth/roles")]
    pub operation: String,
    /// Request id.
    pub request_id: Option<String>,
    /// W3C trace id.
    pub trace_id: Option<String>,
    /// W3C span id.
    pub span_id: Option<String>,
    /// Network address of the client, from the gateway.
    pub ip_address: Option<String>,
    /// `User-Agent` of the client, from the gateway.
    pub user_agent: Option<String>,
    /// Code of the refusal, or the second entity that the event is about.
    pub detail: Option<String>,
    /// Time of the event.
    // Milliseconds since 1970.
    #[serde(rename = "timestamp", serialize_with = "serialize_rfc3339")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-02T03:04:05Z")]
    pub at: i64,
}

/// A filter of events; `None` matches any value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The caller.
    pub user_id: Option<Uuid>,
    /// Type.
    pub event_type: Option<String>,
    /// Result.
    pub result: Option<Outcome>,
    /// Id of the object.
    pub entity_id: Option<String>,
    /// Earliest time, in milliseconds.
    pub from: Option<i64>,
    /// End of the time range (exclusive), in milliseconds.
    pub to: Option<i64>,
    /// Row number that the events are below.
    pub before: Option<i64>,
}

/// Statements on the audit log.
#[derive(Debug, Clone)]
pub struct AuditLog(pub Database);

fn event(row: &AnyRow) -> Result<(i64, Event), sqlx::Error> {
    let result: String = row.try_get("result")?;
    let user: Option<String> = row.try_get("user_id")?;
    let event = Event {
        event_type: row.try_get("event_type")?,
        result: Outcome::parse(&result).ok_or_else(|| sqlx::Error::Decode("an unknown result".into()))?,
        user_id: user.and_then(|text| Uuid::parse_str(&text).ok()),
        entity_id: row.try_get("entity_id")?,
        operation: row.try_get("operation")?,
        request_id: row.try_get("request_id")?,
        trace_id: row.try_get("trace_id")?,
        span_id: row.try_get("span_id")?,
        ip_address: row.try_get("ip_address")?,
        user_agent: row.try_get("user_agent")?,
        detail: row.try_get("detail")?,
        at: row.try_get("at")?,
    };
    Ok((row.try_get("id")?, event))
}

/// A bound value of a statement.
enum Bound<'a> {
    Text(String),
    Borrowed(&'a str),
    Number(i64),
}

impl AuditLog {
    /// Adds an event.
    pub async fn add(&self, event: &Event) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO audit (event_type, result, user_id, entity_id, operation, request_id, trace_id, span_id, \
               ip_address, user_agent, detail, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(&event.event_type)
        .bind(event.result.as_str())
        .bind(event.user_id.map(|id| id.to_string()))
        .bind(event.entity_id.as_deref())
        .bind(&event.operation)
        .bind(event.request_id.as_deref())
        .bind(event.trace_id.as_deref())
        .bind(event.span_id.as_deref())
        .bind(event.ip_address.as_deref())
        .bind(event.user_agent.as_deref())
        .bind(event.detail.as_deref())
        .bind(event.at)
        .execute(&mut *self.0.writer().await?)
        .await?;
        Ok(())
    }

    /// Returns the newest `count` events with their row numbers, newest first. A caller that continues
    /// from the last row number sees each event once, even if events are added in the meantime.
    pub async fn list(&self, filter: &Filter, count: i64) -> Result<Vec<(i64, Event)>, sqlx::Error> {
        // The statement contains only the conditions in use: a condition that a value disables would
        // prevent the database from using its indexes.
        let conditions = [
            ("user_id =", filter.user_id.map(|id| Bound::Text(id.to_string()))),
            ("event_type =", filter.event_type.as_deref().map(Bound::Borrowed)),
            ("result =", filter.result.map(|result| Bound::Borrowed(result.as_str()))),
            ("entity_id =", filter.entity_id.as_deref().map(Bound::Borrowed)),
            ("at >=", filter.from.map(Bound::Number)),
            ("at <", filter.to.map(Bound::Number)),
            ("id <", filter.before.map(Bound::Number)),
        ];
        let mut text = "SELECT * FROM audit WHERE 1 = 1".to_owned();
        let mut bound = Vec::new();
        for (condition, value) in conditions {
            let Some(value) = value else { continue };
            bound.push(value);
            text.push_str(&format!(" AND {condition} ${}", bound.len()));
        }
        bound.push(Bound::Number(count));
        text.push_str(&format!(" ORDER BY id DESC LIMIT ${}", bound.len()));
        let mut query = sqlx::query(sqlx::AssertSqlSafe(text));
        for value in &bound {
            query = match value {
                Bound::Text(text) => query.bind(text.as_str()),
                Bound::Borrowed(text) => query.bind(*text),
                Bound::Number(number) => query.bind(*number),
            };
        }
        query.fetch_all(self.0.pool()).await?.iter().map(event).collect()
    }

    /// Deletes up to `rows` events from before a time. Returns their number.
    pub async fn sweep(&self, before: i64, rows: i64) -> Result<u64, sqlx::Error> {
        let text = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)";
        self.0.sweep(text, before, rows).await
    }

    /// Erases network address and user agent from events of deleted accounts, among up to `rows`
    /// events from before a time with a row number above `after`. Returns the row number of the last
    /// event that was examined; `None` if there are no more.
    pub async fn erase(&self, after: i64, before: i64, rows: i64) -> Result<Option<i64>, sqlx::Error> {
        let last: Option<i64> = sqlx::query_scalar(
            "SELECT id FROM (SELECT id FROM audit WHERE id > $1 AND at < $2 ORDER BY id LIMIT $3) AS portion \
             ORDER BY id DESC LIMIT 1",
        )
        .bind(after)
        .bind(before)
        .bind(rows)
        .fetch_optional(self.0.pool())
        .await?;
        let Some(last) = last else { return Ok(None) };
        sqlx::query(
            "UPDATE audit SET ip_address = NULL, user_agent = NULL \
             WHERE id > $1 AND id <= $2 AND at < $3 AND user_id IS NOT NULL \
               AND (ip_address IS NOT NULL OR user_agent IS NOT NULL) \
               AND NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.id = audit.user_id)",
        )
        .bind(after)
        .bind(last)
        .bind(before)
        .execute(&mut *self.0.writer().await?)
        .await?;
        Ok(Some(last))
    }
}
