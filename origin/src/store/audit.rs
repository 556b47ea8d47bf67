//! The audit trail: who did what, and what became of it. Rows are added and, when they are
//! old, deleted. None is changed but by erasing what identifies a person who is gone.

use sqlx::{Row as _, any::AnyRow};
use uuid::Uuid;

use super::Database;

/// What became of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// Whoever asked may not, or not now.
    Denied,
    /// It was not done for another reason.
    Failure,
}

impl Outcome {
    /// As it is stored and told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
            Self::Failure => "failure",
        }
    }

    /// The outcome of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Success, Self::Denied, Self::Failure].into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// One event. Holds no token, no password and nothing of a body but ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What was asked, such as `role.create`.
    pub event_type: String,
    /// What became of it.
    pub result: Outcome,
    /// Who asked; of a login or a registration, the account that it was for.
    pub user_id: Option<Uuid>,
    /// What it was about.
    pub entity_id: Option<String>,
    /// Method and template of the path, or the command.
    pub operation: String,
    /// Id of the request.
    pub request_id: Option<String>,
    /// W3C trace id.
    pub trace_id: Option<String>,
    /// W3C span id.
    pub span_id: Option<String>,
    /// The client's network address, as the gateway told it.
    pub ip_address: Option<String>,
    /// The client's program, as the gateway told it.
    pub user_agent: Option<String>,
    /// Of a refusal, its stable code; of what was done with two things, the other one's id.
    pub detail: Option<String>,
    /// Milliseconds since 1970.
    pub at: i64,
}

/// Which events are asked for; what is `None` is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Who asked.
    pub user_id: Option<Uuid>,
    /// What was asked.
    pub event_type: Option<String>,
    /// What became of it.
    pub result: Option<Outcome>,
    /// What it was about.
    pub entity_id: Option<String>,
    /// Not before this, in milliseconds.
    pub from: Option<i64>,
    /// Before this, in milliseconds.
    pub to: Option<i64>,
    /// With a smaller number than this.
    pub before: Option<i64>,
}

/// The trail's statements.
#[derive(Debug, Clone)]
pub struct AuditTrail(pub Database);

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

/// A value that a statement is bound to.
enum Bound<'a> {
    Text(String),
    Borrowed(&'a str),
    Number(i64),
}

impl AuditTrail {
    /// Adds an event.
    ///
    /// # Errors
    /// The database's.
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

    /// The newest events with their numbers, the newest first. Whoever goes on from the last
    /// one's number meets no event twice and misses none that was there when they began,
    /// however many are added meanwhile.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, filter: &Filter, count: i64) -> Result<Vec<(i64, Event)>, sqlx::Error> {
        // Only what is asked for is in the statement: a condition that may be switched off
        // by its value would keep the database from using its indexes.
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

    /// Forgets some events from before an instant; how many.
    ///
    /// # Errors
    /// The database's.
    pub async fn sweep(&self, before: i64, rows: i64) -> Result<u64, sqlx::Error> {
        let done =
            sqlx::query("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)")
                .bind(before)
                .bind(rows)
                .execute(&mut *self.0.writer().await?)
                .await?;
        Ok(done.rows_affected())
    }

    /// Erases network address and program from events of accounts that are no more, among
    /// some events from before an instant with a greater number than `after`. The number of
    /// the last one that was looked at; `None` when there are no more.
    ///
    /// # Errors
    /// The database's.
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
