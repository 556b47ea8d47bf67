//! Pagination of lists.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiError;
use crate::limits;

/// The `limit` and `offset` of the query. Extracting values outside their bounds is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Maximum number of rows.
    pub limit: i64,
    /// Number of rows before the page.
    pub offset: i64,
}

/// The query of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AskedPage {
    /// Rows at most.
    #[param(minimum = 1, maximum = 100, default = 10, nullable = false)]
    limit: Option<i64>,
    /// Rows before them.
    #[param(minimum = 0, maximum = 1_000_000, default = 0, nullable = false)]
    offset: Option<i64>,
}

/// Which part of the list an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pagination {
    /// Rows at most.
    #[schema(example = 10, minimum = 1, maximum = 100)]
    limit: i64,
    /// Rows before them.
    #[schema(example = 0, minimum = 0)]
    offset: i64,
    /// Rows of the whole list.
    #[schema(example = 1, minimum = 0)]
    total: i64,
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let bad = ApiError::bad_request("page_invalid", "limit must be 1 to 100 and offset 0 to 1000000");
        let Ok(Query(asked)) = Query::<AskedPage>::from_request_parts(parts, state).await else { return Err(bad) };
        let page =
            Self { limit: asked.limit.unwrap_or(limits::PAGE_DEFAULT), offset: asked.offset.unwrap_or_default() };
        if limits::PAGE.contains(&page.limit) && limits::OFFSET.contains(&page.offset) { Ok(page) } else { Err(bad) }
    }
}

impl Page {
    /// Returns the answer's member `pagination`.
    pub fn pagination(self, total: i64) -> Pagination {
        Pagination { limit: self.limit, offset: self.offset, total }
    }
}
