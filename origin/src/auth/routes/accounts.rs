//! Accounts: registration, the caller's own account and its password.

use axum::{Json as Answer, extract::State, http::StatusCode};
use portcullis_client::{profile::ProfileChange, secret::Secret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sessions::Done;
use crate::{
    auth::{
        Auth, ROLE_USER,
        access::{REVOKED, live_account},
        audit_log::AuditContext,
        hash_queue::Priority,
        password_check::{INVALID_CREDENTIALS, PasswordCheck},
        registration,
    },
    fields::{
        Check, normal_password,
        schemas::{Email, NewPassword, Password},
    },
    http::{self, ApiError, IdempotencyKey, Json, openapi::refuses},
    profile,
    store::passwords::{self as stored, PasswordChangeOutcome},
    user::User,
};

/// A registration.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Registration {
    /// Trimmed and lower-cased; ASCII only before the `@`.
    #[schema(required = true, nullable = false, value_type = Email)]
    email: Option<String>,
    #[schema(required = true, nullable = false, value_type = NewPassword)]
    password: Option<Secret>,
    #[serde(flatten)]
    #[schema(inline, value_type = profile::Optional)]
    profile: ProfileChange,
}

/// A completed registration.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Registered {
    user: User,
    #[schema(example = "Registration successful")]
    message: &'static str,
}

/// Registers an account.
///
/// With an `Idempotency-Key`, the same registration within a day returns the same account, even if
/// both requests are in flight at once.
#[utoipa::path(
    post,
    path = "/api/v1/auth/register",
    params(IdempotencyKey),
    request_body = Registration,
    responses((status = 201, description = "The account.", body = Registered), refuses::Body, refuses::Conflict)
)]
pub(super) async fn register(
    State(auth): State<Auth>,
    audit: AuditContext,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<Registration>,
) -> Result<(StatusCode, Answer<Registered>), ApiError> {
    let registration = registration::Registration::check(body.email.as_deref(), body.password.as_ref(), &body.profile)?;
    let account = registration.make(&auth, &[ROLE_USER.to_owned()], key, Priority::Unknown).await?;
    audit.set_user(account.id);
    audit.set_entity(account.id);
    Ok((StatusCode::CREATED, Answer(Registered { user: account.into(), message: "Registration successful" })))
}

/// The caller's account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Me {
    user: User,
}

/// Reads the caller's account.
#[utoipa::path(
    get,
    path = "/api/v1/auth/me",
    responses((status = 200, description = "The account as it is now.", body = Me))
)]
pub(super) async fn me(State(auth): State<Auth>, user: http::AuthenticatedUser) -> Result<Answer<Me>, ApiError> {
    Ok(Answer(Me { user: live_account(&auth, &user).await?.into() }))
}

/// A change of the caller's password.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PasswordChange {
    #[schema(required = true, nullable = false, value_type = Password)]
    current_password: Option<Secret>,
    /// Must differ from the current password.
    #[schema(required = true, nullable = false, value_type = NewPassword)]
    new_password: Option<Secret>,
}

/// Attempts at a change: a login may replace the hash of the same password in between, which
/// happens once.
const ATTEMPTS: usize = 2;

/// Changes the caller's password.
///
/// Every other session ends, because it may be that of a thief of the old password; the session of
/// this request and its tokens stay valid. Wrong current passwords count as failed logins.
#[utoipa::path(
    post,
    path = "/api/v1/auth/password",
    request_body = PasswordChange,
    responses((status = 200, description = "The password is changed.", body = Done), refuses::Body)
)]
pub(super) async fn change_password(
    State(auth): State<Auth>,
    user: http::AuthenticatedUser,
    client: http::Client,
    Json(body): Json<PasswordChange>,
) -> Result<Answer<Done>, ApiError> {
    let account = live_account(&auth, &user).await?;
    let session = user.session_id.ok_or(ApiError::invalid_token())?;
    let (current, new) = body.check()?;
    for _ in 0..ATTEMPTS {
        let stored = auth.accounts.password_hash(account.id).await?.ok_or(REVOKED)?;
        let check = PasswordCheck {
            email: &account.email,
            account: Some((account.id, &stored)),
            address: client.address,
            has_session: true,
        };
        check.require(&auth, &current).await?;
        let hash = auth.passwords.hash(&new, Priority::Known).await?;
        let change = stored::PasswordChange { account: account.id, session, verified: &stored, new: &hash };
        match auth.accounts.change_password(&change, &auth.clock).await? {
            PasswordChangeOutcome::Changed => {
                auth.revocation_push.wake();
                tracing::info!(user_id = %account.id, "a password was changed; all other sessions are revoked");
                return Ok(Answer(Done { message: "Password changed" }));
            }
            PasswordChangeOutcome::SessionEnded => return Err(REVOKED),
            // The hash that was verified is no longer the stored one.
            PasswordChangeOutcome::HashChanged => {}
        }
    }
    Err(INVALID_CREDENTIALS)
}

impl PasswordChange {
    /// Returns the current and the new password.
    fn check(self) -> Result<(Secret, Secret), ApiError> {
        let mut check = Check::default();
        check.required("current_password", self.current_password.is_some());
        let new = check.password_in("new_password", self.new_password.as_ref());
        let current = self.current_password.unwrap_or_default();
        if normal_password(&new) == normal_password(&current) && self.new_password.is_some() {
            check.reject("new_password", "must differ from the current one");
        }
        check.done()?;
        Ok((current, new))
    }
}
