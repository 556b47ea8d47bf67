//! Parts of lists: what a request asks for, and what an answer contains.

use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::record::AuditEvent;
use crate::{
    error::ClientError,
    request::{ApiRequest, Method},
};

/// The requested part of a list. `None` is the service's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Page {
    /// Entries at most, 1 to 100 (default: 10).
    pub limit: Option<u32>,
    /// Entries before the part.
    pub offset: Option<u64>,
}

impl Page {
    pub(super) fn request(self, route: &'static str) -> ApiRequest {
        let (limit, offset) = (self.limit.map(|limit| limit.to_string()), self.offset.map(|offset| offset.to_string()));
        list_request(route, [("limit", limit), ("offset", offset)])
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Listed<T> {
    /// The entries.
    #[serde(alias = "data", alias = "permissions", alias = "roles")]
    pub entries: Vec<T>,
    /// Position of the part.
    #[serde(default)]
    pub pagination: Pagination,
}

/// Position of a part in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Pagination {
    /// Entries at most.
    #[serde(default)]
    pub limit: u32,
    /// Entries before the part; `None` for a part that was requested by a cursor.
    #[serde(default)]
    pub offset: Option<u64>,
    /// Entries of the whole list.
    #[serde(default)]
    pub total: u64,
    /// Cursor of the next part, if the list has cursors and there is a next part.
    #[serde(default)]
    pub next: Option<String>,
}

/// The requested users. `None` is the service's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserQuery {
    /// Prefix of their e-mail addresses. Users are sorted by address with a prefix, and by creation
    /// without.
    pub email: Option<String>,
    /// Users at most, 1 to 100 (default: 10).
    pub limit: Option<u32>,
    /// `next` of the previous part with the same `email`. Users who are created or deleted meanwhile
    /// neither hide nor repeat others.
    pub cursor: Option<String>,
    /// Users before the part; not together with a cursor.
    pub offset: Option<u64>,
}

impl UserQuery {
    pub(super) fn request(&self) -> ApiRequest {
        let parameters = [
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("cursor", self.cursor.clone()),
            ("offset", self.offset.map(|offset| offset.to_string())),
            ("email", self.email.clone()),
        ];
        list_request("/api/v1/users", parameters)
    }
}

/// The requested events of the audit log. `None` does not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Kind of event.
    pub event_type: Option<String>,
    /// `success`, `denied` or `failure`.
    pub result: Option<String>,
    /// The acting user.
    pub user_id: Option<Uuid>,
    /// The entity that the event concerns.
    pub entity_id: Option<String>,
    /// Earliest time.
    pub from: Option<OffsetDateTime>,
    /// Latest time.
    pub to: Option<OffsetDateTime>,
    /// Events at most, 1 to 100.
    pub limit: Option<u32>,
    /// `next` of the previous part.
    pub cursor: Option<String>,
}

impl AuditQuery {
    pub(super) fn request(&self) -> Result<ApiRequest, ClientError> {
        // A time that cannot be written must not drop the filter.
        let at = |at: Option<OffsetDateTime>| {
            at.map(|at| at.format(&Rfc3339).map_err(|_| ClientError::Invalid("not a time of RFC 3339"))).transpose()
        };
        let parameters = [
            ("event_type", self.event_type.clone()),
            ("result", self.result.clone()),
            ("user_id", self.user_id.map(|id| id.to_string())),
            ("entity_id", self.entity_id.clone()),
            ("from", at(self.from)?),
            ("to", at(self.to)?),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("cursor", self.cursor.clone()),
        ];
        Ok(list_request("/api/v1/auth/audit", parameters))
    }
}

/// A part of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AuditPage {
    /// The events.
    pub events: Vec<AuditEvent>,
    /// Cursor of the next part, if there is one.
    #[serde(default)]
    pub next: Option<String>,
}

/// Returns a request for a list with the query parameters that are set.
fn list_request<const N: usize>(route: &'static str, parameters: [(&str, Option<String>); N]) -> ApiRequest {
    parameters.into_iter().fold(ApiRequest::new(Method::GET, route), |request, (name, value)| match value {
        Some(value) => request.with_query(name, &value),
        None => request,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_cannot_be_written_is_no_filter_to_leave_out() {
        let query =
            AuditQuery { from: Some(OffsetDateTime::UNIX_EPOCH.replace_year(-1).unwrap()), ..AuditQuery::default() };
        assert!(matches!(query.request(), Err(ClientError::Invalid(_))));
    }
}
