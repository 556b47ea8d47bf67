//! Which roles accounts hold, and what they may do by them.
//!
//! Every change is made under the locks of the rights, of the administrators and of the
//! account: a role that is given cannot be renamed or deleted meanwhile, the last
//! administrator stays one, and no token is issued between the roles that it carries and
//! the revocation that ends it.

use std::collections::BTreeSet;

use sqlx::AnyConnection;
use uuid::Uuid;

use super::{
    Database,
    database::Lock,
    is_taken,
    roles::{self, Role},
    sessions, stale,
};
use crate::{clock::Clock, limits};

/// The role that somebody must hold and that has every permission. A migration writes it.
pub const ADMIN: &str = "admin";

/// Why rights are left as they are.
#[derive(Debug)]
pub enum Refusal {
    /// No such account, role or permission, or they do not go together.
    Unknown,
    /// The program itself relies on it.
    BuiltIn,
    /// Another one has the name.
    Taken,
    /// Accounts hold the role, or roles have the permission.
    InUse,
    /// Nobody would be an administrator.
    Last,
    /// There are as many as there may be.
    TooMany,
    /// The account's tokens were ended so often within seconds that it must wait.
    Busy,
    /// The database failed.
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        // Names are the only thing of these tables that two can want.
        if is_taken(&error) { Self::Taken } else { Self::Failed(error) }
    }
}

/// What a change of an account's roles led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The roles that it holds now, by name.
    pub roles: Vec<Role>,
    /// Whether one was given.
    pub given: bool,
    /// Whether one was taken away, and with it the tokens that carry it.
    pub taken: bool,
}

/// The statements of who may do what.
#[derive(Debug, Clone)]
pub struct Rights(pub(crate) Database);

/// Whether an account is the only active one that holds a role. Under the administrators'
/// lock, the answer stays true.
pub(super) async fn is_last(transaction: &mut AnyConnection, account: Uuid, role: &str) -> Result<bool, sqlx::Error> {
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
    let row = sqlx::query("SELECT 1 FROM accounts WHERE id = $1 AND state = 'active'")
        .bind(account.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

/// At most [`limits::HELD_ROLES`].
async fn held(connection: &mut AnyConnection, account: Uuid) -> Result<Vec<Role>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT r.* FROM account_roles h JOIN roles r ON r.id = h.role_id WHERE h.account_id = $1 ORDER BY r.name",
    )
    .bind(account.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(roles::role).collect()
}

async fn give(transaction: &mut AnyConnection, account: Uuid, role: Uuid) -> Result<(), Refusal> {
    let done = sqlx::query("INSERT INTO account_roles (account_id, role_id) SELECT $1, id FROM roles WHERE id = $2")
        .bind(account.to_string())
        .bind(role.to_string())
        .execute(transaction)
        .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Refusal::Unknown) }
}

async fn take(transaction: &mut AnyConnection, account: Uuid, role: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM account_roles WHERE account_id = $1 AND role_id = $2")
        .bind(account.to_string())
        .bind(role.to_string())
        .execute(transaction)
        .await?;
    Ok(())
}

impl Rights {
    /// The roles of an active account, by name. `None` when there is no such account.
    ///
    /// # Errors
    /// The database's.
    pub async fn roles(&self, account: Uuid) -> Result<Option<Vec<Role>>, sqlx::Error> {
        let mut connection = self.0.pool().acquire().await?;
        if !is_active(&mut connection, account).await? {
            return Ok(None);
        }
        held(&mut connection, account).await.map(Some)
    }

    /// Names of all that an active account may do, sorted. `None` when there is no such
    /// account.
    ///
    /// # Errors
    /// The database's.
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

    /// Whether an active account has a permission. `None` when there is no such account.
    ///
    /// # Errors
    /// The database's.
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

    /// Gives an account a role that it may have already.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn give(&self, account: Uuid, role: Uuid, clock: &Clock) -> Result<Change, Refusal> {
        self.change(account, clock, |mut held| {
            held.insert(role);
            Ok(held)
        })
        .await
    }

    /// Takes a role away from an account that holds it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn take(&self, account: Uuid, role: Uuid, clock: &Clock) -> Result<Change, Refusal> {
        self.change(account, clock, |mut held| if held.remove(&role) { Ok(held) } else { Err(Refusal::Unknown) }).await
    }

    /// Makes these an account's roles.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn replace(&self, account: Uuid, roles: BTreeSet<Uuid>, clock: &Clock) -> Result<Change, Refusal> {
        self.change(account, clock, |_| Ok(roles)).await
    }

    async fn change(
        &self,
        account: Uuid,
        clock: &Clock,
        wanted: impl FnOnce(BTreeSet<Uuid>) -> Result<BTreeSet<Uuid>, Refusal> + Send,
    ) -> Result<Change, Refusal> {
        let locks = [Lock::Rights, Lock::Administrators, Lock::Account(account)];
        let mut transaction = self.0.begin(&locks).await?;
        let now = clock.now();
        if !is_active(&mut transaction, account).await? {
            return Err(Refusal::Unknown);
        }
        let roles = held(&mut transaction, account).await?;
        let holds: BTreeSet<Uuid> = roles.iter().map(|role| role.id).collect();
        let wants = wanted(holds.clone())?;
        let given: Vec<Uuid> = wants.difference(&holds).copied().collect();
        let taken: Vec<Uuid> = holds.difference(&wants).copied().collect();
        if given.is_empty() && taken.is_empty() {
            return Ok(Change { roles, given: false, taken: false });
        }
        if wants.len() > limits::HELD_ROLES {
            return Err(Refusal::TooMany);
        }
        let loses_admin = roles.iter().any(|role| role.name == ADMIN && !wants.contains(&role.id));
        if loses_admin && is_last(&mut transaction, account, ADMIN).await? {
            return Err(Refusal::Last);
        }
        for role in &given {
            give(&mut transaction, account, *role).await?;
        }
        for role in &taken {
            take(&mut transaction, account, *role).await?;
        }
        // Tokens that lack a role harm nobody; those that carry one too many are open doors.
        if !taken.is_empty() && !sessions::end_tokens(&mut transaction, account, now).await? {
            return Err(Refusal::Busy);
        }
        sqlx::query("UPDATE accounts SET version = version + 1, updated_at = $2 WHERE id = $1")
            .bind(account.to_string())
            .bind(now)
            .execute(&mut *transaction)
            .await?;
        stale::mark(&mut transaction, account, now).await?;
        let roles = held(&mut transaction, account).await?;
        transaction.commit().await?;
        Ok(Change { roles, given: !given.is_empty(), taken: !taken.is_empty() })
    }
}
