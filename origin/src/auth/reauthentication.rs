//! Changes that a stolen access token alone must not make: a new e-mail address and the deletion
//! of one's own account need the current password, or a login in the last minutes.

use portcullis_client::secret::Secret;
use uuid::Uuid;

use super::{
    Auth,
    login_throttle::{Bucket, wait_ms},
    password_check::{PasswordCheck, retry_after_s},
};
use crate::{http::ApiError, limits, store::UserRecord};

/// A user who changes their own account, and the session from which they do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) user: Uuid,
    pub(super) session: Uuid,
}

impl Owner {
    /// Requires a proof that the owner asks: the current password or a recent login.
    ///
    /// # Errors
    /// 403 for a missing proof and for a wrong password, which counts as a failed login; 429; 503.
    pub(super) async fn confirm(
        self,
        auth: &Auth,
        account: &UserRecord,
        password: Option<&Secret>,
    ) -> Result<(), ApiError> {
        let Some(password) = password else {
            let after = auth.clock.now().saturating_sub(limits::RECENT_LOGIN_MS);
            let is_recent = auth.sessions.started_after(self.session, self.user, after).await?;
            return if is_recent { Ok(()) } else { Err(ApiError::reauthentication_required()) };
        };
        let stored = auth.accounts.password_hash(account.id).await?.ok_or(ApiError::session_ended())?;
        let check = PasswordCheck {
            email: &account.email,
            account: Some((account.id, &stored)),
            address: None,
            has_session: true,
        };
        if check.is_right(auth, password).await? { Ok(()) } else { Err(ApiError::password_wrong()) }
    }

    /// Counts a change of the e-mail address. Each change reveals whether an address is taken, so
    /// after the first few the wait grows.
    ///
    /// # Errors
    /// 429; 503.
    pub(super) async fn count_email_change(self, auth: &Auth) -> Result<(), ApiError> {
        let key = Bucket::EmailChanges { user: self.user }.key();
        let wait_ms = |before, now| wait_ms(before, limits::FAILURES_FREE, now);
        match auth.login_failures.record_unless_delayed(key, self.user, wait_ms, &auth.clock).await? {
            0 => Ok(()),
            wait => Err(ApiError::email_change_delayed(retry_after_s(wait))),
        }
    }
}
