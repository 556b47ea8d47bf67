//! Permissions.
//!
//! Each change holds [`Lock::Access`], so a check (no role holds the permission) stays true until
//! the commit. The role [`ADMIN`] holds every permission.

use uuid::Uuid;

pub use super::rows::Permission;
use super::{
    Database,
    access::{self, ADMIN, AccessError, check_room},
    database::Lock,
    rows::{self, permission},
};
use crate::{clock::Clock, limits};

/// The fields of a permission that an administrator sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionFields {
    /// Name.
    pub name: String,
    /// What the permission applies to.
    pub resource: String,
    /// What the permission allows.
    pub action: String,
}

impl PermissionFields {
    fn texts(&self) -> [&str; 3] {
        [&self.name, &self.resource, &self.action]
    }
}

/// Statements on permissions.
#[derive(Debug, Clone)]
pub struct Permissions(pub(crate) Database);

impl Permissions {
    /// Returns one page in the order of the names, and the number of permissions in all.
    pub async fn list(&self, limit: i64, offset: i64) -> Result<(Vec<Permission>, i64), sqlx::Error> {
        rows::page_by_name(&self.0, "permissions", (limit, offset), permission).await
    }

    /// Finds a permission by id.
    pub async fn find(&self, permission_id: Uuid) -> Result<Option<Permission>, sqlx::Error> {
        rows::find(self.0.pool(), "permissions", permission_id, permission).await
    }

    /// Adds a permission and grants it to [`ADMIN`].
    ///
    /// # Errors
    /// [`AccessError::TooMany`], [`AccessError::NameTaken`].
    pub async fn add(
        &self,
        permission_id: Uuid,
        fields: &PermissionFields,
        clock: &Clock,
    ) -> Result<Permission, AccessError> {
        let mut transaction = self.0.begin(&[Lock::Access]).await?;
        check_room(&mut transaction, "permissions", limits::PERMISSIONS).await?;
        let statement = "INSERT INTO permissions (id, name, resource, action, built_in, created_at, updated_at) \
                         VALUES ($1, $2, $3, $4, 0, $5, $5) RETURNING *";
        let added =
            access::write(&mut transaction, statement, permission_id, &fields.texts(), clock.now(), permission).await?;
        sqlx::query("INSERT INTO role_permissions (role_id, permission_id) SELECT id, $1 FROM roles WHERE name = $2")
            .bind(permission_id.to_string())
            .bind(ADMIN)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(added)
    }

    /// Replaces the fields of a permission.
    ///
    /// # Errors
    /// [`AccessError::NotFound`], [`AccessError::BuiltIn`], [`AccessError::NameTaken`].
    pub async fn change(
        &self,
        permission_id: Uuid,
        fields: &PermissionFields,
        clock: &Clock,
    ) -> Result<Permission, AccessError> {
        let mut transaction = self.0.begin(&[Lock::Access]).await?;
        let found = rows::find(&mut *transaction, "permissions", permission_id, permission).await?;
        let current = found.ok_or(AccessError::NotFound)?;
        if current.built_in {
            let is_same = [&*current.name, &*current.resource, &*current.action] == fields.texts();
            return if is_same { Ok(current) } else { Err(AccessError::BuiltIn) };
        }
        let statement = "UPDATE permissions SET name = $2, resource = $3, action = $4, updated_at = $5 \
                         WHERE id = $1 RETURNING *";
        let changed =
            access::write(&mut transaction, statement, permission_id, &fields.texts(), clock.now(), permission).await?;
        transaction.commit().await?;
        Ok(changed)
    }

    /// Deletes a permission that no role but [`ADMIN`] holds.
    ///
    /// # Errors
    /// [`AccessError::NotFound`], [`AccessError::BuiltIn`], [`AccessError::InUse`].
    pub async fn delete(&self, permission_id: Uuid) -> Result<(), AccessError> {
        let mut transaction = self.0.begin(&[Lock::Access]).await?;
        let found = rows::find(&mut *transaction, "permissions", permission_id, permission).await?;
        if found.ok_or(AccessError::NotFound)?.built_in {
            return Err(AccessError::BuiltIn);
        }
        let holder = sqlx::query(
            "SELECT 1 FROM role_permissions g JOIN roles r ON r.id = g.role_id \
             WHERE g.permission_id = $1 AND r.name <> $2 LIMIT 1",
        )
        .bind(permission_id.to_string())
        .bind(ADMIN)
        .fetch_optional(&mut *transaction)
        .await?;
        if holder.is_some() {
            return Err(AccessError::InUse);
        }
        for statement in
            ["DELETE FROM role_permissions WHERE permission_id = $1", "DELETE FROM permissions WHERE id = $1"]
        {
            sqlx::query(statement).bind(permission_id.to_string()).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }
}
