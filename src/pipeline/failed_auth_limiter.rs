//! Rate limits on refused tokens, by the client's address: what this isolate knows from the
//! runtime's counters. Bounded, and entries expire.
//!
//! The answer to a refused token does not wait for its count, or a flood would wait for nothing
//! else; an address beyond a limit is refused from its next request on. Of one address one count
//! is under way at a time: a flood is counted as fast as the runtime counts, and a slow client
//! exactly.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use super::{
    background::BackgroundTask,
    denial::Denial,
    limits,
    metrics::Metrics,
    ports::{Background, Clock, RateLimitCounter},
    rate_limiter::BoundLimit,
};
use portcullis_policy::{LimitBy, Policy};
use portcullis_token::UnixMillis;

/// The policy's limits on refused tokens.
#[derive(Debug)]
pub(super) struct FailedAuthLimiter {
    limits: Vec<BoundLimit>,
    failures: RefCell<Failures>,
}

impl FailedAuthLimiter {
    pub(super) fn new(policy: &Policy, metrics: &Rc<Metrics>) -> Self {
        let limits = policy.limits.iter().filter(|limit| limit.by == LimitBy::FailedIp);
        Self { limits: limits.map(|limit| BoundLimit::new(limit, metrics)).collect(), failures: RefCell::default() }
    }

    /// Schedules the count of a refused token of an address. Good tokens of the address are
    /// never refused here: a thousand people may share it.
    ///
    /// # Errors
    /// [`Denial::RateLimited`] when the address is beyond a limit already.
    pub(super) fn record(&self, address: &str, ports: &(impl Clock + Background)) -> Result<(), Denial> {
        let now = ports.now();
        let mut outcome = Ok(());
        let mut failures = self.failures.borrow_mut();
        for (index, bound) in self.limits.iter().enumerate() {
            let who = (index, address.to_owned());
            if failures.is_over(&who, now) {
                outcome = Err(bound.exceeded());
            } else if failures.note(who, now) {
                ports.defer(BackgroundTask::CountFailedAuth);
            }
        }
        outcome
    }

    /// Has the runtime count the refused tokens.
    pub(super) async fn count(&self, ports: &(impl Clock + RateLimitCounter)) {
        loop {
            // A statement of its own: the borrow must not last over the wait.
            let next = self.failures.borrow_mut().next();
            let Some((index, key)) = next else { return };
            let Some(bound) = self.limits.get(index) else { continue };
            let is_within = ports.limit(&bound.binding, &key).await;
            self.failures.borrow_mut().counted((index, key), is_within, ports.now());
        }
    }
}

/// Index of a limit, and an address.
type Who = (usize, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CountState {
    /// The runtime is counting, since this time.
    Asked(UnixMillis),
    /// Over the limit, until this time.
    Over(UnixMillis),
}

impl CountState {
    fn is_past(self, now: UnixMillis) -> bool {
        match self {
            // The request that asked was cut off, and no other would ever ask.
            Self::Asked(since) => now.since(since) >= limits::COUNT_LOST_MS,
            Self::Over(until) => now >= until,
        }
    }
}

/// The counts of one isolate.
#[derive(Debug, Default)]
struct Failures {
    known: HashMap<Who, CountState>,
    /// Addresses to count, and since when.
    waiting: VecDeque<(Who, UnixMillis)>,
    /// Addresses over a limit, in the order in which that ends.
    over: VecDeque<(Who, UnixMillis)>,
}

impl Failures {
    fn is_over(&self, who: &Who, now: UnixMillis) -> bool {
        self.known.get(who).is_some_and(|state| matches!(state, CountState::Over(_)) && !state.is_past(now))
    }

    /// Notes a refused token. Returns whether a task has to count it.
    fn note(&mut self, who: Who, now: UnixMillis) -> bool {
        if self.known.get(&who).is_some_and(|state| !state.is_past(now)) {
            return false;
        }
        if self.waiting.len() >= limits::COUNTED_ADDRESSES {
            // They are being counted already, unless the task that did was cut off.
            return self.waiting.front().is_some_and(|(_, since)| CountState::Asked(*since).is_past(now));
        }
        if self.known.len() >= limits::COUNTED_ADDRESSES.saturating_mul(3) {
            // Removes counts that were cut off, which are in none of the queues.
            self.known.retain(|_, state| !state.is_past(now));
        }
        self.known.insert(who.clone(), CountState::Asked(now));
        self.waiting.push_back((who, now));
        true
    }

    /// Takes the next address to count.
    fn next(&mut self) -> Option<Who> {
        self.waiting.pop_front().map(|(who, _)| who)
    }

    /// Records the result of a count.
    fn counted(&mut self, who: Who, is_within: bool, now: UnixMillis) {
        if is_within {
            self.known.remove(&who);
            return;
        }
        let until = now.plus(limits::OVER_MS);
        self.known.insert(who.clone(), CountState::Over(until));
        self.over.push_back((who, until));
        // An address that is removed is counted again, so a flood of addresses hides none.
        while self.over.len() > limits::COUNTED_ADDRESSES || self.over.front().is_some_and(|(_, until)| now >= *until) {
            let Some((who, until)) = self.over.pop_front() else { break };
            if self.known.get(&who) == Some(&CountState::Over(until)) {
                self.known.remove(&who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> UnixMillis {
        UnixMillis(millis)
    }

    fn who(limit: usize, address: impl ToString) -> Who {
        (limit, address.to_string())
    }

    #[test]
    fn one_count_is_under_way_for_an_address_and_its_result_is_kept_for_a_while() {
        let mut failures = Failures::default();
        assert!(failures.note(who(0, "a"), at(0)));
        assert!(!failures.note(who(0, "a"), at(1)), "it is being counted");
        assert!(failures.note(who(0, "b"), at(1)) && failures.note(who(1, "a"), at(1)), "others are others");
        let first = failures.next().unwrap();
        failures.counted(first, true, at(2));
        assert!(!failures.is_over(&who(0, "a"), at(2)) && failures.note(who(0, "a"), at(3)), "within the limit");
        let mut last = None;
        while let Some(who) = failures.next() {
            last = Some(who.clone());
            failures.counted(who, false, at(4));
        }
        assert_eq!(last, Some((0, "a".to_owned())));
        assert!(failures.is_over(&who(0, "a"), at(4)) && !failures.note(who(0, "a"), at(5)), "over it");
        let end = 4 + limits::OVER_MS;
        assert!(failures.is_over(&who(0, "a"), at(end - 1)) && !failures.is_over(&who(0, "a"), at(end)));
        assert!(failures.note(who(0, "a"), at(end)), "counted again");
        assert!(failures.note(who(0, "a"), at(end + limits::COUNT_LOST_MS)), "a count that was lost is over");
    }

    /// Counts all that wait with one result, and returns how many there were.
    fn count(failures: &mut Failures, is_within: bool, now: UnixMillis) -> usize {
        let waiting: Vec<_> = std::iter::from_fn(|| failures.next()).collect();
        waiting.into_iter().map(|who| failures.counted(who, is_within, now)).count()
    }

    #[test]
    fn a_flood_from_more_addresses_than_are_kept_leaves_none_uncounted() {
        let mut failures = Failures::default();
        for number in 0..limits::COUNTED_ADDRESSES * 4 {
            assert!(failures.note(who(0, number), at(0)), "{number}");
            assert_eq!(count(&mut failures, false, at(0)), 1);
        }
        assert_eq!((failures.known.len(), failures.over.len()), (limits::COUNTED_ADDRESSES, limits::COUNTED_ADDRESSES));
        let newest = limits::COUNTED_ADDRESSES * 4 - 1;
        assert!(failures.is_over(&who(0, newest), at(1)) && !failures.is_over(&who(0, "0"), at(1)));
        assert!(failures.note(who(0, "0"), at(1)), "an address that was removed is counted again");
        count(&mut failures, false, at(limits::OVER_MS));
        assert_eq!(failures.known.len(), 1, "expired entries are removed");
    }

    #[test]
    fn waiting_addresses_are_bounded_and_a_lost_count_is_resumed() {
        let mut failures = Failures::default();
        let taken = (0..limits::COUNTED_ADDRESSES * 2).filter(|number| failures.note(who(0, number), at(0)));
        assert_eq!(taken.count(), limits::COUNTED_ADDRESSES);
        assert_eq!(failures.known.len(), limits::COUNTED_ADDRESSES);
        assert!(!failures.note(who(0, "later"), at(limits::COUNT_LOST_MS - 1)), "another task counts");
        assert!(failures.note(who(0, "later"), at(limits::COUNT_LOST_MS)), "the other task was lost");
        assert_eq!(count(&mut failures, true, at(limits::COUNT_LOST_MS)), limits::COUNTED_ADDRESSES);
        assert!(failures.known.is_empty());
    }

    #[test]
    fn lost_counts_are_removed_before_they_are_many() {
        let mut failures = Failures::default();
        for number in 0..limits::COUNTED_ADDRESSES * 10 {
            let now = at(u64::try_from(number).unwrap() * 10);
            assert!(failures.note(who(0, number), now));
            let _cut_off = failures.next();
        }
        assert!(failures.known.len() <= limits::COUNTED_ADDRESSES * 3);
    }
}
