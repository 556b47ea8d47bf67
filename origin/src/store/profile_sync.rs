//! Pending synchronisations (table `stale_profiles`): profiles of the user service that may differ
//! from their accounts, deleted accounts included.
//!
//! A row is written in the transaction that changes the account, so a crash leaves neither one
//! without the other. It is removed once the user service has the account's current version. The
//! row's number of changes alone does not prove that: another process may have synchronised the
//! profile, and a further change written a new row with the same number. So the statement that
//! removes a row compares the account's version as well.

use sqlx::{AnyConnection, Row as _};
use uuid::Uuid;

use super::{
    Database,
    rows::{self, UserRecord, account, account_columns, id},
};

/// A profile that may differ from its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingSync {
    /// Account id.
    pub account: Uuid,
    /// Number of changes of the account since the row was written.
    pub changes: i64,
}

/// The state of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountState {
    /// The account is active.
    Active(UserRecord),
    /// The registration is in progress or was interrupted.
    Pending {
        /// Start of the last attempt, in milliseconds since 1970.
        started_at: i64,
    },
    /// The account does not exist.
    Deleted,
}

/// Statements on pending synchronisations.
#[derive(Debug, Clone)]
pub struct ProfileSync(pub(crate) Database);

/// Adds a row in the caller's transaction, which has raised the account's version or deleted the
/// account. The row is due at `due_at` (milliseconds since 1970), which leaves a caller that writes
/// the profile itself the time to do so.
pub(super) async fn schedule(
    transaction: &mut AnyConnection,
    account_id: Uuid,
    due_at: i64,
) -> Result<(), sqlx::Error> {
    let statement = "INSERT INTO stale_profiles (account_id, changes, due_at) VALUES ($1, 1, $2) \
         ON CONFLICT (account_id) DO UPDATE SET changes = stale_profiles.changes + 1, due_at = excluded.due_at";
    rows::write(transaction, statement, account_id, due_at).await
}

/// Removes an account's row in the caller's transaction if the account is active at `version`, which
/// the user service has.
pub(super) async fn complete(
    transaction: &mut AnyConnection,
    account_id: Uuid,
    version: i64,
) -> Result<(), sqlx::Error> {
    let statement = "DELETE FROM stale_profiles WHERE account_id = $1 AND EXISTS \
                     (SELECT 1 FROM accounts WHERE id = $1 AND state = 'active' AND version = $2)";
    rows::write(transaction, statement, account_id, version).await
}

impl ProfileSync {
    /// Returns up to `count` rows that are due, the longest due first.
    pub async fn due(&self, count: i64, now: i64) -> Result<Vec<PendingSync>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT account_id, changes FROM stale_profiles WHERE due_at <= $1 ORDER BY due_at, account_id LIMIT $2",
        )
        .bind(now)
        .bind(count)
        .fetch_all(self.0.pool())
        .await?;
        rows.iter()
            .map(|row| Ok(PendingSync { account: id(row, "account_id")?, changes: row.try_get("changes")? }))
            .collect()
    }

    /// Claims a due row: no other process takes it before `until`. Returns false if another process
    /// has claimed it or the row has changed.
    pub async fn claim(&self, pending: PendingSync, now: i64, until: i64) -> Result<bool, sqlx::Error> {
        let done = sqlx::query(
            "UPDATE stale_profiles SET due_at = $4 WHERE account_id = $1 AND changes = $2 AND due_at <= $3",
        )
        .bind(pending.account.to_string())
        .bind(pending.changes)
        .bind(now)
        .bind(until)
        .execute(&mut *self.0.writer().await?)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Postpones a row unless it has changed.
    pub async fn postpone(&self, pending: PendingSync, due_at: i64) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE stale_profiles SET due_at = $3 WHERE account_id = $1 AND changes = $2")
            .bind(pending.account.to_string())
            .bind(pending.changes)
            .bind(due_at)
            .execute(&mut *self.0.writer().await?)
            .await?;
        Ok(())
    }

    /// Returns the state of an account, which its profile must be made equal to.
    pub async fn account_state(&self, account_id: Uuid) -> Result<AccountState, sqlx::Error> {
        let text = format!("SELECT {}, a.state FROM accounts a WHERE a.id = $1", account_columns());
        let row =
            sqlx::query(sqlx::AssertSqlSafe(text)).bind(account_id.to_string()).fetch_optional(self.0.pool()).await?;
        let Some(row) = row else { return Ok(AccountState::Deleted) };
        let (state, found): (String, UserRecord) = (row.try_get("state")?, account(&row)?);
        Ok(if state == "active" {
            AccountState::Active(found)
        } else {
            AccountState::Pending { started_at: found.created_at }
        })
    }

    /// Deletes an account whose registration was interrupted at `started_at`. Returns false if an
    /// attempt completed it or started again.
    pub async fn delete_pending(&self, account_id: Uuid, started_at: i64) -> Result<bool, sqlx::Error> {
        let done = sqlx::query("DELETE FROM accounts WHERE id = $1 AND state = 'pending' AND created_at = $2")
            .bind(account_id.to_string())
            .bind(started_at)
            .execute(&mut *self.0.writer().await?)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes a row after the user service stored this version.
    pub async fn complete(&self, pending: PendingSync, version: i64) -> Result<(), sqlx::Error> {
        sqlx::query(
            "DELETE FROM stale_profiles WHERE account_id = $1 AND changes = $2 AND EXISTS \
             (SELECT 1 FROM accounts WHERE id = $1 AND state = 'active' AND version = $3)",
        )
        .bind(pending.account.to_string())
        .bind(pending.changes)
        .bind(version)
        .execute(&mut *self.0.writer().await?)
        .await?;
        Ok(())
    }

    /// Removes a row after the user service deleted the profile of a deleted account. Ids are not
    /// used again, so the account stays deleted.
    pub async fn complete_deleted(&self, pending: PendingSync) -> Result<(), sqlx::Error> {
        sqlx::query(
            "DELETE FROM stale_profiles WHERE account_id = $1 AND NOT EXISTS (SELECT 1 FROM accounts WHERE id = $1)",
        )
        .bind(pending.account.to_string())
        .execute(&mut *self.0.writer().await?)
        .await?;
        Ok(())
    }
}
