//! Accounts: registration, login by password, changes and deletion.

use portcullis_client::profile::{ProfileChange, ProfileFields};
use sqlx::{AnyConnection, Row as _};
use uuid::Uuid;

use super::{
    Database, account_roles, api_keys,
    database::Lock,
    error::is_unique_violation,
    profile_sync, revocation,
    rows::{self, UserRecord, account, account_columns, id},
};
use crate::{clock::Clock, limits, profile};

/// The account of a registration.
#[derive(Debug, Clone)]
pub struct NewAccount<'a> {
    /// User id, if the address is new.
    pub id: Uuid,
    /// Normalised e-mail address.
    pub email: &'a str,
    /// PHC string.
    pub password_hash: &'a str,
    /// Profile fields.
    pub profile: &'a ProfileFields,
    /// Names of the roles.
    pub roles: &'a [String],
    /// Id of this attempt to register.
    pub attempt: Uuid,
    /// SHA-256 of the `Idempotency-Key`.
    pub registered_by: Option<[u8; 32]>,
    /// Milliseconds since 1970.
    pub now: i64,
}

/// A pending account, written by a registration that is in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingAccount {
    /// User id.
    pub id: Uuid,
    /// The account's version.
    pub version: i64,
}

impl PendingAccount {
    /// Returns the account as it is once it is active.
    pub fn account(&self, new: &NewAccount<'_>) -> UserRecord {
        let mut roles = new.roles.to_vec();
        roles.sort_unstable();
        UserRecord {
            id: self.id,
            email: new.email.to_owned(),
            profile: new.profile.clone(),
            roles,
            created_at: new.now,
            updated_at: new.now,
            version: self.version,
        }
    }
}

/// New values of an account's fields, normalised; `None` leaves a field as it is.
#[derive(Debug, Default)]
pub struct AccountUpdate {
    /// E-mail address.
    pub email: Option<String>,
    /// Profile fields.
    pub profile: ProfileChange,
}

/// The result of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateOutcome {
    /// The account as it is now.
    Updated(UserRecord),
    /// There is no such account.
    NotFound,
    /// The caller does not accept the account's version.
    VersionMismatch,
}

/// The result of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// The account is deleted.
    Deleted,
    /// There was no such account.
    NotFound,
    /// The account is the last one with a role that at least one account must hold.
    LastAdministrator,
    /// The caller does not accept the account's version.
    VersionMismatch,
}

/// Why an account was not written.
#[derive(Debug)]
pub enum AccountError {
    /// Another account has the e-mail address.
    EmailTaken,
    /// A role does not exist.
    UnknownRole,
    /// The database failed.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for AccountError {
    fn from(error: sqlx::Error) -> Self {
        if is_unique_violation(&error) { Self::EmailTaken } else { Self::Database(error) }
    }
}

/// Statements on accounts.
#[derive(Debug, Clone)]
pub struct Accounts(pub(crate) Database);

impl Accounts {
    /// Writes a pending account, or takes over one that an earlier attempt left pending and of which
    /// only the id remains. Its pending synchronisation deletes the account unless it is activated.
    ///
    /// # Errors
    /// [`AccountError::EmailTaken`] if an active account has the address;
    /// [`AccountError::UnknownRole`].
    pub async fn create_pending(&self, new: &NewAccount<'_>) -> Result<PendingAccount, AccountError> {
        // A role that is granted cannot be renamed or deleted meanwhile.
        let mut transaction = self.0.begin(&[Lock::Access]).await?;
        let pending = upsert_pending(&mut transaction, new).await?.ok_or(AccountError::EmailTaken)?;
        // The attempt that is taken over may have had other roles, such as an administrator's.
        sqlx::query("DELETE FROM account_roles WHERE account_id = $1")
            .bind(pending.id.to_string())
            .execute(&mut *transaction)
            .await?;
        for role in new.roles {
            let done =
                sqlx::query("INSERT INTO account_roles (account_id, role_id) SELECT $1, id FROM roles WHERE name = $2")
                    .bind(pending.id.to_string())
                    .bind(role)
                    .execute(&mut *transaction)
                    .await?;
            if done.rows_affected() != 1 {
                return Err(AccountError::UnknownRole);
            }
        }
        let due_at = new.now.saturating_add(limits::PENDING_MS);
        profile_sync::schedule(&mut transaction, pending.id, due_at).await?;
        transaction.commit().await?;
        Ok(pending)
    }

    /// Activates a pending account whose profile the user service has stored. Returns false if a later
    /// attempt took the account over.
    pub async fn activate(&self, pending: PendingAccount, attempt: Uuid) -> Result<bool, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(pending.id)]).await?;
        let done =
            sqlx::query("UPDATE accounts SET state = 'active' WHERE id = $1 AND attempt = $2 AND state = 'pending'")
                .bind(pending.id.to_string())
                .bind(attempt.to_string())
                .execute(&mut *transaction)
                .await?;
        if done.rows_affected() != 1 {
            return Ok(false);
        }
        profile_sync::complete(&mut transaction, pending.id, pending.version).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Finds an active account and the PHC string of its password by e-mail address.
    pub async fn find_login(&self, email: &str) -> Result<Option<(UserRecord, String)>, sqlx::Error> {
        let text = format!(
            "SELECT {}, a.password_hash FROM accounts a WHERE a.email = $1 AND a.state = 'active'",
            account_columns()
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(email).fetch_optional(self.0.pool()).await?;
        row.map(|row| Ok((account(&row)?, row.try_get("password_hash")?))).transpose()
    }

    /// Returns whether any active account holds a role.
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

    /// Finds an active account by id.
    pub async fn find(&self, account_id: Uuid) -> Result<Option<UserRecord>, sqlx::Error> {
        rows::find_account(self.0.pool(), account_id).await
    }

    /// Adds a role to an active account that may hold it already. With a new password hash, all
    /// sessions of the account are revoked and its known addresses are deleted.
    ///
    /// Returns false, without a change, if the account's tokens were revoked so often within seconds
    /// that the change must wait.
    pub async fn promote(
        &self,
        account_id: Uuid,
        role: &str,
        password_hash: Option<&str>,
        clock: &Clock,
    ) -> Result<bool, sqlx::Error> {
        let locks = [Lock::Access, Lock::Administrators, Lock::Account(account_id)];
        let mut transaction = self.0.begin(&locks).await?;
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
            rows::increment_version(&mut transaction, account_id, now).await?;
            schedule_after_grace(&mut transaction, account_id, now).await?;
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
            if !revocation::revoke_account(&mut transaction, account_id, now).await? {
                return Ok(false);
            }
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Updates address and profile of an active account whose version `accepts`. An update that changes
    /// nothing leaves the version as it is.
    ///
    /// # Errors
    /// [`AccountError::EmailTaken`] if another account has the address.
    pub async fn update(
        &self,
        account_id: Uuid,
        update: AccountUpdate,
        accepts: impl Fn(i64) -> bool + Send,
        clock: &Clock,
    ) -> Result<UpdateOutcome, AccountError> {
        let mut transaction = self.0.begin(&[Lock::Account(account_id)]).await?;
        let now = clock.now();
        let Some(old) = rows::find_account(&mut *transaction, account_id).await? else {
            return Ok(UpdateOutcome::NotFound);
        };
        if !accepts(old.version) {
            return Ok(UpdateOutcome::VersionMismatch);
        }
        let new = UserRecord {
            email: update.email.unwrap_or_else(|| old.email.clone()),
            profile: profile::apply(update.profile, &old.profile),
            updated_at: now,
            version: old.version.saturating_add(1),
            ..old.clone()
        };
        if (&new.email, &new.profile) == (&old.email, &old.profile) {
            return Ok(UpdateOutcome::Updated(old));
        }
        delete_pending_by_email(&mut transaction, &new.email, now).await?;
        let text = format!(
            "UPDATE accounts SET email = $2, updated_at = $3, version = $4, ({}) = ({}) WHERE id = $1",
            profile::columns(""),
            profile::placeholders(5)
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(account_id.to_string())
            .bind(&new.email)
            .bind(new.updated_at)
            .bind(new.version);
        profile::bind(query, &new.profile).execute(&mut *transaction).await?;
        schedule_after_grace(&mut transaction, account_id, now).await?;
        transaction.commit().await?;
        Ok(UpdateOutcome::Updated(new))
    }

    /// Deletes an account and its sessions if `accepts` its version, unless the account is the last
    /// active one that holds the role `required`.
    pub async fn delete(
        &self,
        account_id: Uuid,
        required: &str,
        accepts: impl Fn(i64) -> bool + Send,
        clock: &Clock,
    ) -> Result<DeleteOutcome, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Administrators, Lock::Account(account_id)]).await?;
        // Read under the lock, so that a refresh that came first has the earlier time.
        let now = clock.now();
        if account_roles::is_last_holder(&mut transaction, account_id, required).await? {
            return Ok(DeleteOutcome::LastAdministrator);
        }
        let version: Option<i64> = sqlx::query_scalar("SELECT version FROM accounts WHERE id = $1")
            .bind(account_id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(version) = version else { return Ok(DeleteOutcome::NotFound) };
        if !accepts(version) {
            return Ok(DeleteOutcome::VersionMismatch);
        }
        revocation::enqueue_account(&mut transaction, account_id, now).await?;
        api_keys::end_all(&mut transaction, account_id).await?;
        sqlx::query("DELETE FROM accounts WHERE id = $1")
            .bind(account_id.to_string())
            .execute(&mut *transaction)
            .await?;
        schedule_after_grace(&mut transaction, account_id, now).await?;
        transaction.commit().await?;
        Ok(DeleteOutcome::Deleted)
    }
}

/// Inserts a pending account or overwrites a pending one with the same address. `None` if an active
/// account has the address.
async fn upsert_pending(
    transaction: &mut AnyConnection,
    new: &NewAccount<'_>,
) -> Result<Option<PendingAccount>, AccountError> {
    let text = format!(
        "INSERT INTO accounts (id, email, password_hash, state, attempt, created_at, updated_at, registered_by, {}) \
         VALUES ($1, $2, $3, 'pending', $4, $5, $5, $6, {}) \
         ON CONFLICT (email) DO UPDATE SET password_hash = excluded.password_hash, \
           attempt = excluded.attempt, created_at = excluded.created_at, updated_at = excluded.updated_at, \
           version = accounts.version + 1, registered_by = excluded.registered_by, ({}) = ({}) \
         WHERE accounts.state = 'pending' \
         RETURNING id, version",
        profile::columns(""),
        profile::placeholders(7),
        profile::columns(""),
        profile::columns("excluded.")
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(new.id.to_string())
        .bind(new.email)
        .bind(new.password_hash)
        .bind(new.attempt.to_string())
        .bind(new.now)
        .bind(new.registered_by.map(|key| key.to_vec()));
    let row = profile::bind(query, new.profile).fetch_optional(transaction).await?;
    row.map(|row| Ok(PendingAccount { id: id(&row, "id")?, version: row.try_get("version")? })).transpose()
}

/// Deletes a pending account, so that an interrupted registration does not keep an address.
async fn delete_pending_by_email(transaction: &mut AnyConnection, email: &str, now: i64) -> Result<(), sqlx::Error> {
    let pending: Option<String> =
        sqlx::query_scalar("DELETE FROM accounts WHERE email = $1 AND state = 'pending' RETURNING id")
            .bind(email)
            .fetch_optional(&mut *transaction)
            .await?;
    match pending.and_then(|text| Uuid::parse_str(&text).ok()) {
        Some(pending) => profile_sync::schedule(transaction, pending, now).await,
        None => Ok(()),
    }
}

/// Schedules the synchronisation of a profile that the caller of the change is about to write itself.
async fn schedule_after_grace(transaction: &mut AnyConnection, account_id: Uuid, now: i64) -> Result<(), sqlx::Error> {
    profile_sync::schedule(transaction, account_id, now.saturating_add(limits::PROFILE_SYNC_GRACE_MS)).await
}
