//! Profiles of the user service.

use sqlx::{
    AnyConnection, Row as _,
    any::{AnyArguments, AnyRow},
    query::Query,
};
use uuid::Uuid;

use super::{
    Database,
    database::Lock,
    rows::{self, UserRecord},
};
use crate::{limits, profile};

/// The result of a write of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The profile is stored.
    Stored,
    /// A newer version is stored already.
    Outdated,
    /// The profile was deleted, which is newer than any version.
    Deleted,
}

/// The result of a change of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// The profile as it is now.
    Stored(UserRecord),
    /// The stored profile has this version or a newer one.
    Outdated(UserRecord),
    /// The stored profile lacks an earlier change, whose fields this change does not have.
    Gap,
    /// There is no such profile.
    NotFound,
}

/// Statements on profiles.
#[derive(Debug, Clone)]
pub struct Profiles(pub(crate) Database);

/// Inserts or replaces a profile unless the stored one is newer. Returns whether it did.
async fn store(transaction: &mut AnyConnection, new: &UserRecord) -> Result<bool, sqlx::Error> {
    let roles = serde_json::to_string(&new.roles).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let text = format!(
        "INSERT INTO profiles (id, email, roles, created_at, updated_at, version, {}) \
         VALUES ($1, $2, $3, $4, $5, $6, {}) \
         ON CONFLICT (id) DO UPDATE SET email = excluded.email, roles = excluded.roles, \
           created_at = excluded.created_at, updated_at = excluded.updated_at, version = excluded.version, \
           ({}) = ({}) \
         WHERE excluded.version >= profiles.version",
        profile::columns(""),
        profile::placeholders(7),
        profile::columns(""),
        profile::columns("excluded.")
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(new.id.to_string())
        .bind(&new.email)
        .bind(roles)
        .bind(new.created_at)
        .bind(new.updated_at)
        .bind(new.version);
    let done = profile::bind(query, &new.profile).execute(transaction).await?;
    Ok(done.rows_affected() == 1)
}

impl Profiles {
    /// Inserts or replaces a profile unless the stored one is newer or was deleted: a write may arrive
    /// long after a later one.
    pub async fn put(&self, new: &UserRecord) -> Result<PutOutcome, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(new.id)]).await?;
        if rows::exists(&mut transaction, "SELECT 1 FROM deleted_profiles WHERE id = $1", new.id).await? {
            return Ok(PutOutcome::Deleted);
        }
        let is_stored = store(&mut transaction, new).await?;
        transaction.commit().await?;
        Ok(if is_stored { PutOutcome::Stored } else { PutOutcome::Outdated })
    }

    /// Changes fields of a profile, which `change` brings from the version before `version` to `version`.
    pub async fn change(
        &self,
        profile_id: Uuid,
        version: i64,
        change: impl FnOnce(UserRecord) -> UserRecord + Send,
    ) -> Result<ChangeOutcome, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(profile_id)]).await?;
        let Some(stored) = rows::find(&mut *transaction, "profiles", profile_id, rows::profile).await? else {
            return Ok(ChangeOutcome::NotFound);
        };
        if stored.version >= version {
            return Ok(ChangeOutcome::Outdated(stored));
        }
        if stored.version.saturating_add(1) < version {
            return Ok(ChangeOutcome::Gap);
        }
        let new = UserRecord { version, ..change(stored) };
        store(&mut transaction, &new).await?;
        transaction.commit().await?;
        Ok(ChangeOutcome::Stored(new))
    }

    /// Finds a profile by id.
    pub async fn find(&self, profile_id: Uuid) -> Result<Option<UserRecord>, sqlx::Error> {
        rows::find(self.0.pool(), "profiles", profile_id, rows::profile).await
    }

    /// Returns the profiles after a position in the order of creation and id, and the number of
    /// profiles in all.
    pub async fn by_creation(
        &self,
        (created_at, id): (i64, &str),
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<UserRecord>, i64), sqlx::Error> {
        let page = sqlx::query(
            "SELECT * FROM profiles WHERE (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3 OFFSET $4",
        );
        let page = page.bind(created_at).bind(id).bind(limit).bind(offset);
        self.page(page, sqlx::query("SELECT count(*) AS total FROM profiles")).await
    }

    /// Returns the profiles whose address begins with `prefix`, after a position in the order of
    /// address and id, and the number of such profiles in all.
    ///
    /// The statement uses a range, which the index serves, and no pattern, in which `_` and `%` are
    /// wildcards.
    pub async fn by_email(
        &self,
        prefix: &str,
        (email, id): (&str, &str),
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<UserRecord>, i64), sqlx::Error> {
        // Addresses are ASCII, so this character is greater than any that follows the prefix.
        let end = format!("{prefix}\u{7f}");
        let page = sqlx::query(
            "SELECT * FROM profiles WHERE email >= $1 AND email < $2 AND (email, id) > ($3, $4) \
             ORDER BY email, id LIMIT $5 OFFSET $6",
        );
        let page = page.bind(prefix).bind(&end).bind(email).bind(id).bind(limit).bind(offset);
        let total = sqlx::query("SELECT count(*) AS total FROM profiles WHERE email >= $1 AND email < $2");
        self.page(page, total.bind(prefix).bind(&end)).await
    }

    async fn page(
        &self,
        page: Query<'_, sqlx::Any, AnyArguments>,
        total: Query<'_, sqlx::Any, AnyArguments>,
    ) -> Result<(Vec<UserRecord>, i64), sqlx::Error> {
        let rows: Vec<AnyRow> = page.fetch_all(self.0.pool()).await?;
        let total = total.fetch_one(self.0.pool()).await?.try_get("total")?;
        Ok((rows.iter().map(rows::profile).collect::<Result<_, _>>()?, total))
    }

    /// Deletes a profile and records the deletion for [`limits::DELETED_PROFILE_MS`]. Returns false if
    /// there is no such profile.
    pub async fn delete(&self, profile_id: Uuid, now: i64) -> Result<bool, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(profile_id)]).await?;
        let statement = "INSERT INTO deleted_profiles (id, at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        rows::write(&mut transaction, statement, profile_id, now).await?;
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
