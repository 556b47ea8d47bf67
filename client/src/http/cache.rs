//! The memory of validated tokens: who a token's user is, never what the user may do.
//! Keyed by SHA-256 of the token, so that a dump of it holds none; bounded in entries
//! and in time, so that a token that was revoked elsewhere is soon refused here, too.
//! Refusals are not remembered: one may be of a key that is a second too new.
//!
//! Several tasks that ask for one token at one moment are one call: the first asks, the
//! others wait for what it is told, an error included. No lock is held meanwhile, and no
//! task runs in the background: if the one that asks goes away, another takes its place.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hashlink::LruCache;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::{
    sync::watch,
    time::{Duration, Instant},
};

use crate::{account::Validation, error::ClientError, secret::Secret};

/// Calls at one moment that others may wait for. Beyond it each task asks for itself: a
/// program that is asked with so many tokens at once gains nothing by waiting.
const FLIGHTS: usize = 1024;

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

type Outcome = Result<Validation, ClientError>;

/// A call that is under way.
struct Flight {
    number: u64,
    begun: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
}

struct Held {
    entries: LruCache<Key, Entry>,
    flights: HashMap<Key, Flight>,
    /// Number of the next flight.
    number: u64,
    /// Rises with each removal. An answer from before it may speak of a token that has
    /// been logged out since, and is not kept.
    removals: u64,
}

pub(super) struct Cache {
    longest: Duration,
    held: Mutex<Held>,
}

/// What there is of a token.
pub(super) enum Found<'a> {
    Known(Validation),
    /// Somebody asks already.
    UnderWay(Waiting),
    /// Leave to ask.
    Unknown(Ticket<'a>),
}

/// A place among those who wait for somebody else's call.
pub(super) struct Waiting(watch::Receiver<Option<Outcome>>);

impl Waiting {
    /// What the call came to; `None` if whoever made it went away.
    pub(super) async fn outcome(mut self) -> Option<Outcome> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Leave to ask, with the state of the cache at that moment. Dropped, it leaves the place
/// to another.
pub(super) struct Ticket<'a> {
    cache: &'a Cache,
    key: Key,
    number: u64,
    removals: u64,
    asked_at: Instant,
    sender: watch::Sender<Option<Outcome>>,
}

impl Ticket<'_> {
    /// Tells those who wait, and remembers a success.
    pub(super) fn settle(self, outcome: &Outcome, now: OffsetDateTime) {
        let mut held = self.cache.held();
        // From the question on, not from the answer: what was revoked meanwhile may be
        // older than the answer looks.
        let until = self.asked_at.checked_add(self.cache.longest);
        if let (Ok(validation), Some(until)) = (outcome, until)
            && held.removals == self.removals
            && now < validation.expires_at
        {
            held.entries.insert(self.key, Entry { validation: validation.clone(), until });
        }
        // With the same lock: a failure must not be found by who comes after it.
        held.land(&self.key, self.number);
        drop(held);
        self.sender.send_replace(Some(outcome.clone()));
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.cache.held().land(&self.key, self.number);
    }
}

impl Held {
    /// Ends a flight. A logout may have made room for a later one of the same token, which
    /// stays.
    fn land(&mut self, key: &Key, number: u64) {
        if self.flights.get(key).is_some_and(|flight| flight.number == number) {
            self.flights.remove(key);
        }
    }
}

impl Cache {
    /// `None` for a policy that remembers nothing.
    pub(super) fn new(policy: CachePolicy) -> Option<Self> {
        if policy.entries == 0 || policy.longest.is_zero() {
            return None;
        }
        let entries = LruCache::new(policy.entries);
        let held = Held { entries, flights: HashMap::new(), number: 0, removals: 0 };
        Some(Self { longest: policy.longest, held: Mutex::new(held) })
    }

    /// What is remembered, what is under way, or leave to ask.
    pub(super) fn find(&self, key: &Key, now: OffsetDateTime, at: Instant) -> Found<'_> {
        let mut held = self.held();
        match held.entries.get(key) {
            Some(entry) if at < entry.until && now < entry.validation.expires_at => {
                return Found::Known(entry.validation.clone());
            }
            Some(_) => {
                held.entries.remove(key);
            }
            None => {}
        }
        match held.flights.get(key) {
            // The answer to a question is as old as the question.
            Some(flight) if at.saturating_duration_since(flight.begun) < self.longest => {
                return Found::UnderWay(Waiting(flight.outcome.clone()));
            }
            Some(_) | None => {}
        }
        let (sender, outcome) = watch::channel(None);
        let number = held.number;
        held.number = number.wrapping_add(1);
        if held.flights.len() < FLIGHTS || held.flights.contains_key(key) {
            held.flights.insert(*key, Flight { number, begun: at, outcome });
        }
        Found::Unknown(Ticket { cache: self, key: *key, number, removals: held.removals, asked_at: at, sender })
    }

    /// Forgets a token. Whoever asks from now on does not wait for a call from before.
    pub(super) fn forget(&self, key: &Key) {
        let mut held = self.held();
        held.removals = held.removals.wrapping_add(1);
        held.entries.remove(key);
        held.flights.remove(key);
    }

    pub(super) fn clear(&self) {
        let mut held = self.held();
        held.removals = held.removals.wrapping_add(1);
        held.entries.clear();
        held.flights.clear();
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
            email_verified: false,
        };
        Validation { user, expires_at }
    }

    fn named(text: &str) -> Key {
        key(&Secret::new(text.to_owned()))
    }

    fn asks<'a>(cache: &'a Cache, name: &str, now: OffsetDateTime, at: Instant) -> Ticket<'a> {
        match cache.find(&named(name), now, at) {
            Found::Unknown(ticket) => ticket,
            Found::Known(_) | Found::UnderWay(_) => panic!("{name} needs no question"),
        }
    }

    fn waits(cache: &Cache, name: &str, now: OffsetDateTime, at: Instant) -> Waiting {
        match cache.find(&named(name), now, at) {
            Found::UnderWay(waiting) => waiting,
            Found::Known(_) | Found::Unknown(_) => panic!("nobody asks for {name}"),
        }
    }

    fn knows(cache: &Cache, name: &str, now: OffsetDateTime, at: Instant) -> bool {
        matches!(cache.find(&named(name), now, at), Found::Known(_))
    }

    fn keep(cache: &Cache, name: &str, expires_in: Duration, now: OffsetDateTime, at: Instant) {
        let expires_at = now.checked_add(expires_in.try_into().unwrap()).unwrap();
        asks(cache, name, now, at).settle(&Ok(validation(expires_at)), now);
    }

    fn cache() -> (Cache, OffsetDateTime, Instant) {
        (Cache::new(CachePolicy::default()).unwrap(), OffsetDateTime::UNIX_EPOCH, Instant::now())
    }

    #[test]
    fn a_token_is_remembered_until_it_expires_or_the_cap_is_over() {
        for (name, expires_in, after, known) in [
            ("at once", 900, 0, true),
            ("before the cap", 900, 29, true),
            ("at the cap", 900, 30, false),
            ("before it expires", 10, 9, true),
            ("when it expires", 10, 10, false),
            ("expired already", 0, 0, false),
        ] {
            let (cache, now, at) = cache();
            keep(&cache, "token", Duration::from_secs(expires_in), now, at);
            let after = Duration::from_secs(after);
            assert_eq!(knows(&cache, "token", now + after, at + after), known, "{name}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_lengthen_the_cap() {
        let (cache, now, at) = cache();
        keep(&cache, "token", Duration::from_secs(900), now, at);
        let earlier = now - Duration::from_secs(3600);
        assert!(!knows(&cache, "token", earlier, at + Duration::from_secs(30)));
    }

    #[test]
    fn it_is_bounded_and_drops_what_nobody_asked_for() {
        let (now, at, life) = (OffsetDateTime::UNIX_EPOCH, Instant::now(), Duration::from_secs(900));
        let cache = Cache::new(CachePolicy { entries: 2, ..CachePolicy::default() }).unwrap();
        keep(&cache, "a", life, now, at);
        keep(&cache, "b", life, now, at);
        assert!(knows(&cache, "a", now, at));
        keep(&cache, "c", life, now, at);
        let known = ["a", "b", "c"].map(|name| knows(&cache, name, now, at));
        assert_eq!(known, [true, false, true]);
    }

    #[tokio::test]
    async fn an_answer_that_a_logout_overtook_is_not_kept_and_nobody_who_came_later_waits_for_it() {
        for forget in [|cache: &Cache| cache.forget(&named("token")), Cache::clear] {
            let (cache, now, at) = cache();
            let good = Ok(validation(now + Duration::from_secs(900)));
            let ticket = asks(&cache, "token", now, at);
            let before = waits(&cache, "token", now, at);
            forget(&cache);
            let later = asks(&cache, "token", now, at);
            ticket.settle(&good, now);
            assert_eq!(before.outcome().await, Some(good.clone()), "who asked before it may be told of before it");
            let waiting = waits(&cache, "token", now, at);
            later.settle(&good, now);
            assert_eq!(waiting.outcome().await, Some(good), "the earlier one's end is not the later one's");
            assert!(knows(&cache, "token", now, at));
        }
    }

    #[tokio::test]
    async fn one_asks_and_all_who_wait_are_told_the_same() {
        let (cache, now, at) = cache();
        let refusal = Err(ClientError::Timeout);
        let good = Ok(validation(now + Duration::from_secs(900)));
        for (outcome, is_kept) in [(refusal, false), (good, true)] {
            let ticket = asks(&cache, "token", now, at);
            let waiting: Vec<_> = (0..100).map(|_| waits(&cache, "token", now, at)).collect();
            assert!(matches!(cache.find(&named("other"), now, at), Found::Unknown(_)), "another token is another call");
            ticket.settle(&outcome, now);
            assert_eq!(knows(&cache, "token", now, at), is_kept);
            for waiting in waiting {
                assert_eq!(waiting.outcome().await.as_ref(), Some(&outcome));
            }
        }
    }

    #[tokio::test]
    async fn whoever_asks_and_goes_away_leaves_the_place_to_another() {
        let (cache, now, at) = cache();
        let ticket = asks(&cache, "token", now, at);
        let waiting = waits(&cache, "token", now, at);
        drop(ticket);
        assert_eq!(waiting.outcome().await, None);
        drop(asks(&cache, "token", now, at));
        assert!(cache.held().flights.is_empty());
    }

    #[test]
    fn nobody_waits_for_an_answer_that_would_be_older_than_one_from_memory_may_be() {
        let (cache, now, at) = cache();
        let slow = asks(&cache, "token", now, at);
        drop(waits(&cache, "token", now, at + Duration::from_secs(29)));
        let late = at + Duration::from_secs(30);
        let second = asks(&cache, "token", now, late);
        slow.settle(&Ok(validation(now + Duration::from_secs(900))), now);
        assert!(!knows(&cache, "token", now, late), "its answer is as old as its question");
        drop(waits(&cache, "token", now, late));
        drop(second);
    }

    #[test]
    fn calls_that_are_waited_for_are_bounded_and_those_beyond_are_made_all_the_same() {
        let (cache, now, at) = cache();
        let good = Ok(validation(now + Duration::from_secs(900)));
        let tickets: Vec<_> = (0..FLIGHTS).map(|number| asks(&cache, &number.to_string(), now, at)).collect();
        let (one, two) = (asks(&cache, "beyond", now, at), asks(&cache, "beyond", now, at));
        assert_eq!(cache.held().flights.len(), FLIGHTS);
        one.settle(&good, now);
        assert!(knows(&cache, "beyond", now, at));
        drop((two, tickets));
        assert!(cache.held().flights.is_empty());
    }

    #[test]
    fn nothing_is_remembered_where_nothing_may_be() {
        assert!(Cache::new(CachePolicy { entries: 0, ..CachePolicy::default() }).is_none());
        assert!(Cache::new(CachePolicy { longest: Duration::ZERO, ..CachePolicy::default() }).is_none());
    }
}
