//! Reconciliation of both databases after they were restored from backups of different times.
//!
//! In operation, each change that concerns both services schedules a synchronisation in its own
//! transaction (`profile_sync`). A restored database may lack such rows, or have rows whose
//! effect the other database lacks. So [`reconcile`] compares every account with its profile and
//! schedules a synchronisation for each difference; the auth service then makes the profiles equal to
//! the accounts. It is safe to run while the services run, and to run again.

use sqlx::Row as _;
use uuid::Uuid;

use super::{
    Database, ProfileSync, Profiles,
    database::Lock,
    profile_sync::{self, AccountState},
    rows::{self, UserRecord, account, account_columns, id},
};

/// Rows of one statement: a few hundred KB.
const ROWS: i64 = 500;

/// What a reconciliation found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Differences {
    /// Active accounts in all.
    pub accounts: u64,
    /// Accounts whose profile is missing or differs.
    pub stale: u64,
    /// Profiles without an account.
    pub orphaned: u64,
}

/// Why the databases were not reconciled.
#[derive(Debug)]
pub enum ReconcileError {
    /// No profile belongs to any of the accounts. One database is empty or of another deployment, and
    /// every profile would be deleted.
    Unrelated,
    /// A database failed. Synchronisations that were scheduled before stay scheduled.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for ReconcileError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// Schedules the synchronisation of each profile that differs from its account. `now` is in
/// milliseconds since 1970.
///
/// # Errors
/// [`ReconcileError`].
pub async fn reconcile(auth: &Database, users: &Database, now: i64) -> Result<Differences, ReconcileError> {
    let mut found = Differences::default();
    let (profiles, accounts) = (Profiles(users.clone()), ProfileSync(auth.clone()));
    if !are_related(&accounts, users).await? {
        return Err(ReconcileError::Unrelated);
    }
    let mut last = String::new();
    loop {
        let batch = active_accounts(auth, &last).await?;
        let Some(end) = batch.last() else { break };
        last = end.id.to_string();
        for account in batch {
            found.accounts = found.accounts.saturating_add(1);
            let id = account.id;
            let is_equal = profiles.find(id).await? == Some(account);
            if !is_equal && schedule_if_different(auth, users, id, now).await? {
                found.stale = found.stale.saturating_add(1);
            }
        }
    }
    let mut last = String::new();
    loop {
        let ids = profile_ids(users, &last).await?;
        let Some(end) = ids.last() else { break };
        last = end.to_string();
        for id in ids {
            let is_orphaned = accounts.account_state(id).await? == AccountState::Deleted;
            if is_orphaned && schedule_if_different(auth, users, id, now).await? {
                found.orphaned = found.orphaned.saturating_add(1);
            }
        }
    }
    Ok(found)
}

/// Returns whether any of the oldest profiles has an account, as in every pair of backups of one
/// deployment; true if there are no profiles.
async fn are_related(accounts: &ProfileSync, users: &Database) -> Result<bool, sqlx::Error> {
    let ids = profile_ids(users, "").await?;
    for id in &ids {
        if accounts.account_state(*id).await? != AccountState::Deleted {
            return Ok(true);
        }
    }
    Ok(ids.is_empty())
}

async fn active_accounts(auth: &Database, after: &str) -> Result<Vec<UserRecord>, sqlx::Error> {
    let text = format!(
        "SELECT {} FROM accounts a WHERE a.state = 'active' AND a.id > $1 ORDER BY a.id LIMIT $2",
        account_columns()
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(text)).bind(after).bind(ROWS).fetch_all(auth.pool()).await?;
    rows.iter().map(account).collect()
}

async fn profile_ids(users: &Database, after: &str) -> Result<Vec<Uuid>, sqlx::Error> {
    let rows = sqlx::query("SELECT id FROM profiles WHERE id > $1 ORDER BY id LIMIT $2")
        .bind(after)
        .bind(ROWS)
        .fetch_all(users.pool())
        .await?;
    rows.iter().map(|row| id(row, "id")).collect()
}

/// Removes the record of a deletion that the auth service no longer has, so that the user service
/// stores the profile again. A deletion in progress is later than `now` and stays.
async fn forget_deletion(users: &Database, profile: Uuid, now: i64) -> Result<(), sqlx::Error> {
    let statement = "DELETE FROM deleted_profiles WHERE id = $1 AND at < $2";
    rows::write(&mut *users.writer().await?, statement, profile, now).await
}

/// Schedules the synchronisation of one profile if it differs, and raises the account's version above
/// that of the profile. Compares again under the account's lock, so that a change in progress is not
/// counted. Returns whether the profile differs.
async fn schedule_if_different(auth: &Database, users: &Database, id: Uuid, now: i64) -> Result<bool, sqlx::Error> {
    let mut transaction = auth.begin(&[Lock::Account(id)]).await?;
    let text = format!("SELECT {}, a.state FROM accounts a WHERE a.id = $1", account_columns());
    let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(id.to_string()).fetch_optional(&mut *transaction).await?;
    let profile = Profiles(users.clone()).find(id).await?;
    let differs = match row {
        None => profile.is_some(),
        Some(row) if row.try_get::<String, _>("state")? == "active" => {
            let account = account(&row)?;
            let differs = profile.as_ref() != Some(&account);
            if differs && profile.is_none() {
                forget_deletion(users, id, now).await?;
            }
            // The user service rejects a version that is not newer than its own.
            let newer = profile.map(|profile| profile.version).filter(|held| differs && *held >= account.version);
            if let Some(held) = newer {
                sqlx::query("UPDATE accounts SET version = $2 WHERE id = $1")
                    .bind(id.to_string())
                    .bind(held.saturating_add(1))
                    .execute(&mut *transaction)
                    .await?;
            }
            differs
        }
        // The registration in progress continues.
        Some(_) => false,
    };
    if differs {
        profile_sync::schedule(&mut transaction, id, now).await?;
    }
    transaction.commit().await?;
    Ok(differs)
}
