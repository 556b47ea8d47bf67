//! Users as clients read and write them. The auth service decides every change by what its database
//! says at that moment; its answer is stored here.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use portcullis_client::{
    admin::{self, UserPatch},
    internal::{CallError, Denial},
    profile::{ProfileChange, ProfileFields},
    secret::Secret,
};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::{
    auth::ROLE_USER,
    fields::{
        Check,
        schemas::{Email, NewPassword, Password, RoleName},
    },
    http::{ApiError, IfMatch, IfNoneMatch, Json, MergePatch, OptionalJson, etag_header, openapi::refuses},
    limits, profile,
    store::UserRecord,
    user::User,
    users::{
        Users,
        access::{Admin, Target},
    },
};

/// One user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OneUser {
    data: User,
}

type ETag = [(HeaderName, HeaderValue); 1];

fn answer(profile: UserRecord) -> (ETag, Answer<OneUser>) {
    (etag_header(profile.version), Answer(OneUser { data: profile.into() }))
}

/// Reads the caller's own user, or for administrators any user.
#[utoipa::path(
    get,
    path = "/api/v1/users/{id}",
    params(("id" = Uuid, Path, description = "The user."), IfNoneMatch),
    responses(
        (status = 200, description = "The user.", body = OneUser, headers(("ETag" = String, description = "The version, for `If-Match` and `If-None-Match`."))),
        (status = 304, description = "The user has the version of `If-None-Match`.", headers(("ETag" = String, description = "The version."))),
        refuses::Rights, refuses::Missing
    )
)]
pub(super) async fn read_user(
    State(users): State<Users>,
    target: Target,
    known: IfNoneMatch,
) -> Result<Response, ApiError> {
    let profile = users.profiles.find(target.id).await?.ok_or(ApiError::not_found())?;
    Ok(if known.has(profile.version) {
        (StatusCode::NOT_MODIFIED, etag_header(profile.version)).into_response()
    } else {
        answer(profile).into_response()
    })
}

/// A new user.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewUser {
    #[schema(required = true, nullable = false, value_type = Email)]
    email: Option<String>,
    #[schema(required = true, nullable = false, value_type = NewPassword)]
    password: Option<Secret>,
    #[serde(flatten)]
    #[schema(inline, value_type = profile::Optional)]
    profile: ProfileChange,
    /// Names of existing roles; `user` alone when none are sent.
    #[schema(value_type = Option<Vec<RoleName>>, min_items = 1, max_items = 32, example = json!(["user"]))]
    roles: Option<Vec<String>>,
}

/// Makes a user, as a registration does, with the given roles.
#[utoipa::path(
    post,
    path = "/api/v1/users",
    request_body = NewUser,
    responses(
        (status = 201, description = "The user.", body = OneUser, headers(
            ("Location" = String, description = "URL of the user."),
            ("ETag" = String, description = "The version.")
        )),
        refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn make_user(
    State(users): State<Users>,
    Admin(acting): Admin,
    Json(body): Json<NewUser>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], ETag, Answer<OneUser>), ApiError> {
    let mut check = Check::default();
    let new = admin::NewUser {
        email: check.email(body.email.as_deref()),
        password: check.password(body.password.as_ref()),
        profile: profile::apply(check.profile(&body.profile), &ProfileFields::default()),
        roles: body.roles.unwrap_or_else(|| vec![ROLE_USER.to_owned()]),
    };
    if new.roles.is_empty() || new.roles.len() > limits::ROLES_GIVEN {
        check.reject("roles", "must be 1 to 32 names of roles");
    }
    check.done()?;
    let profile = users.auth.make_account(Some(acting), &new).await.map_err(|error| {
        // The fields were checked here, by the same rules; only the auth service knows the roles.
        if error == CallError::Refused(422) { ApiError::unknown_role() } else { refused(error) }
    })?;
    let location = HeaderValue::from_str(&format!("/api/v1/users/{}", profile.id)).map_err(|_| ApiError::internal())?;
    let (etag, document) = answer(profile);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], etag, document))
}

/// The new fields of a user.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UserReplacement)]
pub(super) struct Replacement {
    #[schema(required = true, nullable = false, value_type = Email)]
    email: Option<String>,
    #[serde(flatten)]
    #[schema(inline, value_type = profile::Optional)]
    profile: ProfileChange,
    /// For a change of one's own e-mail address; not needed within five minutes of the login.
    #[schema(value_type = Option<Password>)]
    current_password: Option<Secret>,
}

/// Replaces a user; a name that is not sent becomes empty.
#[utoipa::path(
    put,
    path = "/api/v1/users/{id}",
    params(("id" = Uuid, Path, description = "The user."), IfMatch),
    request_body = Replacement,
    responses(
        (status = 200, description = "The user after the change.", body = OneUser, headers(("ETag" = String, description = "The version."))),
        refuses::ConditionalWrite
    )
)]
pub(super) async fn replace_user(
    State(users): State<Users>,
    target: Target,
    condition: IfMatch,
    Json(body): Json<Replacement>,
) -> Result<(ETag, Answer<OneUser>), ApiError> {
    let mut check = Check::default();
    let change = UserPatch {
        email: Some(check.email(body.email.as_deref())),
        profile: check.profile(&profile::replace(body.profile)),
        current_password: body.current_password,
    };
    check.done()?;
    write(&users, target, &change, &condition).await
}

/// Deserializes a member of a merge patch: null is invalid for an address, as is an empty text.
fn empty_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

/// The changes of a user (RFC 7396): a field that is not sent stays, a name that is null becomes
/// empty.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UserPatch)]
pub(super) struct Patch {
    #[serde(default, deserialize_with = "empty_if_null")]
    #[schema(value_type = Option<Email>, nullable = false)]
    email: Option<String>,
    #[serde(flatten, deserialize_with = "profile::merge_patch")]
    #[schema(inline, value_type = profile::Optional)]
    profile: ProfileChange,
    /// For a change of one's own e-mail address; not needed within five minutes of the login.
    #[schema(value_type = Option<Password>)]
    current_password: Option<Secret>,
}

/// Changes fields of a user (a merge patch, RFC 7396).
// The auth service merges under the account's lock: merged here, the later of two simultaneous
// changes would undo the earlier.
#[utoipa::path(
    patch,
    path = "/api/v1/users/{id}",
    params(("id" = Uuid, Path, description = "The user."), IfMatch),
    request_body(content((Patch = "application/merge-patch+json"), (Patch = "application/json"))),
    responses(
        (status = 200, description = "The user after the change.", body = OneUser, headers(("ETag" = String, description = "The version."))),
        refuses::ConditionalWrite
    )
)]
pub(super) async fn change_user(
    State(users): State<Users>,
    target: Target,
    condition: IfMatch,
    MergePatch(body): MergePatch<Patch>,
) -> Result<(ETag, Answer<OneUser>), ApiError> {
    let mut check = Check::default();
    let change = UserPatch {
        email: body.email.as_deref().map(|text| check.email(Some(text))),
        profile: check.profile(&body.profile),
        current_password: body.current_password,
    };
    check.done()?;
    write(&users, target, &change, &condition).await
}

/// Changes the account, which keeps addresses unique, and then the profile. Once the account is
/// changed nothing undoes it: if the profile's change fails here, the auth service makes it soon,
/// and the answer is the same.
async fn write(
    users: &Users,
    target: Target,
    change: &UserPatch,
    condition: &IfMatch,
) -> Result<(ETag, Answer<OneUser>), ApiError> {
    let changed =
        users.auth.change_account(target.id, Some(target.acting), change, condition.to_header().as_deref()).await;
    let profile = changed.map_err(refused)?;
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

/// The proof that the account's owner asks for its deletion.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = UserDeletion)]
pub(super) struct Confirmation {
    /// For one's own account; not needed within five minutes of the login.
    #[schema(value_type = Option<Password>)]
    current_password: Option<Secret>,
}

/// Deletes a user; its tokens are revoked.
// First the account, so that a user without a profile cannot log in, then the profile.
#[utoipa::path(
    delete,
    path = "/api/v1/users/{id}",
    params(("id" = Uuid, Path, description = "The user."), IfMatch),
    request_body = Option<Confirmation>,
    responses(
        (status = 204, description = "The user is deleted."),
        refuses::ConditionalWrite
    )
)]
pub(super) async fn delete_user(
    State(users): State<Users>,
    target: Target,
    condition: IfMatch,
    OptionalJson(body): OptionalJson<Confirmation>,
) -> Result<StatusCode, ApiError> {
    let (password, condition) = (body.current_password.as_ref(), condition.to_header());
    let deleted = users.auth.delete_account(target.id, Some(target.acting), password, condition.as_deref()).await;
    let had_account = deleted
        .map_err(|error| if error == CallError::Refused(409) { ApiError::last_admin() } else { refused(error) })?;
    match users.profiles.delete(target.id, users.clock.now()).await {
        Ok(had_profile) if had_account || had_profile => Ok(StatusCode::NO_CONTENT),
        Ok(_) => Err(ApiError::not_found()),
        Err(error) if had_account => {
            users.metrics.database_error(&error);
            Ok(StatusCode::NO_CONTENT)
        }
        Err(error) => Err(error.into()),
    }
}
