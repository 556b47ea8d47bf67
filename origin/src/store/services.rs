//! Services that may request service tokens, besides the two built-in ones.

use sqlx::{Row as _, any::AnyRow};

use super::{Database, error::is_unique_violation};
use crate::{limits, secret_hash::SecretHash};

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Name.
    pub name: String,
    /// Names of the services that it may call.
    pub audiences: Vec<String>,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// The result of an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addition {
    /// The service is added.
    Done,
    /// Another service has the name.
    Taken,
    /// There are [`limits::SERVICES`] already.
    TooMany,
}

/// Statements on services. Only the SHA-256 of a secret is stored.
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
    pub async fn add(&self, new: &Service, secret: SecretHash) -> Result<Addition, sqlx::Error> {
        let audiences = serde_json::to_string(&new.audiences).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        // Concurrent additions may exceed the limit by a few, which is harmless: operators add services
        // by hand.
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
            Err(error) if is_unique_violation(&error) => Ok(Addition::Taken),
            Err(error) => Err(error),
        }
    }

    /// Finds a service and the hash of its secret.
    pub async fn find(&self, name: &str) -> Result<Option<(Service, SecretHash)>, sqlx::Error> {
        let row =
            sqlx::query("SELECT * FROM services WHERE name = $1").bind(name).fetch_optional(self.0.pool()).await?;
        let Some(row) = row else { return Ok(None) };
        let hash: Vec<u8> = row.try_get("secret_hash")?;
        let hash =
            SecretHash::from_bytes(&hash).ok_or_else(|| sqlx::Error::Decode("a hash of another length".into()))?;
        Ok(Some((service(&row)?, hash)))
    }

    /// Returns all services in the order of their creation.
    pub async fn list(&self) -> Result<Vec<Service>, sqlx::Error> {
        let rows = sqlx::query("SELECT * FROM services ORDER BY created_at, name LIMIT $1")
            .bind(limits::SERVICES)
            .fetch_all(self.0.pool())
            .await?;
        rows.iter().map(service).collect()
    }

    /// Removes a service. Returns false if there is no such service.
    pub async fn remove(&self, name: &str) -> Result<bool, sqlx::Error> {
        let done = sqlx::query("DELETE FROM services WHERE name = $1")
            .bind(name)
            .execute(&mut *self.0.writer().await?)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
