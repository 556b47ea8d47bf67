//! What a stolen access token must not do alone: a change of one's own e-mail address and the
//! deletion of one's own account need the current password, or a login of the last minutes.

use portcullis_client::secret::Secret;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Auth,
    attempt::{self, Attempt},
    guessing::{Bucket, wait},
};
use crate::{fields::described::Password, http::ApiError, limits, store::accounts::Account};

/// A user and the session from which they ask for a change of their own account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) user: Uuid,
    pub(super) session: Uuid,
}

/// What confirms that the account's owner asks.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct Confirmation {
    /// Not needed within five minutes of the session's login.
    #[schema(value_type = Option<Password>)]
    pub(super) current_password: Option<Secret>,
}

impl Owner {
    /// Checks that the owner asks, and not only their access token.
    ///
    /// # Errors
    /// 403 without a password and a recent login, and for a wrong password, which counts as
    /// a failed login does; 429; the database's.
    pub(super) async fn confirm(
        self,
        auth: &Auth,
        account: &Account,
        password: Option<&Secret>,
    ) -> Result<(), ApiError> {
        let Some(password) = password else {
            let after = auth.clock.now().saturating_sub(limits::RECENT_LOGIN_MS);
            let is_recent = auth.sessions.started_after(self.session, self.user, after).await?;
            return if is_recent { Ok(()) } else { Err(ApiError::reauthentication_required()) };
        };
        let stored = auth.accounts.password_hash(account.id).await?.ok_or(ApiError::session_ended())?;
        let attempt =
            Attempt { email: &account.email, account: Some((account.id, &stored)), address: None, has_session: true };
        if attempt::is_right(auth, &attempt, password).await? { Ok(()) } else { Err(ApiError::password_wrong()) }
    }

    /// Counts a change of the e-mail address. Each one tells whether an address is taken, so
    /// after the first few a user waits longer and longer.
    ///
    /// # Errors
    /// 429; the database's.
    pub(super) async fn count_email_change(self, auth: &Auth) -> Result<(), ApiError> {
        let key = Bucket::EmailChanges { user: self.user }.key();
        let now = auth.clock.now();
        match wait(auth.login_failures.find(key).await?, now) {
            0 => Ok(auth.login_failures.record_failure(key, now).await?),
            wait_ms => {
                let seconds = u64::try_from(wait_ms).unwrap_or_default().div_ceil(1000);
                Err(ApiError::email_change_delayed(seconds.max(1)))
            }
        }
    }
}
