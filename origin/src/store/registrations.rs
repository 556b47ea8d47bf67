//! Registrations by the key that their client gave them.

use sqlx::Row as _;
use uuid::Uuid;

use super::{Accounts, id};
use crate::limits;

/// SHA-256 of an `Idempotency-Key`.
pub type Key = [u8; 32];

impl Accounts {
    /// The active account of an address that was registered with a key not too long ago,
    /// and its password's PHC string.
    ///
    /// # Errors
    /// The database's.
    pub async fn registered_by(&self, email: &str, key: Key, now: i64) -> Result<Option<(Uuid, String)>, sqlx::Error> {
        let row = sqlx::query(
            "SELECT id, password_hash FROM accounts \
             WHERE email = $1 AND state = 'active' AND registered_by = $2 AND created_at > $3",
        )
        .bind(email)
        .bind(key.as_slice())
        .bind(now.saturating_sub(limits::IDEMPOTENCY_KEY_MS))
        .fetch_optional(self.0.pool())
        .await?;
        row.map(|row| Ok((id(&row, "id")?, row.try_get("password_hash")?))).transpose()
    }

    /// Makes a pending account active that another request with the same key took over in
    /// the meantime. That one may be a step behind; of two that mean the same, none has to
    /// wait for the other.
    ///
    /// # Errors
    /// The database's.
    pub async fn activate_twin(&self, account: Uuid, key: Key) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE accounts SET state = 'active' WHERE id = $1 AND registered_by = $2 AND state = 'pending'")
            .bind(account.to_string())
            .bind(key.as_slice())
            .execute(&mut *self.0.writer().await?)
            .await?;
        Ok(())
    }
}
