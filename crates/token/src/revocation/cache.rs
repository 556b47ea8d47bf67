//! One isolate's copy of the log, and what to do about its age: a pure function of
//! (copy, now).

use std::collections::HashMap;

use super::{LogPage, RevocationEntry, RevocationKey, RevocationKeys, limits};
use crate::UnixMillis;

/// What one isolate knows of the log. It begins empty and is then not usable.
#[derive(Debug, Clone, Default)]
pub struct RevocationCache {
    /// By mark: tokens issued up to which second, kept until which second.
    entries: HashMap<RevocationKey, (u64, u64)>,
    /// The instant, by this isolate's clock, for which the copy is known to be true.
    true_at: Option<UnixMillis>,
    /// The log's own clock at the newest page that was taken, and its newest entry.
    page_at: Option<(UnixMillis, u64)>,
    /// When a look at the log last ended well.
    read_at: Option<UnixMillis>,
    /// Until when a look that is under way may take.
    asking_until: Option<UnixMillis>,
    /// When the last look failed, unless one has ended well since.
    failure: Option<(UnixMillis, &'static str)>,
    /// When the log turned out to be too large for a copy.
    overflowed_at: Option<UnixMillis>,
    swept_at: UnixMillis,
}

/// What to do with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationPlan {
    /// Judge by the copy.
    Use,
    /// Judge by the copy, and look at the log once the client has its answer.
    UseAndRead,
    /// Look at the log, then plan again.
    Read,
    /// Another request of this isolate is looking; see again shortly. (What it awaits
    /// belongs to it and cannot be shared.)
    Wait,
    /// The log is larger than a copy may be: ask it about this token.
    AskLog,
    /// The copy is past its limit and the log is out of reach: 503.
    Unavailable {
        /// Milliseconds until the log may be asked again.
        retry_ms: u64,
    },
}

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The copy is as true as the page now.
    Done,
    /// The page begins after where the copy ends: read the whole log.
    Gap,
    /// The copy is newer.
    Older,
}

impl RevocationCache {
    /// Decides, where a copy older than `max_age_ms` must let nobody in.
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
        // While the log is out of reach nobody waits for it again and again: the copy is
        // used up to its limit. One that was merely not asked for is not that old.
        if failed_ago.is_some_and(|ago| ago < limits::STALE_MS) && age.is_some_and(|age| age <= max_age_ms) {
            return if may_ask { RevocationPlan::UseAndRead } else { RevocationPlan::Use };
        }
        match (is_asking, failed_ago.filter(|_| rests)) {
            (true, _) => RevocationPlan::Wait,
            (false, Some(ago)) => RevocationPlan::Unavailable { retry_ms: limits::BACK_OFF_MS.saturating_sub(ago) },
            (false, None) => RevocationPlan::Read,
        }
    }

    /// Whether a look that was asked for is still due: several requests may ask.
    pub fn is_read_due(&self, now: UnixMillis) -> bool {
        self.read_at.is_none_or(|at| now.since(at) >= limits::REREAD_MS) && !self.is_asking(now)
    }

    fn is_asking(&self, now: UnixMillis) -> bool {
        self.asking_until.is_some_and(|until| now < until)
    }

    /// A question to the log begins that takes `may_take_ms` at most. Past that it counts
    /// as lost: whoever asked may have been cancelled.
    pub fn begin(&mut self, may_take_ms: u64, now: UnixMillis) {
        self.asking_until = Some(now.plus(may_take_ms));
    }

    /// It ended well.
    pub fn succeed(&mut self, now: UnixMillis) {
        self.asking_until = None;
        self.read_at = Some(now);
        self.failure = None;
    }

    /// It failed.
    pub fn fail(&mut self, code: &'static str, now: UnixMillis) {
        self.asking_until = None;
        self.failure = Some((now, code));
    }

    /// Takes a page. `asked_at` is given for one that came from the log itself and not
    /// from what keeps pages: it was true then, whatever the log's clock says.
    pub fn take(&mut self, page: &LogPage, asked_at: Option<UnixMillis>, now: UnixMillis) -> Applied {
        let is_whole = page.from == 0;
        if let Some((page_at, newest)) = self.page_at {
            if page.as_of < page_at {
                return Applied::Older;
            }
            // A lower number than before means that the log began anew.
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
            self.note(*entry);
        }
        // Before it is called too large: what has expired is not in the log either.
        if now.since(self.swept_at) >= limits::SWEEP_MS || self.entries.len() > limits::COPY_ENTRIES {
            self.swept_at = now;
            self.entries.retain(|_, (_, keep_until)| *keep_until > now.secs());
        }
        self.page_at = Some((page.as_of, page.newest));
        self.true_at = Some(page.as_of.max(asked_at.unwrap_or_default()).min(now));
        if self.entries.len() > limits::COPY_ENTRIES || self.overflowed_at.is_some() {
            // Begins again with the whole log, in a while.
            *self = Self { overflowed_at: Some(now), swept_at: self.swept_at, ..Self::default() };
        }
        Applied::Done
    }

    /// Adds what is known to be in the log, or on its way there.
    pub fn note(&mut self, entry: RevocationEntry) {
        let held = self.entries.entry(entry.key).or_default();
        *held = (held.0.max(entry.issued_until), held.1.max(entry.keep_until));
    }

    /// Whether a token is revoked, as far as the copy knows.
    pub fn revokes(&self, marks: &RevocationKeys) -> bool {
        marks.iter().any(|mark| self.entries.get(&mark).is_some_and(|(until, _)| marks.issued_at() <= *until))
    }

    /// Milliseconds since the copy was true.
    pub fn age_ms(&self, now: UnixMillis) -> Option<u64> {
        self.true_at.map(|at| now.since(at))
    }

    /// Entries that are held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the log is larger than a copy may be.
    pub fn overflows(&self) -> bool {
        self.overflowed_at.is_some()
    }

    /// Code of the last failure, unless it is over.
    pub fn last_error(&self) -> Option<&'static str> {
        self.failure.map(|(_, code)| code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, revocation::RevocationKind};

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
        assert_eq!(copy.take(&page(0, 0, 5, &["dead"]), Some(NOW), NOW), Applied::Done);
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
            ("nothing is known yet", RevocationCache::default(), 0, RevocationPlan::Read),
            ("young", young(), 0, RevocationPlan::Use),
            ("young", young(), 999, RevocationPlan::Use),
            ("time to look again", young(), 1000, RevocationPlan::UseAndRead),
            ("time to look again", young(), 4000, RevocationPlan::UseAndRead),
            ("another looks", asking(3500), 4000, RevocationPlan::Use),
            ("nobody asked for a while", young(), 4001, RevocationPlan::Read),
            ("nobody asked for an hour", young(), 3_600_000, RevocationPlan::Read),
            ("another looks", asking(4500), 4600, RevocationPlan::Wait),
            ("another looked and was never heard of", asking(4500), 5500, RevocationPlan::Read),
            ("out of reach a moment ago", failing(4500), 4600, RevocationPlan::Use),
            ("out of reach, a pause later", failing(4500), 5500, RevocationPlan::UseAndRead),
            ("out of reach long ago, and not asked since", failing(4500), 8500, RevocationPlan::Read),
            ("out of reach, at the limit", failing(59_500), 60_000, RevocationPlan::Use),
            ("out of reach, past the limit", failing(59_500), 60_001, RevocationPlan::Unavailable { retry_ms: 499 }),
            ("past the limit, time to ask", failing(59_000), 60_001, RevocationPlan::Read),
            ("never in reach", failed_at_once.clone(), 1, RevocationPlan::Unavailable { retry_ms: 999 }),
            ("never in reach", failed_at_once, 1000, RevocationPlan::Read),
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
                copy.take(&page(as_of, from, newest, &["late"]), None, NOW.plus(as_of)),
                expected,
                "{from} {newest}"
            );
            assert!(copy.revokes(&marks("dead", "u", 0)), "what is known stays known");
            assert_eq!(copy.revokes(&marks("late", "u", 0)), expected == Applied::Done);
        }
        let mut copy = young();
        assert_eq!(copy.take(&page(1000, 6, 6, &[]), None, NOW.plus(1500)), Applied::Done);
        assert_eq!(copy.take(&page(500, 6, 6, &["late"]), None, NOW.plus(1600)), Applied::Older);
        assert_eq!(copy.age_ms(NOW.plus(1600)), Some(600));
        assert_eq!(RevocationCache::default().take(&page(0, 1, 1, &[]), Some(NOW), NOW), Applied::Gap);
    }

    #[test]
    fn what_was_kept_in_between_makes_a_copy_older_and_never_younger() {
        for (as_of, asked_at, now, expected) in [
            (0, None, 1900, 1900),
            (0, Some(1800), 1900, 100),
            // The log's clock is ahead: no age below zero, and no credit for later.
            (5000, None, 1900, 0),
            (5000, Some(1800), 1900, 0),
        ] {
            let mut copy = RevocationCache::default();
            copy.take(&page(as_of, 0, 1, &[]), asked_at.map(|at| NOW.plus(at)), NOW.plus(now));
            assert_eq!(copy.age_ms(NOW.plus(now)), Some(expected), "{as_of} {asked_at:?} {now}");
        }
    }

    #[test]
    fn a_token_is_revoked_by_its_id_its_session_or_its_user_up_to_an_instant() {
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
            copy.note(entry);
            assert_eq!(
                copy.revokes(&marks(session, user, issued_at)),
                expected,
                "{entry:?} {session} {user} {issued_at}"
            );
        }
        let mut copy = young();
        copy.note(by(RevocationKind::User, "u", now));
        copy.note(by(RevocationKind::User, "u", now - 50));
        assert!(copy.revokes(&marks("s", "u", now)), "a later word never undoes an earlier one");
    }

    #[test]
    fn entries_go_when_their_time_is_over_and_never_before() {
        let mut copy = young();
        let later = NOW.plus(899_000);
        assert_eq!(copy.take(&page(899_000, 6, 6, &[]), None, later), Applied::Done);
        assert_eq!(copy.len(), 1);
        let later = NOW.plus(900_000 + limits::SWEEP_MS);
        assert_eq!(copy.take(&page(900_000 + limits::SWEEP_MS, 6, 6, &[]), None, later), Applied::Done);
        assert!(copy.is_empty());
    }

    #[test]
    fn what_has_expired_does_not_make_a_copy_too_large() {
        let half = limits::COPY_ENTRIES / 2 + 1;
        let many = |of: &str, keep_until: u64| {
            let entry = |number: usize| RevocationEntry { keep_until, ..entry(&format!("{of}{number}")) };
            (0..half).map(entry).collect::<Vec<_>>()
        };
        let mut copy = young();
        let (soon, late) = (NOW.secs().saturating_add(1), NOW.secs().saturating_add(900));
        copy.take(&LogPage { entries: many("a", soon), ..page(1, 6, 300_000, &[]) }, None, NOW);
        copy.take(&LogPage { entries: many("b", late), ..page(2000, 6, 400_000, &[]) }, None, NOW.plus(2000));
        assert!(!copy.overflows() && copy.len() > half / 2, "{}", copy.len());
    }

    #[test]
    fn a_log_too_large_for_a_copy_is_asked_itself_and_tried_again_in_a_while() {
        let mut by_word = RevocationCache::default();
        by_word.take(&LogPage { overflows: true, ..page(0, 0, 9, &[]) }, Some(NOW), NOW);
        let mut by_count = young();
        let many = (0..=limits::COPY_ENTRIES).map(|number| entry(&number.to_string())).collect();
        by_count.take(&LogPage { entries: many, ..page(1, 6, 300_000, &[]) }, None, NOW);
        for copy in [by_word, by_count] {
            assert_eq!(copy.plan(MAX_AGE_MS, NOW.plus(limits::SWEEP_MS - 1)), RevocationPlan::AskLog);
            assert_eq!(copy.plan(MAX_AGE_MS, NOW.plus(limits::SWEEP_MS)), RevocationPlan::Read);
            assert!(copy.is_empty());
        }
    }
}
