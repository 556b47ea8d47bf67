//! Lists of users, in pages: by cursor, or by `offset` for clients that jump.

use axum::{
    Json as Answer,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    fields::normal_email,
    http::{
        ApiError,
        openapi::{CalledBy, refuses},
    },
    limits,
    store::UserRecord,
    user::User,
    users::{
        Users,
        access::Admin,
        cursor::{self, Position},
    },
};

/// The page that a client asks for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// The most users to return.
    #[param(nullable = false, minimum = 1, maximum = 100, default = 10)]
    limit: Option<i64>,
    /// Number of users to skip; not together with `cursor`.
    #[param(nullable = false, minimum = 0, maximum = 1_000_000)]
    offset: Option<i64>,
    /// `next` of the previous page: stable while users are made and deleted.
    #[param(nullable = false, format = "cursor")]
    cursor: Option<String>,
    /// Beginning of the e-mail address.
    #[param(nullable = false, pattern = "^[!-~]*$", max_length = 254, example = "ada@")]
    email: Option<String>,
}

/// The page that an answer contains.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserPagination)]
pub(super) struct Pagination {
    #[schema(example = 10)]
    limit: i64,
    /// Only without a cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 0)]
    offset: Option<i64>,
    /// Number of users in the whole list.
    #[schema(example = 1)]
    total: i64,
    /// Cursor of the next page, if there is one.
    next: Option<String>,
}

/// A page of users.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserList)]
pub(super) struct List {
    data: Vec<User>,
    pagination: Pagination,
}

type AskedPage = Result<Query<Page>, QueryRejection>;

const PAGE_INVALID: ApiError =
    ApiError::bad_request("page_invalid", "limit must be 1 to 100 and offset 0 to 1000000, or a cursor instead");
const CURSOR_INVALID: ApiError =
    ApiError::bad_request("cursor_invalid", "cursor must be the next of an earlier page of this list");
const SEARCH_INVALID: ApiError =
    ApiError::bad_request("search_invalid", "email must be the beginning of an e-mail address");

/// Lists users, for administrators.
///
/// Sorted by creation, or with `email` by address.
#[utoipa::path(
    get,
    path = "/api/v1/users",
    params(Page),
    responses((status = 200, description = "A page of users.", body = List))
)]
pub(super) async fn list_users(
    State(users): State<Users>,
    _: Admin,
    page: AskedPage,
) -> Result<Answer<List>, ApiError> {
    answer(&users, page).await
}

/// Lists users for a service.
#[utoipa::path(
    get,
    path = "/api/v1/internal/users",
    params(CalledBy, Page),
    responses((status = 200, description = "A page of users.", body = List), refuses::Unreadable)
)]
pub(super) async fn list_profiles(State(users): State<Users>, page: AskedPage) -> Result<Answer<List>, ApiError> {
    answer(&users, page).await
}

async fn answer(users: &Users, page: AskedPage) -> Result<Answer<List>, ApiError> {
    let Ok(Query(page)) = page else { return Err(PAGE_INVALID) };
    let limit = page.limit.unwrap_or(limits::PAGE_DEFAULT);
    let offset = page.offset.unwrap_or(0);
    let is_within = limits::PAGE.contains(&limit) && limits::OFFSET.contains(&offset);
    if !is_within || (page.offset.is_some() && page.cursor.is_some()) {
        return Err(PAGE_INVALID);
    }
    let prefix = page.email.as_deref().map(prefix).transpose()?.filter(|prefix| !prefix.is_empty());
    // One more than is returned tells whether there is a next page.
    let count = limit.saturating_add(1);
    let cursor = page.cursor.as_deref();
    let (mut profiles, total) = if let Some(prefix) = &prefix {
        let (email, id) = cursor.map(position::<String>).transpose()?.unwrap_or_default();
        // PostgreSQL refuses text with a NUL.
        if email.chars().any(char::is_control) {
            return Err(CURSOR_INVALID);
        }
        users.profiles.by_email(prefix, (&email, &id), count, offset).await?
    } else {
        let (created_at, id) = cursor.map(position::<i64>).transpose()?.unwrap_or((i64::MIN, String::new()));
        users.profiles.by_creation((created_at, &id), count, offset).await?
    };
    let has_next = profiles.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    profiles.truncate(usize::try_from(limit).unwrap_or_default());
    let next = profiles.last().filter(|_| has_next).map(|last| cursor_after(last, prefix.is_some()));
    let offset = page.cursor.is_none().then_some(offset);
    let data = profiles.into_iter().map(User::from).collect();
    Ok(Answer(List { data, pagination: Pagination { limit, offset, total, next } }))
}

/// Normalises the beginning of an address.
fn prefix(text: &str) -> Result<String, ApiError> {
    // A whole address has one normal form; the beginning of one is ASCII.
    let prefix = normal_email(text).unwrap_or_else(|| text.trim().to_ascii_lowercase());
    let is_valid = prefix.len() <= limits::EMAIL_BYTES && prefix.chars().all(|c| c.is_ascii_graphic());
    if is_valid { Ok(prefix) } else { Err(SEARCH_INVALID) }
}

fn cursor_after(last: &UserRecord, by_email: bool) -> String {
    if by_email { cursor::write(&last.email, last.id) } else { cursor::write(last.created_at, last.id) }
}

fn position<K: serde::de::DeserializeOwned>(cursor: &str) -> Result<Position<K>, ApiError> {
    cursor::read(cursor).ok_or(CURSOR_INVALID)
}
