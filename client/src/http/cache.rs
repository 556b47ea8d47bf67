//! The cache of validated tokens: who a token's user is, never what the user may do.
//!
//! Keyed by the SHA-256 of the token, so that a memory dump contains no token; limited in entries and
//! in time, so that a token that was revoked elsewhere is soon refused here too. Refusals are not
//! cached: a token may be signed with a key that is a second too new.
//!
//! Concurrent validations of one token are one call: the first task sends it, the others wait for its
//! result, an error included. No lock is held meanwhile, and no task runs in the background: if the
//! first task is cancelled, another takes its place.

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

/// Concurrent calls that other tasks may wait for. Beyond it each task sends its own call: with so many
/// tokens at once, sharing gains nothing.
const PENDING: usize = 1024;

/// Limits of the cache of validated tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachePolicy {
    /// Tokens at most; the least recently used one is evicted first. 0 disables the cache.
    pub entries: usize,
    /// Time for which a token is cached at most: the longest delay with which this client notices a
    /// revocation.
    pub longest: Duration,
}

impl Default for CachePolicy {
    /// 4096 tokens (about 2 MB), 30 s.
    fn default() -> Self {
        Self { entries: 4096, longest: Duration::from_secs(30) }
    }
}

pub(super) type TokenDigest = [u8; 32];

pub(super) fn digest(token: &Secret) -> TokenDigest {
    Sha256::digest(token.expose()).into()
}

struct CachedValidation {
    validation: Validation,
    /// End of the time in the cache, by the monotonic clock.
    until: Instant,
}

type ValidationResult = Result<Validation, ClientError>;

/// A call in progress.
struct PendingValidation {
    number: u64,
    begun: Instant,
    outcome: watch::Receiver<Option<ValidationResult>>,
}

struct CacheState {
    entries: LruCache<TokenDigest, CachedValidation>,
    pending: HashMap<TokenDigest, PendingValidation>,
    /// Number of the next call.
    number: u64,
    /// Counts removals. The answer to an earlier call may concern a token that has been logged out
    /// since, and is not cached.
    removals: u64,
}

pub(super) struct ValidationCache {
    longest: Duration,
    state: Mutex<CacheState>,
}

/// What the cache knows about a token.
pub(super) enum Lookup<'a> {
    Hit(Validation),
    /// Another task validates the token.
    Pending(PendingResult),
    /// The caller validates the token.
    Miss(Ticket<'a>),
}

/// The result of another task's call.
pub(super) struct PendingResult(watch::Receiver<Option<ValidationResult>>);

impl PendingResult {
    /// Waits for the result; `None` if the other task was cancelled.
    pub(super) async fn outcome(mut self) -> Option<ValidationResult> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Permission to validate a token, with the state of the cache at that moment. Dropping it lets another
/// task take its place.
pub(super) struct Ticket<'a> {
    cache: &'a ValidationCache,
    digest: TokenDigest,
    number: u64,
    removals: u64,
    asked_at: Instant,
    sender: watch::Sender<Option<ValidationResult>>,
}

impl Ticket<'_> {
    /// Sends the result to the waiting tasks, and caches a success.
    pub(super) fn settle(self, outcome: &ValidationResult, now: OffsetDateTime) {
        let mut state = self.cache.state();
        // From the time of the call, not of the answer: the token may have been revoked in between.
        let until = self.asked_at.checked_add(self.cache.longest);
        if let (Ok(validation), Some(until)) = (outcome, until)
            && state.removals == self.removals
            && now < validation.expires_at
        {
            state.entries.insert(self.digest, CachedValidation { validation: validation.clone(), until });
        }
        // Under the same lock, so that a later caller does not find a failure.
        state.remove_pending(&self.digest, self.number);
        drop(state);
        self.sender.send_replace(Some(outcome.clone()));
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.cache.state().remove_pending(&self.digest, self.number);
    }
}

impl CacheState {
    /// Removes a call. After a logout there may be a later one of the same token, which stays.
    fn remove_pending(&mut self, digest: &TokenDigest, number: u64) {
        if self.pending.get(digest).is_some_and(|pending| pending.number == number) {
            self.pending.remove(digest);
        }
    }
}

impl ValidationCache {
    /// Returns `None` for a policy that disables the cache.
    pub(super) fn new(policy: CachePolicy) -> Option<Self> {
        if policy.entries == 0 || policy.longest.is_zero() {
            return None;
        }
        let entries = LruCache::new(policy.entries);
        let state = CacheState { entries, pending: HashMap::new(), number: 0, removals: 0 };
        Some(Self { longest: policy.longest, state: Mutex::new(state) })
    }

    /// Returns a cached validation, a call in progress, or permission to validate.
    pub(super) fn find(&self, digest: &TokenDigest, now: OffsetDateTime, at: Instant) -> Lookup<'_> {
        let mut state = self.state();
        match state.entries.get(digest) {
            Some(entry) if at < entry.until && now < entry.validation.expires_at => {
                return Lookup::Hit(entry.validation.clone());
            }
            Some(_) => {
                state.entries.remove(digest);
            }
            None => {}
        }
        match state.pending.get(digest) {
            // The age of an answer counts from its call.
            Some(pending) if at.saturating_duration_since(pending.begun) < self.longest => {
                return Lookup::Pending(PendingResult(pending.outcome.clone()));
            }
            Some(_) | None => {}
        }
        let (sender, outcome) = watch::channel(None);
        let number = state.number;
        state.number = number.wrapping_add(1);
        if state.pending.len() < PENDING || state.pending.contains_key(digest) {
            state.pending.insert(*digest, PendingValidation { number, begun: at, outcome });
        }
        Lookup::Miss(Ticket { cache: self, digest: *digest, number, removals: state.removals, asked_at: at, sender })
    }

    /// Removes a token. Later callers do not wait for a call from before.
    pub(super) fn forget(&self, digest: &TokenDigest) {
        let mut state = self.state();
        state.removals = state.removals.wrapping_add(1);
        state.entries.remove(digest);
        state.pending.remove(digest);
    }

    pub(super) fn clear(&self) {
        let mut state = self.state();
        state.removals = state.removals.wrapping_add(1);
        state.entries.clear();
        state.pending.clear();
    }

    fn state(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
            profile: crate::ProfileFields::default(),
            roles: vec![],
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
            email_verified: false,
        };
        Validation { user, expires_at }
    }

    fn named(text: &str) -> TokenDigest {
        digest(&Secret::new(text.to_owned()))
    }

    fn asks<'a>(cache: &'a ValidationCache, name: &str, now: OffsetDateTime, at: Instant) -> Ticket<'a> {
        match cache.find(&named(name), now, at) {
            Lookup::Miss(ticket) => ticket,
            Lookup::Hit(_) | Lookup::Pending(_) => panic!("{name} is cached or pending"),
        }
    }

    fn waits(cache: &ValidationCache, name: &str, now: OffsetDateTime, at: Instant) -> PendingResult {
        match cache.find(&named(name), now, at) {
            Lookup::Pending(waiting) => waiting,
            Lookup::Hit(_) | Lookup::Miss(_) => panic!("no call for {name} is pending"),
        }
    }

    fn knows(cache: &ValidationCache, name: &str, now: OffsetDateTime, at: Instant) -> bool {
        matches!(cache.find(&named(name), now, at), Lookup::Hit(_))
    }

    fn keep(cache: &ValidationCache, name: &str, expires_in: Duration, now: OffsetDateTime, at: Instant) {
        let expires_at = now.checked_add(expires_in.try_into().unwrap()).unwrap();
        asks(cache, name, now, at).settle(&Ok(validation(expires_at)), now);
    }

    fn cache() -> (ValidationCache, OffsetDateTime, Instant) {
        (ValidationCache::new(CachePolicy::default()).unwrap(), OffsetDateTime::UNIX_EPOCH, Instant::now())
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
    fn a_full_cache_evicts_the_least_recently_used_token() {
        let (now, at, life) = (OffsetDateTime::UNIX_EPOCH, Instant::now(), Duration::from_secs(900));
        let cache = ValidationCache::new(CachePolicy { entries: 2, ..CachePolicy::default() }).unwrap();
        keep(&cache, "a", life, now, at);
        keep(&cache, "b", life, now, at);
        assert!(knows(&cache, "a", now, at));
        keep(&cache, "c", life, now, at);
        let known = ["a", "b", "c"].map(|name| knows(&cache, name, now, at));
        assert_eq!(known, [true, false, true]);
    }

    #[tokio::test]
    async fn an_answer_to_a_call_from_before_a_logout_is_not_cached_and_later_callers_do_not_wait_for_it() {
        for forget in [|cache: &ValidationCache| cache.forget(&named("token")), ValidationCache::clear] {
            let (cache, now, at) = cache();
            let good = Ok(validation(now + Duration::from_secs(900)));
            let ticket = asks(&cache, "token", now, at);
            let before = waits(&cache, "token", now, at);
            forget(&cache);
            let later = asks(&cache, "token", now, at);
            ticket.settle(&good, now);
            assert_eq!(
                before.outcome().await,
                Some(good.clone()),
                "a task that waited before the logout receives the answer"
            );
            let waiting = waits(&cache, "token", now, at);
            later.settle(&good, now);
            assert_eq!(waiting.outcome().await, Some(good), "the earlier one's end is not the later one's");
            assert!(knows(&cache, "token", now, at));
        }
    }

    #[tokio::test]
    async fn all_waiting_tasks_receive_the_result_of_one_call() {
        let (cache, now, at) = cache();
        let refusal = Err(ClientError::Timeout);
        let good = Ok(validation(now + Duration::from_secs(900)));
        for (outcome, is_kept) in [(refusal, false), (good, true)] {
            let ticket = asks(&cache, "token", now, at);
            let waiting: Vec<_> = (0..100).map(|_| waits(&cache, "token", now, at)).collect();
            assert!(matches!(cache.find(&named("other"), now, at), Lookup::Miss(_)), "another token is another call");
            ticket.settle(&outcome, now);
            assert_eq!(knows(&cache, "token", now, at), is_kept);
            for waiting in waiting {
                assert_eq!(waiting.outcome().await.as_ref(), Some(&outcome));
            }
        }
    }

    #[tokio::test]
    async fn a_cancelled_call_is_replaced_by_that_of_another_task() {
        let (cache, now, at) = cache();
        let ticket = asks(&cache, "token", now, at);
        let waiting = waits(&cache, "token", now, at);
        drop(ticket);
        assert_eq!(waiting.outcome().await, None);
        drop(asks(&cache, "token", now, at));
        assert!(cache.state().pending.is_empty());
    }

    #[test]
    fn no_task_waits_for_a_call_that_is_older_than_the_cache_allows() {
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
        let tickets: Vec<_> = (0..PENDING).map(|number| asks(&cache, &number.to_string(), now, at)).collect();
        let (one, two) = (asks(&cache, "beyond", now, at), asks(&cache, "beyond", now, at));
        assert_eq!(cache.state().pending.len(), PENDING);
        one.settle(&good, now);
        assert!(knows(&cache, "beyond", now, at));
        drop((two, tickets));
        assert!(cache.state().pending.is_empty());
    }

    #[test]
    fn a_policy_without_entries_or_time_disables_the_cache() {
        assert!(ValidationCache::new(CachePolicy { entries: 0, ..CachePolicy::default() }).is_none());
        assert!(ValidationCache::new(CachePolicy { longest: Duration::ZERO, ..CachePolicy::default() }).is_none());
    }
}
