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
    /// Another request of this isolate is reading; plan again shortly. (A read belongs to the request
    /// that made it and cannot be shared.)
    Wait,
    /// The log is too large for a copy: ask it about this token.
    AskLog,
    /// The copy is too old, and the log is unreachable: 503.
    Unavailable {
        /// Milliseconds until the log may be read again.
        retry_ms: u64,
    },
}

/// The result of applying a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The copy is now as recent as the page.
    Done,
    /// Entries between the copy and the page are missing: read the whole log.
    Gap,
    /// The copy is more recent than the page.
    Older,
}

impl RevocationCache {
    /// Decides what to do with a token. A copy older than `max_age_ms` admits none.
    pub fn plan(&self, max_age_ms: u64, now: UnixMillis) -> RevocationPlan {
        if self.overflowed_at.is_some_and(|at| now.since(at) < limits::SWEEP_MS) {
            return RevocationPlan::AskLog;
        }
        let is_asking = self.is_asking(now);
        let failed_ago = self.failure.map(|(at, _)| now.since(at));
        let rests = failed_ago.is_some_and(|ago| ago < limits::BACK_OFF_MS);
        let may_ask = !is_asking && !rests;
        let age = self.age_ms(now);
        if age.is_some_and(|age| age <= limits::STALE_MS) {
            let is_due = self.read_at.is_none_or(|at| now.since(at) >= limits::REREAD_MS);
            return if is_due && may_ask { RevocationPlan::UseAndRead } else { RevocationPlan::Use };
        }
        // While the log is unreachable, requests do not wait for it: the copy is used up to its
        // limit. After a time without requests, they wait for a fresh one.
        if failed_ago.is_some_and(|ago| ago < limits::STALE_MS) && age.is_some_and(|age| age <= max_age_ms) {
            return if may_ask { RevocationPlan::UseAndRead } else { RevocationPlan::Use };
        }
        match (is_asking, failed_ago.filter(|_| rests)) {
            (true, _) => RevocationPlan::Wait,
            (false, Some(ago)) => RevocationPlan::Unavailable { retry_ms: limits::BACK_OFF_MS.saturating_sub(ago) },
            (false, None) => RevocationPlan::Read,
        }
    }

    /// Whether a read is still due: several requests may have planned one.
    pub fn is_read_due(&self, now: UnixMillis) -> bool {
        self.read_at.is_none_or(|at| now.since(at) >= limits::REREAD_MS) && !self.is_asking(now)
    }

    fn is_asking(&self, now: UnixMillis) -> bool {
        self.asking_until.is_some_and(|until| now < until)
    }

    /// Records the start of a read that takes at most `may_take_ms`. After that it counts as lost:
    /// its request may have been cancelled.
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

    /// Applies a page. `asked_at` is set for a page from the log itself rather than a cache: it was
    /// complete then, whatever the log's clock says.
    pub fn apply(&mut self, page: &LogPage, asked_at: Option<UnixMillis>, now: UnixMillis) -> Applied {
        let is_whole = page.from == 0;
        if let Some((page_at, newest)) = self.page_at {
            if page.as_of < page_at {
                return Applied::Older;
            }
            // A lower number than before means that the log was started again.
            let continues = page.newest >= newest && page.from <= newest.saturating_add(1);
            if !is_whole && !continues {
                return Applied::Gap;
            }
        } else if !is_whole {
            return Applied::Gap;
        }
        if is_whole {
            self.overflowed_at = page.overflows.then_some(now);
        }
        for entry in &page.entries {
            self.insert(*entry);
        }
        // Expired entries do not count towards the size.
        if now.since(self.swept_at) >= limits::SWEEP_MS || self.entries.len() > limits::COPY_ENTRIES {
            self.swept_at = now;
            self.entries.retain(|_, (_, keep_until)| *keep_until > now.secs());
        }
        self.page_at = Some((page.as_of, page.newest));
        self.true_at = Some(page.as_of.max(asked_at.unwrap_or_default()).min(now));
        if self.entries.len() > limits::COPY_ENTRIES || self.overflowed_at.is_some() {
            // Starts again with the whole log after a while.
            *self = Self { overflowed_at: Some(now), swept_at: self.swept_at, ..Self::default() };
        }
        Applied::Done
    }

    /// Adds an entry that is in the log, or is about to be.
    pub fn insert(&mut self, entry: RevocationEntry) {
        let held = self.entries.entry(entry.key).or_default();
        *held = (held.0.max(entry.issued_until), held.1.max(entry.keep_until));
    }

    /// Whether a token is revoked according to the copy.
    pub fn revokes(&self, keys: &RevocationKeys) -> bool {
        keys.iter().any(|key| self.entries.get(&key).is_some_and(|(until, _)| keys.issued_at() <= *until))
    }

    /// Milliseconds since the copy was complete.
    pub fn age_ms(&self, now: UnixMillis) -> Option<u64> {
        self.true_at.map(|at| now.since(at))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{claims::Identity, revocation::key::RevocationKind};

    const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);
    const MAX_AGE_MS: u64 = 60_000;

    fn entry(id: &str) -> RevocationEntry {
        let now = NOW.secs();
        RevocationEntry {
            key: RevocationKey::new(RevocationKind::Session, "i", id),
            issued_until: now.saturating_add(1000),
            keep_until: now.saturating_add(900),
        }
    }

    fn page(as_of: u64, from: u64, newest: u64, ids: &[&str]) -> LogPage {
        let entries = ids.iter().map(|id| entry(id)).collect();
        LogPage { as_of: NOW.plus(as_of), newest, from, overflows: false, entries }
    }

    fn marks(session: &str, user: &str, issued_at: u64) -> RevocationKeys {
        let identity = Identity {
            user_id: user.into(),
            email: None,
            roles: vec![],
            scopes: vec![],
            claims: vec![],
            session_id: Some(session.into()),
            token_id: Some("t".into()),
            issued_at: UnixMillis::from_secs(issued_at),
            expires_at: UnixMillis(0),
            issuer: "i".into(),
        };
        RevocationKeys::of(&identity, Some("k"))
    }

    fn young() -> RevocationCache {
        let mut copy = RevocationCache::default();
        copy.begin(1000, NOW);
        assert_eq!(copy.apply(&page(0, 0, 5, &["dead"]), Some(NOW), NOW), Applied::Done);
        copy.succeed(NOW);
        copy
    }

    #[test]
    fn the_age_of_a_copy_and_the_state_of_the_log_decide() {
        let failing = |at: u64| {
            let mut copy = young();
            copy.fail("log_unreachable", NOW.plus(at));
            copy
        };
        let asking = |at: u64| {
            let mut copy = young();
            copy.begin(1000, NOW.plus(at));
            copy
        };
        let failed_at_once = {
            let mut copy = RevocationCache::default();
            copy.fail("log_unreachable", NOW);
            copy
        };
        for (name, copy, at, expected) in [
            ("no page yet", RevocationCache::default(), 0, RevocationPlan::Read),
            ("young", young(), 0, RevocationPlan::Use),
            ("young", young(), 999, RevocationPlan::Use),
            ("time to read again", young(), 1000, RevocationPlan::UseAndRead),
            ("time to read again", young(), 4000, RevocationPlan::UseAndRead),
            ("another reads", asking(3500), 4000, RevocationPlan::Use),
            ("no request for a while", young(), 4001, RevocationPlan::Read),
            ("no request for an hour", young(), 3_600_000, RevocationPlan::Read),
            ("another reads", asking(4500), 4600, RevocationPlan::Wait),
            ("another read was lost", asking(4500), 5500, RevocationPlan::Read),
            ("unreachable a moment ago", failing(4500), 4600, RevocationPlan::Use),
            ("unreachable, a pause later", failing(4500), 5500, RevocationPlan::UseAndRead),
            ("unreachable long ago, and not asked since", failing(4500), 8500, RevocationPlan::Read),
            ("unreachable, at the limit", failing(59_500), 60_000, RevocationPlan::Use),
            ("unreachable, past the limit", failing(59_500), 60_001, RevocationPlan::Unavailable { retry_ms: 499 }),
            ("past the limit, time to ask", failing(59_000), 60_001, RevocationPlan::Read),
            ("never reached", failed_at_once.clone(), 1, RevocationPlan::Unavailable { retry_ms: 999 }),
            ("never reached", failed_at_once, 1000, RevocationPlan::Read),
        ] {
            assert_eq!(copy.plan(MAX_AGE_MS, NOW.plus(at)), expected, "{name}, at {at} ms");
        }
    }

    #[test]
    fn pages_follow_on_each_other_or_leave_a_gap() {
        // from, newest, as_of
        for (from, newest, as_of, expected) in [
            (6, 7, 1, Applied::Done),
            (2, 5, 1, Applied::Done),
            (7, 7, 1, Applied::Gap),
            (0, 9, 1, Applied::Done),
            (0, 0, 1, Applied::Done),
            (1, 2, 1, Applied::Gap),
        ] {
            let mut copy = young();
            assert_eq!(
                copy.apply(&page(as_of, from, newest, &["late"]), None, NOW.plus(as_of)),
                expected,
                "{from} {newest}"
            );
            assert!(copy.revokes(&marks("dead", "u", 0)), "known entries stay");
            assert_eq!(copy.revokes(&marks("late", "u", 0)), expected == Applied::Done);
        }
        let mut copy = young();
        assert_eq!(copy.apply(&page(1000, 6, 6, &[]), None, NOW.plus(1500)), Applied::Done);
        assert_eq!(copy.apply(&page(500, 6, 6, &["late"]), None, NOW.plus(1600)), Applied::Older);
        assert_eq!(copy.age_ms(NOW.plus(1600)), Some(600));
        assert_eq!(RevocationCache::default().apply(&page(0, 1, 1, &[]), Some(NOW), NOW), Applied::Gap);
    }

    #[test]
    fn a_cached_page_makes_a_copy_older_and_never_younger() {
        for (as_of, asked_at, now, expected) in [
            (0, None, 1900, 1900),
            (0, Some(1800), 1900, 100),
            // The log's clock is ahead: the age is not negative, and does not stay 0 for longer.
            (5000, None, 1900, 0),
            (5000, Some(1800), 1900, 0),
        ] {
            let mut copy = RevocationCache::default();
            copy.apply(&page(as_of, 0, 1, &[]), asked_at.map(|at| NOW.plus(at)), NOW.plus(now));
            assert_eq!(copy.age_ms(NOW.plus(now)), Some(expected), "{as_of} {asked_at:?} {now}");
        }
    }

    #[test]
    fn a_token_is_revoked_by_its_id_its_session_or_its_user_up_to_a_time() {
        let now = NOW.secs();
        let by = |kind, id: &str, issued_until| RevocationEntry {
            key: RevocationKey::new(kind, "i", id),
            issued_until,
            keep_until: now + 900,
        };
        for (entry, session, user, issued_at, expected) in [
            (by(RevocationKind::Token, "t", u64::MAX), "s", "u", now, true),
            (by(RevocationKind::Token, "other", u64::MAX), "s", "u", now, false),
            (by(RevocationKind::Session, "s", u64::MAX), "s", "u", now, true),
            (by(RevocationKind::Session, "s", u64::MAX), "S", "u", now, false),
            (by(RevocationKind::User, "s", u64::MAX), "s", "u", now, false),
            (by(RevocationKind::User, "u", now), "s", "u", now, true),
            (by(RevocationKind::User, "u", now), "s", "u", now + 1, false),
            (by(RevocationKind::User, "u", now), "s", "v", now, false),
        ] {
            let mut copy = young();
            copy.insert(entry);
            assert_eq!(
                copy.revokes(&marks(session, user, issued_at)),
                expected,
                "{entry:?} {session} {user} {issued_at}"
            );
        }
        let mut copy = young();
        copy.insert(by(RevocationKind::User, "u", now));
        copy.insert(by(RevocationKind::User, "u", now - 50));
        assert!(copy.revokes(&marks("s", "u", now)), "a later entry does not undo an earlier one");
    }

    #[test]
    fn entries_are_removed_when_they_expire_and_not_before() {
        let mut copy = young();
        let later = NOW.plus(899_000);
        assert_eq!(copy.apply(&page(899_000, 6, 6, &[]), None, later), Applied::Done);
        assert_eq!(copy.len(), 1);
        let later = NOW.plus(900_000 + limits::SWEEP_MS);
        assert_eq!(copy.apply(&page(900_000 + limits::SWEEP_MS, 6, 6, &[]), None, later), Applied::Done);
        assert!(copy.is_empty());
    }

    #[test]
    fn expired_entries_do_not_make_a_copy_too_large() {
        let half = limits::COPY_ENTRIES / 2 + 1;
        let many = |of: &str, keep_until: u64| {
            let entry = |number: usize| RevocationEntry { keep_until, ..entry(&format!("{of}{number}")) };
            (0..half).map(entry).collect::<Vec<_>>()
        };
        let mut copy = young();
        let (soon, late) = (NOW.secs().saturating_add(1), NOW.secs().saturating_add(900));
        copy.apply(&LogPage { entries: many("a", soon), ..page(1, 6, 300_000, &[]) }, None, NOW);
        copy.apply(&LogPage { entries: many("b", late), ..page(2000, 6, 400_000, &[]) }, None, NOW.plus(2000));
        assert!(!copy.overflows() && copy.len() > half / 2, "{}", copy.len());
    }

    #[test]
    fn a_log_too_large_for_a_copy_is_asked_itself_and_tried_again_in_a_while() {
        let mut by_word = RevocationCache::default();
        by_word.apply(&LogPage { overflows: true, ..page(0, 0, 9, &[]) }, Some(NOW), NOW);
        let mut by_count = young();
        let many = (0..=limits::COPY_ENTRIES).map(|number| entry(&number.to_string())).collect();
        by_count.apply(&LogPage { entries: many, ..page(1, 6, 300_000, &[]) }, None, NOW);
        for copy in [by_word, by_count] {
            assert_eq!(copy.plan(MAX_AGE_MS, NOW.plus(limits::SWEEP_MS - 1)), RevocationPlan::AskLog);
            assert_eq!(copy.plan(MAX_AGE_MS, NOW.plus(limits::SWEEP_MS)), RevocationPlan::Read);
            assert!(copy.is_empty());
        }
    }
}
