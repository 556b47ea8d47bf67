//! Both databases, made to agree again after they were put back as of two moments. What the
//! services do to each other in operation is marked in the transaction that does it
//! (`stale.rs`); a restored database has lost marks, or has some that were dealt with in
//! what the other has lost. So everything is looked at, and what differs is marked anew: the
//! auth service does the rest, as ever. The accounts are the truth.
//!
//! Harmless while services run, and when it is done twice.

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

/// Marks every profile that is not what its account is, at a time in milliseconds since 1970.
///
/// # Errors
/// A database's; what was marked until then stays marked.
pub async fn reconcile(auth: &Database, users: &Database, now: i64) -> Result<Differences, sqlx::Error> {
    let mut found = Differences::default();
    let profiles = Profiles(users.clone());
    let mut last = String::new();
    loop {
        let accounts = active(auth, &last).await?;
        let Some(end) = accounts.last() else { break };
        last = end.id.to_string();
        for account in accounts {
            found.accounts = found.accounts.saturating_add(1);
            let (id, version) = (account.id, account.version);
            let held = profiles.find(id).await?;
            if held.as_ref() == Some(&Profile::from(account)) {
                continue;
            }
            found.stale = found.stale.saturating_add(1);
            if held.is_none() {
                forget_deletion(users, id, now).await?;
            }
            // The user service takes no version that is not newer than its own.
            let newer = held.map(|profile| profile.version).filter(|held| *held >= version);
            mark(auth, id, newer, now).await?;
        }
    }
    let (standings, mut last) = (Stale(auth.clone()), String::new());
    loop {
        let ids = profile_ids(users, &last).await?;
        let Some(end) = ids.last() else { break };
        last = end.to_string();
        for id in ids {
            if standings.standing(id).await? == Standing::Gone {
                found.orphaned = found.orphaned.saturating_add(1);
                mark(auth, id, None, now).await?;
            }
        }
    }
    Ok(found)
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
        .execute(users.pool())
        .await?;
    Ok(())
}

/// Marks one profile, and makes its account newer than the version that the user service has,
/// if it has one that is.
async fn mark(auth: &Database, account: Uuid, newer: Option<i64>, now: i64) -> Result<(), sqlx::Error> {
    let mut transaction = auth.begin(&[Lock::Account(account)]).await?;
    if let Some(held) = newer {
        sqlx::query("UPDATE accounts SET version = $2 WHERE id = $1 AND version < $2")
            .bind(account.to_string())
            .bind(held.saturating_add(1))
            .execute(&mut *transaction)
            .await?;
    }
    stale::mark(&mut transaction, account, now).await?;
    transaction.commit().await
}
