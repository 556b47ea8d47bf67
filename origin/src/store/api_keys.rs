//! API keys, and their pushes to the gateway (table `api_key_pushes`).
//!
//! A push carries the state that a key has when the push begins. A row is written in the transaction that changes the key,
//! so a crash leaves neither one without the other. It is deleted once the gateway has the state, unless the key has
//! changed meanwhile.
//!
//! A push is due at once (`due_at` 0) until an attempt has failed. Time only postpones it, and a time that is too far ahead was
//! written by a wrong clock and counts as past.
//!
//! Another process may still be pushing that a key was made while its end is pushed, and the gateway may apply the former
//! last. So the end is pushed again [`limits::API_KEY_END_REPEAT_MS`] later, and also after each completed push of a key that
//! has ended meanwhile.

use sqlx::{AnyConnection, Row as _, any::AnyRow};
use uuid::Uuid;

use super::{
    Database,
    database::Lock,
    rows::{self, id},
};
use crate::{clock::Clock, limits};

/// A live key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Key id.
    pub id: Uuid,
    /// Account id.
    pub owner: Uuid,
    /// Name.
    pub name: String,
    /// Scopes.
    pub scopes: Vec<String>,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970.
    pub expires_at: i64,
}

/// The result of an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addition {
    /// The key is added.
    Done,
    /// No active account has the owner's id.
    UnknownOwner,
    /// The account has [`limits::API_KEYS`] already.
    TooMany,
}

/// Whether a key is live or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// The key is live.
    Live,
    /// The key has ended.
    Ended,
}

/// The state of a key that is to be pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingPush {
    /// Digest of the key.
    pub digest: String,
    /// Key id.
    pub id: Uuid,
    /// The key; `None` if it has ended.
    pub key: Option<ApiKey>,
    changes: i64,
    ends: i64,
}

/// Statements on API keys.
#[derive(Debug, Clone)]
pub struct ApiKeys(pub Database);

fn api_key(row: &AnyRow) -> Result<ApiKey, sqlx::Error> {
    let scopes: String = row.try_get("scopes")?;
    Ok(ApiKey {
        id: id(row, "id")?,
        owner: id(row, "owner")?,
        name: row.try_get("name")?,
        scopes: scopes.split_ascii_whitespace().map(str::to_owned).collect(),
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
    })
}

/// Schedules the push of a key's state in the caller's transaction.
async fn schedule(transaction: &mut AnyConnection, digest: &str, key: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO api_key_pushes (digest, key_id, changes, ends, due_at) VALUES ($1, $2, 1, 0, 0) \
         ON CONFLICT (digest) DO UPDATE SET changes = api_key_pushes.changes + 1, ends = 0, due_at = 0",
    )
    .bind(digest)
    .bind(key.to_string())
    .execute(transaction)
    .await?;
    Ok(())
}

/// Ends all keys of an account in the caller's transaction, which holds the account's lock.
pub(super) async fn end_all(transaction: &mut AnyConnection, owner: Uuid) -> Result<(), sqlx::Error> {
    let ended = sqlx::query("DELETE FROM api_keys WHERE owner = $1 RETURNING id, digest")
        .bind(owner.to_string())
        .fetch_all(&mut *transaction)
        .await?;
    let key = |row: &AnyRow| Ok((row.try_get::<String, _>("digest")?, id(row, "id")?));
    let mut ended = ended.iter().map(key).collect::<Result<Vec<_>, sqlx::Error>>()?;
    // All transactions lock these rows in the order of the digests, so none of them deadlock.
    ended.sort_unstable();
    for (digest, key) in ended {
        schedule(&mut *transaction, &digest, key).await?;
    }
    Ok(())
}

impl ApiKeys {
    /// Adds a key of an active account.
    pub async fn add(&self, new: &ApiKey, digest: &str, clock: &Clock) -> Result<Addition, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(new.owner)]).await?;
        let now = clock.now();
        if rows::find_account(&mut *transaction, new.owner).await?.is_none() {
            return Ok(Addition::UnknownOwner);
        }
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM api_keys WHERE owner = $1 AND expires_at > $2")
            .bind(new.owner.to_string())
            .bind(now)
            .fetch_one(&mut *transaction)
            .await?;
        if count >= limits::API_KEYS {
            return Ok(Addition::TooMany);
        }
        sqlx::query(
            "INSERT INTO api_keys (id, digest, owner, name, scopes, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(new.id.to_string())
        .bind(digest)
        .bind(new.owner.to_string())
        .bind(&new.name)
        .bind(new.scopes.join(" "))
        .bind(new.created_at)
        .bind(new.expires_at)
        .execute(&mut *transaction)
        .await?;
        schedule(&mut transaction, digest, new.id).await?;
        transaction.commit().await?;
        Ok(Addition::Done)
    }

    /// Finds a live key.
    pub async fn find(&self, key: Uuid, now: i64) -> Result<Option<ApiKey>, sqlx::Error> {
        let row = sqlx::query("SELECT * FROM api_keys WHERE id = $1 AND expires_at > $2")
            .bind(key.to_string())
            .bind(now)
            .fetch_optional(self.0.pool())
            .await?;
        row.as_ref().map(api_key).transpose()
    }

    /// Returns up to `count` live keys of an account, or of all, whose id is below `before`; the newest first.
    pub async fn list(
        &self,
        owner: Option<Uuid>,
        before: Option<Uuid>,
        count: i64,
        now: i64,
    ) -> Result<Vec<ApiKey>, sqlx::Error> {
        let all = if owner.is_some() { "owner = $2" } else { "$2 = $2" };
        let text =
            format!("SELECT * FROM api_keys WHERE expires_at > $1 AND {all} AND id < $3 ORDER BY id DESC LIMIT $4");
        let rows = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(now)
            .bind(owner.unwrap_or_default().to_string())
            .bind(before.unwrap_or(Uuid::max()).to_string())
            .bind(count)
            .fetch_all(self.0.pool())
            .await?;
        rows.iter().map(api_key).collect()
    }

    /// Ends a live key. Returns false if there is no such key.
    pub async fn end(&self, key: Uuid, clock: &Clock) -> Result<bool, sqlx::Error> {
        // The owner of a key never changes, so it can be read before the lock.
        let Some(found) = self.find(key, clock.now()).await? else { return Ok(false) };
        let mut transaction = self.0.begin(&[Lock::Account(found.owner)]).await?;
        let digest: Option<String> = sqlx::query_scalar("DELETE FROM api_keys WHERE id = $1 RETURNING digest")
            .bind(key.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(digest) = digest else { return Ok(false) };
        schedule(&mut transaction, &digest, key).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Schedules the push of all live keys. Returns their number.
    pub async fn schedule_all(&self, clock: &Clock) -> Result<u64, sqlx::Error> {
        // PostgreSQL and SQLite need the WHERE to tell ON CONFLICT from a join. PostgreSQL reads a key that is ending as live,
        // so its end is pushed twice again.
        let done = sqlx::query(
            "INSERT INTO api_key_pushes (digest, key_id, changes, ends, due_at) \
             SELECT digest, id, 1, 0, 0 FROM api_keys WHERE expires_at > $1 ORDER BY digest \
             ON CONFLICT (digest) DO UPDATE SET changes = api_key_pushes.changes + 1, ends = 0, due_at = 0",
        )
        .bind(clock.now())
        .execute(&mut *self.0.writer().await?)
        .await?;
        Ok(done.rows_affected())
    }

    /// Returns up to `count` pushes of a state that are due, those without a failed attempt first.
    pub async fn due(&self, state: KeyState, count: i64, now: i64) -> Result<Vec<PendingPush>, sqlx::Error> {
        let is_state = match state {
            KeyState::Live => "k.id IS NOT NULL",
            KeyState::Ended => "k.id IS NULL",
        };
        let text = format!(
            "SELECT p.digest, p.key_id, p.changes, p.ends, k.id, k.owner, k.name, k.scopes, k.created_at, k.expires_at \
             FROM api_key_pushes p LEFT JOIN api_keys k ON k.digest = p.digest \
             WHERE (p.due_at <= $1 OR p.due_at > $2) AND {is_state} ORDER BY p.due_at, p.digest LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(now)
            .bind(now.saturating_add(limits::API_KEY_DUE_AHEAD_MS))
            .bind(count)
            .fetch_all(self.0.pool())
            .await?;
        let pending = |row: &AnyRow| {
            let is_live = row.try_get::<Option<String>, _>("id")?.is_some();
            Ok(PendingPush {
                digest: row.try_get("digest")?,
                id: id(row, "key_id")?,
                key: if is_live { Some(api_key(row)?) } else { None },
                changes: row.try_get("changes")?,
                ends: row.try_get("ends")?,
            })
        };
        rows.iter().map(pending).collect()
    }

    /// Records that the gateway has these states. Each push of a key that has ended meanwhile is followed by one of its
    /// end.
    pub async fn delivered(&self, pushed: &[PendingPush], clock: &Clock) -> Result<(), sqlx::Error> {
        let mut transaction = self.0.begin(&[]).await?;
        let now = clock.now();
        let mut pushed: Vec<&PendingPush> = pushed.iter().collect();
        pushed.sort_unstable_by(|one, other| one.digest.cmp(&other.digest));
        for push in pushed {
            if push.key.is_none() && push.ends == 0 {
                let again = now.saturating_add(limits::API_KEY_END_REPEAT_MS);
                sqlx::query("UPDATE api_key_pushes SET ends = 1, due_at = $3 WHERE digest = $1 AND changes = $2")
                    .bind(&push.digest)
                    .bind(push.changes)
                    .bind(again)
                    .execute(&mut *transaction)
                    .await?;
                continue;
            }
            sqlx::query("DELETE FROM api_key_pushes WHERE digest = $1 AND changes = $2")
                .bind(&push.digest)
                .bind(push.changes)
                .execute(&mut *transaction)
                .await?;
            if push.key.is_some() && !is_live(&mut transaction, push.id).await? {
                schedule(&mut transaction, &push.digest, push.id).await?;
            }
        }
        transaction.commit().await
    }

    /// Postpones a push unless the key has changed, or another process has pushed its end.
    pub async fn postpone(&self, push: &PendingPush, due_at: i64) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE api_key_pushes SET due_at = $4 WHERE digest = $1 AND changes = $2 AND ends = $3")
            .bind(&push.digest)
            .bind(push.changes)
            .bind(push.ends)
            .bind(due_at)
            .execute(&mut *self.0.writer().await?)
            .await?;
        Ok(())
    }

    /// Deletes up to `rows` keys that expired before a time. Returns their number. The gateway refuses them by their
    /// expiry.
    pub async fn sweep(&self, before: i64, rows: i64) -> Result<u64, sqlx::Error> {
        let text = "DELETE FROM api_keys WHERE id IN (SELECT id FROM api_keys WHERE expires_at <= $1 LIMIT $2)";
        self.0.sweep(text, before, rows).await
    }
}

async fn is_live(transaction: &mut AnyConnection, key: Uuid) -> Result<bool, sqlx::Error> {
    rows::exists(transaction, "SELECT 1 FROM api_keys WHERE id = $1", key).await
}
