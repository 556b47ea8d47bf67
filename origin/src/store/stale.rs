//! Profiles that have yet to be made equal to what this database says of their accounts,
//! gone included. A mark is written in the transaction that makes a profile stale: neither
//! is there without the other, whatever crashes when.
//!
//! A mark goes when the user service has the version that the account has now. It is not
//! enough that it is the mark one saw (`changes`): another process may have made that
//! profile equal, and a further change marked it anew, with the same number. So the
//! account's version is compared in the same statement.

use sqlx::{AnyConnection, Row as _};
use uuid::Uuid;

use super::{
    Database,
    accounts::{Account, COLUMNS, account},
    id,
};

/// A profile that may differ from its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The account.
    pub account: Uuid,
    /// Which of its marks.
    pub changes: i64,
}

/// What this database says of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is there.
    Active(Account),
    /// Its registration is under way, or got stuck.
    Pending {
        /// Milliseconds since 1970: when the last attempt began.
        begun_at: i64,
    },
    /// It is not.
    Gone,
}

/// The marks' statements.
#[derive(Debug, Clone)]
pub struct Stale(pub(crate) Database);

/// Marks an account's profile in the caller's transaction, which has raised the account's
/// version or deleted the account. It is made equal from `due_at` on (milliseconds since
/// 1970); whoever writes the profile themselves leaves themselves time for it.
pub(super) async fn mark(transaction: &mut AnyConnection, account: Uuid, due_at: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO stale_profiles (account_id, changes, due_at) VALUES ($1, 1, $2) \
         ON CONFLICT (account_id) DO UPDATE SET changes = stale_profiles.changes + 1, due_at = excluded.due_at",
    )
    .bind(account.to_string())
    .bind(due_at)
    .execute(transaction)
    .await?;
    Ok(())
}

/// Removes an account's mark in the caller's transaction, if the account is active at this
/// version, which the user service has.
pub(super) async fn settle(transaction: &mut AnyConnection, account: Uuid, version: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM stale_profiles WHERE account_id = $1 AND EXISTS \
         (SELECT 1 FROM accounts WHERE id = $1 AND state = 'active' AND version = $2)",
    )
    .bind(account.to_string())
    .bind(version)
    .execute(transaction)
    .await?;
    Ok(())
}

impl Stale {
    /// The marks that are due, the longest due first.
    ///
    /// # Errors
    /// The database's.
    pub async fn due(&self, count: i64, now: i64) -> Result<Vec<Mark>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT account_id, changes FROM stale_profiles WHERE due_at <= $1 ORDER BY due_at, account_id LIMIT $2",
        )
        .bind(now)
        .bind(count)
        .fetch_all(self.0.pool())
        .await?;
        rows.iter().map(|row| Ok(Mark { account: id(row, "account_id")?, changes: row.try_get("changes")? })).collect()
    }

    /// Takes on a mark that is due: nobody else does before `until`. False when somebody
    /// has, or it is another mark by now.
    ///
    /// # Errors
    /// The database's.
    pub async fn claim(&self, mark: Mark, now: i64, until: i64) -> Result<bool, sqlx::Error> {
        let done = sqlx::query(
            "UPDATE stale_profiles SET due_at = $4 WHERE account_id = $1 AND changes = $2 AND due_at <= $3",
        )
        .bind(mark.account.to_string())
        .bind(mark.changes)
        .bind(now)
        .bind(until)
        .execute(&mut *self.0.writer().await?)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Puts a mark off, if it is still the same.
    ///
    /// # Errors
    /// The database's.
    pub async fn postpone(&self, mark: Mark, due_at: i64) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE stale_profiles SET due_at = $3 WHERE account_id = $1 AND changes = $2")
            .bind(mark.account.to_string())
            .bind(mark.changes)
            .bind(due_at)
            .execute(&mut *self.0.writer().await?)
            .await?;
        Ok(())
    }

    /// What the profile has to be made equal to.
    ///
    /// # Errors
    /// The database's.
    pub async fn standing(&self, account_id: Uuid) -> Result<Standing, sqlx::Error> {
        let text = format!("SELECT {COLUMNS}, a.state FROM accounts a WHERE a.id = $1");
        let row =
            sqlx::query(sqlx::AssertSqlSafe(text)).bind(account_id.to_string()).fetch_optional(self.0.pool()).await?;
        let Some(row) = row else { return Ok(Standing::Gone) };
        let (state, found): (String, Account) = (row.try_get("state")?, account(&row)?);
        Ok(if state == "active" { Standing::Active(found) } else { Standing::Pending { begun_at: found.created_at } })
    }

    /// Deletes an account whose registration got stuck at `begun_at`. False when an attempt
    /// finished it, or began anew.
    ///
    /// # Errors
    /// The database's.
    pub async fn abandon(&self, account: Uuid, begun_at: i64) -> Result<bool, sqlx::Error> {
        let done = sqlx::query("DELETE FROM accounts WHERE id = $1 AND state = 'pending' AND created_at = $2")
            .bind(account.to_string())
            .bind(begun_at)
            .execute(&mut *self.0.writer().await?)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes a mark after the user service took this version.
    ///
    /// # Errors
    /// The database's.
    pub async fn settle(&self, mark: Mark, version: i64) -> Result<(), sqlx::Error> {
        sqlx::query(
            "DELETE FROM stale_profiles WHERE account_id = $1 AND changes = $2 AND EXISTS \
             (SELECT 1 FROM accounts WHERE id = $1 AND state = 'active' AND version = $3)",
        )
        .bind(mark.account.to_string())
        .bind(mark.changes)
        .bind(version)
        .execute(&mut *self.0.writer().await?)
        .await?;
        Ok(())
    }

    /// Removes a mark after the user service deleted the profile of an account that is
    /// gone, which it is for ever: ids are not used twice.
    ///
    /// # Errors
    /// The database's.
    pub async fn settle_gone(&self, mark: Mark) -> Result<(), sqlx::Error> {
        sqlx::query(
            "DELETE FROM stale_profiles WHERE account_id = $1 AND NOT EXISTS (SELECT 1 FROM accounts WHERE id = $1)",
        )
        .bind(mark.account.to_string())
        .execute(&mut *self.0.writer().await?)
        .await?;
        Ok(())
    }
}
