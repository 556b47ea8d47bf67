//! Lists of profiles, in pages. A page begins after a row and not at a number, so that rows
//! that are made or deleted meanwhile neither repeat one nor hide one; numbers (`offset`)
//! are there for those who want to jump.

use axum::{
    Json as Answer,
    extract::{Query, State, rejection::QueryRejection},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Users, profile::User as Shown};
use crate::{
    auth::ROLE_ADMIN,
    fields::normal_email,
    http::{
        ApiError, User,
        openapi::{CalledBy, refuses},
    },
    limits,
    store::profiles::Profile,
};

/// Which part of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Users at most.
    #[param(nullable = false, minimum = 1, maximum = 100, default = 10)]
    limit: Option<i64>,
    /// Users before them; not together with `cursor`.
    #[param(nullable = false, minimum = 0, maximum = 1_000_000)]
    offset: Option<i64>,
    /// `next` of the page before: stable, whatever is made or deleted meanwhile.
    #[param(nullable = false, format = "cursor")]
    cursor: Option<String>,
    /// The beginning of their e-mail addresses.
    #[param(nullable = false, pattern = "^[!-~]*$", max_length = 254, example = "ada@")]
    email: Option<String>,
}

/// Which part of the list an answer is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserPagination)]
pub(super) struct Pagination {
    #[schema(example = 10)]
    limit: i64,
    /// Where no cursor was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 0)]
    offset: Option<i64>,
    /// Users of the whole list.
    #[schema(example = 1)]
    total: i64,
    /// The cursor of the next page, if there is one.
    next: Option<String>,
}

/// A page of users.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserList)]
pub(super) struct List {
    data: Vec<Shown>,
    pagination: Pagination,
}

type AskedPage = Result<Query<Page>, QueryRejection>;

const PAGE_INVALID: ApiError =
    ApiError::bad_request("page_invalid", "limit must be 1 to 100 and offset 0 to 1000000, or a cursor in its stead");
const CURSOR_INVALID: ApiError =
    ApiError::bad_request("cursor_invalid", "The cursor is not one that a page of this list gave");
const SEARCH_INVALID: ApiError =
    ApiError::bad_request("search_invalid", "email must be the beginning of an e-mail address");

/// Lists users, for administrators.
///
/// In the order in which they were made, or with `email` in that of their addresses.
#[utoipa::path(
    get,
    path = "/api/v1/users",
    operation_id = "listUsers",
    tag = "Users",
    security(("accessToken" = [])),
    params(Page),
    responses(
        (status = 200, description = "A page of them.", body = List),
        refuses::Always, refuses::Credentials, refuses::Rights
    )
)]
pub(super) async fn list(State(users): State<Users>, user: User, page: AskedPage) -> Result<Answer<List>, ApiError> {
    if !user.has_role(ROLE_ADMIN) {
        return Err(ApiError::forbidden());
    }
    answer(&users, page).await
}

/// Lists profiles for a service.
#[utoipa::path(
    get,
    path = "/api/v1/internal/users",
    operation_id = "listProfiles",
    tag = "Internal",
    security(("serviceToken" = [])),
    params(CalledBy, Page),
    responses(
        (status = 200, description = "A page of them.", body = List),
        refuses::Trouble, refuses::Unreadable, refuses::Credentials
    )
)]
pub(super) async fn list_internal(State(users): State<Users>, page: AskedPage) -> Result<Answer<List>, ApiError> {
    answer(&users, page).await
}

/// Where a page begins: after this row of the order of creation, or of addresses.
type Created = (i64, String);
type Addressed = (String, String);

async fn answer(users: &Users, page: AskedPage) -> Result<Answer<List>, ApiError> {
    let Ok(Query(page)) = page else { return Err(PAGE_INVALID) };
    let limit = page.limit.unwrap_or(limits::PAGE_DEFAULT);
    let offset = page.offset.unwrap_or(0);
    let is_within = limits::PAGE.contains(&limit) && limits::OFFSET.contains(&offset);
    if !is_within || (page.offset.is_some() && page.cursor.is_some()) {
        return Err(PAGE_INVALID);
    }
    let prefix = page.email.as_deref().map(prefix).transpose()?.filter(|prefix| !prefix.is_empty());
    // One more than is shown: whether there is a next page.
    let count = limit.saturating_add(1);
    let cursor = page.cursor.as_deref();
    let (mut profiles, total) = if let Some(prefix) = &prefix {
        let (email, id) = cursor.map(read::<Addressed>).transpose()?.unwrap_or_default();
        // Text with a NUL is none to PostgreSQL.
        if email.chars().any(char::is_control) {
            return Err(CURSOR_INVALID);
        }
        users.profiles.by_email(prefix, (&email, &id), count, offset).await?
    } else {
        let (at, id) = cursor.map(read::<Created>).transpose()?.unwrap_or((i64::MIN, String::new()));
        users.profiles.by_creation((at, &id), count, offset).await?
    };
    let has_next = profiles.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    profiles.truncate(usize::try_from(limit).unwrap_or_default());
    let next = profiles.last().filter(|_| has_next).map(|last| cursor_after(last, prefix.is_some()));
    let offset = page.cursor.is_none().then_some(offset);
    let data = profiles.into_iter().map(Shown::from).collect();
    Ok(Answer(List { data, pagination: Pagination { limit, offset, total, next } }))
}

/// The beginning of addresses in their normal form.
fn prefix(text: &str) -> Result<String, ApiError> {
    // A whole address has one form; the beginning of one is ASCII.
    let prefix = normal_email(text).unwrap_or_else(|| text.trim().to_ascii_lowercase());
    let is_good = prefix.len() <= limits::EMAIL_BYTES && prefix.chars().all(|c| c.is_ascii_graphic());
    if is_good { Ok(prefix) } else { Err(SEARCH_INVALID) }
}

fn cursor_after(last: &Profile, by_email: bool) -> String {
    let id = last.id.to_string();
    if by_email { write(&(last.email.as_str(), id)) } else { write(&(last.created_at, id)) }
}

fn write(place: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_string(place).unwrap_or_default())
}

/// The place of a cursor of the order that is asked for: that of the other is of another
/// type.
fn read<P: DeserializeOwned + Place>(cursor: &str) -> Result<P, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| CURSOR_INVALID)?;
    let place: P = serde_json::from_slice(&bytes).map_err(|_| CURSOR_INVALID)?;
    if Uuid::parse_str(place.id()).is_ok() { Ok(place) } else { Err(CURSOR_INVALID) }
}

trait Place {
    fn id(&self) -> &str;
}

impl<K> Place for (K, String) {
    fn id(&self) -> &str {
        &self.1
    }
}
