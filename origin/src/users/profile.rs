//! Profiles as clients and services read and write them. The auth service decides every
//! change, by what its database says at that moment; here is written what it answered.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use portcullis_client::{
    internal::{self, AccountChange, Acting, CallError, Denial, NewAccount},
    secret::Secret,
};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Users;
use crate::{
    auth::{EMAIL_VERIFIED, ROLE_ADMIN, ROLE_USER},
    clock::rfc3339,
    fields::{
        Check,
        described::{self, Email, KeptProfile, Name, NewPassword, Password, RoleName},
    },
    http::{
        self, ApiError, Id, IfMatch, IfNoneMatch, Json, MergePatch, OptionalJson, etag_header,
        openapi::{CalledBy, refuses},
    },
    limits,
    store::profiles::{Profile, PutOutcome},
};

/// A user as clients see it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct User {
    id: Uuid,
    /// Trimmed and in lower case.
    #[schema(example = "ada@example.com")]
    email: String,
    /// Whether somebody proved to receive mail at this address: never, so far.
    #[schema(example = false)]
    email_verified: bool,
    /// May be empty.
    #[schema(example = "Ada")]
    first_name: String,
    /// May be empty.
    #[schema(example = "Lovelace")]
    last_name: String,
    #[schema(example = json!(["user"]))]
    roles: Vec<String>,
    #[schema(format = DateTime, example = "2026-01-02T03:04:05Z")]
    created_at: String,
    #[schema(format = DateTime, example = "2026-01-02T03:04:05Z")]
    updated_at: String,
}

impl From<Profile> for User {
    fn from(profile: Profile) -> Self {
        Self {
            id: profile.id,
            email: profile.email,
            email_verified: EMAIL_VERIFIED,
            first_name: profile.first_name,
            last_name: profile.last_name,
            roles: profile.roles,
            created_at: rfc3339(profile.created_at),
            updated_at: rfc3339(profile.updated_at),
        }
    }
}

/// One user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OneUser {
    data: User,
}

type ETag = [(HeaderName, HeaderValue); 1];

fn answer(profile: Profile) -> (ETag, Answer<OneUser>) {
    (etag_header(profile.version), Answer(OneUser { data: profile.into() }))
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
fn self_or_admin(user: &http::User, Id(id): Id) -> Result<Uuid, ApiError> {
    if user.id == id || user.has_role(ROLE_ADMIN) { Ok(id) } else { Err(ApiError::forbidden()) }
}

/// For the auth service, which looks whether the user is an administrator still.
fn acting(user: &http::User) -> Acting {
    Acting { user: user.id, session: user.session_id }
}

/// Reads a user: oneself, or for administrators anybody.
#[utoipa::path(
    get,
    path = "/api/v1/users/{id}",
    operation_id = "readUser",
    tag = "Users",
    security(("accessToken" = [])),
    params(("id" = Uuid, Path, description = "The user."), IfNoneMatch),
    responses(
        (status = 200, description = "The user.", body = OneUser, headers(("ETag" = String, description = "The version, for `If-Match` and `If-None-Match`."))),
        (status = 304, description = "It is at the version of `If-None-Match`.", headers(("ETag" = String, description = "The version."))),
        refuses::Always, refuses::Credentials, refuses::Rights, refuses::Missing
    )
)]
pub(super) async fn read(
    State(users): State<Users>,
    user: http::User,
    id: Id,
    known: IfNoneMatch,
) -> Result<Response, ApiError> {
    let id = self_or_admin(&user, id)?;
    let profile = users.profiles.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(if known.has(profile.version) {
        (StatusCode::NOT_MODIFIED, etag_header(profile.version)).into_response()
    } else {
        answer(profile).into_response()
    })
}

/// Who is made a user.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewUser {
    #[schema(required = true, nullable = false, value_type = Email)]
    email: Option<String>,
    #[schema(required = true, nullable = false, value_type = NewPassword)]
    password: Option<Secret>,
    #[schema(value_type = Option<Name>)]
    first_name: Option<String>,
    #[schema(value_type = Option<Name>)]
    last_name: Option<String>,
    /// Names of roles that there are; `user` alone when none are sent.
    #[schema(value_type = Option<Vec<RoleName>>, min_items = 1, max_items = 32, example = json!(["user"]))]
    roles: Option<Vec<String>>,
}

/// Makes a user, as a registration does, for administrators, who may give roles.
#[utoipa::path(
    post,
    path = "/api/v1/users",
    operation_id = "makeUser",
    tag = "Users",
    security(("accessToken" = [])),
    request_body = NewUser,
    responses(
        (status = 201, description = "The user.", body = OneUser, headers(
            ("Location" = String, description = "Where the user is."),
            ("ETag" = String, description = "The version.")
        )),
        refuses::Always, refuses::Credentials, refuses::Rights, refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn make(
    State(users): State<Users>,
    user: http::User,
    Json(body): Json<NewUser>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], ETag, Answer<OneUser>), ApiError> {
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
        check.reject("roles", "must be 1 to 32 names of roles");
    }
    check.done()?;
    let made = users.auth.make_account(Some(acting(&user)), &new).await.map_err(|error| {
        // The fields were checked here, by the same rules; roles only the auth service knows.
        if error == CallError::Refused(422) { ApiError::unknown_role() } else { refused(error) }
    })?;
    let profile = from_internal(made);
    let location = HeaderValue::from_str(&format!("/api/v1/users/{}", profile.id)).map_err(|_| ApiError::internal())?;
    let (etag, document) = answer(profile);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], etag, document))
}

/// What a user is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UserReplacement)]
pub(super) struct Replacement {
    #[schema(required = true, nullable = false, value_type = Email)]
    email: Option<String>,
    #[schema(value_type = Option<Name>)]
    first_name: Option<String>,
    #[schema(value_type = Option<Name>)]
    last_name: Option<String>,
    /// For another e-mail address of one's own; not needed within five minutes of the login.
    #[schema(value_type = Option<Password>)]
    current_password: Option<Secret>,
}

/// Replaces a user; a name that is not sent is empty.
#[utoipa::path(
    put,
    path = "/api/v1/users/{id}",
    operation_id = "replaceUser",
    tag = "Users",
    security(("accessToken" = [])),
    params(("id" = Uuid, Path, description = "The user."), IfMatch),
    request_body = Replacement,
    responses(
        (status = 200, description = "As it is now.", body = OneUser, headers(("ETag" = String, description = "The version."))),
        refuses::Always, refuses::Credentials, refuses::Rights, refuses::Missing, refuses::Body, refuses::Conflict, refuses::Changed
    )
)]
pub(super) async fn replace(
    State(users): State<Users>,
    user: http::User,
    id: Id,
    condition: IfMatch,
    Json(body): Json<Replacement>,
) -> Result<(ETag, Answer<OneUser>), ApiError> {
    let id = self_or_admin(&user, id)?;
    let mut check = Check::default();
    let change = AccountChange {
        email: Some(check.email(body.email.as_deref())),
        first_name: Some(check.name("first_name", body.first_name.as_deref())),
        last_name: Some(check.name("last_name", body.last_name.as_deref())),
        current_password: body.current_password,
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

/// What is to change of a user (RFC 7396): what is not sent stays, a name that is null
/// becomes empty.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UserPatch)]
pub(super) struct Patch {
    #[serde(default)]
    #[schema(value_type = Option<Email>, nullable = false)]
    email: Patched,
    #[serde(default)]
    #[schema(value_type = Option<Name>)]
    first_name: Patched,
    #[serde(default)]
    #[schema(value_type = Option<Name>)]
    last_name: Patched,
    /// For another e-mail address of one's own; not needed within five minutes of the login.
    #[schema(value_type = Option<Password>)]
    current_password: Option<Secret>,
}

/// Changes parts of a user (a merge patch, RFC 7396).
// It is merged where the account is locked: merged here, of two at one instant the later
// would undo the earlier.
#[utoipa::path(
    patch,
    path = "/api/v1/users/{id}",
    operation_id = "changeUser",
    tag = "Users",
    security(("accessToken" = [])),
    params(("id" = Uuid, Path, description = "The user."), IfMatch),
    request_body(content((Patch = "application/merge-patch+json"), (Patch = "application/json"))),
    responses(
        (status = 200, description = "As it is now.", body = OneUser, headers(("ETag" = String, description = "The version."))),
        refuses::Always, refuses::Credentials, refuses::Rights, refuses::Missing, refuses::Body, refuses::Conflict, refuses::Changed
    )
)]
pub(super) async fn patch(
    State(users): State<Users>,
    user: http::User,
    id: Id,
    condition: IfMatch,
    MergePatch(body): MergePatch<Patch>,
) -> Result<(ETag, Answer<OneUser>), ApiError> {
    let id = self_or_admin(&user, id)?;
    let mut check = Check::default();
    let change = AccountChange {
        email: body.email.value().map(|text| check.email(Some(text))),
        first_name: body.first_name.value().map(|text| check.name("first_name", Some(text))),
        last_name: body.last_name.value().map(|text| check.name("last_name", Some(text))),
        current_password: body.current_password,
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
) -> Result<(ETag, Answer<OneUser>), ApiError> {
    let changed = users.auth.change_account(id, Some(acting), change, condition.to_header().as_deref()).await;
    let profile = from_internal(changed.map_err(refused)?);
    if let Err(error) = users.profiles.put(&profile).await {
        users.metrics.database_error(&error);
    }
    Ok(answer(profile))
}

fn refused(error: CallError) -> ApiError {
    match error {
        CallError::Refused(403) => ApiError::forbidden(),
        CallError::Refused(404) => ApiError::not_found(),
        CallError::Refused(409) => ApiError::email_taken(),
        CallError::Refused(412) => ApiError::version_mismatch(),
        CallError::Denied(Denial::SessionEnded) => ApiError::token_revoked(),
        CallError::Denied(Denial::ReauthenticationRequired) => ApiError::reauthentication_required(),
        CallError::Denied(Denial::PasswordWrong) => ApiError::invalid_credentials(),
        CallError::Denied(Denial::PasswordDelayed { retry_after_s }) => ApiError::login_delayed(retry_after_s),
        CallError::Denied(Denial::EmailChangeDelayed { retry_after_s }) => {
            ApiError::email_change_delayed(retry_after_s)
        }
        CallError::Unavailable | CallError::Refused(_) | CallError::Denied(_) | CallError::Malformed => {
            tracing::error!(%error, "the auth service failed");
            ApiError::unavailable("auth_service_unavailable", "Authentication service unavailable")
        }
    }
}

/// What confirms that the account's owner asks for its deletion.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = UserDeletion)]
pub(super) struct Confirmation {
    /// For one's own account; not needed within five minutes of the login.
    #[schema(value_type = Option<Password>)]
    current_password: Option<Secret>,
}

/// Deletes a user; its tokens are revoked.
// First the account, so that nobody can log in to half a user, then the profile. As with
// changes, the account decides.
#[utoipa::path(
    delete,
    path = "/api/v1/users/{id}",
    operation_id = "deleteUser",
    tag = "Users",
    security(("accessToken" = [])),
    params(("id" = Uuid, Path, description = "The user."), IfMatch),
    request_body = Option<Confirmation>,
    responses(
        (status = 204, description = "It is deleted."),
        refuses::Always, refuses::Body, refuses::Credentials, refuses::Rights, refuses::Missing, refuses::Conflict,
        refuses::Changed
    )
)]
pub(super) async fn delete(
    State(users): State<Users>,
    user: http::User,
    id: Id,
    condition: IfMatch,
    OptionalJson(body): OptionalJson<Confirmation>,
) -> Result<StatusCode, ApiError> {
    let id = self_or_admin(&user, id)?;
    let (password, condition) = (body.current_password.as_ref(), condition.to_header());
    let deleted = users.auth.delete_account(id, Some(acting(&user)), password, condition.as_deref()).await;
    let had_account = deleted
        .map_err(|error| if error == CallError::Refused(409) { ApiError::last_admin() } else { refused(error) })?;
    match users.profiles.delete(id, users.clock.now()).await {
        Ok(had_profile) if had_account || had_profile => Ok(StatusCode::NO_CONTENT),
        Ok(_) => Err(ApiError::not_found()),
        Err(error) if had_account => {
            users.metrics.database_error(&error);
            Ok(StatusCode::NO_CONTENT)
        }
        Err(error) => Err(error.into()),
    }
}

/// A profile as services read it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Versioned {
    #[serde(flatten)]
    user: User,
    /// Grows with each change.
    #[schema(example = 1)]
    version: i64,
}

/// One profile.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OneProfile {
    data: Versioned,
}

impl From<Profile> for OneProfile {
    fn from(profile: Profile) -> Self {
        Self { data: Versioned { version: profile.version, user: profile.into() } }
    }
}

/// Makes a profile, or makes it equal to its account.
///
/// One that is newer stays as it is, and one that was deleted stays deleted (409).
#[utoipa::path(
    post,
    path = "/api/v1/internal/users",
    operation_id = "putProfile",
    tag = "Internal",
    security(("serviceToken" = [])),
    params(CalledBy),
    request_body = KeptProfile,
    responses(
        (status = 201, description = "It is stored.", body = OneProfile),
        (status = 200, description = "The one that is there is newer.", body = OneProfile),
        refuses::Trouble, refuses::Body, refuses::Credentials, refuses::Conflict
    )
)]
pub(super) async fn put_internal(
    State(users): State<Users>,
    Json(body): Json<internal::Profile>,
) -> Result<(StatusCode, Answer<OneProfile>), ApiError> {
    put_newer(&users, &from_internal(body)).await
}

async fn put_newer(users: &Users, profile: &Profile) -> Result<(StatusCode, Answer<OneProfile>), ApiError> {
    // The auth service has checked them; but text with a NUL would be none to PostgreSQL.
    let mut check = Check::default();
    check.instant("created_at", profile.created_at);
    check.instant("updated_at", profile.updated_at);
    check.line("email", &profile.email);
    check.line("first_name", &profile.first_name);
    check.line("last_name", &profile.last_name);
    profile.roles.iter().for_each(|role| check.line("roles", role));
    check.done()?;
    let status = match users.profiles.put(profile).await? {
        PutOutcome::Stored => StatusCode::CREATED,
        PutOutcome::Outdated => StatusCode::OK,
        PutOutcome::Deleted => return Err(ApiError::profile_deleted()),
    };
    let stored = users.profiles.find(profile.id).await?.ok_or(ApiError::profile_deleted())?;
    Ok((status, Answer(stored.into())))
}

/// Reads a profile for a service.
#[utoipa::path(
    get,
    path = "/api/v1/internal/users/{id}",
    operation_id = "readProfile",
    tag = "Internal",
    security(("serviceToken" = [])),
    params(("id" = Uuid, Path, description = "The user."), CalledBy),
    responses(
        (status = 200, description = "The profile.", body = OneProfile),
        refuses::Trouble, refuses::Credentials, refuses::Missing
    )
)]
pub(super) async fn read_internal(State(users): State<Users>, id: Id) -> Result<Answer<OneProfile>, ApiError> {
    let Id(id) = id;
    let profile = users.profiles.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(profile.into()))
}

/// Parts of what the auth service has at a version.
#[derive(Debug, Deserialize)]
pub(super) struct Renewal {
    version: i64,
    updated_at: i64,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    roles: Option<Vec<String>>,
}

/// Renews parts of a profile.
#[utoipa::path(
    patch,
    path = "/api/v1/internal/users/{id}",
    operation_id = "renewProfile",
    tag = "Internal",
    security(("serviceToken" = [])),
    params(("id" = Uuid, Path, description = "The user."), CalledBy),
    request_body = described::Renewal,
    responses(
        (status = 201, description = "It is stored.", body = OneProfile),
        (status = 200, description = "The one that is there is newer.", body = OneProfile),
        refuses::Trouble, refuses::Body, refuses::Credentials, refuses::Missing, refuses::Conflict
    )
)]
pub(super) async fn patch_internal(
    State(users): State<Users>,
    id: Id,
    Json(body): Json<Renewal>,
) -> Result<(StatusCode, Answer<OneProfile>), ApiError> {
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

/// Deletes a profile.
#[utoipa::path(
    delete,
    path = "/api/v1/internal/users/{id}",
    operation_id = "deleteProfile",
    tag = "Internal",
    security(("serviceToken" = [])),
    params(("id" = Uuid, Path, description = "The user."), CalledBy),
    responses(
        (status = 204, description = "It is deleted."),
        refuses::Trouble, refuses::Credentials, refuses::Missing
    )
)]
pub(super) async fn delete_internal(State(users): State<Users>, id: Id) -> Result<StatusCode, ApiError> {
    let Id(id) = id;
    if users.profiles.delete(id, users.clock.now()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found())
    }
}
