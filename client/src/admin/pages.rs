//! [`Pages`]: all entries of a list, part by part.

use super::{
    client::AdminClient,
    list::{AuditQuery, UserQuery},
    record::AuditEvent,
};
use crate::{account::User, error::ClientError};

/// Entries that each request asks for: the service's maximum.
const PAGE_ENTRIES: u32 = 100;

/// Requests at most: ten million entries. A list without an end must not occupy a program for ever.
const LONGEST_WALK: u32 = 100_000;

/// Reads a list part by part, each when it is wanted. A cursor marks the position, so entries that
/// are created or deleted meanwhile neither hide nor repeat others.
///
/// After an error the next call requests the same part again.
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
    /// The next request; `None` at the end.
    query: Option<Q>,
    left: u32,
}

impl<'a> Pages<'a, UserQuery> {
    /// Returns the users of a query, a hundred at a time unless the query has a limit.
    pub fn of_users(admin: &'a dyn AdminClient, mut query: UserQuery) -> Self {
        query.limit.get_or_insert(PAGE_ENTRIES);
        Self { admin, query: Some(query), left: LONGEST_WALK }
    }

    /// Returns the next part; `None` when there are no more.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn next(&mut self) -> Result<Option<Vec<User>>, ClientError> {
        let Some(query) = &self.query else { return Ok(None) };
        let part = self.admin.users(query).await?;
        let next = follow(&mut self.left, query.cursor.as_deref(), part.pagination.next)?;
        // The offset applies once: from there on the cursor marks the position.
        let query = |cursor| UserQuery { cursor: Some(cursor), offset: None, ..query.clone() };
        self.query = next.map(query);
        Ok(Some(part.entries))
    }
}

impl<'a> Pages<'a, AuditQuery> {
    /// Returns the events of a query, a hundred at a time unless the query has a limit.
    pub fn of_audit(admin: &'a dyn AdminClient, mut query: AuditQuery) -> Self {
        query.limit.get_or_insert(PAGE_ENTRIES);
        Self { admin, query: Some(query), left: LONGEST_WALK }
    }

    /// Returns the next part; `None` when there are no more.
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

/// Returns the next cursor, unless it repeats or the list has no end.
fn follow(left: &mut u32, last: Option<&str>, next: Option<String>) -> Result<Option<String>, ClientError> {
    let Some(next) = next else { return Ok(None) };
    *left = left.saturating_sub(1);
    if *left == 0 || last == Some(next.as_str()) {
        return Err(ClientError::Malformed { status: 200, reason: "a list without end" });
    }
    Ok(Some(next))
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
}
