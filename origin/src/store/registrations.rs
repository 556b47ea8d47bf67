//! Registrations that carry an `Idempotency-Key`.

use sqlx::Row as _;
use uuid::Uuid;

use super::{Accounts, rows::id};
use crate::limits;

/// SHA-256 of an `Idempotency-Key`.
pub type Key = [u8; 32];

impl Accounts {
    /// Finds the active account that was registered with an address and a key within
    /// [`limits::IDEMPOTENCY_KEY_MS`]. Returns its id and the PHC string of its password.
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

    /// Activates a pending account that another request with the same key has taken over in the
    /// meantime. The two requests are equivalent, so neither waits for the other.
    pub async fn activate_twin(&self, account: Uuid, key: Key) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE accounts SET state = 'active' WHERE id = $1 AND registered_by = $2 AND state = 'pending'")
            .bind(account.to_string())
            .bind(key.as_slice())
            .execute(&mut *self.0.writer().await?)
            .await?;
        Ok(())
    }
}
