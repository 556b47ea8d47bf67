//! Registration, which spans two services and never leaves a half; accounts as
//! clients see them; the first admin.

use axum::{Json as Answer, extract::State, http::StatusCode};
use portcullis_client::{
    internal::{AccountChange, CallError, Profile},
    secret::Secret,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Auth, Passwords, ROLE_ADMIN, ROLE_USER, token};
use crate::{
    clock::{Clock, rfc3339},
    fields::{Check, normal_email},
    http::{ApiError, Id, Json},
    ids,
    store::{
        Accounts, Database, Profiles,
        accounts::{Account, Conflict, Deletion, NewAccount},
    },
};

impl From<Conflict> for ApiError {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::Taken => Self::email_taken(),
            Conflict::Failed(error) => error.into(),
        }
    }
}

/// A user as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct User {
    id: Uuid,
    email: String,
    first_name: String,
    last_name: String,
    roles: Vec<String>,
    created_at: String,
    updated_at: String,
}

impl From<&Account> for User {
    fn from(account: &Account) -> Self {
        Self {
            id: account.id,
            email: account.email.clone(),
            first_name: account.first_name.clone(),
            last_name: account.last_name.clone(),
            roles: account.roles.clone(),
            created_at: rfc3339(account.created_at),
            updated_at: rfc3339(account.updated_at),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Registration {
    email: Option<String>,
    password: Option<Secret>,
    first_name: Option<String>,
    last_name: Option<String>,
}

/// POST /api/v1/auth/register.
///
/// The account is written as pending, the profile is made in the user service,
/// and only then is the account active. Whatever fails on the way leaves a
/// pending account, which cannot log in and which the next try takes over.
pub(super) async fn register(
    State(auth): State<Auth>,
    Json(body): Json<Registration>,
) -> Result<(StatusCode, Answer<Value>), ApiError> {
    let mut check = Check::default();
    let email = check.email(body.email.as_deref());
    let password = check.password(body.password.as_ref());
    let first_name = check.name("first_name", body.first_name.as_deref());
    let last_name = check.name("last_name", body.last_name.as_deref());
    check.done()?;
    let password_hash = auth.passwords.hash(&password).await?;
    let now = auth.clock.now();
    let attempt = token::fresh_id(&auth)?;
    let new = NewAccount {
        id: token::fresh_id(&auth)?,
        email: &email,
        password_hash: &password_hash,
        first_name: &first_name,
        last_name: &last_name,
        attempt,
        now,
    };
    let id = auth.accounts.begin(&new, ROLE_USER).await?;
    let profile = Profile {
        id,
        email: email.clone(),
        first_name: first_name.clone(),
        last_name: last_name.clone(),
        roles: vec![ROLE_USER.to_owned()],
        created_at: now,
    };
    auth.users.put_profile(&profile).await.map_err(|error| unavailable(error, "the profile cannot be made"))?;
    if !auth.accounts.activate(id, attempt).await? {
        return Err(ApiError::email_taken());
    }
    let account = auth.accounts.find(id).await?.ok_or(ApiError::internal())?;
    Ok((StatusCode::CREATED, Answer(json!({ "user": User::from(&account), "message": "Registration successful" }))))
}

fn unavailable(error: CallError, what: &'static str) -> ApiError {
    tracing::error!(%error, what, "the user service failed");
    ApiError::unavailable("user_service_unavailable", "User service unavailable")
}

/// PATCH /api/v1/internal/accounts/{id}: the user service tells of a changed
/// profile.
pub(super) async fn change(
    State(auth): State<Auth>,
    Id(id): Id,
    Json(body): Json<AccountChange>,
) -> Result<StatusCode, ApiError> {
    let mut check = Check::default();
    let email = check.email(Some(&body.email));
    let first_name = check.name("first_name", Some(&body.first_name));
    let last_name = check.name("last_name", Some(&body.last_name));
    check.done()?;
    if auth.accounts.change(id, &email, &first_name, &last_name, auth.clock.now()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found())
    }
}

/// DELETE /api/v1/internal/accounts/{id}.
pub(super) async fn delete(State(auth): State<Auth>, Id(id): Id) -> Result<StatusCode, ApiError> {
    match auth.accounts.delete(id, ROLE_ADMIN, &auth.clock).await? {
        Deletion::Done => {
            auth.pusher.wake();
            Ok(StatusCode::NO_CONTENT)
        }
        Deletion::Nobody => Err(ApiError::not_found()),
        Deletion::Last => Err(ApiError::last_admin()),
    }
}

/// POST /api/v1/internal/accounts/{id}/revoke: ends all sessions.
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
    /// An account with this address was there: it is an admin now, its
    /// password is what it was.
    Promoted(Uuid),
}

/// Makes an admin in both databases; to be run where they are.
///
/// # Errors
/// A sentence for the operator.
pub async fn create_admin(
    auth: Database,
    users: Database,
    email: &str,
    password: &Secret,
    promote: bool,
    clock: &Clock,
) -> Result<Created, String> {
    let email = normal_email(email).ok_or("the e-mail address is not valid")?;
    let mut check = Check::default();
    check.password(Some(password));
    check.done().map_err(|_| "the password must have 8 to 128 characters")?;
    let failed = |_| "the database cannot be written".to_owned();
    let (accounts, profiles) = (Accounts(auth), Profiles(users));
    let existing = accounts.find_login(&email).await.map_err(failed)?;
    let (created, id) = match existing {
        // Whoever registered the address first chose its password: nobody has shown
        // that they are the one who is meant.
        Some(_) if !promote => {
            return Err("an account with this address exists already; --promote makes it an administrator with the password that it has".to_owned());
        }
        Some((account, _)) => (Created::Promoted(account.id), account.id),
        None => {
            let passwords = Passwords::new().await.map_err(|_| "passwords cannot be hashed")?;
            let password_hash = passwords.hash(password).await.map_err(|_| "passwords cannot be hashed")?;
            let fresh = || ids::fresh(clock.now()).ok_or("no random bytes");
            let attempt = fresh()?;
            let new = NewAccount {
                id: fresh()?,
                email: &email,
                password_hash: &password_hash,
                first_name: "",
                last_name: "",
                attempt,
                now: clock.now(),
            };
            let id = accounts.begin(&new, ROLE_USER).await.map_err(|_| "the account cannot be written")?;
            if !accounts.activate(id, attempt).await.map_err(failed)? {
                return Err("somebody registered this address at the same moment; try again".to_owned());
            }
            (Created::New(id), id)
        }
    };
    accounts.grant(id, ROLE_ADMIN).await.map_err(failed)?;
    let account = accounts.find(id).await.map_err(failed)?.ok_or("the account vanished")?;
    let profile = crate::store::profiles::Profile {
        id,
        email: account.email,
        first_name: account.first_name,
        last_name: account.last_name,
        roles: account.roles,
        created_at: account.created_at,
        updated_at: clock.now(),
    };
    profiles.put(&profile).await.map_err(failed)?;
    Ok(created)
}
