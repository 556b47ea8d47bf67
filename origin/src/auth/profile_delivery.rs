//! Copies accounts to the profiles in the user service, whatever crashed in between: the second
//! half of every change that spans both services (a saga whose truth is this database).
//!
//! A change marks the profile in its own transaction (`store/profile_sync.rs`). The caller of the change
//! writes the profile at once, so that its user sees it. Somewhat later this job sends the whole
//! account to the user service and removes the mark when it is acknowledged. Any process of the
//! auth service can do that, also one that starts later.
//!
//! A delivery may be late, repeated or lost, so each is idempotent:
//!
//! - *A write overtaken by a newer one* changes nothing: the user service keeps the greater version,
//!   also when the caller's own write is slower than this job.
//! - *A write overtaken by a deletion* brings nothing back: the user service remembers deletions and
//!   refuses it. It is tried again until the account is seen to be gone.
//! - *A deletion* is never late: a deleted account stays deleted, and ids are not reused.
//! - *A change during the delivery of the previous one* marks the profile again, so the mark stays.
//!   Comparing the mark's number is not enough: with a delivery of another process between them, two
//!   changes are both numbered 1. The statement that removes the mark also compares the account's
//!   version, so it goes only when the user service has what the account is now.
//! - *Two processes at one mark*: the first claims it for longer than a delivery takes. If it is
//!   slower still (a suspended machine), both deliver, which the cases above cover.
//! - *A crash*: before the change's commit, nothing happened. After it, the mark stays until the user
//!   service has acknowledged.
//! - *A registration* is marked for the time at which it must have finished. Its activation removes
//!   the mark, with the profile made. A registration that did not finish is undone: first the
//!   account, if it is the attempt that was looked at (a new attempt replaces it under the lock of
//!   the same row), then the profile.

use portcullis_client::internal::CallError;
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    Auth,
    worker::{Job, Schedule, Worker},
};
use crate::{
    limits,
    store::{
        profile_sync::{AccountState, PendingSync},
        with_timeout,
    },
};

/// Delivers the changes that profiles lack.
#[derive(Debug)]
pub struct ProfileDelivery(Worker);

impl Default for ProfileDelivery {
    fn default() -> Self {
        Self(Worker::new(Schedule {
            interval: limits::PROFILE_SYNC_LOOK,
            back_off: limits::PROFILE_SYNC_BACK_OFF,
            back_off_max: limits::PROFILE_SYNC_BACK_OFF_MAX,
        }))
    }
}

impl ProfileDelivery {
    /// Delivers now instead of at the next interval.
    pub fn wake(&self) {
        self.0.wake();
    }
}

/// Delivers until `stopped` turns true; the marks that are left wait for the next start.
pub async fn deliver_profiles(auth: Auth, stopped: watch::Receiver<bool>) {
    auth.profile_delivery.0.run(&DeliveryJob(&auth), stopped).await;
}

struct DeliveryJob<'a>(&'a Auth);

/// Why a delivery ended early.
#[derive(Debug)]
enum Fault {
    /// The user service cannot be reached.
    Unreachable,
    /// The database failed.
    Store(sqlx::Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error)
    }
}

impl Job for DeliveryJob<'_> {
    type Done = ();
    type Fault = Fault;

    /// Delivers all that is due.
    async fn run(&self) -> Result<(), Fault> {
        let auth = self.0;
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
                // Other processes have claimed all of them.
                return Ok(());
            }
        }
    }

    fn log_failure(&self, fault: Fault, is_first: bool) {
        match fault {
            Fault::Store(error) => self.0.metrics.database_error(&error),
            Fault::Unreachable if is_first => {
                tracing::error!("changes of profiles wait: the user service cannot be reached");
            }
            Fault::Unreachable => {}
        }
    }

    fn log_recovery(&self, (): ()) {
        tracing::info!("the user service can be reached again");
    }
}

/// Delivers one change.
async fn deliver(auth: &Auth, mark: PendingSync) -> Result<(), Fault> {
    let outcome = match with_timeout(auth.profile_sync.account_state(mark.account)).await? {
        AccountState::Active(account) => {
            let version = account.version;
            match auth.users.put_profile(&account).await {
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
                // Another attempt has taken it over, or it has just finished, which removed the mark.
                return Ok(with_timeout(auth.profile_sync.postpone(mark, over_at.max(auth.clock.now()))).await?);
            }
            tracing::info!(account = %mark.account, "a registration did not finish; it is undone");
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
    tracing::error!(%account, %error, "the user service refuses a change of a profile");
}
