//! The change of a password by its owner, which ends every other session: whoever got in
//! with the old one is out.

use axum::{Json as Answer, extract::State};
use portcullis_client::secret::Secret;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Auth,
    attempt::{self, Attempt, INVALID_CREDENTIALS},
    session,
    turns::Priority,
};
use crate::{
    fields::{
        Check,
        described::{NewPassword, Password},
        normal_password,
    },
    http::{self, ApiError, Json, openapi::refuses},
    store::passwords::{PasswordChange as Change, PasswordChangeOutcome},
};

/// A new password for the current one.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PasswordChange {
    #[schema(required = true, nullable = false, value_type = Password)]
    current_password: Option<Secret>,
    /// Another one than the current.
    #[schema(required = true, nullable = false, value_type = NewPassword)]
    new_password: Option<Secret>,
}

/// Times that a change is begun: a login may have renewed the hash of the same password
/// in between, and that happens once.
const TRIES: usize = 2;

/// Changes one's password.
///
/// Every other session ends; the one of this request and its tokens stay good. Wrong current
/// passwords count as failed logins do.
#[utoipa::path(
    post,
    path = "/api/v1/auth/password",
    operation_id = "changePassword",
    tag = "Accounts",
    security(("accessToken" = [])),
    request_body = PasswordChange,
    responses(
        (status = 200, description = "It is changed.", body = session::Done),
        refuses::Always, refuses::Body, refuses::Credentials
    )
)]
pub(super) async fn change(
    State(auth): State<Auth>,
    user: http::User,
    client: http::Client,
    Json(body): Json<PasswordChange>,
) -> Result<Answer<session::Done>, ApiError> {
    let account = session::live_account(&auth, &user).await?;
    let session = user.session_id.ok_or(ApiError::invalid_token())?;
    let mut check = Check::default();
    check.required("current_password", body.current_password.is_some());
    let new = check.password_in("new_password", body.new_password.as_ref());
    let current = body.current_password.unwrap_or_default();
    if normal_password(&new) == normal_password(&current) && body.new_password.is_some() {
        check.reject("new_password", "must differ from the current one");
    }
    check.done()?;
    for _ in 0..TRIES {
        let stored = auth.accounts.password_hash(account.id).await?.ok_or(session::REVOKED)?;
        let attempt = Attempt {
            email: &account.email,
            account: Some((account.id, &stored)),
            address: client.address,
            has_session: true,
        };
        attempt::verify(&auth, &attempt, &current).await?;
        let hash = auth.passwords.hash(&new, Priority::Known).await?;
        let change = Change { account: account.id, session, verified: &stored, new: &hash };
        match auth.accounts.change_password(&change, &auth.clock).await? {
            PasswordChangeOutcome::Changed => {
                auth.pusher.wake();
                tracing::info!(user_id = %account.id, "a password was changed; all other sessions are revoked");
                return Ok(Answer(session::Done { message: "Password changed" }));
            }
            PasswordChangeOutcome::SessionEnded => return Err(session::REVOKED),
            // What was verified is the password no more.
            PasswordChangeOutcome::HashChanged => {}
        }
    }
    Err(INVALID_CREDENTIALS)
}
