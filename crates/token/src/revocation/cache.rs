//! One isolate's copy of the revocation log, and when to read the log again.

use std::collections::HashMap;

use super::{
    key::{RevocationKey, RevocationKeys},
    limits,
    page::{LogPage, RevocationEntry},
};
use crate::time::UnixMillis;

/// One isolate's copy of the revocation log. Not usable until a first page is applied.
#[derive(Debug, Clone, Default)]
pub struct RevocationCache {
    /// `issued_until` and `keep_until` by key.
    entries: HashMap<RevocationKey, (u64, u64)>,
    /// Time of this isolate's clock at which the copy was complete.
    true_at: Option<UnixMillis>,
    /// The `as_of` and `newest` of the newest page that was applied.
    page_at: Option<(UnixMillis, u64)>,
    /// When a read of the log last succeeded.
    read_at: Option<UnixMillis>,
    /// Until when a read in progress may take.
    asking_until: Option<UnixMillis>,
    /// When the last read failed, unless one has succeeded since.
    failure: Option<(UnixMillis, &'static str)>,
    /// When the log was found to be too large for a copy.
    overflowed_at: Option<UnixMillis>,
    swept_at: UnixMillis,
}

/// How to check a token for revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationPlan {
    /// Use the copy.
    Use,
    /// Use the copy, and read the log once the client has its response.
    UseAndRead,
    /// Read the log, then plan again.
    Read,
    /// Another request of this isolate is reading; plan again shortly. (A request cannot share its read.)
    Wait,
    /// The log is too large for a copy: ask it about this token.
    AskLog,
    /// The copy is too old, and the log is unreachable: 503.
    Unavailable {
        /// Milliseconds until the log may be read again.
        retry_ms: u64,
    },
}

impl RevocationCache {
    /// Decides what to do with a token. A copy older than `max_age_ms` admits none.
    pub fn plan(&self, max_age_ms: u64, now: UnixMillis) -> RevocationPlan {
        if self.overflowed_at.is_some_and(|at| now.abs_diff(at) < limits::SWEEP_MS) {
            return RevocationPlan::AskLog;
        }
        let age = self.age_ms(now).unwrap_or(u64::MAX);
        let failed_ago = self.failure.map_or(u64::MAX, |(at, _)| now.abs_diff(at));
        let (is_asking, rests) = (self.is_asking(now), failed_ago < limits::BACK_OFF_MS);
        let is_fresh = age <= limits::STALE_MS;
        // While the log is unreachable, requests do not wait for it: the copy is used up to its
        // limit. After a time without requests, they wait for a fresh one.
        if is_fresh || (failed_ago < limits::STALE_MS && age <= max_age_ms) {
            let reads = !is_asking && !rests && (!is_fresh || self.is_read_due(now));
            return if reads { RevocationPlan::UseAndRead } else { RevocationPlan::Use };
        }
        match (is_asking, rests) {
            (true, _) => RevocationPlan::Wait,
            (false, true) => RevocationPlan::Unavailable { retry_ms: limits::BACK_OFF_MS.saturating_sub(failed_ago) },
            (false, false) => RevocationPlan::Read,
        }
    }

    /// Whether a read is still due: several requests may have planned one.
    pub fn is_read_due(&self, now: UnixMillis) -> bool {
        self.read_at.is_none_or(|at| now.abs_diff(at) >= limits::REREAD_MS) && !self.is_asking(now)
    }

    fn is_asking(&self, now: UnixMillis) -> bool {
        self.asking_until.is_some_and(|until| now < until && now.abs_diff(until) <= limits::ASK_WHOLE_MS)
    }

    /// Records the start of a read. After `may_take_ms` it counts as lost: its request may have been cancelled.
    pub fn begin(&mut self, may_take_ms: u64, now: UnixMillis) {
        self.asking_until = Some(now.plus(may_take_ms));
    }

    /// Records a successful read.
    pub fn succeed(&mut self, now: UnixMillis) {
        self.asking_until = None;
        self.read_at = Some(now);
        self.failure = None;
    }

    /// Records a failed read.
    pub fn fail(&mut self, code: &'static str, now: UnixMillis) {
        self.asking_until = None;
        self.failure = Some((now, code));
    }

    /// Applies a page, unless the copy is more recent. Returns false, and leaves the copy as it is, if entries between
    /// both are missing: read the whole log then. `asked_at` is set for a page from the log itself rather than a
    /// cache: it was complete then, whatever the log's clock says.
    pub fn apply(&mut self, page: &LogPage, asked_at: Option<UnixMillis>, now: UnixMillis) -> bool {
        // A page of the log itself that lacks no entry is recent, also if the log's clock was set back.
        let is_older = |(at, newest): (_, u64)| page.as_of < at && (asked_at.is_none() || page.newest < newest);
        if self.page_at.is_some_and(is_older) {
            return true;
        }
        let is_whole = page.from == 0;
        // A lower number than before means that the log was started again.
        let continues = |(_, newest): (_, u64)| page.newest >= newest && page.from <= newest.saturating_add(1);
        // If the clock was set back since, entries may have been removed that had not expired.
        let is_gapless = self.swept_at <= now && self.page_at.is_some_and(continues);
        if !is_whole && !is_gapless {
            return false;
        }
        if is_whole {
            self.overflowed_at = page.overflows.then_some(now);
            self.swept_at = self.swept_at.min(now);
        }
        self.add(&page.entries);
        // Expired entries do not count towards the size.
        if now.abs_diff(self.swept_at) >= limits::SWEEP_MS || self.entries.len() > limits::COPY_ENTRIES {
            self.sweep(now);
        }
        // If the log's clock is ahead for a moment, later pages must not count as older.
        self.page_at = Some((page.as_of.min(now), page.newest));
        self.true_at = Some(page.as_of.max(asked_at.unwrap_or_default()).min(now));
        if self.entries.len() > limits::COPY_ENTRIES || self.overflowed_at.is_some() {
            self.overflow(now);
        }
        true
    }

    /// Adds entries that are in the log, or are about to be. If they do not fit, the copy holds them alone,
    /// and the log is asked about each token.
    pub fn insert(&mut self, entries: &[RevocationEntry], now: UnixMillis) {
        let fits = |cache: &Self| {
            let added = entries.iter().filter(|entry| !cache.entries.contains_key(&entry.key)).count();
            cache.entries.len().saturating_add(added) <= limits::COPY_ENTRIES
        };
        if !fits(self) {
            self.sweep(now);
        }
        if !fits(self) {
            self.overflow(now);
        }
        self.add(entries);
    }

    fn add(&mut self, entries: &[RevocationEntry]) {
        for entry in entries {
            let held = self.entries.entry(entry.key).or_default();
            *held = (held.0.max(entry.issued_until), held.1.max(entry.keep_until));
        }
    }

    fn sweep(&mut self, now: UnixMillis) {
        self.swept_at = now;
        self.entries.retain(|_, (_, keep_until)| *keep_until > now.secs());
    }

    /// Drops a copy that became too large. It starts again with the whole log after a while.
    fn overflow(&mut self, now: UnixMillis) {
        *self = Self { overflowed_at: Some(now), swept_at: self.swept_at, ..Self::default() };
    }

    /// Whether a token is revoked according to the copy.
    pub fn revokes(&self, keys: &RevocationKeys) -> bool {
        keys.iter().any(|key| self.entries.get(&key).is_some_and(|(until, _)| keys.issued_at <= *until))
    }

    /// Milliseconds since the copy was complete.
    pub fn age_ms(&self, now: UnixMillis) -> Option<u64> {
        self.true_at.map(|at| now.abs_diff(at))
    }

    /// Number of entries.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Whether the log is too large for a copy.
    pub fn overflows(&self) -> bool {
        self.overflowed_at.is_some()
    }

    /// Code of the last failure, unless a read has succeeded since.
    pub fn last_error(&self) -> Option<&'static str> {
        self.failure.map(|(_, code)| code)
    }
}
