//! Accounts: who may log in, and with what.

use sqlx::{Any, Executor, Row as _, any::AnyRow};
use uuid::Uuid;

use super::{
    Database,
    database::Lock,
    id, is_taken,
    outbox::{self, Revoked},
    rights, sessions, stale,
};
use crate::{clock::Clock, limits};

/// An active account by id, read where its caller is at work.
pub(super) async fn find<'e>(
    executor: impl Executor<'e, Database = Any>,
    account_id: Uuid,
) -> Result<Option<Account>, sqlx::Error> {
    let text = format!("SELECT {COLUMNS} FROM accounts a WHERE a.id = $1 AND a.state = 'active'");
    let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(account_id.to_string()).fetch_optional(executor).await?;
    row.map(|row| account(&row)).transpose()
}

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
    /// Grows with each change of address, names and roles.
    pub version: i64,
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
    /// Names of the roles that it has.
    pub roles: &'a [String],
    /// Which attempt this is.
    pub attempt: Uuid,
    /// SHA-256 of the registration's key.
    pub registered_by: Option<[u8; 32]>,
    /// Milliseconds since 1970.
    pub now: i64,
}

/// A registration under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// User id.
    pub id: Uuid,
    /// The account's version.
    pub version: i64,
}

impl Begun {
    /// What it is an account of.
    pub fn account(&self, new: &NewAccount<'_>) -> Account {
        let mut roles = new.roles.to_vec();
        roles.sort_unstable();
        Account {
            id: self.id,
            email: new.email.to_owned(),
            first_name: new.first_name.to_owned(),
            last_name: new.last_name.to_owned(),
            roles,
            created_at: new.now,
            updated_at: new.now,
            version: self.version,
        }
    }
}

/// What is to change of an account, in normal form; what is `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'a> {
    /// E-mail address.
    pub email: Option<&'a str>,
    /// First name.
    pub first_name: Option<&'a str>,
    /// Last name.
    pub last_name: Option<&'a str>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The account as it is now.
    Done(Account),
    /// There is none.
    Nobody,
    /// It has a version that may not be changed.
    Refused,
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
    /// It has a version that may not be deleted.
    Refused,
}

/// Why an account cannot be as it was asked for.
#[derive(Debug)]
pub enum Conflict {
    /// Another account has the e-mail address.
    Taken,
    /// There is no role of a name that was given.
    UnknownRole,
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

pub(super) const COLUMNS: &str = "a.id, a.email, a.first_name, a.last_name, a.created_at, a.updated_at, a.version, \
    (SELECT string_agg(r.name, ',' ORDER BY r.name) FROM account_roles h JOIN roles r ON r.id = h.role_id \
      WHERE h.account_id = a.id) AS roles";

pub(super) fn account(row: &AnyRow) -> Result<Account, sqlx::Error> {
    let roles: Option<String> = row.try_get("roles")?;
    Ok(Account {
        id: id(row, "id")?,
        email: row.try_get("email")?,
        first_name: row.try_get("first_name")?,
        last_name: row.try_get("last_name")?,
        roles: roles.unwrap_or_default().split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

impl Accounts {
    /// Writes a pending account, or takes over one that an earlier attempt left
    /// pending, of which nothing stays but the id. Should nobody activate it, its mark is
    /// what undoes it.
    ///
    /// # Errors
    /// [`Conflict::Taken`] when an active account has the address;
    /// [`Conflict::UnknownRole`].
    pub async fn begin(&self, new: &NewAccount<'_>) -> Result<Begun, Conflict> {
        let mut transaction = self.0.begin(&[]).await?;
        let row = sqlx::query(
            "INSERT INTO accounts (id, email, password_hash, first_name, last_name, state, attempt, created_at, updated_at, registered_by) \
             VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7, $7, $8) \
             ON CONFLICT (email) DO UPDATE SET password_hash = excluded.password_hash, \
               first_name = excluded.first_name, last_name = excluded.last_name, \
               attempt = excluded.attempt, created_at = excluded.created_at, updated_at = excluded.updated_at, \
               version = accounts.version + 1, registered_by = excluded.registered_by \
             WHERE accounts.state = 'pending' \
             RETURNING id, version",
        )
        .bind(new.id.to_string())
        .bind(new.email)
        .bind(new.password_hash)
        .bind(new.first_name)
        .bind(new.last_name)
        .bind(new.attempt.to_string())
        .bind(new.now)
        .bind(new.registered_by.map(|key| key.to_vec()))
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or(Conflict::Taken)?;
        let begun = Begun { id: id(&row, "id")?, version: row.try_get("version")? };
        // An administrator may have begun what a stranger takes over.
        sqlx::query("DELETE FROM account_roles WHERE account_id = $1")
            .bind(begun.id.to_string())
            .execute(&mut *transaction)
            .await?;
        for role in new.roles {
            let done =
                sqlx::query("INSERT INTO account_roles (account_id, role_id) SELECT $1, id FROM roles WHERE name = $2")
                    .bind(begun.id.to_string())
                    .bind(role)
                    .execute(&mut *transaction)
                    .await?;
            if done.rows_affected() != 1 {
                return Err(Conflict::UnknownRole);
            }
        }
        stale::mark(&mut transaction, begun.id, new.now.saturating_add(limits::PENDING_MS)).await?;
        transaction.commit().await?;
        Ok(begun)
    }

    /// Makes a pending account active, if no later attempt took it over. The user service
    /// has the profile.
    ///
    /// # Errors
    /// The database's.
    pub async fn activate(&self, begun: Begun, attempt: Uuid) -> Result<bool, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(begun.id)]).await?;
        let done =
            sqlx::query("UPDATE accounts SET state = 'active' WHERE id = $1 AND attempt = $2 AND state = 'pending'")
                .bind(begun.id.to_string())
                .bind(attempt.to_string())
                .execute(&mut *transaction)
                .await?;
        if done.rows_affected() != 1 {
            return Ok(false);
        }
        stale::settle(&mut transaction, begun.id, begun.version).await?;
        transaction.commit().await?;
        Ok(true)
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

    /// Whether any active account has a role.
    ///
    /// # Errors
    /// The database's.
    pub async fn has_holder(&self, role: &str) -> Result<bool, sqlx::Error> {
        let row = sqlx::query(
            "SELECT 1 FROM accounts a JOIN account_roles h ON h.account_id = a.id JOIN roles r ON r.id = h.role_id \
             WHERE r.name = $1 AND a.state = 'active' LIMIT 1",
        )
        .bind(role)
        .fetch_optional(self.0.pool())
        .await?;
        Ok(row.is_some())
    }

    /// An active account by id.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, account_id: Uuid) -> Result<Option<Account>, sqlx::Error> {
        find(self.0.pool(), account_id).await
    }

    /// Adds a role to an active account, if it does not have it. With another password hash
    /// all its sessions end, and no address counts as one that its owner logged in from. False,
    /// and nothing is done, when they were ended so often within seconds that it must wait.
    ///
    /// # Errors
    /// The database's.
    pub async fn promote(
        &self,
        account_id: Uuid,
        role: &str,
        password_hash: Option<&str>,
        clock: &Clock,
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Administrators, Lock::Account(account_id)]).await?;
        let now = clock.now();
        let done = sqlx::query(
            "INSERT INTO account_roles (account_id, role_id) \
             SELECT a.id, r.id FROM accounts a, roles r WHERE a.id = $1 AND a.state = 'active' AND r.name = $2 \
             ON CONFLICT DO NOTHING",
        )
        .bind(account_id.to_string())
        .bind(role)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 1 {
            sqlx::query("UPDATE accounts SET version = version + 1, updated_at = $2 WHERE id = $1")
                .bind(account_id.to_string())
                .bind(now)
                .execute(&mut *transaction)
                .await?;
            stale::mark(&mut transaction, account_id, now.saturating_add(limits::STALE_GRACE_MS)).await?;
        }
        if let Some(hash) = password_hash {
            sqlx::query("UPDATE accounts SET password_hash = $2 WHERE id = $1")
                .bind(account_id.to_string())
                .bind(hash)
                .execute(&mut *transaction)
                .await?;
            sqlx::query("DELETE FROM known_addresses WHERE account_id = $1")
                .bind(account_id.to_string())
                .execute(&mut *transaction)
                .await?;
            if !sessions::end_all(&mut transaction, account_id, now).await? {
                return Ok(false);
            }
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Changes address and names of an active account whose version is one that
    /// `may_change` takes. What changes nothing leaves the version as it is.
    ///
    /// # Errors
    /// [`Conflict::Taken`] when another account has the address.
    pub async fn change(
        &self,
        account_id: Uuid,
        change: &Change<'_>,
        may_change: impl Fn(i64) -> bool + Send,
        clock: &Clock,
    ) -> Result<Changed, Conflict> {
        let mut transaction = self.0.begin(&[Lock::Account(account_id)]).await?;
        let now = clock.now();
        let text = format!("SELECT {COLUMNS} FROM accounts a WHERE a.id = $1 AND a.state = 'active'");
        let row = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(account_id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(row) = row else { return Ok(Changed::Nobody) };
        let was = account(&row)?;
        if !may_change(was.version) {
            return Ok(Changed::Refused);
        }
        let new = |given: Option<&str>, was: &str| given.unwrap_or(was).to_owned();
        let is = Account {
            email: new(change.email, &was.email),
            first_name: new(change.first_name, &was.first_name),
            last_name: new(change.last_name, &was.last_name),
            updated_at: now,
            version: was.version.saturating_add(1),
            ..was.clone()
        };
        if (&is.email, &is.first_name, &is.last_name) == (&was.email, &was.first_name, &was.last_name) {
            return Ok(Changed::Done(was));
        }
        // A registration that was given up keeps no address from anybody.
        let given_up: Option<String> =
            sqlx::query_scalar("DELETE FROM accounts WHERE email = $1 AND state = 'pending' RETURNING id")
                .bind(&is.email)
                .fetch_optional(&mut *transaction)
                .await?;
        if let Some(given_up) = given_up.and_then(|text| Uuid::parse_str(&text).ok()) {
            stale::mark(&mut transaction, given_up, now).await?;
        }
        sqlx::query(
            "UPDATE accounts SET email = $2, first_name = $3, last_name = $4, updated_at = $5, version = $6 \
             WHERE id = $1",
        )
        .bind(account_id.to_string())
        .bind(&is.email)
        .bind(&is.first_name)
        .bind(&is.last_name)
        .bind(is.updated_at)
        .bind(is.version)
        .execute(&mut *transaction)
        .await?;
        stale::mark(&mut transaction, account_id, now.saturating_add(limits::STALE_GRACE_MS)).await?;
        transaction.commit().await?;
        Ok(Changed::Done(is))
    }

    /// Deletes an account with its sessions, if its version is one that `may_delete` takes,
    /// unless it is the last active one with the role `kept`.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete(
        &self,
        account_id: Uuid,
        kept: &str,
        may_delete: impl Fn(i64) -> bool + Send,
        clock: &Clock,
    ) -> Result<Deletion, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Administrators, Lock::Account(account_id)]).await?;
        // Under the lock: a refresh that was quicker has the earlier time.
        let now = clock.now();
        if rights::is_last(&mut transaction, account_id, kept).await? {
            return Ok(Deletion::Last);
        }
        let row = sqlx::query("DELETE FROM accounts WHERE id = $1 RETURNING revoked_until, issued_until, version")
            .bind(account_id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(row) = row else { return Ok(Deletion::Nobody) };
        let (revoked_until, version): (i64, i64) = (row.try_get("revoked_until")?, row.try_get("version")?);
        if !may_delete(version) {
            // Nothing of it happened: the transaction ends without a commit.
            return Ok(Deletion::Refused);
        }
        // Tokens may say the second after that.
        let until = sessions::tokens_end(now, revoked_until, row.try_get("issued_until")?);
        outbox::note(&mut transaction, Revoked::Account(account_id, until), now).await?;
        stale::mark(&mut transaction, account_id, now.saturating_add(limits::STALE_GRACE_MS)).await?;
        transaction.commit().await?;
        Ok(Deletion::Done)
    }
}
