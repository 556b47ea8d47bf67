//! Roles and the permissions that they have.
//!
//! Every change is made under the lock of the rights, so that what is decided about a role
//! (nobody holds it) is true until it is done.

use sqlx::{AnyConnection, Row as _, any::AnyRow};
use uuid::Uuid;

use super::{
    Database,
    database::Lock,
    id,
    permissions::{self, Permission},
    rights::{ADMIN, Refusal},
};
use crate::{clock::Clock, limits};

/// A role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its id.
    pub id: Uuid,
    /// By which tokens speak of it.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether the program itself relies on it.
    pub built_in: bool,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970.
    pub updated_at: i64,
}

/// The roles' statements.
#[derive(Debug, Clone)]
pub struct Roles(pub(crate) Database);

pub(super) fn role(row: &AnyRow) -> Result<Role, sqlx::Error> {
    let built_in: i64 = row.try_get("built_in")?;
    Ok(Role {
        id: id(row, "id")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        built_in: built_in != 0,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

async fn find(connection: &mut AnyConnection, role_id: Uuid) -> Result<Option<Role>, sqlx::Error> {
    let row =
        sqlx::query("SELECT * FROM roles WHERE id = $1").bind(role_id.to_string()).fetch_optional(connection).await?;
    row.map(|row| role(&row)).transpose()
}

async fn is_held(transaction: &mut AnyConnection, role_id: Uuid) -> Result<bool, sqlx::Error> {
    let row = sqlx::query("SELECT 1 FROM account_roles WHERE role_id = $1 LIMIT 1")
        .bind(role_id.to_string())
        .fetch_optional(transaction)
        .await?;
    Ok(row.is_some())
}

impl Roles {
    /// A page by name, and how many there are in all.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, limit: i64, offset: i64) -> Result<(Vec<Role>, i64), sqlx::Error> {
        let rows = sqlx::query("SELECT * FROM roles ORDER BY name LIMIT $1 OFFSET $2")
            .bind(limit)
            .bind(offset)
            .fetch_all(self.0.pool())
            .await?;
        let total = sqlx::query_scalar("SELECT count(*) FROM roles").fetch_one(self.0.pool()).await?;
        Ok((rows.iter().map(role).collect::<Result<_, _>>()?, total))
    }

    /// A role by id.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, role_id: Uuid) -> Result<Option<Role>, sqlx::Error> {
        let mut connection = self.0.pool().acquire().await?;
        find(&mut connection, role_id).await
    }

    /// Adds a role without permissions.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn add(&self, role_id: Uuid, name: &str, description: &str, clock: &Clock) -> Result<Role, Refusal> {
        let mut transaction = self.0.begin(&[Lock::Rights]).await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM roles").fetch_one(&mut *transaction).await?;
        if count >= limits::ROLES {
            return Err(Refusal::TooMany);
        }
        let row = sqlx::query(
            "INSERT INTO roles (id, name, description, built_in, created_at, updated_at) \
             VALUES ($1, $2, $3, 0, $4, $4) RETURNING *",
        )
        .bind(role_id.to_string())
        .bind(name)
        .bind(description)
        .bind(clock.now())
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(role(&row)?)
    }

    /// Replaces what is said of a role. While somebody holds it, it keeps its name: tokens
    /// that are out carry it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn change(&self, role_id: Uuid, name: &str, description: &str, clock: &Clock) -> Result<Role, Refusal> {
        let mut transaction = self.0.begin(&[Lock::Rights]).await?;
        let was = find(&mut transaction, role_id).await?.ok_or(Refusal::Unknown)?;
        if was.name != name {
            if was.built_in {
                return Err(Refusal::BuiltIn);
            }
            if is_held(&mut transaction, role_id).await? {
                return Err(Refusal::InUse);
            }
        }
        let row =
            sqlx::query("UPDATE roles SET name = $2, description = $3, updated_at = $4 WHERE id = $1 RETURNING *")
                .bind(role_id.to_string())
                .bind(name)
                .bind(description)
                .bind(clock.now())
                .fetch_one(&mut *transaction)
                .await?;
        transaction.commit().await?;
        Ok(role(&row)?)
    }

    /// Deletes a role that nobody holds.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn delete(&self, role_id: Uuid) -> Result<(), Refusal> {
        let mut transaction = self.0.begin(&[Lock::Rights]).await?;
        if find(&mut transaction, role_id).await?.ok_or(Refusal::Unknown)?.built_in {
            return Err(Refusal::BuiltIn);
        }
        if is_held(&mut transaction, role_id).await? {
            return Err(Refusal::InUse);
        }
        sqlx::query("DELETE FROM roles WHERE id = $1").bind(role_id.to_string()).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// A page of a role's permissions by name, and how many it has in all. `None` when there
    /// is no such role.
    ///
    /// # Errors
    /// The database's.
    pub async fn permissions(
        &self,
        role_id: Uuid,
        limit: i64,
        offset: i64,
    ) -> Result<Option<(Vec<Permission>, i64)>, sqlx::Error> {
        let mut connection = self.0.pool().acquire().await?;
        if find(&mut connection, role_id).await?.is_none() {
            return Ok(None);
        }
        let rows = sqlx::query(
            "SELECT p.* FROM role_permissions g JOIN permissions p ON p.id = g.permission_id WHERE g.role_id = $1 \
             ORDER BY p.name LIMIT $2 OFFSET $3",
        )
        .bind(role_id.to_string())
        .bind(limit)
        .bind(offset)
        .fetch_all(&mut *connection)
        .await?;
        let total = sqlx::query_scalar("SELECT count(*) FROM role_permissions WHERE role_id = $1")
            .bind(role_id.to_string())
            .fetch_one(&mut *connection)
            .await?;
        Ok(Some((rows.iter().map(permissions::permission).collect::<Result<_, _>>()?, total)))
    }

    /// Gives a role a permission; whether it had none yet.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn give(&self, role_id: Uuid, permission: Uuid) -> Result<(Permission, bool), Refusal> {
        let mut transaction = self.0.begin(&[Lock::Rights]).await?;
        find(&mut transaction, role_id).await?.ok_or(Refusal::Unknown)?;
        let permission = permissions::find(&mut transaction, permission).await?.ok_or(Refusal::Unknown)?;
        let done =
            sqlx::query("INSERT INTO role_permissions (role_id, permission_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(role_id.to_string())
                .bind(permission.id.to_string())
                .execute(&mut *transaction)
                .await?;
        transaction.commit().await?;
        Ok((permission, done.rows_affected() == 1))
    }

    /// Takes a permission away from a role that has it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn take(&self, role_id: Uuid, permission: Uuid) -> Result<(), Refusal> {
        let mut transaction = self.0.begin(&[Lock::Rights]).await?;
        let role = find(&mut transaction, role_id).await?.ok_or(Refusal::Unknown)?;
        let done = sqlx::query("DELETE FROM role_permissions WHERE role_id = $1 AND permission_id = $2")
            .bind(role_id.to_string())
            .bind(permission.to_string())
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Err(Refusal::Unknown);
        }
        if role.name == ADMIN {
            return Err(Refusal::BuiltIn);
        }
        Ok(transaction.commit().await?)
    }
}
