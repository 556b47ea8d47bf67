//! Roles and the permissions that they hold.
//!
//! Each change holds [`Lock::Access`], so a check (no account holds the role) stays true until the
//! commit.

use sqlx::AnyConnection;
use uuid::Uuid;

pub use super::rows::Role;
use super::{
    Database,
    access::{self, ADMIN, AccessError, check_room},
    database::Lock,
    rows::{self, Permission, permission, role},
};
use crate::{clock::Clock, limits};

/// Statements on roles.
#[derive(Debug, Clone)]
pub struct Roles(pub(crate) Database);

async fn is_held(transaction: &mut AnyConnection, role_id: Uuid) -> Result<bool, sqlx::Error> {
    rows::exists(transaction, "SELECT 1 FROM account_roles WHERE role_id = $1 LIMIT 1", role_id).await
}

async fn require(transaction: &mut AnyConnection, role_id: Uuid) -> Result<Role, AccessError> {
    rows::find(transaction, "roles", role_id, role).await?.ok_or(AccessError::NotFound)
}

impl Roles {
    /// Returns one page in the order of the names, and the number of roles in all.
    pub async fn list(&self, limit: i64, offset: i64) -> Result<(Vec<Role>, i64), sqlx::Error> {
        rows::page_by_name(&self.0, "roles", (limit, offset), role).await
    }

    /// Finds a role by id.
    pub async fn find(&self, role_id: Uuid) -> Result<Option<Role>, sqlx::Error> {
        rows::find(self.0.pool(), "roles", role_id, role).await
    }

    /// Adds a role without permissions.
    ///
    /// # Errors
    /// [`AccessError::TooMany`], [`AccessError::NameTaken`].
    pub async fn add(&self, role_id: Uuid, name: &str, description: &str, clock: &Clock) -> Result<Role, AccessError> {
        let mut transaction = self.0.begin(&[Lock::Access]).await?;
        check_room(&mut transaction, "roles", limits::ROLES).await?;
        let statement = "INSERT INTO roles (id, name, description, built_in, created_at, updated_at) \
                         VALUES ($1, $2, $3, 0, $4, $4) RETURNING *";
        let added =
            access::write(&mut transaction, statement, role_id, &[name, description], clock.now(), role).await?;
        transaction.commit().await?;
        Ok(added)
    }

    /// Replaces name and description of a role. The name of a role that an account holds cannot
    /// change, because issued tokens carry it.
    ///
    /// # Errors
    /// [`AccessError::NotFound`], [`AccessError::BuiltIn`], [`AccessError::InUse`],
    /// [`AccessError::NameTaken`].
    pub async fn change(
        &self,
        role_id: Uuid,
        name: &str,
        description: &str,
        clock: &Clock,
    ) -> Result<Role, AccessError> {
        let mut transaction = self.0.begin(&[Lock::Access]).await?;
        let current = require(&mut transaction, role_id).await?;
        if current.name != name {
            if current.built_in {
                return Err(AccessError::BuiltIn);
            }
            if is_held(&mut transaction, role_id).await? {
                return Err(AccessError::InUse);
            }
        }
        let statement = "UPDATE roles SET name = $2, description = $3, updated_at = $4 WHERE id = $1 RETURNING *";
        let changed =
            access::write(&mut transaction, statement, role_id, &[name, description], clock.now(), role).await?;
        transaction.commit().await?;
        Ok(changed)
    }

    /// Deletes a role that no account holds.
    ///
    /// # Errors
    /// [`AccessError::NotFound`], [`AccessError::BuiltIn`], [`AccessError::InUse`].
    pub async fn delete(&self, role_id: Uuid) -> Result<(), AccessError> {
        let mut transaction = self.0.begin(&[Lock::Access]).await?;
        if require(&mut transaction, role_id).await?.built_in {
            return Err(AccessError::BuiltIn);
        }
        if is_held(&mut transaction, role_id).await? {
            return Err(AccessError::InUse);
        }
        sqlx::query("DELETE FROM roles WHERE id = $1").bind(role_id.to_string()).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// Returns one page of a role's permissions in the order of the names, and the number of them in
    /// all. `None` if the role does not exist.
    pub async fn permissions(
        &self,
        role_id: Uuid,
        limit: i64,
        offset: i64,
    ) -> Result<Option<(Vec<Permission>, i64)>, sqlx::Error> {
        let mut connection = self.0.pool().acquire().await?;
        if rows::find(&mut *connection, "roles", role_id, role).await?.is_none() {
            return Ok(None);
        }
        let page = sqlx::query(
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
        Ok(Some((page.iter().map(permission).collect::<Result<_, _>>()?, total)))
    }

    /// Grants a permission to a role. Returns whether the role did not hold it before.
    ///
    /// # Errors
    /// [`AccessError::NotFound`].
    pub async fn grant(&self, role_id: Uuid, permission_id: Uuid) -> Result<(Permission, bool), AccessError> {
        let mut transaction = self.0.begin(&[Lock::Access]).await?;
        require(&mut transaction, role_id).await?;
        let found = rows::find(&mut *transaction, "permissions", permission_id, permission).await?;
        let permission = found.ok_or(AccessError::NotFound)?;
        let done =
            sqlx::query("INSERT INTO role_permissions (role_id, permission_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(role_id.to_string())
                .bind(permission.id.to_string())
                .execute(&mut *transaction)
                .await?;
        transaction.commit().await?;
        Ok((permission, done.rows_affected() == 1))
    }

    /// Revokes a permission that a role holds.
    ///
    /// # Errors
    /// [`AccessError::NotFound`]; [`AccessError::BuiltIn`] for [`ADMIN`], which holds every
    /// permission.
    pub async fn revoke(&self, role_id: Uuid, permission_id: Uuid) -> Result<(), AccessError> {
        let mut transaction = self.0.begin(&[Lock::Access]).await?;
        let role = require(&mut transaction, role_id).await?;
        let done = sqlx::query("DELETE FROM role_permissions WHERE role_id = $1 AND permission_id = $2")
            .bind(role_id.to_string())
            .bind(permission_id.to_string())
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Err(AccessError::NotFound);
        }
        if role.name == ADMIN {
            return Err(AccessError::BuiltIn);
        }
        Ok(transaction.commit().await?)
    }
}
