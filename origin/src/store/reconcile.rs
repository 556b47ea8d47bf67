//! Both databases, made to agree again after they were put back as of two moments. What the
//! services do to each other in operation is marked in the transaction that does it
//! (`stale.rs`); a restored database has lost marks, or has some that were dealt with in
//! what the other has lost. So everything is looked at, and what differs is marked anew: the
//! auth service does the rest, as ever. The accounts are the truth.
//!
//! Harmless while services run, and when it is done twice.

use sqlx::Row as _;
use uuid::Uuid;

use super::{
    Database, Profiles, Stale,
    accounts::{Account, COLUMNS, account},
    database::Lock,
    id,
    profiles::Profile,
    stale::{self, Standing},
};

/// Rows of one look: a few hundred KB.
const ROWS: i64 = 500;

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Differences {
    /// Active accounts that were looked at.
    pub accounts: u64,
    /// Those whose profile is missing or differs.
    pub stale: u64,
    /// Profiles of accounts that are not there.
    pub orphaned: u64,
}

/// Why there was nothing to compare.
#[derive(Debug)]
pub enum ReconcileFault {
    /// No profile belongs to any of these accounts: an empty or a foreign database, which
    /// would have every profile deleted.
    Strangers,
    /// A database's fault; what was marked until then stays marked.
    Store(sqlx::Error),
}

impl From<sqlx::Error> for ReconcileFault {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error)
    }
}

/// Marks every profile that is not what its account is, at a time in milliseconds since 1970.
///
/// # Errors
/// [`ReconcileFault`].
pub async fn reconcile(auth: &Database, users: &Database, now: i64) -> Result<Differences, ReconcileFault> {
    let mut found = Differences::default();
    let (profiles, standings) = (Profiles(users.clone()), Stale(auth.clone()));
    if !know_each_other(&standings, users).await? {
        return Err(ReconcileFault::Strangers);
    }
    let mut last = String::new();
    loop {
        let accounts = active(auth, &last).await?;
        let Some(end) = accounts.last() else { break };
        last = end.id.to_string();
        for account in accounts {
            found.accounts = found.accounts.saturating_add(1);
            let id = account.id;
            let is_equal = profiles.find(id).await? == Some(Profile::from(account));
            if !is_equal && mark(auth, users, id, now).await? {
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
            if standings.standing(id).await? == Standing::Gone && mark(auth, users, id, now).await? {
                found.orphaned = found.orphaned.saturating_add(1);
            }
        }
    }
    Ok(found)
}

/// Whether an account is there of the oldest profiles, as it is in every copy of the right
/// database, however old; true where there are no profiles.
async fn know_each_other(standings: &Stale, users: &Database) -> Result<bool, sqlx::Error> {
    let ids = profile_ids(users, "").await?;
    for id in &ids {
        if standings.standing(*id).await? != Standing::Gone {
            return Ok(true);
        }
    }
    Ok(ids.is_empty())
}

async fn active(auth: &Database, after: &str) -> Result<Vec<Account>, sqlx::Error> {
    let text =
        format!("SELECT {COLUMNS} FROM accounts a WHERE a.state = 'active' AND a.id > $1 ORDER BY a.id LIMIT $2");
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

/// Has the user service take a profile again whose deletion the auth service no longer knows
/// of. A deletion that is under way at this moment is later than `now`, and stays.
async fn forget_deletion(users: &Database, profile: Uuid, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM deleted_profiles WHERE id = $1 AND at < $2")
        .bind(profile.to_string())
        .bind(now)
        .execute(&mut *users.writer().await?)
        .await?;
    Ok(())
}

/// Marks one profile if it differs, and makes its account newer than the version that the
/// user service has, if it has one that is. Looked at once more under the account's lock:
/// what is changed and carried over at this moment is no difference. True if it is one.
async fn mark(auth: &Database, users: &Database, id: Uuid, now: i64) -> Result<bool, sqlx::Error> {
    let mut transaction = auth.begin(&[Lock::Account(id)]).await?;
    let text = format!("SELECT {COLUMNS}, a.state FROM accounts a WHERE a.id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(id.to_string()).fetch_optional(&mut *transaction).await?;
    let held = Profiles(users.clone()).find(id).await?;
    let differs = match row {
        None => held.is_some(),
        Some(row) if row.try_get::<String, _>("state")? == "active" => {
            let account = account(&row)?;
            let version = account.version;
            let differs = held.as_ref() != Some(&Profile::from(account));
            if differs && held.is_none() {
                forget_deletion(users, id, now).await?;
            }
            // The user service takes no version that is not newer than its own.
            if let Some(held) = held.map(|profile| profile.version).filter(|held| differs && *held >= version) {
                sqlx::query("UPDATE accounts SET version = $2 WHERE id = $1")
                    .bind(id.to_string())
                    .bind(held.saturating_add(1))
                    .execute(&mut *transaction)
                    .await?;
            }
            differs
        }
        // Whoever registers it carries on with it.
        Some(_) => false,
    };
    if differs {
        stale::mark(&mut transaction, id, now).await?;
    }
    transaction.commit().await?;
    Ok(differs)
}
