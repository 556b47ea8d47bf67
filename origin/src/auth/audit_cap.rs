//! Bounds the audit events of refused requests: per minute and user or network, and per minute in all,
//! so that no flood fills the database, and the concurrent writes of all, so that the events of changes
//! are written during any flood.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// Counts refusals per minute and user or network. Clones share the counts.
#[derive(Debug, Clone)]
pub struct AuditCap {
    counts: Arc<Mutex<Counts>>,
    at_once: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Counts {
    minute: i64,
    /// Admitted refusals, of all keys and of each.
    admitted: usize,
    by_key: HashMap<String, usize>,
}

impl Default for AuditCap {
    fn default() -> Self {
        Self {
            counts: Arc::default(),
            at_once: Arc::new(Semaphore::new(limits::AUDIT_REFUSALS_AT_ONCE)),
            requests: Arc::new(Semaphore::new(limits::CONNECTIONS)),
        }
    }
}

impl AuditCap {
    /// Counts a refusal, and tells whether it leaves an event at `now` (milliseconds).
    pub(super) fn admits(&self, key: &str, now: i64) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.div_euclid(60_000);
        if counts.minute != minute {
            *counts = Counts { minute, ..Counts::default() };
        }
        let count = counts.by_key.get(key).copied().unwrap_or_default();
        if count >= limits::AUDIT_REFUSALS || counts.admitted >= limits::AUDIT_REFUSALS_OF_ALL {
            return false;
        }
        counts.by_key.insert(key.to_owned(), count.saturating_add(1));
        counts.admitted = counts.admitted.saturating_add(1);
        true
    }

    /// Waits until fewer than [`limits::CONNECTIONS`] recorded requests are in progress. Those of clients
    /// that disconnected continue, and must not accumulate.
    pub(super) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.requests).acquire_owned().await.ok()
    }

    /// Waits until no recorded request is in progress, for [`limits::DRAIN_TIME`] at most. Those of
    /// clients that disconnected need the database.
    pub async fn drain(&self) {
        let all = u32::try_from(limits::CONNECTIONS).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(limits::DRAIN_TIME, self.requests.acquire_many(all)).await;
    }

    /// Waits until fewer than [`limits::AUDIT_REFUSALS_AT_ONCE`] refusals are being written.
    pub(super) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.at_once).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_or_network_has_so_many_refusals_a_minute() {
        let cap = AuditCap::default();
        let admitted = |key: &str, now| (0..limits::AUDIT_REFUSALS * 2).filter(|_| cap.admits(key, now)).count();
        let most = limits::AUDIT_REFUSALS;
        assert_eq!(admitted("ada", 1_000), most);
        assert_eq!(admitted("grace", 59_999), most, "another user");
        assert_eq!(admitted("ada", 59_999), 0, "the same minute");
        assert_eq!(admitted("ada", 60_000), most, "the next");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_recorded_requests_but_not_without_end() {
        let cap = AuditCap::default();
        for (takes, waits) in
            [(limits::DRAIN_TIME / 2, limits::DRAIN_TIME / 2), (limits::DRAIN_TIME * 2, limits::DRAIN_TIME)]
        {
            let place = cap.enter().await;
            let begun = tokio::time::Instant::now();
            tokio::spawn(async move {
                tokio::time::sleep(takes).await;
                drop(place);
            });
            cap.drain().await;
            assert_eq!(begun.elapsed().as_secs(), waits.as_secs());
        }
    }

    #[test]
    fn all_users_and_networks_together_have_so_many_refusals_a_minute() {
        let cap = AuditCap::default();
        let admitted =
            |now| (0..10 * limits::AUDIT_REFUSALS_OF_ALL).filter(|key| cap.admits(&key.to_string(), now)).count();
        assert_eq!(admitted(0), limits::AUDIT_REFUSALS_OF_ALL);
        assert_eq!(cap.counts.lock().unwrap().by_key.len(), limits::AUDIT_REFUSALS_OF_ALL);
        assert!(!cap.admits("ada", 59_999));
        assert_eq!(admitted(60_000), limits::AUDIT_REFUSALS_OF_ALL, "the next minute");
    }
}
