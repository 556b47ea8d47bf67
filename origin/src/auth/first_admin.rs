//! The first administrator, from the environment: made once, where there is none.
//!
//! The account is made in the way of all others, with the user service's help, which may not
//! be there yet; so it is tried until it is done. Whoever has registered the address before
//! is not made an administrator: nobody has shown that they are the one who is meant.

use portcullis_client::secret::Secret;
use tokio::sync::watch;

use super::{Auth, ROLE_ADMIN, account, audit};
use crate::{http::ApiError, limits, store::with_timeout};

/// Who is to be the first.
#[derive(Debug, Clone)]
pub struct FirstAdmin {
    /// Normalised e-mail address.
    pub email: String,
    /// Password.
    pub password: Secret,
}

/// Makes the first administrator, if there is none; ends when there is one, when that cannot
/// be helped, or when `stopped` turns true.
pub async fn make_first_admin(auth: Auth, first: FirstAdmin, mut stopped: watch::Receiver<bool>) {
    let mut has_complained = false;
    loop {
        let outcome = tokio::select! {
            outcome = try_once(&auth, &first) => outcome,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let Err(refusal) = outcome else { return };
        if !has_complained {
            has_complained = true;
            tracing::warn!(code = refusal.code(), "the first administrator cannot be made yet; trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(limits::FIRST_ADMIN_PAUSE) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

async fn try_once(auth: &Auth, first: &FirstAdmin) -> Result<(), ApiError> {
    if with_timeout(auth.accounts.has_holder(ROLE_ADMIN)).await? {
        tracing::info!("there is an administrator; ADMIN_EMAIL is left alone");
        return Ok(());
    }
    if with_timeout(auth.accounts.find_login(&first.email)).await?.is_some() {
        tracing::error!("ADMIN_EMAIL is an account that is no administrator; make it one with: admin create --promote");
        return Ok(());
    }
    let made = tokio::time::timeout(limits::REQUEST_TIME, account::make_admin(auth, &first.email, &first.password));
    let account = made
        .await
        .unwrap_or_else(|_| Err(ApiError::unavailable("store_unavailable", "The service cannot reach its database")))?;
    let done = Ok(Some(account.id.to_string()));
    audit::record_command(&auth.audit, "admin.create", "serve", done, &auth.clock).await;
    tracing::info!(user_id = %account.id, "made the first administrator");
    Ok(())
}
