//! The memory of validated tokens: who a token's user is, never what the user may do.
//! Keyed by SHA-256 of the token, so that a dump of it holds none; bounded in entries
//! and in time, so that a token that was revoked elsewhere is soon refused here, too.
//! Refusals are not remembered: one may be of a key that is a second too new.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashlink::LruCache;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::time::{Duration, Instant};

use crate::{account::Validation, secret::Secret};

/// How much is remembered of validated tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachePolicy {
    /// Tokens at most; the one that was not asked for the longest goes first. 0 for none.
    pub entries: usize,
    /// How long at most. It is how much later than the service this client may see that
    /// a token was revoked.
    pub longest: Duration,
}

impl Default for CachePolicy {
    /// 4096 tokens (some 2 MB), 30 s.
    fn default() -> Self {
        Self { entries: 4096, longest: Duration::from_secs(30) }
    }
}

pub(super) type Key = [u8; 32];

pub(super) fn key(token: &Secret) -> Key {
    Sha256::digest(token.expose()).into()
}

struct Entry {
    validation: Validation,
    /// The cap, by a clock that nobody sets.
    until: Instant,
}

struct Held {
    entries: LruCache<Key, Entry>,
    /// Rises with each removal. An answer from before it may speak of a token that has
    /// been logged out since, and is not kept.
    removals: u64,
}

pub(super) struct Cache {
    longest: Duration,
    held: Mutex<Held>,
}

/// The state of the cache when an answer was asked for.
pub(super) struct Ticket(u64);

impl Cache {
    /// `None` for a policy that remembers nothing.
    pub(super) fn new(policy: CachePolicy) -> Option<Self> {
        if policy.entries == 0 || policy.longest.is_zero() {
            return None;
        }
        let held = Held { entries: LruCache::new(policy.entries), removals: 0 };
        Some(Self { longest: policy.longest, held: Mutex::new(held) })
    }

    /// What is remembered, or leave to ask and to keep the answer.
    pub(super) fn find(&self, key: &Key, now: OffsetDateTime, at: Instant) -> Result<Validation, Ticket> {
        let mut held = self.held();
        match held.entries.get(key) {
            Some(entry) if at < entry.until && now < entry.validation.expires_at => {
                return Ok(entry.validation.clone());
            }
            Some(_) => {
                held.entries.remove(key);
            }
            None => {}
        }
        Err(Ticket(held.removals))
    }

    pub(super) fn keep(&self, key: Key, validation: &Validation, ticket: Ticket, now: OffsetDateTime, at: Instant) {
        let mut held = self.held();
        let Some(until) = at.checked_add(self.longest) else { return };
        if held.removals == ticket.0 && now < validation.expires_at {
            held.entries.insert(key, Entry { validation: validation.clone(), until });
        }
    }

    pub(super) fn forget(&self, key: &Key) {
        let mut held = self.held();
        held.removals = held.removals.wrapping_add(1);
        held.entries.remove(key);
    }

    pub(super) fn clear(&self) {
        let mut held = self.held();
        held.removals = held.removals.wrapping_add(1);
        held.entries.clear();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::User;

    fn validation(expires_at: OffsetDateTime) -> Validation {
        let user = User {
            id: uuid::Uuid::nil(),
            email: "ada@example.com".into(),
            first_name: String::new(),
            last_name: String::new(),
            roles: vec![],
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        };
        Validation { user, expires_at }
    }

    fn named(text: &str) -> Key {
        key(&Secret::new(text.to_owned()))
    }

    fn keep(cache: &Cache, name: &str, expires_in: Duration, now: OffsetDateTime, at: Instant) {
        let expires_at = now.checked_add(expires_in.try_into().unwrap()).unwrap();
        let ticket = cache.find(&named(name), now, at).err().unwrap();
        cache.keep(named(name), &validation(expires_at), ticket, now, at);
    }

    #[test]
    fn a_token_is_remembered_until_it_expires_or_the_cap_is_over() {
        let (now, at) = (OffsetDateTime::UNIX_EPOCH, Instant::now());
        for (name, expires_in, after, known) in [
            ("at once", 900, 0, true),
            ("before the cap", 900, 29, true),
            ("at the cap", 900, 30, false),
            ("before it expires", 10, 9, true),
            ("when it expires", 10, 10, false),
            ("expired already", 0, 0, false),
        ] {
            let cache = Cache::new(CachePolicy::default()).unwrap();
            keep(&cache, "token", Duration::from_secs(expires_in), now, at);
            let after = Duration::from_secs(after);
            assert_eq!(cache.find(&named("token"), now + after, at + after).is_ok(), known, "{name}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_lengthen_the_cap() {
        let (now, at) = (OffsetDateTime::UNIX_EPOCH, Instant::now());
        let cache = Cache::new(CachePolicy::default()).unwrap();
        keep(&cache, "token", Duration::from_secs(900), now, at);
        let earlier = now - Duration::from_secs(3600);
        assert!(cache.find(&named("token"), earlier, at + Duration::from_secs(30)).is_err());
    }

    #[test]
    fn it_is_bounded_and_drops_what_nobody_asked_for() {
        let (now, at, life) = (OffsetDateTime::UNIX_EPOCH, Instant::now(), Duration::from_secs(900));
        let cache = Cache::new(CachePolicy { entries: 2, ..CachePolicy::default() }).unwrap();
        keep(&cache, "a", life, now, at);
        keep(&cache, "b", life, now, at);
        assert!(cache.find(&named("a"), now, at).is_ok());
        keep(&cache, "c", life, now, at);
        let known = ["a", "b", "c"].map(|name| cache.find(&named(name), now, at).is_ok());
        assert_eq!(known, [true, false, true]);
    }

    #[test]
    fn an_answer_that_a_logout_overtook_is_not_kept() {
        let (now, at) = (OffsetDateTime::UNIX_EPOCH, Instant::now());
        let cache = Cache::new(CachePolicy::default()).unwrap();
        let ticket = cache.find(&named("token"), now, at).err().unwrap();
        cache.forget(&named("token"));
        cache.keep(named("token"), &validation(now + Duration::from_secs(900)), ticket, now, at);
        assert!(cache.find(&named("token"), now, at).is_err());
    }

    #[test]
    fn nothing_is_remembered_where_nothing_may_be() {
        assert!(Cache::new(CachePolicy { entries: 0, ..CachePolicy::default() }).is_none());
        assert!(Cache::new(CachePolicy { longest: Duration::ZERO, ..CachePolicy::default() }).is_none());
    }
}
