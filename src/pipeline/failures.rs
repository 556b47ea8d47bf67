//! Refused tokens by the client's address, as this isolate has it from the runtime: whose
//! count is being asked for, and who is over a limit. Bounded; forgets by itself.
//!
//! The answer to a refused token does not wait for the count: a flood would wait for nothing
//! but that, and whoever is over the limit learns it with the next one. Of one address one
//! question is under way at a time, so a flood is counted as fast as the runtime counts, and
//! whoever comes slowly is counted exactly.

use std::collections::{HashMap, VecDeque};

use super::limits;
use crate::token::UnixMillis;

/// Index of a limit in the policy, and an address.
type Who = (usize, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The runtime is being asked, since then.
    Asked(UnixMillis),
    /// Over the limit, until then.
    Over(UnixMillis),
}

impl Standing {
    fn is_past(self, now: UnixMillis) -> bool {
        match self {
            // Whoever asked was cut off; nobody else would ever ask.
            Self::Asked(since) => now.since(since) >= limits::COUNT_LOST_MS,
            Self::Over(until) => now >= until,
        }
    }
}

/// What one isolate knows.
#[derive(Debug, Default)]
pub(super) struct Failures {
    known: HashMap<Who, Standing>,
    /// Who is to be counted, and since when.
    waiting: VecDeque<(Who, UnixMillis)>,
    /// Whoever is over a limit, in the order in which that ends.
    over: VecDeque<(Who, UnixMillis)>,
}

impl Failures {
    /// Whether an address is over a limit.
    pub(super) fn is_over(&self, limit: usize, address: &str, now: UnixMillis) -> bool {
        let standing = self.known.get(&(limit, address.to_owned()));
        standing.is_some_and(|standing| matches!(standing, Standing::Over(_)) && !standing.is_past(now))
    }

    /// A token of an address was refused. True when somebody is to count.
    pub(super) fn note(&mut self, limit: usize, address: &str, now: UnixMillis) -> bool {
        let who = (limit, address.to_owned());
        if self.known.get(&who).is_some_and(|standing| !standing.is_past(now)) {
            return false;
        }
        if self.waiting.len() >= limits::COUNTED_ADDRESSES {
            // Counted as fast as the runtime counts already, unless whoever did was cut off.
            return self.waiting.front().is_some_and(|(_, since)| Standing::Asked(*since).is_past(now));
        }
        if self.known.len() >= limits::COUNTED_ADDRESSES.saturating_mul(3) {
            // Questions that were cut off are left, beyond those that wait and those that are over.
            self.known.retain(|_, standing| !standing.is_past(now));
        }
        self.known.insert(who.clone(), Standing::Asked(now));
        self.waiting.push_back((who, now));
        true
    }

    /// The next that is to be counted.
    pub(super) fn next(&mut self) -> Option<Who> {
        self.waiting.pop_front().map(|(who, _)| who)
    }

    /// It was counted.
    pub(super) fn counted(&mut self, who: Who, is_within: bool, now: UnixMillis) {
        if is_within {
            self.known.remove(&who);
            return;
        }
        let until = now.plus(limits::OVER_MS);
        self.known.insert(who.clone(), Standing::Over(until));
        self.over.push_back((who, until));
        // Whoever makes room is asked about again, so a flood of addresses hides none.
        while self.over.len() > limits::COUNTED_ADDRESSES || self.over.front().is_some_and(|(_, until)| now >= *until) {
            let Some((who, until)) = self.over.pop_front() else { break };
            if self.known.get(&who) == Some(&Standing::Over(until)) {
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

    #[test]
    fn one_question_is_under_way_for_an_address_and_its_answer_is_kept_for_a_while() {
        let mut failures = Failures::default();
        assert!(failures.note(0, "a", at(0)));
        assert!(!failures.note(0, "a", at(1)), "it is being asked");
        assert!(failures.note(0, "b", at(1)) && failures.note(1, "a", at(1)), "others are others");
        let first = failures.next().unwrap();
        failures.counted(first, true, at(2));
        assert!(!failures.is_over(0, "a", at(2)) && failures.note(0, "a", at(3)), "within the limit");
        let mut last = None;
        while let Some(who) = failures.next() {
            last = Some(who.clone());
            failures.counted(who, false, at(4));
        }
        assert_eq!(last, Some((0, "a".to_owned())));
        assert!(failures.is_over(0, "a", at(4)) && !failures.note(0, "a", at(5)), "over it");
        let end = 4 + limits::OVER_MS;
        assert!(failures.is_over(0, "a", at(end - 1)) && !failures.is_over(0, "a", at(end)));
        assert!(failures.note(0, "a", at(end)), "asked anew");
        assert!(failures.note(0, "a", at(end + limits::COUNT_LOST_MS)), "a question that nobody answered is over");
    }

    /// Counts all that wait, with one verdict. How many there were.
    fn count(failures: &mut Failures, is_within: bool, now: UnixMillis) -> usize {
        let waiting: Vec<_> = std::iter::from_fn(|| failures.next()).collect();
        waiting.into_iter().map(|who| failures.counted(who, is_within, now)).count()
    }

    #[test]
    fn a_flood_from_more_addresses_than_are_kept_leaves_nobody_uncounted() {
        let mut failures = Failures::default();
        for number in 0..limits::COUNTED_ADDRESSES * 4 {
            assert!(failures.note(0, &number.to_string(), at(0)), "{number}");
            assert_eq!(count(&mut failures, false, at(0)), 1);
        }
        assert_eq!((failures.known.len(), failures.over.len()), (limits::COUNTED_ADDRESSES, limits::COUNTED_ADDRESSES));
        let newest = (limits::COUNTED_ADDRESSES * 4 - 1).to_string();
        assert!(failures.is_over(0, &newest, at(1)) && !failures.is_over(0, "0", at(1)));
        assert!(failures.note(0, "0", at(1)), "who made room is counted again");
        count(&mut failures, false, at(limits::OVER_MS));
        assert_eq!(failures.known.len(), 1, "what is past goes");
    }

    #[test]
    fn those_that_wait_are_bounded_and_a_count_that_was_cut_off_is_taken_up_again() {
        let mut failures = Failures::default();
        let taken = (0..limits::COUNTED_ADDRESSES * 2).filter(|number| failures.note(0, &number.to_string(), at(0)));
        assert_eq!(taken.count(), limits::COUNTED_ADDRESSES);
        assert_eq!(failures.known.len(), limits::COUNTED_ADDRESSES);
        assert!(!failures.note(0, "later", at(limits::COUNT_LOST_MS - 1)), "others are at it");
        assert!(failures.note(0, "later", at(limits::COUNT_LOST_MS)), "they are not any more");
        assert_eq!(count(&mut failures, true, at(limits::COUNT_LOST_MS)), limits::COUNTED_ADDRESSES);
        assert!(failures.known.is_empty());
    }

    #[test]
    fn questions_that_were_cut_off_are_forgotten_before_they_are_many() {
        let mut failures = Failures::default();
        for number in 0..limits::COUNTED_ADDRESSES * 10 {
            let now = at(u64::try_from(number).unwrap() * 10);
            assert!(failures.note(0, &number.to_string(), now));
            let _cut_off = failures.next();
        }
        assert!(failures.known.len() <= limits::COUNTED_ADDRESSES * 3);
    }
}
