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

use std::mem;

use portcullis_client::internal::CallError;
use tokio::sync::watch;

use super::{
    Auth,
    worker::{Failed, Job, Schedule, Worker},
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
        Self(Worker::new(Schedule { interval: limits::PROFILE_SYNC_LOOK, back_off: limits::PROFILE_SYNC_BACK_OFF }))
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
    let job = DeliveryJob { auth: &auth, is_failing: false };
    auth.profile_delivery.0.run(job, stopped).await;
}

struct DeliveryJob<'a> {
    auth: &'a Auth,
    /// Whether the last call did not reach the user service. An outage is logged when it begins and
    /// when it ends.
    is_failing: bool,
}

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
    async fn run(&mut self) -> Result<(), Failed> {
        self.deliver_due().await.map_err(|fault| {
            if let Fault::Store(error) = fault {
                self.auth.metrics.database_error(&error);
            }
            Failed
        })
    }
}

impl DeliveryJob<'_> {
    /// Delivers all that is due.
    async fn deliver_due(&mut self) -> Result<(), Fault> {
        let auth = self.auth;
        loop {
            let due = with_timeout(auth.profile_sync.due(limits::PROFILE_SYNC_ROWS, auth.clock.now())).await?;
            let mut claimed = 0_usize;
            for pending in due {
                let now = auth.clock.now();
                if with_timeout(auth.profile_sync.claim(
                    pending,
                    now,
                    now.saturating_add(limits::PROFILE_SYNC_LEASE_MS),
                ))
                .await?
                {
                    claimed = claimed.saturating_add(1);
                    self.deliver(pending).await?;
                }
            }
            if claimed == 0 {
                // Nothing is due, or other processes have claimed all of it.
                return Ok(());
            }
        }
    }

    /// Delivers one change.
    async fn deliver(&mut self, pending: PendingSync) -> Result<(), Fault> {
        let auth = self.auth;
        let state = with_timeout(auth.profile_sync.account_state(pending.account)).await?;
        if let AccountState::Pending { started_at } = state {
            let over_at = started_at.saturating_add(limits::PENDING_MS);
            if auth.clock.now() < over_at
                || !with_timeout(auth.profile_sync.delete_pending(pending.account, started_at)).await?
            {
                // Another attempt has taken it over, or it has just finished, which removed the pending.
                return Ok(with_timeout(auth.profile_sync.postpone(pending, over_at.max(auth.clock.now()))).await?);
            }
            tracing::info!(account = %pending.account, "a registration did not finish; it is undone");
        }
        let outcome = match &state {
            AccountState::Active(account) => auth.users.put_profile(account).await,
            AccountState::Deleted | AccountState::Pending { .. } => {
                auth.users.delete_profile(pending.account).await.map(drop)
            }
        };
        self.log_outage(outcome == Err(CallError::Unavailable));
        let now = auth.clock.now();
        match (outcome, state) {
            (Ok(()), AccountState::Active(account)) => {
                Ok(with_timeout(auth.profile_sync.complete(pending, account.version)).await?)
            }
            (Ok(()), AccountState::Deleted | AccountState::Pending { .. }) => {
                Ok(with_timeout(auth.profile_sync.complete_deleted(pending)).await?)
            }
            (Err(CallError::Unavailable), _) => {
                with_timeout(auth.profile_sync.postpone(pending, now)).await?;
                Err(Fault::Unreachable)
            }
            (Err(error @ (CallError::Refused(_) | CallError::Denied(_) | CallError::Malformed)), _) => {
                tracing::error!(account = %pending.account, %error, "the user service refuses a change of a profile");
                let due_at = now.saturating_add(limits::PROFILE_SYNC_REFUSED_MS);
                Ok(with_timeout(auth.profile_sync.postpone(pending, due_at)).await?)
            }
        }
    }

    /// Logs the begin and the end of an outage of the user service.
    fn log_outage(&mut self, is_failing: bool) {
        match (mem::replace(&mut self.is_failing, is_failing), is_failing) {
            (false, true) => tracing::error!("changes of profiles wait: the user service cannot be reached"),
            (true, false) => tracing::info!("the user service can be reached again"),
            (true, true) | (false, false) => {}
        }
    }
}
