//! Lists: which part of one is asked for, what comes of it, and [`Pages`], which walks one
//! from its beginning to its end.

use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{AdminClient, AuditEvent};
use crate::{
    account::User,
    error::ClientError,
    request::{ApiRequest, Method},
};

/// Entries of a part at most, as the service has it: what a walk asks for at a time.
const PART_MOST: u32 = 100;

/// Parts of one walk: ten million entries. A service whose list has no end must not
/// keep a program for ever.
const PARTS_MOST: u32 = 100_000;

/// Which part of a list is asked for. What is left out is the service's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Page {
    /// Entries at most, 1 to 100; 10 by default.
    pub limit: Option<u32>,
    /// Entries before it.
    pub offset: Option<u64>,
}

impl Page {
    pub(super) fn request(self, route: &'static str) -> ApiRequest {
        let (limit, offset) = (self.limit.map(|limit| limit.to_string()), self.offset.map(|offset| offset.to_string()));
        asking(route, [("limit", limit), ("offset", offset)])
    }
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Where they lie in the whole.
    pub pagination: Pagination,
}

/// Where a part lies in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Pagination {
    /// Entries at most.
    #[serde(default)]
    pub limit: u32,
    /// Entries before it; `None` for a part that was asked for by a cursor, which has no
    /// number.
    #[serde(default)]
    pub offset: Option<u64>,
    /// Entries in all.
    #[serde(default)]
    pub total: u64,
    /// The cursor of the next part, if the list has cursors and there is a next part.
    #[serde(default)]
    pub next: Option<String>,
}

/// Which users are asked for. What is left out is the service's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserQuery {
    /// Beginning of their e-mail addresses. They come in the order of their addresses
    /// then, and in the order in which they were made without.
    pub email: Option<String>,
    /// Users at most, 1 to 100; 10 by default.
    pub limit: Option<u32>,
    /// `next` of the part before, of the same `email`. Who is made or deleted meanwhile
    /// neither hides nor repeats anybody else.
    pub cursor: Option<String>,
    /// Users before it, to jump; not together with a cursor.
    pub offset: Option<u64>,
}

impl UserQuery {
    pub(super) fn request(&self) -> ApiRequest {
        let members = [
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("cursor", self.cursor.clone()),
            ("offset", self.offset.map(|offset| offset.to_string())),
            ("email", self.email.clone()),
        ];
        asking("/api/v1/users", members)
    }
}

/// Which events of the audit log are asked for. What is left out does not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Kind of event.
    pub event_type: Option<String>,
    /// `success`, `denied` or `failure`.
    pub result: Option<String>,
    /// Who did it.
    pub user_id: Option<Uuid>,
    /// To whom or what.
    pub entity_id: Option<String>,
    /// Not before.
    pub from: Option<OffsetDateTime>,
    /// Not after.
    pub to: Option<OffsetDateTime>,
    /// Events at most, 1 to 100.
    pub limit: Option<u32>,
    /// `next` of the part before.
    pub cursor: Option<String>,
}

impl AuditQuery {
    pub(super) fn request(&self) -> Result<ApiRequest, ClientError> {
        // A bound that cannot be written must not become none.
        let at = |at: Option<OffsetDateTime>| {
            at.map(|at| at.format(&Rfc3339).map_err(|_| ClientError::Invalid("not a time of RFC 3339"))).transpose()
        };
        let members = [
            ("event_type", self.event_type.clone()),
            ("result", self.result.clone()),
            ("user_id", self.user_id.map(|id| id.to_string())),
            ("entity_id", self.entity_id.clone()),
            ("from", at(self.from)?),
            ("to", at(self.to)?),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("cursor", self.cursor.clone()),
        ];
        Ok(asking("/api/v1/auth/audit", members))
    }
}

/// Part of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AuditPage {
    /// The events.
    pub events: Vec<AuditEvent>,
    /// The cursor of the next part, if there is one.
    #[serde(default)]
    pub next: Option<String>,
}

/// A walk over a list, part by part, each asked for when it is wanted.
///
/// After an error it stands where it stood: the same part is asked for next.
///
/// ```no_run
/// use portcullis_client::{AdminClient, ClientError, admin::{Pages, UserQuery}};
///
/// async fn count(admin: &dyn AdminClient) -> Result<usize, ClientError> {
///     let mut count = 0;
///     let mut pages = Pages::of_users(admin, UserQuery { email: Some("ada".to_owned()), ..UserQuery::default() });
///     while let Some(users) = pages.next().await? {
///         count += users.len();
///     }
///     Ok(count)
/// }
/// ```
#[derive(Debug)]
pub struct Pages<'a, Q> {
    admin: &'a dyn AdminClient,
    /// What is asked for next; `None` at the end.
    query: Option<Q>,
    left: u32,
}

impl<'a> Pages<'a, UserQuery> {
    /// All users of a query from where it begins, a hundred at a time unless it says
    /// otherwise.
    pub fn of_users(admin: &'a dyn AdminClient, mut query: UserQuery) -> Self {
        query.limit.get_or_insert(PART_MOST);
        Self { admin, query: Some(query), left: PARTS_MOST }
    }

    /// The next of them; `None` when there are no more.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn next(&mut self) -> Result<Option<Vec<User>>, ClientError> {
        let Some(query) = &self.query else { return Ok(None) };
        let part = self.admin.users(query).await?;
        let next = follow(&mut self.left, query.cursor.as_deref(), part.pagination.next)?;
        // A jump is made once: from there on a cursor says where.
        let query = |cursor| UserQuery { cursor: Some(cursor), offset: None, ..query.clone() };
        self.query = next.map(query);
        Ok(Some(part.entries))
    }
}

impl<'a> Pages<'a, AuditQuery> {
    /// All events of a query from where it begins, a hundred at a time unless it says
    /// otherwise.
    pub fn of_audit(admin: &'a dyn AdminClient, mut query: AuditQuery) -> Self {
        query.limit.get_or_insert(PART_MOST);
        Self { admin, query: Some(query), left: PARTS_MOST }
    }

    /// The next of them; `None` when there are no more.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn next(&mut self) -> Result<Option<Vec<AuditEvent>>, ClientError> {
        let Some(query) = &self.query else { return Ok(None) };
        let part = self.admin.audit(query).await?;
        let next = follow(&mut self.left, query.cursor.as_deref(), part.next)?;
        let query = |cursor| AuditQuery { cursor: Some(cursor), ..query.clone() };
        self.query = next.map(query);
        Ok(Some(part.events))
    }
}

/// The cursor to follow, unless it leads nowhere.
fn follow(left: &mut u32, last: Option<&str>, next: Option<String>) -> Result<Option<String>, ClientError> {
    let Some(next) = next else { return Ok(None) };
    *left = left.saturating_sub(1);
    if *left == 0 || last == Some(next.as_str()) {
        return Err(ClientError::Malformed { status: 200, reason: "a list without end" });
    }
    Ok(Some(next))
}

/// A list with those members of a query that are there.
fn asking<const N: usize>(route: &'static str, members: [(&str, Option<String>); N]) -> ApiRequest {
    members.into_iter().fold(ApiRequest::new(Method::GET, route), |request, (name, value)| match value {
        Some(value) => request.with_query(name, &value),
        None => request,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_leads_nowhere_ends_a_walk() {
        let mut left = 3;
        let mut step = |last, next: &str| follow(&mut left, last, Some(next.to_owned()));
        assert_eq!(step(None, "a"), Ok(Some("a".to_owned())));
        assert_eq!(step(Some("a"), "b"), Ok(Some("b".to_owned())));
        assert!(matches!(step(Some("b"), "c"), Err(ClientError::Malformed { .. })), "so many and no more");
        assert!(matches!(follow(&mut 9, Some("a"), Some("a".to_owned())), Err(ClientError::Malformed { .. })));
        assert_eq!(follow(&mut 0, Some("a"), None), Ok(None));
    }

    #[test]
    fn a_time_that_cannot_be_written_is_no_filter_to_leave_out() {
        let query =
            AuditQuery { from: Some(OffsetDateTime::UNIX_EPOCH.replace_year(-1).unwrap()), ..AuditQuery::default() };
        assert!(matches!(query.request(), Err(ClientError::Invalid(_))));
    }
}
