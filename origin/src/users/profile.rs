//! Profiles as clients and services read and write them.

use axum::{
    Json as Answer,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use portcullis_client::internal::{self, AccountChange, CallError};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Users;
use crate::{
    auth::ROLE_ADMIN,
    clock::rfc3339,
    fields::Check,
    http::{ApiError, Id, Json, User},
    limits,
    store::profiles::Profile,
};

fn document(profile: &Profile) -> Value {
    json!({
        "id": profile.id,
        "email": profile.email,
        "first_name": profile.first_name,
        "last_name": profile.last_name,
        "roles": profile.roles,
        "created_at": rfc3339(profile.created_at),
        "updated_at": rfc3339(profile.updated_at),
    })
}

/// The gateway has decided this already; that an origin decides it again costs
/// nothing and keeps a mistake in a policy from opening every profile.
fn self_or_admin(user: &User, Id(id): Id) -> Result<Uuid, ApiError> {
    if user.id == id || user.has_role(ROLE_ADMIN) { Ok(id) } else { Err(ApiError::forbidden()) }
}

#[derive(Debug, Deserialize)]
pub(super) struct Page {
    limit: Option<i64>,
    offset: Option<i64>,
}

/// GET /api/v1/users.
pub(super) async fn list(State(users): State<Users>, user: User, page: AskedPage) -> Result<Answer<Value>, ApiError> {
    if !user.has_role(ROLE_ADMIN) {
        return Err(ApiError::forbidden());
    }
    answer_page(&users, page).await
}

type AskedPage = Result<Query<Page>, QueryRejection>;

async fn answer_page(users: &Users, page: AskedPage) -> Result<Answer<Value>, ApiError> {
    let bad = ApiError::bad_request("page_invalid", "limit must be 1 to 100 and offset not negative");
    let Ok(Query(page)) = page else { return Err(bad) };
    let (limit, offset) = (page.limit.unwrap_or(limits::PAGE_DEFAULT), page.offset.unwrap_or(0));
    if !limits::PAGE.contains(&limit) || offset < 0 {
        return Err(bad);
    }
    let (profiles, total) = users.profiles.list(limit, offset).await?;
    let data: Vec<Value> = profiles.iter().map(document).collect();
    Ok(Answer(json!({
        "data": data,
        "pagination": { "limit": limit, "offset": offset, "total": total },
    })))
}

/// GET /api/v1/users/{id}.
pub(super) async fn read(State(users): State<Users>, user: User, id: Id) -> Result<Answer<Value>, ApiError> {
    let id = self_or_admin(&user, id)?;
    let profile = users.profiles.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(json!({ "data": document(&profile) })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Replacement {
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
}

/// PUT /api/v1/users/{id}: what is not sent is empty.
pub(super) async fn replace(
    State(users): State<Users>,
    user: User,
    id: Id,
    Json(body): Json<Replacement>,
) -> Result<Answer<Value>, ApiError> {
    let id = self_or_admin(&user, id)?;
    let mut check = Check::default();
    let change = AccountChange {
        email: check.email(body.email.as_deref()),
        first_name: check.name("first_name", body.first_name.as_deref()),
        last_name: check.name("last_name", body.last_name.as_deref()),
    };
    check.done()?;
    write(&users, id, change).await
}

/// A member of a merge patch (RFC 7396): absent, null, or a value.
#[derive(Debug, Default)]
enum Patched {
    #[default]
    Absent,
    Null,
    Text(String),
}

impl<'de> Deserialize<'de> for Patched {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map_or(Self::Null, Self::Text))
    }
}

impl Patched {
    /// The new value: what was, empty, or what was sent.
    fn over(self, was: &str) -> String {
        match self {
            Self::Absent => was.to_owned(),
            Self::Null => String::new(),
            Self::Text(text) => text,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Patch {
    #[serde(default)]
    email: Patched,
    #[serde(default)]
    first_name: Patched,
    #[serde(default)]
    last_name: Patched,
}

/// PATCH /api/v1/users/{id}, as a merge patch.
pub(super) async fn patch(
    State(users): State<Users>,
    user: User,
    id: Id,
    Json(body): Json<Patch>,
) -> Result<Answer<Value>, ApiError> {
    let id = self_or_admin(&user, id)?;
    let was = users.profiles.find(id).await?.ok_or(ApiError::not_found())?;
    let mut check = Check::default();
    let change = AccountChange {
        email: check.email(Some(&body.email.over(&was.email))),
        first_name: check.name("first_name", Some(&body.first_name.over(&was.first_name))),
        last_name: check.name("last_name", Some(&body.last_name.over(&was.last_name))),
    };
    check.done()?;
    write(&users, id, change).await
}

/// First the account, which keeps addresses unique, then the profile. A fault
/// between the two is mended by sending the request again.
async fn write(users: &Users, id: Uuid, change: AccountChange) -> Result<Answer<Value>, ApiError> {
    users.profiles.find(id).await?.ok_or(ApiError::not_found())?;
    users.auth.change_account(id, &change).await.map_err(refused)?;
    let now = users.clock.now();
    if !users.profiles.change(id, &change.email, &change.first_name, &change.last_name, now).await? {
        return Err(ApiError::not_found());
    }
    let profile = users.profiles.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(json!({ "data": document(&profile) })))
}

fn refused(error: CallError) -> ApiError {
    match error {
        CallError::Refused(409) => ApiError::email_taken(),
        CallError::Refused(404) => ApiError::not_found(),
        CallError::Unavailable | CallError::Refused(_) | CallError::Malformed => {
            tracing::error!(%error, "the auth service failed");
            ApiError::unavailable("auth_service_unavailable", "Authentication service unavailable")
        }
    }
}

/// DELETE /api/v1/users/{id}: first the account, so that nobody can log in to
/// half a user, then the profile. Sent again, it goes on where it stopped.
pub(super) async fn delete(State(users): State<Users>, user: User, id: Id) -> Result<StatusCode, ApiError> {
    let id = self_or_admin(&user, id)?;
    let had_account = users
        .auth
        .delete_account(id)
        .await
        .map_err(|error| if error == CallError::Refused(409) { ApiError::last_admin() } else { refused(error) })?;
    let had_profile = users.profiles.delete(id).await?;
    if had_account || had_profile { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::not_found()) }
}

/// POST /api/v1/internal/users: makes a profile, or makes it equal.
pub(super) async fn put_internal(
    State(users): State<Users>,
    Json(body): Json<internal::Profile>,
) -> Result<(StatusCode, Answer<Value>), ApiError> {
    let profile = Profile {
        id: body.id,
        email: body.email,
        first_name: body.first_name,
        last_name: body.last_name,
        roles: body.roles,
        created_at: body.created_at,
        updated_at: body.created_at,
    };
    users.profiles.put(&profile).await?;
    Ok((StatusCode::CREATED, Answer(json!({ "data": document(&profile) }))))
}

/// GET /api/v1/internal/users/{id}.
pub(super) async fn read_internal(State(users): State<Users>, id: Id) -> Result<Answer<Value>, ApiError> {
    let Id(id) = id;
    let profile = users.profiles.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(json!({ "data": document(&profile) })))
}

/// GET /api/v1/internal/users.
pub(super) async fn list_internal(State(users): State<Users>, page: AskedPage) -> Result<Answer<Value>, ApiError> {
    answer_page(&users, page).await
}

/// PATCH /api/v1/internal/users/{id}: names and address as the auth service
/// has them.
pub(super) async fn patch_internal(
    State(users): State<Users>,
    id: Id,
    Json(body): Json<AccountChange>,
) -> Result<Answer<Value>, ApiError> {
    let Id(id) = id;
    let now = users.clock.now();
    if !users.profiles.change(id, &body.email, &body.first_name, &body.last_name, now).await? {
        return Err(ApiError::not_found());
    }
    let profile = users.profiles.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(json!({ "data": document(&profile) })))
}

/// DELETE /api/v1/internal/users/{id}.
pub(super) async fn delete_internal(State(users): State<Users>, id: Id) -> Result<StatusCode, ApiError> {
    let Id(id) = id;
    if users.profiles.delete(id).await? { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::not_found()) }
}
