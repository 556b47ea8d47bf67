//! The roles that accounts hold, and the permissions that follow from them.
//!
//! Each change holds [`Lock::Access`], [`Lock::Administrators`] and the account's lock. So an
//! assigned role cannot be renamed or deleted meanwhile, the last administrator keeps the role, and
//! no token is issued between the removal of a role and the revocation of the tokens that carry it.

use std::collections::BTreeSet;

use sqlx::AnyConnection;
use uuid::Uuid;

use super::{
    Database,
    access::{ADMIN, AccessError},
    database::Lock,
    profile_sync, revocation,
    rows::{self, Role},
};
use crate::{clock::Clock, limits};

/// The result of a change of an account's roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleChange {
    /// The roles that the account holds now, in the order of the names.
    pub roles: Vec<Role>,
    /// Whether a role was added.
    pub added: bool,
    /// Whether a role was removed, and with it the tokens that carry it.
    pub removed: bool,
}

/// Statements on the roles of accounts.
#[derive(Debug, Clone)]
pub struct AccountRoles(pub(crate) Database);

/// Returns whether an account is the only active one that holds a role. The answer stays true while
/// the transaction holds [`Lock::Administrators`].
pub(super) async fn is_last_holder(
    transaction: &mut AnyConnection,
    account: Uuid,
    role: &str,
) -> Result<bool, sqlx::Error> {
    let holders: Vec<String> = sqlx::query_scalar(
        "SELECT a.id FROM accounts a JOIN account_roles h ON h.account_id = a.id JOIN roles r ON r.id = h.role_id \
         WHERE r.name = $1 AND a.state = 'active' LIMIT 2",
    )
    .bind(role)
    .fetch_all(transaction)
    .await?;
    Ok(holders == [account.to_string()])
}

async fn is_active(connection: &mut AnyConnection, account: Uuid) -> Result<bool, sqlx::Error> {
    rows::exists(connection, "SELECT 1 FROM accounts WHERE id = $1 AND state = 'active'", account).await
}

/// Returns at most [`limits::HELD_ROLES`] roles.
async fn held_roles(connection: &mut AnyConnection, account: Uuid) -> Result<Vec<Role>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT r.* FROM account_roles h JOIN roles r ON r.id = h.role_id WHERE h.account_id = $1 ORDER BY r.name",
    )
    .bind(account.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(rows::role).collect()
}

async fn insert(transaction: &mut AnyConnection, account: Uuid, role: Uuid) -> Result<(), AccessError> {
    let done = sqlx::query("INSERT INTO account_roles (account_id, role_id) SELECT $1, id FROM roles WHERE id = $2")
        .bind(account.to_string())
        .bind(role.to_string())
        .execute(transaction)
        .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(AccessError::NotFound) }
}

async fn delete(transaction: &mut AnyConnection, account: Uuid, role: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM account_roles WHERE account_id = $1 AND role_id = $2")
        .bind(account.to_string())
        .bind(role.to_string())
        .execute(transaction)
        .await?;
    Ok(())
}

impl AccountRoles {
    /// Returns the roles of an active account in the order of the names, `None` if there is no such
    /// account.
    pub async fn roles(&self, account: Uuid) -> Result<Option<Vec<Role>>, sqlx::Error> {
        let mut connection = self.0.pool().acquire().await?;
        if !is_active(&mut connection, account).await? {
            return Ok(None);
        }
        held_roles(&mut connection, account).await.map(Some)
    }

    /// Returns the sorted names of an active account's permissions, `None` if there is no such
    /// account.
    pub async fn permissions(&self, account: Uuid) -> Result<Option<Vec<String>>, sqlx::Error> {
        let mut connection = self.0.pool().acquire().await?;
        if !is_active(&mut connection, account).await? {
            return Ok(None);
        }
        let names = sqlx::query_scalar(
            "SELECT DISTINCT p.name FROM account_roles h JOIN role_permissions g ON g.role_id = h.role_id \
             JOIN permissions p ON p.id = g.permission_id WHERE h.account_id = $1 ORDER BY p.name",
        )
        .bind(account.to_string())
        .fetch_all(&mut *connection)
        .await?;
        Ok(Some(names))
    }

    /// Returns whether an active account has a permission, `None` if there is no such account.
    pub async fn allows(&self, account: Uuid, permission: &str) -> Result<Option<bool>, sqlx::Error> {
        let mut connection = self.0.pool().acquire().await?;
        if !is_active(&mut connection, account).await? {
            return Ok(None);
        }
        let row = sqlx::query(
            "SELECT 1 FROM account_roles h JOIN role_permissions g ON g.role_id = h.role_id \
             JOIN permissions p ON p.id = g.permission_id WHERE h.account_id = $1 AND p.name = $2 LIMIT 1",
        )
        .bind(account.to_string())
        .bind(permission)
        .fetch_optional(&mut *connection)
        .await?;
        Ok(Some(row.is_some()))
    }

    /// Adds a role to an account. A role that the account holds already changes nothing.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn add(&self, account: Uuid, role: Uuid, clock: &Clock) -> Result<RoleChange, AccessError> {
        self.change(account, clock, |mut held| {
            held.insert(role);
            Ok(held)
        })
        .await
    }

    /// Removes a role from an account.
    ///
    /// # Errors
    /// [`AccessError::NotFound`] also if the account does not hold the role.
    pub async fn remove(&self, account: Uuid, role: Uuid, clock: &Clock) -> Result<RoleChange, AccessError> {
        self.change(account, clock, |mut held| if held.remove(&role) { Ok(held) } else { Err(AccessError::NotFound) })
            .await
    }

    /// Replaces the roles of an account.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn replace(
        &self,
        account: Uuid,
        roles: BTreeSet<Uuid>,
        clock: &Clock,
    ) -> Result<RoleChange, AccessError> {
        self.change(account, clock, |_| Ok(roles)).await
    }

    async fn change(
        &self,
        account: Uuid,
        clock: &Clock,
        target: impl FnOnce(BTreeSet<Uuid>) -> Result<BTreeSet<Uuid>, AccessError> + Send,
    ) -> Result<RoleChange, AccessError> {
        let locks = [Lock::Access, Lock::Administrators, Lock::Account(account)];
        let mut transaction = self.0.begin(&locks).await?;
        let now = clock.now();
        if !is_active(&mut transaction, account).await? {
            return Err(AccessError::NotFound);
        }
        let roles = held_roles(&mut transaction, account).await?;
        let held: BTreeSet<Uuid> = roles.iter().map(|role| role.id).collect();
        let target = target(held.clone())?;
        let added: Vec<Uuid> = target.difference(&held).copied().collect();
        let removed: Vec<Uuid> = held.difference(&target).copied().collect();
        if added.is_empty() && removed.is_empty() {
            return Ok(RoleChange { roles, added: false, removed: false });
        }
        if target.len() > limits::HELD_ROLES {
            return Err(AccessError::TooMany);
        }
        let loses_admin = roles.iter().any(|role| role.name == ADMIN && !target.contains(&role.id));
        if loses_admin && is_last_holder(&mut transaction, account, ADMIN).await? {
            return Err(AccessError::LastAdministrator);
        }
        for role in &added {
            insert(&mut transaction, account, *role).await?;
        }
        for role in &removed {
            delete(&mut transaction, account, *role).await?;
        }
        // A token that lacks a new role is harmless; one that carries a removed role is not.
        if !removed.is_empty() && !revocation::revoke_tokens(&mut transaction, account, now).await? {
            return Err(AccessError::Busy);
        }
        rows::increment_version(&mut transaction, account, now).await?;
        profile_sync::schedule(&mut transaction, account, now).await?;
        let roles = held_roles(&mut transaction, account).await?;
        transaction.commit().await?;
        Ok(RoleChange { roles, added: !added.is_empty(), removed: !removed.is_empty() })
    }
}
