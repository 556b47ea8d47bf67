//! Makes profiles equal to their accounts, whatever crashed when: the second half of every
//! change that spans both services (a saga, of which this database is the truth).
//!
//! A change marks the profile in its own transaction (`store/stale.rs`). Whoever asked for
//! the change writes the profile at once, so that its user sees it; this loop, somewhat
//! later, tells the user service the whole of what the account is by then, and removes the
//! mark when it has an answer. What died in between is so made good, by whichever process
//! of ours is alive, and by the next one when none is.
//!
//! Every delivery may be late, doubled or lost, so each is harmless by itself:
//!
//! - *A write that a newer one overtook* changes nothing: the user service keeps the
//!   greater version. So does one of the change's own caller that was slower than this loop.
//! - *A write that a deletion overtook* brings nothing back: the user service remembers
//!   what was deleted. It is refused, and tried again until the account is seen to be gone.
//! - *A deletion* is never late: an account that is gone stays gone, ids are not used twice.
//! - *A change while its predecessor is on its way* marks anew, so the mark stays. The
//!   number on the mark alone would not do: two changes, each marked 1, with another
//!   process's delivery between them. The account's version is compared with the mark, in
//!   one statement, so a mark goes only when the user service has what the account is.
//! - *Two processes at one mark*: the first takes it on, for longer than a delivery takes.
//!   Should it be slower still (a machine that slept), both deliver, which is the above.
//! - *Death at any point*: before the change's commit, nothing happened. After it, the mark
//!   is there until the user service has said yes.
//! - *A registration* is marked for the time at which it must be over. Its activation
//!   removes the mark, with the profile made. One that died is undone: the account first, if
//!   it is the very attempt that was looked at (one that begins anew takes its place under
//!   the same row's lock), then the profile.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use portcullis_client::internal::{CallError, Profile};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::Auth;
use crate::{
    limits,
    store::{
        accounts::Account,
        profile_sync::{AccountState, PendingSync},
        with_timeout,
    },
};

impl From<Account> for Profile {
    fn from(account: Account) -> Self {
        Self {
            id: account.id,
            email: account.email,
            first_name: account.first_name,
            last_name: account.last_name,
            roles: account.roles,
            created_at: account.created_at,
            updated_at: account.updated_at,
            version: account.version,
        }
    }
}

/// Delivers what profiles lack.
#[derive(Debug, Default)]
pub struct Reconciler {
    wakes: Notify,
}

/// Why a look for work ended before there was no more.
#[derive(Debug)]
enum Fault {
    /// The user service is out of reach.
    Unreachable,
    /// The database failed.
    Store(sqlx::Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error)
    }
}

impl Reconciler {
    /// A profile is to be made equal now, and not at the next look.
    pub fn wake(&self) {
        self.wakes.notify_one();
    }

    /// Delivers until `stopped` turns true; what is left then waits for the next start.
    pub async fn run(&self, auth: &Auth, mut stopped: watch::Receiver<bool>) {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(limits::PROFILE_SYNC_BACK_OFF)
            .with_max_delay(limits::PROFILE_SYNC_BACK_OFF_MAX)
            .without_max_times()
            .with_jitter();
        let mut failing: Option<backon::ExponentialBackoff> = None;
        loop {
            // Stopped in the middle it leaves no more behind than a crash does.
            let outcome = tokio::select! {
                outcome = self.deliver_due(auth) => outcome,
                _ = stopped.wait_for(|stopped| *stopped) => return,
            };
            let pause: Duration = match outcome {
                Ok(()) => {
                    if failing.take().is_some() {
                        tracing::info!("the user service takes profiles again");
                    }
                    limits::PROFILE_SYNC_LOOK
                }
                Err(fault) => {
                    match fault {
                        Fault::Store(error) => auth.metrics.database_error(&error),
                        // Once, and not every few seconds for hours.
                        Fault::Unreachable if failing.is_none() => {
                            tracing::error!("profiles wait to be made equal: the user service is out of reach");
                        }
                        Fault::Unreachable => {}
                    }
                    failing.get_or_insert_with(|| pauses.build()).next().unwrap_or(limits::PROFILE_SYNC_BACK_OFF_MAX)
                }
            };
            // A failing service is not asked more often because more waits for it.
            let is_well = failing.is_none();
            let woken = async {
                if is_well {
                    self.wakes.notified().await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Delivers all that is due.
    async fn deliver_due(&self, auth: &Auth) -> Result<(), Fault> {
        loop {
            let due = with_timeout(auth.profile_sync.due(limits::PROFILE_SYNC_ROWS, auth.clock.now())).await?;
            if due.is_empty() {
                return Ok(());
            }
            let mut claimed = 0_usize;
            for mark in due {
                let now = auth.clock.now();
                if with_timeout(auth.profile_sync.claim(mark, now, now.saturating_add(limits::PROFILE_SYNC_LEASE_MS)))
                    .await?
                {
                    claimed = claimed.saturating_add(1);
                    deliver(auth, mark).await?;
                }
            }
            if claimed == 0 {
                // Another process has all of them.
                return Ok(());
            }
        }
    }
}

/// Makes one profile equal.
async fn deliver(auth: &Auth, mark: PendingSync) -> Result<(), Fault> {
    let outcome = match with_timeout(auth.profile_sync.account_state(mark.account)).await? {
        AccountState::Active(account) => {
            let version = account.version;
            match auth.users.put_profile(&account.into()).await {
                Ok(()) => return Ok(with_timeout(auth.profile_sync.complete(mark, version)).await?),
                Err(error) => error,
            }
        }
        AccountState::Deleted => match remove(auth, mark).await? {
            Ok(()) => return Ok(()),
            Err(error) => error,
        },
        AccountState::Pending { started_at } => {
            let over_at = started_at.saturating_add(limits::PENDING_MS);
            if auth.clock.now() < over_at
                || !with_timeout(auth.profile_sync.delete_pending(mark.account, started_at)).await?
            {
                // Taken over since, or finished this very moment, which removed the mark.
                return Ok(with_timeout(auth.profile_sync.postpone(mark, over_at.max(auth.clock.now()))).await?);
            }
            tracing::info!(account = %mark.account, "a registration got stuck; it is undone");
            match remove(auth, mark).await? {
                Ok(()) => return Ok(()),
                Err(error) => error,
            }
        }
    };
    let now = auth.clock.now();
    match outcome {
        CallError::Unavailable => {
            with_timeout(auth.profile_sync.postpone(mark, now)).await?;
            Err(Fault::Unreachable)
        }
        CallError::Refused(_) | CallError::Denied(_) | CallError::Malformed => {
            log_refusal(mark.account, outcome);
            Ok(with_timeout(auth.profile_sync.postpone(mark, now.saturating_add(limits::PROFILE_SYNC_REFUSED_MS)))
                .await?)
        }
    }
}

/// Deletes the profile of an account that is gone.
async fn remove(auth: &Auth, mark: PendingSync) -> Result<Result<(), CallError>, sqlx::Error> {
    match auth.users.delete_profile(mark.account).await {
        Ok(_) => with_timeout(auth.profile_sync.complete_deleted(mark)).await.map(Ok),
        Err(error) => Ok(Err(error)),
    }
}

fn log_refusal(account: Uuid, error: CallError) {
    tracing::error!(%account, %error, "a profile cannot be made equal to its account");
}
