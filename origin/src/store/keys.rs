//! Signing keys: encrypted private keys and the times at which a key is published, signs, and is
//! removed. A key is published before its first signature and after its last one.

use sqlx::{AnyConnection, Row as _, any::AnyRow};

use super::{
    Database,
    database::Lock,
    outbox::{self, Revoked},
};
use crate::{clock::Clock, limits};

/// A stored key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// Public JWK as JSON text.
    pub public_jwk: String,
    /// Encrypted PKCS#8.
    pub private_sealed: Vec<u8>,
    /// Time from which the key is in the key set, in milliseconds.
    pub published_at: i64,
    /// Time from which the key signs, until a later key does.
    pub signs_from: i64,
    /// Time at which the key leaves the key set; `None` while it signs or is the next to sign.
    pub published_until: Option<i64>,
}

/// The result of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The next key to sign.
    pub kid: String,
    /// The key that signs until then.
    pub previous_kid: String,
    /// Time of the change, in milliseconds.
    pub signs_from: i64,
}

/// The result of the revocation of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The key that signs now.
    pub signer: String,
    /// Whether the revoked key signed until now.
    pub signed: bool,
}

/// Statements on signing keys.
#[derive(Debug, Clone)]
pub struct SigningKeys(pub Database);

fn key(row: &AnyRow) -> Result<StoredKey, sqlx::Error> {
    Ok(StoredKey {
        kid: row.try_get("kid")?,
        public_jwk: row.try_get("public_jwk")?,
        private_sealed: row.try_get("private_sealed")?,
        published_at: row.try_get("published_at")?,
        signs_from: row.try_get("signs_from")?,
        published_until: row.try_get("published_until")?,
    })
}

/// Whether a host's clock agrees with the clock that all hosts share.
pub fn agree(now: i64, shared_now: i64) -> bool {
    now.abs_diff(shared_now) <= limits::KEYS_AHEAD_MS.unsigned_abs()
}

async fn insert(transaction: &mut AnyConnection, new: &StoredKey) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO signing_keys (kid, algorithm, public_jwk, private_sealed, published_at, signs_from) \
         VALUES ($1, 'RS256', $2, $3, $4, $5)",
    )
    .bind(&new.kid)
    .bind(&new.public_jwk)
    .bind(&new.private_sealed)
    .bind(new.published_at)
    .bind(new.signs_from)
    .execute(transaction)
    .await?;
    Ok(())
}

impl SigningKeys {
    /// Returns the keys that are in the key set after `past`, the one that signs at `now` first. A stored
    /// key is published even if the clock of the process that made it is ahead.
    pub async fn published(&self, now: i64, past: i64) -> Result<Vec<StoredKey>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT * FROM signing_keys WHERE published_until IS NULL OR published_until > $2 \
             ORDER BY (signs_from <= $1) DESC, signs_from DESC, kid",
        )
        .bind(now)
        .bind(past)
        .fetch_all(self.0.pool())
        .await?;
        rows.iter().map(key).collect()
    }

    /// Adds the first key unless another process has added one.
    pub async fn add_first(&self, new: &StoredKey) -> Result<(), sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Keys]).await?;
        sqlx::query(
            "INSERT INTO signing_keys (kid, algorithm, public_jwk, private_sealed, published_at, signs_from) \
             SELECT $1, 'RS256', $2, $3, $4, $5 WHERE NOT EXISTS (SELECT 1 FROM signing_keys)",
        )
        .bind(&new.kid)
        .bind(&new.public_jwk)
        .bind(&new.private_sealed)
        .bind(new.published_at)
        .bind(new.signs_from)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    /// Returns the time of the clock that all hosts share.
    pub async fn shared_now(&self, clock: &Clock) -> Result<i64, sqlx::Error> {
        self.0.shared_now(self.0.pool(), clock).await
    }

    /// Adds the next key. The others stay published until `after` milliseconds past its first
    /// signature. If a next key exists already it remains the next one, so two concurrent rotations
    /// rotate once; one that a clock far ahead made signs after the lead of the new one. `None` if the
    /// times are wrong: by a clock that is behind, the others would no longer be published.
    pub async fn add_next(&self, new: &StoredKey, after: i64, clock: &Clock) -> Result<Option<Rotated>, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Keys]).await?;
        let shared_now = self.0.shared_now(&mut *transaction, clock).await?;
        if !agree(new.published_at, shared_now) {
            return Ok(None);
        }
        let late_ms = shared_now.saturating_sub(new.published_at).max(0);
        let new = &StoredKey {
            published_at: new.published_at.saturating_add(late_ms),
            signs_from: new.signs_from.saturating_add(late_ms),
            ..new.clone()
        };
        let rows = sqlx::query("SELECT * FROM signing_keys ORDER BY signs_from DESC, kid LIMIT 2")
            .fetch_all(&mut *transaction)
            .await?;
        let mut newest = rows.iter().map(key);
        let first = newest.next().transpose()?.ok_or(sqlx::Error::RowNotFound)?;
        if first.signs_from > new.published_at {
            let previous_kid = newest.next().transpose()?.map(|row| row.kid).unwrap_or_default();
            let is_far_ahead = first.signs_from.saturating_sub(new.signs_from) > limits::KEYS_AHEAD_MS;
            let signs_from = if is_far_ahead { new.signs_from } else { first.signs_from };
            if is_far_ahead {
                for (text, time) in [
                    ("UPDATE signing_keys SET signs_from = $2 WHERE kid = $1", signs_from),
                    (
                        "UPDATE signing_keys SET published_until = $2 WHERE kid <> $1 AND published_until > $2",
                        signs_from.saturating_add(after),
                    ),
                ] {
                    sqlx::query(text).bind(&first.kid).bind(time).execute(&mut *transaction).await?;
                }
                transaction.commit().await?;
            }
            return Ok(Some(Rotated { kid: first.kid, previous_kid, signs_from }));
        }
        sqlx::query("UPDATE signing_keys SET published_until = $1 WHERE published_until IS NULL")
            .bind(new.signs_from.saturating_add(after))
            .execute(&mut *transaction)
            .await?;
        insert(&mut transaction, new).await?;
        transaction.commit().await?;
        Ok(Some(Rotated { kid: new.kid.clone(), previous_kid: first.kid, signs_from: new.signs_from }))
    }

    /// Deletes a key and enqueues the revocation of its tokens for the gateway. If the key signed, the
    /// next key signs at once, or `spare` if there is no next key. Returns `None` if there is no such
    /// key.
    pub async fn revoke(&self, kid: &str, spare: &StoredKey, now: i64) -> Result<Option<Revocation>, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Keys]).await?;
        let rows = sqlx::query("SELECT * FROM signing_keys ORDER BY signs_from DESC, kid")
            .fetch_all(&mut *transaction)
            .await?;
        let keys = rows.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        if !keys.iter().any(|key| key.kid == kid) {
            return Ok(None);
        }
        // The same choice as in the keyring: the latest key that may sign, or else the earliest key.
        let active = keys.iter().find(|key| key.signs_from <= now).or_else(|| keys.last());
        let signed = active.is_some_and(|active| active.kid == kid);
        sqlx::query("DELETE FROM signing_keys WHERE kid = $1").bind(kid).execute(&mut *transaction).await?;
        let waiting = keys.iter().find(|key| key.signs_from > now && key.kid != kid);
        let signer = match (signed, waiting, active) {
            (true, Some(waiting), _) => {
                sqlx::query("UPDATE signing_keys SET signs_from = $2 WHERE kid = $1")
                    .bind(&waiting.kid)
                    .bind(now)
                    .execute(&mut *transaction)
                    .await?;
                waiting.kid.clone()
            }
            (false, _, Some(active)) => {
                if waiting.is_none() {
                    // The revoked key was to replace it.
                    sqlx::query("UPDATE signing_keys SET published_until = NULL WHERE kid = $1")
                        .bind(&active.kid)
                        .execute(&mut *transaction)
                        .await?;
                }
                active.kid.clone()
            }
            (true, None, _) | (false, _, None) => {
                insert(&mut transaction, spare).await?;
                spare.kid.clone()
            }
        };
        outbox::enqueue(&mut transaction, Revoked::Key(kid), now).await?;
        transaction.commit().await?;
        Ok(Some(Revocation { signer, signed }))
    }

    /// Replaces the encrypted key `was` by one under another master key. Of two concurrent calls one
    /// takes effect, and both results can be decrypted.
    pub async fn reseal(&self, kid: &str, was: &[u8], sealed: &[u8]) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE signing_keys SET private_sealed = $3 WHERE kid = $1 AND private_sealed = $2")
            .bind(kid)
            .bind(was)
            .bind(sealed)
            .execute(&mut *self.0.writer().await?)
            .await?;
        Ok(())
    }

    /// Deletes keys that are no longer published, so that they cannot be stolen.
    pub async fn forget(&self, now: i64) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM signing_keys WHERE published_until <= $1")
            .bind(now)
            .execute(&mut *self.0.writer().await?)
            .await?;
        Ok(())
    }
}
