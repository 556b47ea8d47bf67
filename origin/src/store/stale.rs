//! Profiles that have yet to be made equal to what this database says of their accounts.
//! Each is written in the transaction that makes it stale.

use sqlx::AnyConnection;
use uuid::Uuid;

/// Notes in the caller's transaction that an account's profile is stale.
pub(super) async fn mark(transaction: &mut AnyConnection, account: Uuid, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO stale_profiles (account_id, changes, due_at) VALUES ($1, 1, $2) \
         ON CONFLICT (account_id) DO UPDATE SET changes = stale_profiles.changes + 1, due_at = excluded.due_at",
    )
    .bind(account.to_string())
    .bind(now)
    .execute(transaction)
    .await?;
    Ok(())
}
