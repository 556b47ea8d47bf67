//! Which part of a list is asked for, within bounds, and how the answer says so.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiError;
use crate::limits;

/// A page: `limit` and `offset` of the query. Extracting one beyond its bounds is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Rows at most.
    pub limit: i64,
    /// Rows before it.
    pub offset: i64,
}

#[derive(Debug, Deserialize)]
struct Asked {
    limit: Option<i64>,
    offset: Option<i64>,
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let bad = ApiError::bad_request("page_invalid", "limit must be 1 to 100 and offset not negative");
        let Ok(Query(asked)) = Query::<Asked>::from_request_parts(parts, state).await else { return Err(bad) };
        let page =
            Self { limit: asked.limit.unwrap_or(limits::PAGE_DEFAULT), offset: asked.offset.unwrap_or_default() };
        if limits::PAGE.contains(&page.limit) && page.offset >= 0 { Ok(page) } else { Err(bad) }
    }
}

impl Page {
    /// The answer's member of that name.
    pub fn pagination(self, total: i64) -> Value {
        json!({ "limit": self.limit, "offset": self.offset, "total": total })
    }
}
