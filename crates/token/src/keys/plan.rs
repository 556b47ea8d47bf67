//! How to get the key for a token, from what one isolate knows of the issuer's keys.
//!
//! A published key is used, whatever state its issuer is in, up to the hard limit. Keys that cannot
//! be fetched are the gateway's fault (503); a key that the issuer does not publish is the token's (401).

use std::rc::Rc;

use portcullis_resilience::equal_jitter;

use super::{
    fetched::FetchedKeySet,
    jwk::Key,
    jwks::{KeyQuery, KeySet},
    limits,
};
use crate::time::UnixMillis;

/// What an isolate knows of one issuer's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IssuerKeys {
    /// The newest good set.
    pub record: Option<FetchedKeySet>,
    /// When the store was last read.
    pub cache_read_at: Option<UnixMillis>,
    /// When the last fetch began or, once it has ended, when it ended.
    pub attempt: Option<(UnixMillis, KeyFetch)>,
    /// Failed fetches since the last successful one.
    pub failures: u32,
    /// Code of the last failure, for `/status`.
    pub last_error: Option<&'static str>,
    /// Whether the policy holds the set. It is then never fetched and does not expire.
    pub is_fixed: bool,
}

/// The state of a fetch from the issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFetch {
    /// In progress, or lost.
    Running,
    /// It returned a usable set.
    Succeeded,
    /// It did not.
    Failed {
        /// Random: spreads the next fetches of many isolates.
        jitter: u8,
    },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlan {
    /// Check the signature with this key.
    Use(Rc<Key>),
    /// Check with this key; the set is stale, so fetch it once the client has its response.
    UseAndRefresh(Rc<Key>),
    /// Read the store, then plan again.
    ReadCache,
    /// Fetch from the issuer, then plan again.
    Fetch,
    /// Another request of this isolate is fetching; plan again shortly. (A fetch belongs to the
    /// request that made it and cannot be shared.)
    Wait,
    /// The issuer publishes no such key, or only those that were tried: 401.
    Unknown,
    /// The issuer cannot be reached, or must not be asked again yet: 503.
    Unavailable {
        /// Milliseconds until the next fetch is allowed.
        retry_ms: u64,
    },
}

/// Decides how to get the key for a token.
pub fn plan(keys: &IssuerKeys, query: &KeyQuery<'_>, now: UnixMillis) -> KeyPlan {
    let record = keys.usable(now);
    if let Some(record) = record {
        if let Some(key) = record.set.select(query).cloned() {
            return if keys.is_refresh_due(now) { KeyPlan::UseAndRefresh(key) } else { KeyPlan::Use(key) };
        }
        // All keys of the token's `kid` were tried. Without a `kid`, the key may be a new one.
        if !query.tried.is_empty() && record.set.names(query) {
            return KeyPlan::Unknown;
        }
    }
    if keys.is_fixed {
        return KeyPlan::Unknown;
    }
    // Another isolate or the scheduled refresh may have stored a newer set.
    let was_read = keys.cache_read_at.is_some_and(|at| now.abs_diff(at) < limits::CACHE_LOOK_MS);
    let was_fetched = matches!(keys.attempt, Some((_, KeyFetch::Succeeded))) && !keys.may_ask(now);
    if !was_read && !was_fetched {
        return KeyPlan::ReadCache;
    }
    if keys.may_ask(now) {
        return KeyPlan::Fetch;
    }
    match keys.attempt {
        Some((_, KeyFetch::Running)) => KeyPlan::Wait,
        Some((_, KeyFetch::Succeeded)) if record.is_some_and(|record| record.set.is_whole) => KeyPlan::Unknown,
        // Unknown, and no fetch is allowed now. A 401 would log users out whenever their issuer is
        // down or has more keys than are examined.
        Some(_) | None => KeyPlan::Unavailable { retry_ms: keys.pause_ms(now) },
    }
}

impl IssuerKeys {
    /// The keys that a policy holds.
    pub fn fixed(set: KeySet) -> Self {
        let record = FetchedKeySet { set, fetched_at: UnixMillis::default(), fresh_ms: 0 };
        Self { record: Some(record), is_fixed: true, ..Self::default() }
    }

    /// The set, unless it is past the hard limit.
    pub fn usable(&self, now: UnixMillis) -> Option<&FetchedKeySet> {
        self.record.as_ref().filter(|record| self.is_fixed || now.since(record.fetched_at) < limits::HARD_MS)
    }

    /// Milliseconds since the set was fetched; `None` without one, and for a set of the policy.
    pub fn age_ms(&self, now: UnixMillis) -> Option<u64> {
        self.record.as_ref().filter(|_| !self.is_fixed).map(|record| now.since(record.fetched_at))
    }

    /// Whether a key that verified a cached token is still published, as far as the isolate knows.
    pub fn publishes(&self, key: &Rc<Key>, now: UnixMillis) -> bool {
        self.usable(now).is_some_and(|record| record.set.keys().contains(key))
    }

    /// Whether a background refresh is due: the set is stale, and a fetch is allowed.
    pub fn is_refresh_due(&self, now: UnixMillis) -> bool {
        let is_stale = |record: &FetchedKeySet| now.abs_diff(record.fetched_at) >= record.fresh_ms;
        self.record.as_ref().is_none_or(is_stale) && self.may_ask(now)
    }

    /// Records the start of a fetch.
    pub fn begin(&mut self, now: UnixMillis) {
        self.attempt = Some((now, KeyFetch::Running));
    }

    /// Records a fetch that returned a usable set.
    pub fn succeed(&mut self, record: FetchedKeySet) {
        self.attempt = Some((record.fetched_at, KeyFetch::Succeeded));
        self.failures = 0;
        self.last_error = None;
        self.record = Some(record);
    }

    /// Records a failed fetch. The present set stays.
    pub fn fail(&mut self, code: &'static str, now: UnixMillis, jitter: u8) {
        // A set that was fetched while the clock was ahead must not outlive the hard limit.
        if let Some(record) = &mut self.record {
            record.fetched_at = record.fetched_at.min(now);
        }
        self.attempt = Some((now, KeyFetch::Failed { jitter }));
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(code);
    }

    /// Records a read of the store. A newer set replaces the present one, and any set one that was fetched while the
    /// clock was ahead.
    pub fn adopt(&mut self, found: Option<FetchedKeySet>, now: UnixMillis) {
        self.cache_read_at = Some(now);
        let (own_at, latest) = (self.record.as_ref().map(|own| own.fetched_at), now.plus(limits::COOL_DOWN_MS));
        let replaces = |found: &FetchedKeySet| own_at.is_none_or(|at| found.fetched_at > at || at > latest);
        if let Some(found) = found.filter(replaces) {
            self.record = Some(found);
        }
    }

    /// Milliseconds until the next fetch is allowed.
    fn pause_ms(&self, now: UnixMillis) -> u64 {
        let Some((at, fetch)) = self.attempt else { return 0 };
        let pause_ms = match fetch {
            KeyFetch::Running => limits::LOST_MS,
            KeyFetch::Succeeded => limits::COOL_DOWN_MS,
            // Isolates that failed together do not retry together.
            KeyFetch::Failed { jitter } => {
                equal_jitter(limits::BACKOFF.delay_ms(self.failures), u32::from_be_bytes([jitter; 4]))
            }
        };
        pause_ms.saturating_sub(now.abs_diff(at))
    }

    /// Whether a fetch is allowed at `now`.
    pub fn may_ask(&self, now: UnixMillis) -> bool {
        !self.is_fixed && self.pause_ms(now) == 0
    }

    /// Whether the scheduled refresh may fetch at `now`. No token can trigger it, so only the pause
    /// after a failure applies.
    pub fn is_scheduled_refresh_due(&self, now: UnixMillis) -> bool {
        matches!(self.attempt, Some((_, KeyFetch::Succeeded))) || self.may_ask(now)
    }

    /// Whether a request of this isolate is fetching.
    pub fn is_asking(&self, now: UnixMillis) -> bool {
        matches!(self.attempt, Some((_, KeyFetch::Running))) && !self.may_ask(now)
    }
}
