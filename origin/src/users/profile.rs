//! Profiles as clients and services read and write them. The auth service decides every
//! change, by what its database says at that moment; here is written what it answered.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use portcullis_client::{
    internal::{self, AccountChange, Acting, CallError, NewAccount},
    secret::Secret,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Users;
use crate::{
    auth::{ROLE_ADMIN, ROLE_USER},
    clock::rfc3339,
    fields::Check,
    http::{ApiError, Id, IfMatch, IfNoneMatch, Json, MergePatch, User, etag_header},
    limits,
    store::profiles::{Profile, Put},
};

pub(super) fn document(profile: &Profile) -> Value {
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

type ETag = [(HeaderName, HeaderValue); 1];

fn answer(profile: &Profile) -> (ETag, Answer<Value>) {
    (etag_header(profile.version), Answer(json!({ "data": document(profile) })))
}

fn from_internal(profile: internal::Profile) -> Profile {
    Profile {
        id: profile.id,
        email: profile.email,
        first_name: profile.first_name,
        last_name: profile.last_name,
        roles: profile.roles,
        created_at: profile.created_at,
        updated_at: profile.updated_at,
        version: profile.version,
    }
}

/// The gateway has decided this already; that an origin decides it again costs
/// nothing and keeps a mistake in a policy from opening every profile.
fn self_or_admin(user: &User, Id(id): Id) -> Result<Uuid, ApiError> {
    if user.id == id || user.has_role(ROLE_ADMIN) { Ok(id) } else { Err(ApiError::forbidden()) }
}

/// For the auth service, which looks whether the user is an administrator still.
fn acting(user: &User) -> Acting {
    Acting { user: user.id, session: user.session_id }
}

/// GET /api/v1/users/{id}.
pub(super) async fn read(
    State(users): State<Users>,
    user: User,
    id: Id,
    known: IfNoneMatch,
) -> Result<Response, ApiError> {
    let id = self_or_admin(&user, id)?;
    let profile = users.profiles.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(if known.has(profile.version) {
        (StatusCode::NOT_MODIFIED, etag_header(profile.version)).into_response()
    } else {
        answer(&profile).into_response()
    })
}

#[derive(Debug, Deserialize)]
pub(super) struct NewUser {
    email: Option<String>,
    password: Option<Secret>,
    first_name: Option<String>,
    last_name: Option<String>,
    roles: Option<Vec<String>>,
}

/// POST /api/v1/users: as a registration, by an administrator, who may give roles.
///
/// The auth service makes account and profile, in the way in which it registers.
pub(super) async fn make(
    State(users): State<Users>,
    user: User,
    Json(body): Json<NewUser>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], ETag, Answer<Value>), ApiError> {
    if !user.has_role(ROLE_ADMIN) {
        return Err(ApiError::forbidden());
    }
    let mut check = Check::default();
    let new = NewAccount {
        email: check.email(body.email.as_deref()),
        password: check.password(body.password.as_ref()),
        first_name: check.name("first_name", body.first_name.as_deref()),
        last_name: check.name("last_name", body.last_name.as_deref()),
        roles: body.roles.unwrap_or_else(|| vec![ROLE_USER.to_owned()]),
    };
    if new.roles.is_empty() || new.roles.len() > limits::ROLES_GIVEN {
        check.complain("roles", "must be 1 to 32 names of roles");
    }
    check.done()?;
    let made = users.auth.make_account(Some(acting(&user)), &new).await.map_err(|error| {
        // The fields were checked here, by the same rules; roles only the auth service knows.
        if error == CallError::Refused(422) { ApiError::unknown_role() } else { refused(error) }
    })?;
    let profile = from_internal(made);
    let location = HeaderValue::from_str(&format!("/api/v1/users/{}", profile.id)).map_err(|_| ApiError::internal())?;
    let (etag, document) = answer(&profile);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], etag, document))
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
    condition: IfMatch,
    Json(body): Json<Replacement>,
) -> Result<(ETag, Answer<Value>), ApiError> {
    let id = self_or_admin(&user, id)?;
    let mut check = Check::default();
    let change = AccountChange {
        email: Some(check.email(body.email.as_deref())),
        first_name: Some(check.name("first_name", body.first_name.as_deref())),
        last_name: Some(check.name("last_name", body.last_name.as_deref())),
    };
    check.done()?;
    write(&users, id, acting(&user), &change, &condition).await
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
    /// The new value, empty for null; nothing where nothing was sent.
    fn value(&self) -> Option<&str> {
        match self {
            Self::Absent => None,
            Self::Null => Some(""),
            Self::Text(text) => Some(text),
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

/// PATCH /api/v1/users/{id}, as a merge patch. It is merged where the account is locked:
/// merged here, of two at one instant the later would undo the earlier.
pub(super) async fn patch(
    State(users): State<Users>,
    user: User,
    id: Id,
    condition: IfMatch,
    MergePatch(body): MergePatch<Patch>,
) -> Result<(ETag, Answer<Value>), ApiError> {
    let id = self_or_admin(&user, id)?;
    let mut check = Check::default();
    let change = AccountChange {
        email: body.email.value().map(|text| check.email(Some(text))),
        first_name: body.first_name.value().map(|text| check.name("first_name", Some(text))),
        last_name: body.last_name.value().map(|text| check.name("last_name", Some(text))),
    };
    check.done()?;
    write(&users, id, acting(&user), &change, &condition).await
}

/// First the account, which keeps addresses unique, then the profile, at once. Once the
/// account is changed nothing undoes it: should the profile's change fail here, it is made
/// by the auth service soon, and the answer is the same.
async fn write(
    users: &Users,
    id: Uuid,
    acting: Acting,
    change: &AccountChange,
    condition: &IfMatch,
) -> Result<(ETag, Answer<Value>), ApiError> {
    let changed = users.auth.change_account(id, Some(acting), change, condition.to_header().as_deref()).await;
    let profile = from_internal(changed.map_err(refused)?);
    if let Err(error) = users.profiles.put(&profile).await {
        users.metrics.store_fault(&error);
    }
    Ok(answer(&profile))
}

fn refused(error: CallError) -> ApiError {
    match error {
        CallError::Refused(403) => ApiError::forbidden(),
        CallError::Refused(404) => ApiError::not_found(),
        CallError::Refused(409) => ApiError::email_taken(),
        CallError::Refused(412) => ApiError::version_mismatch(),
        CallError::Unavailable | CallError::Refused(_) | CallError::Malformed => {
            tracing::error!(%error, "the auth service failed");
            ApiError::unavailable("auth_service_unavailable", "Authentication service unavailable")
        }
    }
}

/// DELETE /api/v1/users/{id}: first the account, so that nobody can log in to half a user,
/// then the profile. As with changes, the account decides.
pub(super) async fn delete(
    State(users): State<Users>,
    user: User,
    id: Id,
    condition: IfMatch,
) -> Result<StatusCode, ApiError> {
    let id = self_or_admin(&user, id)?;
    let deleted = users.auth.delete_account(id, Some(acting(&user)), condition.to_header().as_deref()).await;
    let had_account = deleted
        .map_err(|error| if error == CallError::Refused(409) { ApiError::last_admin() } else { refused(error) })?;
    match users.profiles.delete(id, users.clock.now()).await {
        Ok(had_profile) if had_account || had_profile => Ok(StatusCode::NO_CONTENT),
        Ok(_) => Err(ApiError::not_found()),
        Err(error) if had_account => {
            users.metrics.store_fault(&error);
            Ok(StatusCode::NO_CONTENT)
        }
        Err(error) => Err(error.into()),
    }
}

/// A profile as the auth service reads it.
fn internal_document(profile: &Profile) -> Value {
    let mut document = document(profile);
    if let Some(members) = document.as_object_mut() {
        members.insert("version".to_owned(), json!(profile.version));
    }
    json!({ "data": document })
}

/// POST /api/v1/internal/users: makes a profile, or makes it equal. One that is newer
/// stays as it is, and one that was deleted stays deleted (409).
pub(super) async fn put_internal(
    State(users): State<Users>,
    Json(body): Json<internal::Profile>,
) -> Result<(StatusCode, Answer<Value>), ApiError> {
    put_newer(&users, &from_internal(body)).await
}

async fn put_newer(users: &Users, profile: &Profile) -> Result<(StatusCode, Answer<Value>), ApiError> {
    let status = match users.profiles.put(profile).await? {
        Put::Stored => StatusCode::CREATED,
        Put::Older => StatusCode::OK,
        Put::Deleted => return Err(ApiError::profile_deleted()),
    };
    let stored = users.profiles.find(profile.id).await?.ok_or(ApiError::profile_deleted())?;
    Ok((status, Answer(internal_document(&stored))))
}

/// GET /api/v1/internal/users/{id}.
pub(super) async fn read_internal(State(users): State<Users>, id: Id) -> Result<Answer<Value>, ApiError> {
    let Id(id) = id;
    let profile = users.profiles.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(internal_document(&profile)))
}

#[derive(Debug, Deserialize)]
pub(super) struct Renewal {
    version: i64,
    updated_at: i64,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    roles: Option<Vec<String>>,
}

/// PATCH /api/v1/internal/users/{id}: parts of what the auth service has at a version.
pub(super) async fn patch_internal(
    State(users): State<Users>,
    id: Id,
    Json(body): Json<Renewal>,
) -> Result<(StatusCode, Answer<Value>), ApiError> {
    let Id(id) = id;
    let was = users.profiles.find(id).await?.ok_or(ApiError::not_found())?;
    let profile = Profile {
        id,
        email: body.email.unwrap_or(was.email),
        first_name: body.first_name.unwrap_or(was.first_name),
        last_name: body.last_name.unwrap_or(was.last_name),
        roles: body.roles.unwrap_or(was.roles),
        created_at: was.created_at,
        updated_at: body.updated_at,
        version: body.version,
    };
    put_newer(&users, &profile).await
}

/// DELETE /api/v1/internal/users/{id}.
pub(super) async fn delete_internal(State(users): State<Users>, id: Id) -> Result<StatusCode, ApiError> {
    let Id(id) = id;
    if users.profiles.delete(id, users.clock.now()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found())
    }
}
