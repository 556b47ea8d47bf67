//! What to do for a token's key, given what one isolate holds: a pure function
//! of (holding, what the token asks for, now).
//!
//! Keys that are published are used, whatever state their issuer is in, up to
//! the hard limit. Keys that cannot be had are our trouble (503), a key that
//! the issuer does not publish is the token's (401), and the two are told apart
//! by whether the issuer could be asked.

use std::rc::Rc;

use portcullis_resilience::equal_jitter;

use super::{FetchedKeySet, Key, KeyQuery, limits};
use crate::UnixMillis;

/// What an isolate knows of one issuer's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IssuerKeys {
    /// The newest good set.
    pub record: Option<FetchedKeySet>,
    /// When KV was last read.
    pub cache_read_at: Option<UnixMillis>,
    /// The last time the issuer was asked.
    pub attempt: Option<KeyFetch>,
    /// Failures since the last good answer.
    pub failures: u32,
    /// Code of the last failure, for `/status`.
    pub last_error: Option<&'static str>,
}

/// One request to the issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFetch {
    /// Begun and not heard of since.
    Running {
        /// When it began.
        since: UnixMillis,
    },
    /// Ended.
    Done {
        /// When it ended.
        at: UnixMillis,
        /// Whether it brought a good set.
        ok: bool,
        /// Chance: spreads the next attempts of many isolates.
        jitter: u8,
    },
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPlan<'a> {
    /// Check the signature with this key.
    Use(&'a Rc<Key>),
    /// Check with this key; the set is past its freshness, so ask the issuer
    /// once the client has its answer.
    UseAndRefresh(&'a Rc<Key>),
    /// Look into KV, then plan again.
    ReadCache,
    /// Ask the issuer, then plan again.
    Fetch,
    /// Another request of this isolate is asking; look again shortly. (A fetch
    /// belongs to the request that made it and cannot be shared.)
    Wait,
    /// The issuer does not publish such a key, or none but those that were tried: 401.
    Unknown,
    /// The issuer cannot be asked, or not again so soon: 503, and when to retry.
    Unavailable {
        /// Milliseconds until the issuer may be asked again.
        retry_ms: u64,
    },
}

/// Whether a key that vouched for a token before is still its issuer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStanding {
    /// It is.
    Current,
    /// It is; the set is past its freshness, so ask the issuer once the client has its
    /// answer.
    Stale,
    /// It is not, as far as is known.
    Gone,
}

/// Decides for a token, by what it asks for.
pub fn plan<'a>(holding: &'a IssuerKeys, wanted: &KeyQuery<'_>, now: UnixMillis) -> KeyPlan<'a> {
    let record = holding.usable(now);
    if let Some(record) = record {
        if let Some(key) = record.set.select(wanted) {
            return if holding.is_refresh_wanted(record, now) {
                KeyPlan::UseAndRefresh(key)
            } else {
                KeyPlan::Use(key)
            };
        }
        // Not by the keys of its own name, all of which are here. A token that leaves us to
        // guess, on the other hand, may be of a key that was published just now.
        if !wanted.tried.is_empty() && record.set.names(wanted) {
            return KeyPlan::Unknown;
        }
    }
    // Another isolate, or the cron, may have fetched a newer set.
    let read_lately = holding.cache_read_at.is_some_and(|at| now.since(at) < limits::CACHE_LOOK_MS);
    if !read_lately && !asked_lately(holding, now) {
        return KeyPlan::ReadCache;
    }
    if holding.may_ask(now) {
        return KeyPlan::Fetch;
    }
    match holding.attempt {
        Some(KeyFetch::Running { .. }) => KeyPlan::Wait,
        Some(KeyFetch::Done { ok: true, .. }) if record.is_some_and(|record| record.set.is_whole()) => KeyPlan::Unknown,
        // Not known and not to be learnt now. Saying 401 here would log honest
        // users out whenever their issuer is down, or has more keys than are looked at.
        Some(KeyFetch::Done { .. }) | None => KeyPlan::Unavailable { retry_ms: pause(holding, now) },
    }
}

fn asked_lately(holding: &IssuerKeys, now: UnixMillis) -> bool {
    matches!(holding.attempt, Some(KeyFetch::Done { at, ok: true, .. }) if now.since(at) < limits::COOL_DOWN_MS)
}

/// Milliseconds until the issuer may be asked again.
fn pause(holding: &IssuerKeys, now: UnixMillis) -> u64 {
    let Some(KeyFetch::Done { at, ok, jitter }) = holding.attempt else {
        return 0;
    };
    let wanted = if ok {
        limits::COOL_DOWN_MS
    } else {
        // Isolates that failed together do not come back together.
        equal_jitter(limits::BACKOFF.delay_ms(holding.failures), u32::from_be_bytes([jitter; 4]))
    };
    wanted.saturating_sub(now.since(at))
}

impl IssuerKeys {
    /// The set at hand, while it may be relied on.
    fn usable(&self, now: UnixMillis) -> Option<&FetchedKeySet> {
        self.record.as_ref().filter(|record| now.since(record.fetched_at) < limits::HARD_MS)
    }

    fn is_refresh_wanted(&self, record: &FetchedKeySet, now: UnixMillis) -> bool {
        !record.is_fresh(now) && self.may_ask(now)
    }

    /// Where a key stands that vouched for a token before.
    pub fn standing(&self, key: &Key, now: UnixMillis) -> KeyStanding {
        match self.usable(now) {
            Some(record) if record.set.keys().iter().any(|own| own.is_same(key)) => {
                if self.is_refresh_wanted(record, now) { KeyStanding::Stale } else { KeyStanding::Current }
            }
            Some(_) | None => KeyStanding::Gone,
        }
    }

    /// Whether a background refresh is due: past freshness and allowed to ask.
    pub fn is_refresh_due(&self, now: UnixMillis) -> bool {
        let stale = self.record.as_ref().is_none_or(|record| !record.is_fresh(now));
        stale && self.may_ask(now)
    }

    /// A request to the issuer begins.
    pub fn begin(&mut self, now: UnixMillis) {
        self.attempt = Some(KeyFetch::Running { since: now });
    }

    /// The issuer answered with a good set.
    pub fn succeed(&mut self, record: FetchedKeySet) {
        self.attempt = Some(KeyFetch::Done { at: record.fetched_at, ok: true, jitter: 0 });
        self.failures = 0;
        self.last_error = None;
        self.record = Some(record);
    }

    /// The issuer did not answer, or with something that is no key set. The
    /// set at hand stays.
    pub fn fail(&mut self, code: &'static str, now: UnixMillis, jitter: u8) {
        self.attempt = Some(KeyFetch::Done { at: now, ok: false, jitter });
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(code);
    }

    /// KV was read; a record newer than the one at hand is taken.
    pub fn adopt(&mut self, found: Option<FetchedKeySet>, now: UnixMillis) {
        self.cache_read_at = Some(now);
        if let Some(found) = found
            && self.record.as_ref().is_none_or(|own| found.fetched_at > own.fetched_at)
        {
            self.record = Some(found);
        }
    }

    /// Whether the issuer may be asked at `now`, without regard to any token.
    pub fn may_ask(&self, now: UnixMillis) -> bool {
        match self.attempt {
            None => true,
            Some(KeyFetch::Running { since }) => now.since(since) >= limits::LOST_MS,
            Some(KeyFetch::Done { .. }) => pause(self, now) == 0,
        }
    }

    /// Whether the scheduled refresh may ask at `now`. Nobody's token makes it come,
    /// so the pause after a success is not for it; the one after a failure is.
    pub fn is_scheduled_refresh_due(&self, now: UnixMillis) -> bool {
        matches!(self.attempt, Some(KeyFetch::Done { ok: true, .. })) || self.may_ask(now)
    }

    /// Whether a request of this isolate is asking the issuer.
    pub fn is_asking(&self, now: UnixMillis) -> bool {
        matches!(self.attempt, Some(KeyFetch::Running { since }) if now.since(since) < limits::LOST_MS)
    }

    /// Whether tokens can be checked with what is at hand.
    pub fn is_usable(&self, now: UnixMillis) -> bool {
        self.usable(now).is_some()
    }

    /// When the issuer was last asked.
    pub fn last_attempt_at(&self) -> Option<UnixMillis> {
        self.attempt.map(|attempt| match attempt {
            KeyFetch::Running { since: at } | KeyFetch::Done { at, .. } => at,
        })
    }
}
