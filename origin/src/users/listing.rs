//! Lists of profiles, in pages. A page begins after a row and not at a number, so that rows
//! that are made or deleted meanwhile neither repeat one nor hide one; numbers (`offset`)
//! are there for those who want to jump.

use axum::{
    Json as Answer,
    extract::{Query, State, rejection::QueryRejection},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Users, profile::document};
use crate::{
    auth::ROLE_ADMIN,
    http::{ApiError, User},
    limits,
    store::profiles::Profile,
};

#[derive(Debug, Deserialize)]
pub(super) struct Page {
    limit: Option<i64>,
    offset: Option<i64>,
    cursor: Option<String>,
    email: Option<String>,
}

type AskedPage = Result<Query<Page>, QueryRejection>;

const PAGE_INVALID: ApiError =
    ApiError::bad_request("page_invalid", "limit must be 1 to 100 and offset not negative, or a cursor in its stead");
const CURSOR_INVALID: ApiError =
    ApiError::bad_request("cursor_invalid", "The cursor is not one that a page of this list gave");
const SEARCH_INVALID: ApiError =
    ApiError::bad_request("search_invalid", "email must be the beginning of an e-mail address");

/// GET /api/v1/users, for administrators.
pub(super) async fn list(State(users): State<Users>, user: User, page: AskedPage) -> Result<Answer<Value>, ApiError> {
    if !user.has_role(ROLE_ADMIN) {
        return Err(ApiError::forbidden());
    }
    answer(&users, page).await
}

/// GET /api/v1/internal/users.
pub(super) async fn list_internal(State(users): State<Users>, page: AskedPage) -> Result<Answer<Value>, ApiError> {
    answer(&users, page).await
}

/// Where a page begins: after this row of the order of creation, or of addresses.
type Created = (i64, String);
type Addressed = (String, String);

async fn answer(users: &Users, page: AskedPage) -> Result<Answer<Value>, ApiError> {
    let Ok(Query(page)) = page else { return Err(PAGE_INVALID) };
    let limit = page.limit.unwrap_or(limits::PAGE_DEFAULT);
    let offset = page.offset.unwrap_or(0);
    if !limits::PAGE.contains(&limit) || offset < 0 || (page.offset.is_some() && page.cursor.is_some()) {
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
    let data: Vec<Value> = profiles.iter().map(document).collect();
    let mut pagination = json!({ "limit": limit, "total": total, "next": next });
    if page.cursor.is_none()
        && let Some(members) = pagination.as_object_mut()
    {
        members.insert("offset".to_owned(), json!(offset));
    }
    Ok(Answer(json!({ "data": data, "pagination": pagination })))
}

/// The beginning of addresses in their normal form.
fn prefix(text: &str) -> Result<String, ApiError> {
    let prefix = text.trim().to_ascii_lowercase();
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
