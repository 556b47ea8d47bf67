//! Passwords of accounts, as PHC strings: what is verified was read before, so each
//! change says what it takes to be there.

use uuid::Uuid;

use super::{Accounts, database::Lock, sessions};
use crate::clock::Clock;

/// A password in another's place.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The account.
    pub account: Uuid,
    /// The session that lives on.
    pub session: Uuid,
    /// PHC string that the current password was verified against.
    pub verified: &'a str,
    /// PHC string of the new one.
    pub new: &'a str,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The new password holds, and all other sessions are revoked.
    Done,
    /// The session that asked for it is no more.
    SessionEnded,
    /// Another PHC string is there by now.
    Stale,
}

impl Accounts {
    /// The PHC string of an active account's password.
    ///
    /// # Errors
    /// The database's.
    pub async fn password_hash(&self, account: Uuid) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar("SELECT password_hash FROM accounts WHERE id = $1 AND state = 'active'")
            .bind(account.to_string())
            .fetch_optional(self.0.pool())
            .await
    }

    /// Puts another hash of the same password in the place of `verified`. False when that is
    /// no longer the stored one.
    ///
    /// # Errors
    /// The database's.
    pub async fn renew_hash(&self, account: Uuid, verified: &str, new: &str) -> Result<bool, sqlx::Error> {
        let done = sqlx::query("UPDATE accounts SET password_hash = $3 WHERE id = $1 AND password_hash = $2")
            .bind(account.to_string())
            .bind(verified)
            .bind(new)
            .execute(&mut *self.0.writer().await?)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Changes a password and revokes all sessions of the account but the one that asked.
    ///
    /// # Errors
    /// The database's.
    pub async fn change_password(&self, change: &Change<'_>, clock: &Clock) -> Result<Changed, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(change.account)]).await?;
        let now = clock.now();
        // A thief's change that was overtaken by the owner's comes from a revoked session.
        let live = sqlx::query(
            "SELECT 1 FROM sessions WHERE id = $1 AND account_id = $2 AND revoked_at IS NULL AND expires_at > $3",
        )
        .bind(change.session.to_string())
        .bind(change.account.to_string())
        .bind(now)
        .fetch_optional(&mut *transaction)
        .await?;
        if live.is_none() {
            return Ok(Changed::SessionEnded);
        }
        let done = sqlx::query("UPDATE accounts SET password_hash = $3 WHERE id = $1 AND password_hash = $2")
            .bind(change.account.to_string())
            .bind(change.verified)
            .bind(change.new)
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(Changed::Stale);
        }
        let others: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM sessions WHERE account_id = $1 AND id <> $2 AND revoked_at IS NULL AND expires_at > $3",
        )
        .bind(change.account.to_string())
        .bind(change.session.to_string())
        .bind(now)
        .fetch_all(&mut *transaction)
        .await?;
        sessions::end(&mut transaction, &others, now).await?;
        transaction.commit().await?;
        Ok(Changed::Done)
    }
}
