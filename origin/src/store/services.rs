//! Services beyond the built-in two that may ask for service tokens. A secret is kept as its
//! SHA-256 alone.

use sqlx::{Row as _, any::AnyRow};

use super::{Database, is_taken};
use crate::{limits, secret_hash::SecretHash};

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The services that it may call.
    pub audiences: Vec<String>,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// What became of an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addition {
    /// It is there.
    Done,
    /// There is one of this name.
    Taken,
    /// There are [`limits::SERVICES`].
    TooMany,
}

/// The services' statements.
#[derive(Debug, Clone)]
pub struct Services(pub Database);

fn service(row: &AnyRow) -> Result<Service, sqlx::Error> {
    let audiences: String = row.try_get("audiences")?;
    Ok(Service {
        name: row.try_get("name")?,
        audiences: serde_json::from_str(&audiences).map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        created_at: row.try_get("created_at")?,
    })
}

impl Services {
    /// Adds a service.
    ///
    /// # Errors
    /// The database's.
    pub async fn add(&self, new: &Service, secret: SecretHash) -> Result<Addition, sqlx::Error> {
        let audiences = serde_json::to_string(&new.audiences).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        // Operators add them by hand: a few too many at one instant harm nobody.
        let done = sqlx::query(
            "INSERT INTO services (name, secret_hash, audiences, created_at) \
             SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM services) < $5",
        )
        .bind(&new.name)
        .bind(secret.as_bytes())
        .bind(audiences)
        .bind(new.created_at)
        .bind(limits::SERVICES)
        .execute(&mut *self.0.writer().await?)
        .await;
        match done {
            Ok(done) if done.rows_affected() == 1 => Ok(Addition::Done),
            Ok(_) => Ok(Addition::TooMany),
            Err(error) if is_taken(&error) => Ok(Addition::Taken),
            Err(error) => Err(error),
        }
    }

    /// A service and its secret's hash.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, name: &str) -> Result<Option<(Service, SecretHash)>, sqlx::Error> {
        let row =
            sqlx::query("SELECT * FROM services WHERE name = $1").bind(name).fetch_optional(self.0.pool()).await?;
        let Some(row) = row else { return Ok(None) };
        let hash: Vec<u8> = row.try_get("secret_hash")?;
        let hash =
            SecretHash::from_bytes(&hash).ok_or_else(|| sqlx::Error::Decode("a hash of another length".into()))?;
        Ok(Some((service(&row)?, hash)))
    }

    /// All services, by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self) -> Result<Vec<Service>, sqlx::Error> {
        let rows = sqlx::query("SELECT * FROM services ORDER BY created_at, name LIMIT $1")
            .bind(limits::SERVICES)
            .fetch_all(self.0.pool())
            .await?;
        rows.iter().map(service).collect()
    }

    /// Removes a service. False when there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove(&self, name: &str) -> Result<bool, sqlx::Error> {
        let done = sqlx::query("DELETE FROM services WHERE name = $1")
            .bind(name)
            .execute(&mut *self.0.writer().await?)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
