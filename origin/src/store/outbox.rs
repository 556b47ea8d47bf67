//! Revocations that the gateway has yet to be told of. Each is written in the
//! transaction that makes it true: neither is there without the other, whatever
//! crashes when.

use serde_json::{Value, json};
use sqlx::{AnyConnection, Row as _};
use uuid::Uuid;

use super::Database;
use crate::limits;

/// What stops being good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Revoked<'a> {
    /// A session's access tokens.
    Session(Uuid),
    /// All of an account's that were issued up to this second.
    Account(Uuid, i64),
    /// All that a signing key signed, by its `kid`.
    Key(&'a str),
}

/// A revocation on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its number.
    pub id: i64,
    /// An item of a push, as JSON.
    pub revocation: String,
}

impl Waiting {
    /// Whether it is of a signing key.
    pub fn is_of_key(&self) -> bool {
        serde_json::from_str::<Value>(&self.revocation).is_ok_and(|item| item.get("key").is_some())
    }
}

/// The outbox's statements.
#[derive(Debug, Clone)]
pub struct Outbox(pub(crate) Database);

/// Writes a revocation into the caller's transaction.
pub(super) async fn note(transaction: &mut AnyConnection, revoked: Revoked<'_>, now: i64) -> Result<(), sqlx::Error> {
    // Tokens may say that they were issued some seconds later than this.
    let last = now.saturating_add(limits::ACCESS_TOKEN_MS).saturating_add(limits::REVOKED_AHEAD_S.saturating_mul(1000));
    // Whoever has a key can make tokens with it for as long as anybody believes it.
    let last = if matches!(revoked, Revoked::Key(_)) { last.saturating_add(limits::JWKS_KEPT_MS) } else { last };
    // Seconds, and not one too few.
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

impl Outbox {
    /// The oldest ones of which the gateway needs to be told.
    ///
    /// # Errors
    /// The database's.
    pub async fn next(&self, count: i64, now: i64) -> Result<Vec<Waiting>, sqlx::Error> {
        let rows = sqlx::query("SELECT id, revocation FROM outbox WHERE expires_at > $1 ORDER BY id LIMIT $2")
            .bind(now)
            .bind(count)
            .fetch_all(self.0.pool())
            .await?;
        rows.iter().map(|row| Ok(Waiting { id: row.try_get("id")?, revocation: row.try_get("revocation")? })).collect()
    }

    /// Forgets some of those that nobody needed to be told of before an instant; how many.
    ///
    /// # Errors
    /// The database's.
    pub async fn sweep(&self, before: i64, rows: i64) -> Result<u64, sqlx::Error> {
        let text = "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE expires_at <= $1 ORDER BY id LIMIT $2)";
        let done = sqlx::query(text).bind(before).bind(rows).execute(&mut *self.0.writer().await?).await?;
        Ok(done.rows_affected())
    }

    /// How many the gateway needs to be told of.
    ///
    /// # Errors
    /// The database's.
    pub async fn count(&self, now: i64) -> Result<i64, sqlx::Error> {
        let text = "SELECT count(*) FROM outbox WHERE expires_at > $1";
        sqlx::query_scalar(text).bind(now).fetch_one(self.0.pool()).await
    }

    /// Forgets what the gateway has.
    ///
    /// # Errors
    /// The database's.
    pub async fn delivered(&self, waiting: &[Waiting]) -> Result<(), sqlx::Error> {
        let mut transaction = self.0.begin(&[]).await?;
        for one in waiting {
            sqlx::query("DELETE FROM outbox WHERE id = $1").bind(one.id).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }
}
