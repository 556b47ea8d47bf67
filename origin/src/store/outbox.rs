//! Revocations that the gateway does not have yet. Each is written in the transaction that makes it
//! effective, so a crash leaves neither one without the other.

use serde_json::{Value, json};
use sqlx::{AnyConnection, Row as _, any::AnyRow};
use uuid::Uuid;

use super::Database;
use crate::limits;

/// What is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Revoked<'a> {
    /// The access tokens of a session.
    Session(Uuid),
    /// The access tokens of an account with an `iat` up to this second.
    Account(Uuid, i64),
    /// The tokens that a signing key signed, by its `kid`.
    Key(&'a str),
}

/// A revocation to push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxItem {
    /// Row id.
    pub id: i64,
    /// Item of a push, as JSON.
    pub revocation: String,
    /// When the last of the tokens expires, in milliseconds since 1970.
    pub expires_at: i64,
}

impl OutboxItem {
    /// Returns whether the item revokes a signing key.
    pub fn is_of_key(&self) -> bool {
        serde_json::from_str::<Value>(&self.revocation).is_ok_and(|item| item.get("key").is_some())
    }
}

/// Statements on the outbox.
#[derive(Debug, Clone)]
pub struct Outbox(pub(crate) Database);

/// Adds a revocation in the caller's transaction.
pub(super) async fn enqueue(
    transaction: &mut AnyConnection,
    revoked: Revoked<'_>,
    now: i64,
) -> Result<(), sqlx::Error> {
    // The `iat` of a token may be this many seconds ahead.
    let ahead = now.saturating_add(limits::REVOKED_AHEAD_S.saturating_mul(1000));
    let issued_until = match revoked {
        // A process whose clock is further ahead may have issued a token of the session.
        Revoked::Session(id) => issued_until(transaction, id).await?.saturating_mul(1000).max(ahead),
        Revoked::Account(..) => ahead,
        // The thief of a key can sign tokens as long as any verifier trusts the key.
        Revoked::Key(_) => ahead.saturating_add(limits::JWKS_KEPT_MS),
    };
    let last = issued_until.saturating_add(limits::ACCESS_TOKEN_MS);
    // Seconds, rounded up.
    let expires_at = last.saturating_add(999) / 1000;
    let item = match revoked {
        Revoked::Session(id) => json!({ "session": id, "expires_at": expires_at }),
        Revoked::Key(kid) => json!({ "key": kid, "expires_at": expires_at }),
        Revoked::Account(id, until) => json!({ "user": id, "issued_until": until, "expires_at": expires_at }),
    };
    sqlx::query("INSERT INTO outbox (revocation, expires_at) VALUES ($1, $2)")
        .bind(item.to_string())
        .bind(last.saturating_add(limits::LEEWAY_MS))
        .execute(transaction)
        .await?;
    Ok(())
}

/// Returns the latest `iat` (seconds) of a token of a session's account.
async fn issued_until(transaction: &mut AnyConnection, session: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT a.issued_until FROM sessions s JOIN accounts a ON a.id = s.account_id WHERE s.id = $1")
        .bind(session.to_string())
        .fetch_one(transaction)
        .await
}

impl Outbox {
    /// Returns the oldest `count` items after a row id that have not expired.
    pub async fn next(&self, after: i64, count: i64, now: i64) -> Result<Vec<OutboxItem>, sqlx::Error> {
        let rows = sqlx::query("SELECT * FROM outbox WHERE id > $1 AND expires_at > $2 ORDER BY id LIMIT $3")
            .bind(after)
            .bind(now)
            .bind(count)
            .fetch_all(self.0.pool())
            .await?;
        let item = |row: &AnyRow| {
            Ok(OutboxItem {
                id: row.try_get("id")?,
                revocation: row.try_get("revocation")?,
                expires_at: row.try_get("expires_at")?,
            })
        };
        rows.iter().map(item).collect()
    }

    /// Deletes up to `rows` items that expired before a time. Returns their number.
    pub async fn sweep(&self, before: i64, rows: i64) -> Result<u64, sqlx::Error> {
        let text = "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE expires_at <= $1 ORDER BY id LIMIT $2)";
        self.0.sweep(text, before, rows).await
    }

    /// Returns the number of items that have not expired.
    pub async fn count(&self, now: i64) -> Result<i64, sqlx::Error> {
        let text = "SELECT count(*) FROM outbox WHERE expires_at > $1";
        sqlx::query_scalar(text).bind(now).fetch_one(self.0.pool()).await
    }

    /// Deletes items that the gateway has.
    pub async fn delivered(&self, items: &[OutboxItem]) -> Result<(), sqlx::Error> {
        let mut transaction = self.0.begin(&[]).await?;
        for item in items {
            sqlx::query("DELETE FROM outbox WHERE id = $1").bind(item.id).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }
}
