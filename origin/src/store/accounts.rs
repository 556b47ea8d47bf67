//! Accounts: who may log in, and with what.

use sqlx::{Row as _, any::AnyRow};
use uuid::Uuid;

use super::{
    Database,
    database::Lock,
    id, is_taken,
    outbox::{self, Revoked},
    rights,
};
use crate::clock::Clock;

/// An account that is active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub id: Uuid,
    /// Normalised e-mail address.
    pub email: String,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// Roles, sorted.
    pub roles: Vec<String>,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970.
    pub updated_at: i64,
}

impl Account {
    /// Whether it holds a role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }
}

/// What a registration brings.
#[derive(Debug, Clone)]
pub struct NewAccount<'a> {
    /// User id, if the address is new.
    pub id: Uuid,
    /// Normalised e-mail address.
    pub email: &'a str,
    /// PHC string.
    pub password_hash: &'a str,
    /// First name.
    pub first_name: &'a str,
    /// Last name.
    pub last_name: &'a str,
    /// Which attempt this is.
    pub attempt: Uuid,
    /// Milliseconds since 1970.
    pub now: i64,
}

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The account is gone.
    Done,
    /// There was none.
    Nobody,
    /// It is the last one with a role that somebody must have.
    Last,
}

/// Another account has the e-mail address.
#[derive(Debug)]
pub enum Conflict {
    /// The address is taken.
    Taken,
    /// The database failed.
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Conflict {
    fn from(error: sqlx::Error) -> Self {
        if is_taken(&error) { Self::Taken } else { Self::Failed(error) }
    }
}

/// The accounts' statements.
#[derive(Debug, Clone)]
pub struct Accounts(pub(crate) Database);

const COLUMNS: &str = "a.id, a.email, a.first_name, a.last_name, a.created_at, a.updated_at, \
    (SELECT string_agg(r.name, ',' ORDER BY r.name) FROM account_roles h JOIN roles r ON r.id = h.role_id \
      WHERE h.account_id = a.id) AS roles";

fn account(row: &AnyRow) -> Result<Account, sqlx::Error> {
    let roles: Option<String> = row.try_get("roles")?;
    Ok(Account {
        id: id(row, "id")?,
        email: row.try_get("email")?,
        first_name: row.try_get("first_name")?,
        last_name: row.try_get("last_name")?,
        roles: roles.unwrap_or_default().split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

impl Accounts {
    /// Writes a pending account, or takes over one that an earlier attempt left
    /// pending. Gives the id that the account has.
    ///
    /// # Errors
    /// [`Conflict::Taken`] when an active account has the address.
    pub async fn begin(&self, new: &NewAccount<'_>, role: &str) -> Result<Uuid, Conflict> {
        let mut transaction = self.0.begin(&[]).await?;
        let row = sqlx::query(
            "INSERT INTO accounts (id, email, password_hash, first_name, last_name, state, attempt, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7, $7) \
             ON CONFLICT (email) DO UPDATE SET password_hash = excluded.password_hash, \
               first_name = excluded.first_name, last_name = excluded.last_name, \
               attempt = excluded.attempt, created_at = excluded.created_at, updated_at = excluded.updated_at \
             WHERE accounts.state = 'pending' \
             RETURNING id",
        )
        .bind(new.id.to_string())
        .bind(new.email)
        .bind(new.password_hash)
        .bind(new.first_name)
        .bind(new.last_name)
        .bind(new.attempt.to_string())
        .bind(new.now)
        .fetch_optional(&mut *transaction)
        .await?;
        let account_id = id(&row.ok_or(Conflict::Taken)?, "id")?;
        sqlx::query("INSERT INTO account_roles (account_id, role_id) SELECT $1, id FROM roles WHERE name = $2 ON CONFLICT DO NOTHING")
            .bind(account_id.to_string())
            .bind(role)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(account_id)
    }

    /// Makes a pending account active, if no later attempt took it over.
    ///
    /// # Errors
    /// The database's.
    pub async fn activate(&self, account: Uuid, attempt: Uuid) -> Result<bool, sqlx::Error> {
        let done =
            sqlx::query("UPDATE accounts SET state = 'active' WHERE id = $1 AND attempt = $2 AND state = 'pending'")
                .bind(account.to_string())
                .bind(attempt.to_string())
                .execute(self.0.pool())
                .await?;
        Ok(done.rows_affected() == 1)
    }

    /// An active account and its password's PHC string, by e-mail address.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_login(&self, email: &str) -> Result<Option<(Account, String)>, sqlx::Error> {
        let text =
            format!("SELECT {COLUMNS}, a.password_hash FROM accounts a WHERE a.email = $1 AND a.state = 'active'");
        let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(email).fetch_optional(self.0.pool()).await?;
        row.map(|row| Ok((account(&row)?, row.try_get("password_hash")?))).transpose()
    }

    /// An active account by id.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, account_id: Uuid) -> Result<Option<Account>, sqlx::Error> {
        let text = format!("SELECT {COLUMNS} FROM accounts a WHERE a.id = $1 AND a.state = 'active'");
        let row =
            sqlx::query(sqlx::AssertSqlSafe(text)).bind(account_id.to_string()).fetch_optional(self.0.pool()).await?;
        row.map(|row| account(&row)).transpose()
    }

    /// Adds a role.
    ///
    /// # Errors
    /// The database's.
    pub async fn grant(&self, account_id: Uuid, role: &str) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT INTO account_roles (account_id, role_id) SELECT $1, id FROM roles WHERE name = $2 ON CONFLICT DO NOTHING")
            .bind(account_id.to_string())
            .bind(role)
            .execute(self.0.pool())
            .await?;
        Ok(())
    }

    /// Changes address and names. False when there is no such account.
    ///
    /// # Errors
    /// [`Conflict::Taken`] when another account has the address.
    pub async fn change(
        &self,
        account_id: Uuid,
        email: &str,
        first_name: &str,
        last_name: &str,
        now: i64,
    ) -> Result<bool, Conflict> {
        let mut transaction = self.0.begin(&[Lock::Account(account_id)]).await?;
        // A registration that was given up keeps no address from anybody.
        sqlx::query("DELETE FROM accounts WHERE email = $1 AND state = 'pending'")
            .bind(email)
            .execute(&mut *transaction)
            .await?;
        let done = sqlx::query(
            "UPDATE accounts SET email = $2, first_name = $3, last_name = $4, updated_at = $5 \
             WHERE id = $1 AND state = 'active'",
        )
        .bind(account_id.to_string())
        .bind(email)
        .bind(first_name)
        .bind(last_name)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Deletes an account with its sessions, unless it is the last active one with
    /// the role `kept`.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete(&self, account_id: Uuid, kept: &str, clock: &Clock) -> Result<Deletion, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Administrators, Lock::Account(account_id)]).await?;
        // Under the lock: a refresh that was quicker has the earlier time.
        let now = clock.now();
        if rights::is_last(&mut transaction, account_id, kept).await? {
            return Ok(Deletion::Last);
        }
        let revoked_until: Option<i64> =
            sqlx::query_scalar("DELETE FROM accounts WHERE id = $1 RETURNING revoked_until")
                .bind(account_id.to_string())
                .fetch_optional(&mut *transaction)
                .await?;
        let Some(revoked_until) = revoked_until else { return Ok(Deletion::Nobody) };
        // Tokens may say the second after that.
        let until = (now / 1000).max(revoked_until.saturating_add(1));
        outbox::note(&mut transaction, Revoked::Account(account_id, until), now).await?;
        transaction.commit().await?;
        Ok(Deletion::Done)
    }
}
