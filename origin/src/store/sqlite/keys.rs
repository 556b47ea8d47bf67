//! Signing keys, sealed, with the times of their lives: published before they
//! sign, and after they stopped.

use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// Public JWK as JSON text.
    pub public_jwk: String,
    /// Sealed PKCS#8.
    pub private_sealed: Vec<u8>,
    /// In the key set from this instant, in milliseconds.
    pub published_at: i64,
    /// Signs from this instant, until a later key does.
    pub signs_from: i64,
}

/// The keys' statements.
#[derive(Debug, Clone)]
pub struct SigningKeys(pub(crate) SqlitePool);

fn key(row: &SqliteRow) -> Result<StoredKey, sqlx::Error> {
    Ok(StoredKey {
        kid: row.try_get("kid")?,
        public_jwk: row.try_get("public_jwk")?,
        private_sealed: row.try_get("private_sealed")?,
        published_at: row.try_get("published_at")?,
        signs_from: row.try_get("signs_from")?,
    })
}

impl SigningKeys {
    /// Keys that are in the key set at `now`, the one that signs first.
    ///
    /// # Errors
    /// The database's.
    pub async fn published(&self, now: i64) -> Result<Vec<StoredKey>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT * FROM signing_keys WHERE published_at <= $1 AND (published_until IS NULL OR published_until > $1) \
             ORDER BY (signs_from <= $1) DESC, signs_from DESC, kid",
        )
        .bind(now)
        .fetch_all(&self.0)
        .await?;
        rows.iter().map(key).collect()
    }

    /// Adds the first key, unless another process was faster.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_first(&self, new: &StoredKey) -> Result<(), sqlx::Error> {
        let mut transaction = self.0.begin_with("BEGIN IMMEDIATE").await?;
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
}
