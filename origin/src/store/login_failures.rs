//! Consecutive failed logins by bucket, and the network addresses from which accounts logged in.
//! Buckets and addresses are stored as hashes. The caller decides what follows from a count.

use sqlx::{AnyConnection, Row as _};
use uuid::Uuid;

use super::{Database, database::Lock};
use crate::{clock::Clock, limits};

/// SHA-256 that names a bucket or a known address.
pub type Key = [u8; 32];

/// A number of consecutive failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureCount {
    /// Number of failures.
    pub count: i64,
    /// Time of the last failure, in milliseconds.
    pub last_at: i64,
}

/// Statements on failed logins.
#[derive(Debug, Clone)]
pub struct LoginFailures(pub Database);

async fn find<'e>(
    executor: impl sqlx::Executor<'e, Database = sqlx::Any>,
    key: Key,
) -> Result<Option<FailureCount>, sqlx::Error> {
    let row = sqlx::query("SELECT failures, last_at FROM login_failures WHERE key = $1")
        .bind(key.as_slice())
        .fetch_optional(executor)
        .await?;
    row.map(|row| Ok(FailureCount { count: row.try_get("failures")?, last_at: row.try_get("last_at")? })).transpose()
}

async fn record_failure(connection: &mut AnyConnection, key: Key, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO login_failures (key, failures, last_at) VALUES ($1, 1, $2) \
         ON CONFLICT (key) DO UPDATE SET last_at = excluded.last_at, \
           failures = CASE WHEN login_failures.last_at > $3 THEN login_failures.failures + 1 ELSE 1 END",
    )
    .bind(key.as_slice())
    .bind(now)
    .bind(now.saturating_sub(limits::FAILURES_KEPT_MS))
    .execute(connection)
    .await?;
    Ok(())
}

impl LoginFailures {
    /// Returns the failures in a bucket.
    pub async fn find(&self, key: Key) -> Result<Option<FailureCount>, sqlx::Error> {
        find(self.0.pool(), key).await
    }

    /// Counts a failure. The count starts again if the last failure is older than
    /// [`limits::FAILURES_KEPT_MS`].
    pub async fn record_failure(&self, key: Key, now: i64) -> Result<(), sqlx::Error> {
        let mut writer = self.0.writer().await?;
        record_failure(&mut writer, key, now).await
    }

    /// Counts a failure in a bucket of an account unless `wait_ms` requires a wait, and returns the
    /// wait. Concurrent calls are decided one after the other.
    pub async fn record_unless_delayed(
        &self,
        key: Key,
        account: Uuid,
        wait_ms: impl Fn(Option<FailureCount>, i64) -> i64,
        clock: &Clock,
    ) -> Result<i64, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(account)]).await?;
        let now = clock.now();
        let wait = wait_ms(find(&mut *transaction, key).await?, now);
        if wait == 0 {
            record_failure(&mut transaction, key, now).await?;
            transaction.commit().await?;
        }
        Ok(wait)
    }

    /// Clears a bucket and records the address of the login. An account keeps its latest
    /// [`limits::KNOWN_ADDRESSES`].
    pub async fn record_success(
        &self,
        key: Key,
        account: Uuid,
        address: Option<Key>,
        clock: &Clock,
    ) -> Result<(), sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(account)]).await?;
        sqlx::query("DELETE FROM login_failures WHERE key = $1")
            .bind(key.as_slice())
            .execute(&mut *transaction)
            .await?;
        if let Some(address) = address {
            // Inserts nothing if the account was deleted in the meantime.
            sqlx::query(
                "INSERT INTO known_addresses (account_id, address, last_at) SELECT id, $2, $3 FROM accounts WHERE id = $1 \
                 ON CONFLICT (account_id, address) DO UPDATE SET last_at = excluded.last_at",
            )
            .bind(account.to_string())
            .bind(address.as_slice())
            .bind(clock.now())
            .execute(&mut *transaction)
            .await?;
            sqlx::query(
                "DELETE FROM known_addresses WHERE account_id = $1 AND address NOT IN \
                 (SELECT address FROM known_addresses WHERE account_id = $1 ORDER BY last_at DESC, address LIMIT $2)",
            )
            .bind(account.to_string())
            .bind(limits::KNOWN_ADDRESSES)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    }

    /// Returns whether an account logged in from an address within [`limits::KNOWN_ADDRESS_MS`].
    pub async fn is_known(&self, account: Uuid, address: Key, now: i64) -> Result<bool, sqlx::Error> {
        let row = sqlx::query("SELECT 1 FROM known_addresses WHERE account_id = $1 AND address = $2 AND last_at > $3")
            .bind(account.to_string())
            .bind(address.as_slice())
            .bind(now.saturating_sub(limits::KNOWN_ADDRESS_MS))
            .fetch_optional(self.0.pool())
            .await?;
        Ok(row.is_some())
    }

    /// Deletes up to `rows` expired rows of each kind. Returns the greatest number of rows that one
    /// statement deleted.
    pub async fn sweep(&self, now: i64, rows: i64) -> Result<u64, sqlx::Error> {
        let mut most = 0;
        for (text, age) in [
            (
                "DELETE FROM login_failures WHERE key IN (SELECT key FROM login_failures WHERE last_at <= $1 LIMIT $2)",
                limits::FAILURES_KEPT_MS,
            ),
            (
                "DELETE FROM known_addresses WHERE (account_id, address) IN \
                 (SELECT account_id, address FROM known_addresses WHERE last_at <= $1 LIMIT $2)",
                limits::KNOWN_ADDRESS_MS,
            ),
        ] {
            most = self.0.sweep(text, now.saturating_sub(age), rows).await?.max(most);
        }
        Ok(most)
    }
}
