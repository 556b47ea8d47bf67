//! Registration, which spans two services and never leaves a half; accounts as
//! clients see them; the first admin.

use std::collections::BTreeSet;

use axum::{Json as Answer, extract::State, http::StatusCode};
use portcullis_client::{
    internal::{AccountChange, CallError, NewAccount as AskedAccount, Profile},
    secret::Secret,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Auth, EMAIL_VERIFIED, Passwords, ROLE_ADMIN, ROLE_USER,
    acting::{ActingFor, For},
    audit::Notes,
    confirmation::Confirmation,
    replay, token,
    turns::Priority,
};
use crate::{
    clock::{Clock, rfc3339},
    fields::{
        Check,
        described::{self, Email, KeptProfile, Name, NewPassword},
        normal_email,
    },
    http::{
        ApiError, Id, IdempotencyKey, IfMatch, Json, OptionalJson,
        openapi::{CalledBy, refuses},
    },
    ids, limits,
    store::{
        Accounts, Database, Profiles,
        accounts::{Account, AccountError, AccountUpdate, DeleteOutcome, NewAccount, UpdateOutcome},
        registrations::Key,
    },
};

impl From<AccountError> for ApiError {
    fn from(conflict: AccountError) -> Self {
        match conflict {
            AccountError::EmailTaken => Self::email_taken(),
            AccountError::UnknownRole => Self::unknown_role(),
            AccountError::Database(error) => error.into(),
        }
    }
}

/// A user as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
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

impl From<&Account> for User {
    fn from(account: &Account) -> Self {
        Self {
            id: account.id,
            email: account.email.clone(),
            email_verified: EMAIL_VERIFIED,
            first_name: account.first_name.clone(),
            last_name: account.last_name.clone(),
            roles: account.roles.clone(),
            created_at: rfc3339(account.created_at),
            updated_at: rfc3339(account.updated_at),
        }
    }
}

/// Who registers.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Registration {
    /// Taken as trimmed and in lower case; ASCII alone.
    #[schema(required = true, nullable = false, value_type = Email)]
    email: Option<String>,
    #[schema(required = true, nullable = false, value_type = NewPassword)]
    password: Option<Secret>,
    #[schema(value_type = Option<Name>)]
    first_name: Option<String>,
    #[schema(value_type = Option<Name>)]
    last_name: Option<String>,
}

/// A registration that is done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Registered {
    user: User,
    #[schema(example = "Registration successful")]
    message: &'static str,
}

/// Registers an account.
///
/// With an `Idempotency-Key`, the same registration within a day is answered with the same
/// account, even if both are on their way at once.
#[utoipa::path(
    post,
    path = "/api/v1/auth/register",
    operation_id = "register",
    tag = "Accounts",
    params(IdempotencyKey),
    request_body = Registration,
    responses(
        (status = 201, description = "The account.", body = Registered),
        refuses::Always, refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn register(
    State(auth): State<Auth>,
    notes: Notes,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<Registration>,
) -> Result<(StatusCode, Answer<Registered>), ApiError> {
    let account = make(&auth, &body, &[ROLE_USER.to_owned()], key, Priority::Stranger).await?;
    notes.by(account.id);
    notes.about(account.id);
    Ok((StatusCode::CREATED, Answer(Registered { user: User::from(&account), message: "Registration successful" })))
}

/// Makes a user for an administrator.
///
/// `x-acting-user` and `x-acting-session` say for whom; without them the service acts for
/// itself.
#[utoipa::path(
    post,
    path = "/api/v1/internal/accounts",
    operation_id = "makeAccount",
    tag = "Internal",
    security(("serviceToken" = [])),
    params(CalledBy, ActingFor),
    request_body = described::NewAccount,
    responses(
        (status = 201, description = "The account, as its profile is kept.", body = KeptProfile),
        refuses::Trouble, refuses::Body, refuses::Credentials, refuses::Rights, refuses::Conflict
    )
)]
pub(super) async fn make_internal(
    State(auth): State<Auth>,
    notes: Notes,
    acting: For,
    Json(body): Json<AskedAccount>,
) -> Result<(StatusCode, Answer<Profile>), ApiError> {
    acting.may_change(&auth, None).await?;
    let asked = Registration {
        email: Some(body.email),
        password: Some(body.password),
        first_name: Some(body.first_name),
        last_name: Some(body.last_name),
    };
    let roles: BTreeSet<String> = body.roles.into_iter().collect();
    // Text with a NUL is none to PostgreSQL; no role has such a name.
    let is_name = |name: &String| !name.chars().any(char::is_control);
    if !(1..=limits::ROLES_GIVEN).contains(&roles.len()) || !roles.iter().all(is_name) {
        return Err(ApiError::unknown_role());
    }
    let roles: Vec<String> = roles.into_iter().collect();
    let account = make(&auth, &asked, &roles, None, Priority::Known).await?;
    notes.about(account.id);
    Ok((StatusCode::CREATED, Answer(account.into())))
}

/// Makes an administrator.
pub(super) async fn make_admin(auth: &Auth, email: &str, password: &Secret) -> Result<Account, ApiError> {
    let asked = Registration {
        email: Some(email.to_owned()),
        password: Some(password.clone()),
        first_name: None,
        last_name: None,
    };
    make(auth, &asked, &[ROLE_ADMIN.to_owned(), ROLE_USER.to_owned()], None, Priority::Known).await
}

/// Makes a user: the one way in which there come to be some.
///
/// The account is written as pending, the profile is made in the user service,
/// and only then is the account active. Whatever fails on the way leaves a
/// pending account, which cannot log in, which the next try takes over, and which is
/// undone with its profile if there is none (`profiles.rs`).
async fn make(
    auth: &Auth,
    asked: &Registration,
    roles: &[String],
    key: Option<Key>,
    priority: Priority,
) -> Result<Account, ApiError> {
    let mut check = Check::default();
    let email = check.email(asked.email.as_deref());
    let password = check.password(asked.password.as_ref());
    let first_name = check.name("first_name", asked.first_name.as_deref());
    let last_name = check.name("last_name", asked.last_name.as_deref());
    check.done()?;
    let password_hash = auth.passwords.hash(&password, priority).await?;
    let now = auth.clock.now();
    let attempt = token::fresh_id(auth)?;
    let new = NewAccount {
        id: token::fresh_id(auth)?,
        email: &email,
        password_hash: &password_hash,
        first_name: &first_name,
        last_name: &last_name,
        roles,
        attempt,
        registered_by: key,
        now,
    };
    let same = replay::Asked { email: &email, password: &password, first_name: &first_name, last_name: &last_name };
    let begun = match auth.accounts.create_pending(&new).await {
        Err(AccountError::EmailTaken) => return replay::answer(auth, key, &same).await,
        begun => begun?,
    };
    let account = begun.account(&new);
    let put = auth.users.put_profile(&account.clone().into()).await;
    put.map_err(|error| unavailable(error, "the profile cannot be made"))?;
    if auth.accounts.activate(begun, attempt).await? {
        return Ok(account);
    }
    if let Some(key) = key {
        auth.accounts.activate_twin(begun.id, key).await?;
    }
    replay::answer(auth, key, &same).await
}

fn unavailable(error: CallError, what: &'static str) -> ApiError {
    tracing::error!(%error, what, "the user service failed");
    ApiError::unavailable("user_service_unavailable", "User service unavailable")
}

/// Merges what is to change into an account.
#[utoipa::path(
    patch,
    path = "/api/v1/internal/accounts/{id}",
    operation_id = "changeAccount",
    tag = "Internal",
    security(("serviceToken" = [])),
    params(("id" = Uuid, Path, description = "The account."), CalledBy, ActingFor, IfMatch),
    request_body = described::AccountChange,
    responses(
        (status = 200, description = "The account as it is then.", body = KeptProfile),
        refuses::Trouble, refuses::Body, refuses::Credentials, refuses::Rights, refuses::Missing, refuses::Conflict,
        refuses::Changed
    )
)]
pub(super) async fn change(
    State(auth): State<Auth>,
    Id(id): Id,
    acting: For,
    condition: IfMatch,
    Json(body): Json<AccountChange>,
) -> Result<Answer<Profile>, ApiError> {
    let owner = acting.may_change(&auth, Some(id)).await?;
    let mut check = Check::default();
    let email = body.email.as_deref().map(|text| check.email(Some(text)));
    let first_name = body.first_name.as_deref().map(|text| check.name("first_name", Some(text)));
    let last_name = body.last_name.as_deref().map(|text| check.name("last_name", Some(text)));
    check.done()?;
    if let (Some(owner), Some(email)) = (owner, &email) {
        let account = auth.accounts.find(id).await?.ok_or(ApiError::not_found())?;
        if account.email != *email {
            owner.confirm(&auth, &account, body.current_password.as_ref()).await?;
            owner.count_email_change(&auth).await?;
        }
    }
    let change =
        AccountUpdate { email: email.as_deref(), first_name: first_name.as_deref(), last_name: last_name.as_deref() };
    match auth.accounts.update(id, &change, |version| condition.allows(version), &auth.clock).await? {
        UpdateOutcome::Updated(account) => Ok(Answer(account.into())),
        UpdateOutcome::NotFound => Err(ApiError::not_found()),
        UpdateOutcome::VersionMismatch => Err(ApiError::version_mismatch()),
    }
}

/// Deletes an account; its tokens are revoked.
#[utoipa::path(
    delete,
    path = "/api/v1/internal/accounts/{id}",
    operation_id = "deleteAccount",
    tag = "Internal",
    security(("serviceToken" = [])),
    params(("id" = Uuid, Path, description = "The account."), CalledBy, ActingFor, IfMatch),
    request_body = Option<Confirmation>,
    responses(
        (status = 204, description = "It is deleted."),
        refuses::Trouble, refuses::Body, refuses::Credentials, refuses::Rights, refuses::Missing,
        refuses::Conflict, refuses::Changed
    )
)]
pub(super) async fn delete(
    State(auth): State<Auth>,
    Id(id): Id,
    acting: For,
    condition: IfMatch,
    OptionalJson(body): OptionalJson<Confirmation>,
) -> Result<StatusCode, ApiError> {
    if let Some(owner) = acting.may_change(&auth, Some(id)).await? {
        let account = auth.accounts.find(id).await?.ok_or(ApiError::not_found())?;
        owner.confirm(&auth, &account, body.current_password.as_ref()).await?;
    }
    match auth.accounts.delete(id, ROLE_ADMIN, |version| condition.allows(version), &auth.clock).await? {
        DeleteOutcome::Deleted => {
            auth.pusher.wake();
            Ok(StatusCode::NO_CONTENT)
        }
        DeleteOutcome::NotFound => Err(ApiError::not_found()),
        DeleteOutcome::LastAdministrator => Err(ApiError::last_admin()),
        DeleteOutcome::VersionMismatch => Err(ApiError::version_mismatch()),
    }
}

/// Ends all sessions of an account.
#[utoipa::path(
    post,
    path = "/api/v1/internal/accounts/{id}/revoke",
    operation_id = "revokeAccount",
    tag = "Internal",
    security(("serviceToken" = [])),
    params(("id" = Uuid, Path, description = "The account."), CalledBy),
    responses(
        (status = 204, description = "They are ended."),
        refuses::Trouble, refuses::Credentials, refuses::Missing
    )
)]
pub(super) async fn revoke(State(auth): State<Auth>, Id(id): Id) -> Result<StatusCode, ApiError> {
    auth.accounts.find(id).await?.ok_or(ApiError::not_found())?;
    if !auth.sessions.revoke_all(id, &auth.clock).await? {
        return Err(ApiError::unavailable("account_busy", "The account's sessions were ended moments ago"));
    }
    auth.pusher.wake();
    Ok(StatusCode::NO_CONTENT)
}

/// What `create_admin` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// A new account.
    New(Uuid),
    /// An account with this address was there: it is an admin now.
    Promoted(Uuid),
}

/// What `create_admin` is to do.
#[derive(Debug, Clone, Copy)]
pub enum AdminWish<'a> {
    /// Make an account with this password.
    Make(&'a Secret),
    /// Promote the account that there is: with this password, and without the sessions that
    /// it has; or, without one, just as it is.
    Promote(Option<&'a Secret>),
}

/// Makes an admin in both databases; to be run where they are.
///
/// # Errors
/// A sentence for the operator.
pub async fn create_admin(
    auth: Database,
    users: Database,
    email: &str,
    wish: AdminWish<'_>,
    clock: &Clock,
) -> Result<Created, String> {
    let email = normal_email(email).ok_or("the e-mail address is not valid")?;
    let password = match wish {
        AdminWish::Make(password) => Some(password),
        AdminWish::Promote(password) => password,
    };
    if let Some(password) = password {
        let mut check = Check::default();
        check.password(Some(password));
        check.done().map_err(|_| "the password must have 8 to 128 characters")?;
    }
    let failed = |_| "the database cannot be written".to_owned();
    let (accounts, profiles) = (Accounts(auth), Profiles(users));
    let existing = accounts.find_login(&email).await.map_err(failed)?;
    let hashed = async |password: &Secret| {
        let passwords = Passwords::new().await.map_err(|_| "passwords cannot be hashed")?;
        passwords.hash(password, Priority::Known).await.map_err(|_| "passwords cannot be hashed".to_owned())
    };
    match (existing, wish) {
        // Whoever registered the address first chose its password: nobody has shown
        // that they are the one who is meant.
        (Some(_), AdminWish::Make(_)) => Err("an account with this address exists already; --promote makes it an \
             administrator with the password that you give, and ends its sessions"
            .to_owned()),
        (None, AdminWish::Promote(_)) => {
            Err("there is no account with this address to promote; without --promote one is made".to_owned())
        }
        (Some((account, _)), AdminWish::Promote(password)) => {
            let hash = match password {
                Some(password) => Some(hashed(password).await?),
                None => None,
            };
            if !accounts.promote(account.id, ROLE_ADMIN, hash.as_deref(), clock).await.map_err(failed)? {
                return Err("the account's sessions were ended moments ago; try again in a minute".to_owned());
            }
            let account = accounts.find(account.id).await.map_err(failed)?.ok_or("the account vanished")?;
            let id = account.id;
            // Should it fail: the role is marked as one that the profile lacks.
            profiles.put(&account.into()).await.map_err(failed)?;
            Ok(Created::Promoted(id))
        }
        (None, AdminWish::Make(password)) => {
            let password_hash = hashed(password).await?;
            let fresh = || ids::fresh(clock.now()).ok_or("no random bytes");
            let (attempt, now) = (fresh()?, clock.now());
            let roles = vec![ROLE_ADMIN.to_owned(), ROLE_USER.to_owned()];
            let new = NewAccount {
                id: fresh()?,
                email: &email,
                password_hash: &password_hash,
                first_name: "",
                last_name: "",
                roles: &roles,
                attempt,
                registered_by: None,
                now,
            };
            let begun = accounts.create_pending(&new).await.map_err(|_| "the account cannot be written")?;
            let account = begun.account(&new);
            profiles.put(&account.into()).await.map_err(failed)?;
            if !accounts.activate(begun, attempt).await.map_err(failed)? {
                return Err("somebody registered this address at the same moment; try again".to_owned());
            }
            Ok(Created::New(begun.id))
        }
    }
}
