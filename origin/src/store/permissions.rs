//! Permissions: what can be allowed at all.
//!
//! Every change is made under the lock of the rights, so that what is decided about a
//! permission (no role has it) is true until it is done. The role [`ADMIN`] has each of them
//! for as long as it exists.

use sqlx::{AnyConnection, Row as _, any::AnyRow};
use uuid::Uuid;

use super::{
    Database,
    database::Lock,
    id,
    rights::{ADMIN, Refusal},
};
use crate::{clock::Clock, limits};

/// A permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// Its id.
    pub id: Uuid,
    /// By which services ask for it.
    pub name: String,
    /// What is acted upon.
    pub resource: String,
    /// How.
    pub action: String,
    /// Whether the program itself relies on it.
    pub built_in: bool,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970.
    pub updated_at: i64,
}

/// What is said of a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its name.
    pub name: String,
    /// What is acted upon.
    pub resource: String,
    /// How.
    pub action: String,
}

/// The permissions' statements.
#[derive(Debug, Clone)]
pub struct Permissions(pub(crate) Database);

pub(super) fn permission(row: &AnyRow) -> Result<Permission, sqlx::Error> {
    let built_in: i64 = row.try_get("built_in")?;
    Ok(Permission {
        id: id(row, "id")?,
        name: row.try_get("name")?,
        resource: row.try_get("resource")?,
        action: row.try_get("action")?,
        built_in: built_in != 0,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

pub(super) async fn find(
    connection: &mut AnyConnection,
    permission_id: Uuid,
) -> Result<Option<Permission>, sqlx::Error> {
    let row = sqlx::query("SELECT * FROM permissions WHERE id = $1")
        .bind(permission_id.to_string())
        .fetch_optional(connection)
        .await?;
    row.map(|row| permission(&row)).transpose()
}

impl Permissions {
    /// A page by name, and how many there are in all.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, limit: i64, offset: i64) -> Result<(Vec<Permission>, i64), sqlx::Error> {
        let rows = sqlx::query("SELECT * FROM permissions ORDER BY name LIMIT $1 OFFSET $2")
            .bind(limit)
            .bind(offset)
            .fetch_all(self.0.pool())
            .await?;
        let total = sqlx::query_scalar("SELECT count(*) FROM permissions").fetch_one(self.0.pool()).await?;
        Ok((rows.iter().map(permission).collect::<Result<_, _>>()?, total))
    }

    /// A permission by id.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, permission_id: Uuid) -> Result<Option<Permission>, sqlx::Error> {
        let mut connection = self.0.pool().acquire().await?;
        find(&mut connection, permission_id).await
    }

    /// Adds a permission, which administrators have at once and no other role.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn add(&self, permission_id: Uuid, said: &Said, clock: &Clock) -> Result<Permission, Refusal> {
        let mut transaction = self.0.begin(&[Lock::Rights]).await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM permissions").fetch_one(&mut *transaction).await?;
        if count >= limits::PERMISSIONS {
            return Err(Refusal::TooMany);
        }
        let row = sqlx::query(
            "INSERT INTO permissions (id, name, resource, action, built_in, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, 0, $5, $5) RETURNING *",
        )
        .bind(permission_id.to_string())
        .bind(&said.name)
        .bind(&said.resource)
        .bind(&said.action)
        .bind(clock.now())
        .fetch_one(&mut *transaction)
        .await?;
        sqlx::query("INSERT INTO role_permissions (role_id, permission_id) SELECT id, $1 FROM roles WHERE name = $2")
            .bind(permission_id.to_string())
            .bind(ADMIN)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(permission(&row)?)
    }

    /// Replaces what is said of a permission.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn change(&self, permission_id: Uuid, said: &Said, clock: &Clock) -> Result<Permission, Refusal> {
        let mut transaction = self.0.begin(&[Lock::Rights]).await?;
        let was = find(&mut transaction, permission_id).await?.ok_or(Refusal::Unknown)?;
        if was.built_in {
            let is_same = was.name == said.name && was.resource == said.resource && was.action == said.action;
            return if is_same { Ok(was) } else { Err(Refusal::BuiltIn) };
        }
        let row = sqlx::query(
            "UPDATE permissions SET name = $2, resource = $3, action = $4, updated_at = $5 WHERE id = $1 RETURNING *",
        )
        .bind(permission_id.to_string())
        .bind(&said.name)
        .bind(&said.resource)
        .bind(&said.action)
        .bind(clock.now())
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(permission(&row)?)
    }

    /// Deletes a permission that no role has but the administrators'.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn delete(&self, permission_id: Uuid) -> Result<(), Refusal> {
        let mut transaction = self.0.begin(&[Lock::Rights]).await?;
        if find(&mut transaction, permission_id).await?.ok_or(Refusal::Unknown)?.built_in {
            return Err(Refusal::BuiltIn);
        }
        let use_of_it = sqlx::query(
            "SELECT 1 FROM role_permissions g JOIN roles r ON r.id = g.role_id \
             WHERE g.permission_id = $1 AND r.name <> $2 LIMIT 1",
        )
        .bind(permission_id.to_string())
        .bind(ADMIN)
        .fetch_optional(&mut *transaction)
        .await?;
        if use_of_it.is_some() {
            return Err(Refusal::InUse);
        }
        for statement in
            ["DELETE FROM role_permissions WHERE permission_id = $1", "DELETE FROM permissions WHERE id = $1"]
        {
            sqlx::query(statement).bind(permission_id.to_string()).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }
}
