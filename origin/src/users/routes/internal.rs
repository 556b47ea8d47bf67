//! Profiles as services read them and the auth service writes them.

use axum::{Json as Answer, extract::State, http::StatusCode};
use portcullis_client::profile::{ProfileChange, ProfileFields};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    fields::{
        Check,
        schemas::{Instant, Line},
    },
    http::{
        ApiError, Id, Json,
        openapi::{CalledBy, refuses},
    },
    profile,
    store::{
        UserRecord,
        profiles::{ChangeOutcome, PutOutcome},
    },
    user::User,
    users::Users,
};

/// A user with the version of the profile.
#[derive(Debug, Serialize, ToSchema)]
struct Versioned {
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

impl From<UserRecord> for OneProfile {
    fn from(profile: UserRecord) -> Self {
        Self { data: Versioned { version: profile.version, user: profile.into() } }
    }
}

/// Stores a profile.
///
/// A newer profile stays as it is, and a deleted one stays deleted (409).
#[utoipa::path(
    post,
    path = "/api/v1/internal/users",
    params(CalledBy),
    request_body = UserRecord,
    responses(
        (status = 201, description = "The profile is stored.", body = OneProfile),
        (status = 200, description = "The stored profile, which is newer.", body = OneProfile),
        refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn put_profile(
    State(users): State<Users>,
    Json(body): Json<UserRecord>,
) -> Result<(StatusCode, Answer<OneProfile>), ApiError> {
    // The auth service has checked the texts; but PostgreSQL refuses text with a NUL.
    let mut check = Check::default();
    check.instant("created_at", body.created_at);
    check.instant("updated_at", body.updated_at);
    check.line("email", &body.email);
    check.profile_lines(&body.profile);
    body.roles.iter().for_each(|role| check.line("roles", role));
    check.done()?;
    let status = match users.profiles.put(&body).await? {
        PutOutcome::Stored => StatusCode::CREATED,
        PutOutcome::Outdated => StatusCode::OK,
        PutOutcome::Deleted => return Err(ApiError::profile_deleted()),
    };
    let stored = users.profiles.find(body.id).await?.ok_or(ApiError::profile_deleted())?;
    Ok((status, Answer(stored.into())))
}

/// Reads a profile.
#[utoipa::path(
    get,
    path = "/api/v1/internal/users/{id}",
    params(("id" = Uuid, Path, description = "The user."), CalledBy),
    responses((status = 200, description = "The profile.", body = OneProfile), refuses::Missing)
)]
pub(super) async fn read_profile(State(users): State<Users>, Id(id): Id) -> Result<Answer<OneProfile>, ApiError> {
    let profile = users.profiles.find(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(profile.into()))
}

/// The change of an account to a version; a field that is not sent stays.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Renewal {
    version: i64,
    #[schema(value_type = Instant)]
    updated_at: i64,
    #[schema(value_type = Option<Line>)]
    email: Option<String>,
    #[serde(flatten)]
    #[schema(inline, value_type = profile::OptionalLines)]
    profile: ProfileChange,
    #[schema(value_type = Option<Vec<Line>>)]
    roles: Option<Vec<String>>,
}

/// Changes fields of a profile.
///
/// The change of an earlier version must be stored already: otherwise it is 409, and the whole profile
/// must be sent.
#[utoipa::path(
    patch,
    path = "/api/v1/internal/users/{id}",
    params(("id" = Uuid, Path, description = "The user."), CalledBy),
    request_body = Renewal,
    responses(
        (status = 201, description = "The profile is stored.", body = OneProfile),
        (status = 200, description = "The stored profile, which is newer.", body = OneProfile),
        refuses::Body, refuses::Missing, refuses::Conflict
    )
)]
pub(super) async fn renew_profile(
    State(users): State<Users>,
    Id(id): Id,
    Json(body): Json<Renewal>,
) -> Result<(StatusCode, Answer<OneProfile>), ApiError> {
    let mut check = Check::default();
    check.instant("updated_at", body.updated_at);
    body.email.iter().for_each(|email| check.line("email", email));
    check.profile_lines(&profile::apply(body.profile.clone(), &ProfileFields::default()));
    body.roles.iter().flatten().for_each(|role| check.line("roles", role));
    check.done()?;
    let (version, updated_at) = (body.version, body.updated_at);
    let change = |stored: UserRecord| UserRecord {
        email: body.email.unwrap_or(stored.email),
        profile: profile::apply(body.profile, &stored.profile),
        roles: body.roles.unwrap_or(stored.roles),
        updated_at,
        ..stored
    };
    match users.profiles.change(id, version, change).await? {
        ChangeOutcome::Stored(profile) => Ok((StatusCode::CREATED, Answer(profile.into()))),
        ChangeOutcome::Outdated(profile) => Ok((StatusCode::OK, Answer(profile.into()))),
        ChangeOutcome::Gap => Err(ApiError::conflict("profile_outdated", "The profile lacks an earlier change")),
        ChangeOutcome::NotFound => Err(ApiError::not_found()),
    }
}

/// Deletes a profile.
#[utoipa::path(
    delete,
    path = "/api/v1/internal/users/{id}",
    params(("id" = Uuid, Path, description = "The user."), CalledBy),
    responses((status = 204, description = "The profile is deleted."), refuses::Missing)
)]
pub(super) async fn delete_profile(State(users): State<Users>, Id(id): Id) -> Result<StatusCode, ApiError> {
    if users.profiles.delete(id, users.clock.now()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found())
    }
}
