//! Profiles: who users are, beyond being able to log in.

use sqlx::{Row as _, any::AnyRow};
use uuid::Uuid;

use super::{Database, id};

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// User id.
    pub id: Uuid,
    /// Normalised e-mail address.
    pub email: String,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// Roles, as the auth service last told.
    pub roles: Vec<String>,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970.
    pub updated_at: i64,
}

/// The profiles' statements.
#[derive(Debug, Clone)]
pub struct Profiles(pub(crate) Database);

fn profile(row: &AnyRow) -> Result<Profile, sqlx::Error> {
    let roles: String = row.try_get("roles")?;
    Ok(Profile {
        id: id(row, "id")?,
        email: row.try_get("email")?,
        first_name: row.try_get("first_name")?,
        last_name: row.try_get("last_name")?,
        roles: serde_json::from_str(&roles).map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

impl Profiles {
    /// Writes a profile, or makes the one that is there equal.
    ///
    /// # Errors
    /// The database's.
    pub async fn put(&self, new: &Profile) -> Result<(), sqlx::Error> {
        let roles = serde_json::to_string(&new.roles).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        sqlx::query(
            "INSERT INTO profiles (id, email, first_name, last_name, roles, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (id) DO UPDATE SET email = excluded.email, first_name = excluded.first_name, \
               last_name = excluded.last_name, roles = excluded.roles, updated_at = excluded.updated_at",
        )
        .bind(new.id.to_string())
        .bind(&new.email)
        .bind(&new.first_name)
        .bind(&new.last_name)
        .bind(roles)
        .bind(new.created_at)
        .bind(new.updated_at)
        .execute(self.0.pool())
        .await?;
        Ok(())
    }

    /// A profile by id.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, profile_id: Uuid) -> Result<Option<Profile>, sqlx::Error> {
        let row = sqlx::query("SELECT * FROM profiles WHERE id = $1")
            .bind(profile_id.to_string())
            .fetch_optional(self.0.pool())
            .await?;
        row.map(|row| profile(&row)).transpose()
    }

    /// A page in order of creation, and how many there are in all.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, limit: i64, offset: i64) -> Result<(Vec<Profile>, i64), sqlx::Error> {
        let rows = sqlx::query("SELECT * FROM profiles ORDER BY created_at, id LIMIT $1 OFFSET $2")
            .bind(limit)
            .bind(offset)
            .fetch_all(self.0.pool())
            .await?;
        let total =
            sqlx::query("SELECT count(*) AS total FROM profiles").fetch_one(self.0.pool()).await?.try_get("total")?;
        Ok((rows.iter().map(profile).collect::<Result<_, _>>()?, total))
    }

    /// Changes address and names. False when there is no such profile.
    ///
    /// # Errors
    /// The database's.
    pub async fn change(
        &self,
        profile_id: Uuid,
        email: &str,
        first_name: &str,
        last_name: &str,
        now: i64,
    ) -> Result<bool, sqlx::Error> {
        let done = sqlx::query(
            "UPDATE profiles SET email = $2, first_name = $3, last_name = $4, updated_at = $5 WHERE id = $1",
        )
        .bind(profile_id.to_string())
        .bind(email)
        .bind(first_name)
        .bind(last_name)
        .bind(now)
        .execute(self.0.pool())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Deletes a profile. False when there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete(&self, profile_id: Uuid) -> Result<bool, sqlx::Error> {
        let done = sqlx::query("DELETE FROM profiles WHERE id = $1")
            .bind(profile_id.to_string())
            .execute(self.0.pool())
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
