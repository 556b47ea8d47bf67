//! Profiles: who users are, beyond being able to log in.

use sqlx::{Row as _, any::AnyRow};
use uuid::Uuid;

use super::{Database, accounts::Account, database::Lock, id};
use crate::limits;

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
    /// Of the account that it was last made equal to.
    pub version: i64,
}

impl From<Account> for Profile {
    fn from(account: Account) -> Self {
        Self {
            id: account.id,
            email: account.email,
            first_name: account.first_name,
            last_name: account.last_name,
            roles: account.roles,
            created_at: account.created_at,
            updated_at: account.updated_at,
            version: account.version,
        }
    }
}

/// What became of a profile that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there.
    Stored,
    /// A newer one is.
    Older,
    /// It was deleted, and that is newer than any version.
    Deleted,
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
        version: row.try_get("version")?,
    })
}

impl Profiles {
    /// Writes a profile, or makes the one that is there equal, unless that is newer or was
    /// deleted: a write may arrive long after a later one.
    ///
    /// # Errors
    /// The database's.
    pub async fn put(&self, new: &Profile) -> Result<Put, sqlx::Error> {
        let roles = serde_json::to_string(&new.roles).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        let mut transaction = self.0.begin(&[Lock::Account(new.id)]).await?;
        let deleted = sqlx::query("SELECT 1 FROM deleted_profiles WHERE id = $1")
            .bind(new.id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        if deleted.is_some() {
            return Ok(Put::Deleted);
        }
        let done = sqlx::query(
            "INSERT INTO profiles (id, email, first_name, last_name, roles, created_at, updated_at, version) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT (id) DO UPDATE SET email = excluded.email, first_name = excluded.first_name, \
               last_name = excluded.last_name, roles = excluded.roles, created_at = excluded.created_at, \
               updated_at = excluded.updated_at, version = excluded.version \
             WHERE excluded.version >= profiles.version",
        )
        .bind(new.id.to_string())
        .bind(&new.email)
        .bind(&new.first_name)
        .bind(&new.last_name)
        .bind(roles)
        .bind(new.created_at)
        .bind(new.updated_at)
        .bind(new.version)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(if done.rows_affected() == 1 { Put::Stored } else { Put::Older })
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

    /// Those after a place in the order of creation and id, and how many there are in all.
    ///
    /// # Errors
    /// The database's.
    pub async fn by_creation(
        &self,
        (created_at, id): (i64, &str),
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<Profile>, i64), sqlx::Error> {
        let rows = sqlx::query(
            "SELECT * FROM profiles WHERE (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3 OFFSET $4",
        )
        .bind(created_at)
        .bind(id)
        .bind(limit)
        .bind(offset)
        .fetch_all(self.0.pool())
        .await?;
        let total =
            sqlx::query("SELECT count(*) AS total FROM profiles").fetch_one(self.0.pool()).await?.try_get("total")?;
        Ok((rows.iter().map(profile).collect::<Result<_, _>>()?, total))
    }

    /// Those whose address begins with `prefix`, after a place in the order of address and
    /// id, and how many there are in all. A range, which the index answers, and no pattern,
    /// in which `_` and `%` would mean something else.
    ///
    /// # Errors
    /// The database's.
    pub async fn by_email(
        &self,
        prefix: &str,
        (email, id): (&str, &str),
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<Profile>, i64), sqlx::Error> {
        // Addresses are ASCII, and this is greater than whatever may follow in one.
        let end = format!("{prefix}\u{7f}");
        let rows = sqlx::query(
            "SELECT * FROM profiles WHERE email >= $1 AND email < $2 AND (email, id) > ($3, $4) \
             ORDER BY email, id LIMIT $5 OFFSET $6",
        )
        .bind(prefix)
        .bind(&end)
        .bind(email)
        .bind(id)
        .bind(limit)
        .bind(offset)
        .fetch_all(self.0.pool())
        .await?;
        let total = sqlx::query("SELECT count(*) AS total FROM profiles WHERE email >= $1 AND email < $2")
            .bind(prefix)
            .bind(&end)
            .fetch_one(self.0.pool())
            .await?
            .try_get("total")?;
        Ok((rows.iter().map(profile).collect::<Result<_, _>>()?, total))
    }

    /// Deletes a profile, for good. False when there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete(&self, profile_id: Uuid, now: i64) -> Result<bool, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(profile_id)]).await?;
        sqlx::query("INSERT INTO deleted_profiles (id, at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(profile_id.to_string())
            .bind(now)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "DELETE FROM deleted_profiles WHERE id IN (SELECT id FROM deleted_profiles WHERE at < $1 LIMIT $2)",
        )
        .bind(now.saturating_sub(limits::DELETED_PROFILE_MS))
        .bind(limits::SWEEP_ROWS)
        .execute(&mut *transaction)
        .await?;
        let done = sqlx::query("DELETE FROM profiles WHERE id = $1")
            .bind(profile_id.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }
}
