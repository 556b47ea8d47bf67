//! Passwords of accounts, as PHC strings. A password is verified before the transaction that changes
//! it, so each change names the PHC string that was verified.

use uuid::Uuid;

use super::{Accounts, database::Lock, revocation, sessions};
use crate::clock::Clock;

/// A change of a password.
#[derive(Debug, Clone, Copy)]
pub struct PasswordChange<'a> {
    /// Account id.
    pub account: Uuid,
    /// The session that asks for the change, which stays live.
    pub session: Uuid,
    /// PHC string against which the current password was verified.
    pub verified: &'a str,
    /// PHC string of the new password.
    pub new: &'a str,
}

/// The result of a change of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordChangeOutcome {
    /// The password is changed, and all other sessions are revoked.
    Changed,
    /// The session that asked for the change has ended.
    SessionEnded,
    /// The stored PHC string is no longer the one that was verified.
    HashChanged,
}

impl Accounts {
    /// Returns the PHC string of an active account's password.
    pub async fn password_hash(&self, account: Uuid) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar("SELECT password_hash FROM accounts WHERE id = $1 AND state = 'active'")
            .bind(account.to_string())
            .fetch_optional(self.0.pool())
            .await
    }

    /// Replaces the PHC string `verified` by another one of the same password. Returns false if
    /// `verified` is no longer stored.
    pub async fn renew_hash(&self, account: Uuid, verified: &str, new: &str) -> Result<bool, sqlx::Error> {
        let mut writer = self.0.writer().await?;
        replace_hash(&mut writer, account, verified, new).await
    }

    /// Changes a password and revokes all other sessions of the account.
    pub async fn change_password(
        &self,
        change: &PasswordChange<'_>,
        clock: &Clock,
    ) -> Result<PasswordChangeOutcome, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(change.account)]).await?;
        let now = clock.now();
        // If the owner's change came first, a thief's session is revoked by now.
        if !sessions::is_live(&mut *transaction, change.session, change.account, now).await? {
            return Ok(PasswordChangeOutcome::SessionEnded);
        }
        if !replace_hash(&mut transaction, change.account, change.verified, change.new).await? {
            return Ok(PasswordChangeOutcome::HashChanged);
        }
        let others: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM sessions WHERE account_id = $1 AND id <> $2 AND revoked_at IS NULL AND expires_at > $3",
        )
        .bind(change.account.to_string())
        .bind(change.session.to_string())
        .bind(now)
        .fetch_all(&mut *transaction)
        .await?;
        revocation::revoke_sessions(&mut transaction, &others, now).await?;
        transaction.commit().await?;
        Ok(PasswordChangeOutcome::Changed)
    }
}

async fn replace_hash(
    connection: &mut sqlx::AnyConnection,
    account: Uuid,
    verified: &str,
    new: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE accounts SET password_hash = $3 WHERE id = $1 AND password_hash = $2")
        .bind(account.to_string())
        .bind(verified)
        .bind(new)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}
