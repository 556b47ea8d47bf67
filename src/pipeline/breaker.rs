//! Whether an upstream's target is asked at all: a breaker for each, in one isolate's
//! memory. Pure: `now` is an argument.
//!
//! An open breaker rests for a second and then lets one request through, the probe. Each
//! probe that fails doubles the rest, up to the policy's bound: a restart of two seconds
//! costs clients two or three, and a long outage costs the target one request a minute.
//!
//! It counts outages alone: no connection, no answer in time, 502, 503, 504. A wrong
//! password or a missing page is an answer.

use super::limits;
use crate::token::UnixMillis;

/// How a breaker is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting {
    /// Failures in a row that open it.
    pub(super) failures: u32,
    /// Milliseconds that it rests at most.
    pub(super) open_ms: u64,
    /// Milliseconds after which a probe without an outcome counts as lost: the runtime may
    /// never resume a request after its client disconnects.
    pub(super) probe_ms: u64,
}

impl Setting {
    /// The same for a request whose client may still have to send a body. How long that
    /// takes is for any stranger to choose, and must not keep the others out.
    pub(super) fn with_body(self) -> Self {
        Self { probe_ms: self.probe_ms.min(limits::FIRST_REST_MS), ..self }
    }

    /// Milliseconds of the first rest.
    fn first_rest_ms(self) -> u64 {
        limits::FIRST_REST_MS.min(self.open_ms)
    }
}

/// What a breaker says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Go on.
    Pass,
    /// Go on, as the one that finds out whether the target is back.
    Probe {
        /// When; tells one probe from a later one.
        since: UnixMillis,
    },
    /// Do not ask.
    Refuse {
        /// Milliseconds until one may try.
        retry_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { since: UnixMillis, rest_ms: u64 },
    Probing { since: UnixMillis, rest_ms: u64, probe_ms: u64 },
}

/// One target's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Breaker(State);

impl Default for Breaker {
    fn default() -> Self {
        Self(State::Closed { failures: 0 })
    }
}

impl Breaker {
    /// Asks whether a request may go on. A `Probe` must be told of with [`Breaker::note`].
    pub(super) fn admit(&mut self, setting: Setting, now: UnixMillis) -> Admission {
        let (since, pause, rest_ms) = match self.0 {
            State::Closed { .. } => return Admission::Pass,
            State::Open { since, rest_ms } => (since, rest_ms, rest_ms),
            State::Probing { since, rest_ms, probe_ms } => (since, probe_ms, rest_ms),
        };
        let waited = now.since(since);
        if waited < pause {
            return Admission::Refuse { retry_ms: pause.saturating_sub(waited) };
        }
        self.0 = State::Probing { since: now, rest_ms, probe_ms: setting.probe_ms };
        Admission::Probe { since: now }
    }

    /// What [`Breaker::admit`] would say, without taking the probe's place.
    pub(super) fn would_admit(&self, setting: Setting, now: UnixMillis) -> bool {
        !matches!(Self(self.0).admit(setting, now), Admission::Refuse { .. })
    }

    /// Learns what became of a request that was let on.
    pub(super) fn note(&mut self, admission: Admission, is_outage: bool, setting: Setting, now: UnixMillis) {
        self.0 = match (self.0, admission, is_outage) {
            (_, Admission::Refuse { .. }, _) => self.0,
            // Any sign of life is one, however late.
            (_, Admission::Probe { .. }, false) | (State::Closed { .. }, Admission::Pass, false) => {
                State::Closed { failures: 0 }
            }
            // Of one that counted as lost, too: the next is on its way to the same target.
            (State::Probing { rest_ms, .. }, Admission::Probe { .. }, true) => {
                State::Open { since: now, rest_ms: rest_ms.saturating_mul(2).min(setting.open_ms) }
            }
            // It closed again, or opened, since this one was sent.
            (state, Admission::Probe { .. }, true) => state,
            (State::Closed { failures }, Admission::Pass, true) => {
                let failures = failures.saturating_add(1);
                if failures >= setting.failures {
                    State::Open { since: now, rest_ms: setting.first_rest_ms() }
                } else {
                    State::Closed { failures }
                }
            }
            // Sent before it opened: says nothing of now.
            (state @ (State::Open { .. } | State::Probing { .. }), Admission::Pass, _) => state,
        };
    }

    /// A request that says nothing of the target: its client went away.
    pub(super) fn forget(&mut self, admission: Admission, now: UnixMillis) {
        if let (State::Probing { since, rest_ms, .. }, Admission::Probe { since: own }) = (self.0, admission)
            && since == own
        {
            // The next may try at once.
            let since = UnixMillis(now.0.saturating_sub(rest_ms));
            self.0 = State::Open { since, rest_ms };
        }
    }

    /// For `/status`.
    pub(super) const fn name(&self) -> &'static str {
        match self.0 {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::Probing { .. } => "half_open",
        }
    }

    /// For the metrics: 0 closed, 1 half open, 2 open.
    pub(super) const fn number(&self) -> f64 {
        match self.0 {
            State::Closed { .. } => 0.0,
            State::Probing { .. } => 1.0,
            State::Open { .. } => 2.0,
        }
    }
}

/// How many retries the requests to one upstream may cost together: a tenth of them, and a
/// few to begin with. While everything fails, retries must not double the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget(u32);

/// What a retry costs, in tenths; a request earns one.
const RETRY_COST: u32 = 10;

/// Tenths that can be saved up.
const BUDGET_MAX: u32 = 100;

impl Default for Budget {
    fn default() -> Self {
        Self(BUDGET_MAX / 2)
    }
}

impl Budget {
    /// A request begins.
    pub(super) fn earn(&mut self) {
        self.0 = self.0.saturating_add(1).min(BUDGET_MAX);
    }

    /// Takes the price of a retry, if it is there.
    pub(super) fn spend(&mut self) -> bool {
        match self.0.checked_sub(RETRY_COST) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTING: Setting = Setting { failures: 5, open_ms: 60_000, probe_ms: 6_000 };

    fn probe(at: UnixMillis) -> Admission {
        Admission::Probe { since: at }
    }
    const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            let admission = breaker.admit(SETTING, NOW);
            breaker.note(admission, true, SETTING, NOW);
        }
        breaker
    }

    #[test]
    fn five_outages_in_a_row_open_it_and_nothing_less() {
        for (outcomes, expected) in [
            (&[true; 4][..], "closed"),
            (&[true; 5], "open"),
            (&[true, true, true, true, false, true, true, true, true], "closed"),
            (&[false; 50], "closed"),
        ] {
            let mut breaker = Breaker::default();
            for is_outage in outcomes {
                let admission = breaker.admit(SETTING, NOW);
                assert_eq!(admission, Admission::Pass);
                breaker.note(admission, *is_outage, SETTING, NOW);
            }
            assert_eq!(breaker.name(), expected, "{outcomes:?}");
        }
    }

    #[test]
    fn one_probe_closes_it_or_opens_it_again() {
        for (is_outage, expected) in [(false, "closed"), (true, "open")] {
            let mut breaker = opened();
            assert_eq!(breaker.admit(SETTING, NOW.plus(999)), Admission::Refuse { retry_ms: 1 });
            let later = NOW.plus(1_000);
            assert!(breaker.would_admit(SETTING, later));
            assert_eq!(breaker.admit(SETTING, later), probe(later));
            assert_eq!(breaker.admit(SETTING, later), Admission::Refuse { retry_ms: 6_000 }, "one alone");
            breaker.note(Admission::Pass, false, SETTING, later);
            assert_eq!(breaker.name(), "half_open", "what was sent before says nothing");
            breaker.note(probe(later), is_outage, SETTING, later.plus(10));
            assert_eq!(breaker.name(), expected);
        }
    }

    /// Seconds of each rest while every probe fails at once.
    fn rests(setting: Setting, count: usize) -> Vec<u64> {
        let mut breaker = Breaker::default();
        for _ in 0..setting.failures {
            let admission = breaker.admit(setting, NOW);
            breaker.note(admission, true, setting, NOW);
        }
        let mut now = NOW;
        let rest = |_| {
            let Admission::Refuse { retry_ms } = breaker.admit(setting, now) else { panic!("it is open") };
            assert!(!breaker.would_admit(setting, now.plus(retry_ms.saturating_sub(1))));
            now = now.plus(retry_ms);
            let admission = breaker.admit(setting, now);
            assert_eq!(admission, probe(now));
            breaker.note(admission, true, setting, now);
            retry_ms / 1000
        };
        (0..count).map(rest).collect()
    }

    #[test]
    fn it_rests_a_second_at_first_and_twice_as_long_after_each_probe_that_fails() {
        assert_eq!(rests(SETTING, 9), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(rests(Setting { open_ms: 5_000, ..SETTING }, 5), [1, 2, 4, 5, 5]);
        assert_eq!(rests(Setting { open_ms: 1_000, ..SETTING }, 3), [1, 1, 1]);
    }

    #[test]
    fn a_success_has_the_next_outage_begin_with_a_second_again() {
        let mut breaker = opened();
        let mut now = NOW;
        for rest in [1_000, 2_000, 4_000] {
            now = now.plus(rest);
            let admission = breaker.admit(SETTING, now);
            breaker.note(admission, rest != 4_000, SETTING, now);
        }
        assert_eq!(breaker.name(), "closed");
        for _ in 0..5 {
            let admission = breaker.admit(SETTING, now);
            breaker.note(admission, true, SETTING, now);
        }
        assert_eq!(breaker.admit(SETTING, now), Admission::Refuse { retry_ms: 1_000 });
    }

    #[test]
    fn a_probe_that_is_lost_or_says_nothing_lets_the_next_try() {
        let mut lost = opened();
        let (first, second) = (NOW.plus(1_000), NOW.plus(7_000));
        assert_eq!(lost.admit(SETTING, first), probe(first));
        assert_eq!(lost.admit(SETTING, second), probe(second));
        lost.note(probe(second), false, SETTING, second.plus(1));
        lost.note(probe(first), true, SETTING, second.plus(2));
        lost.forget(probe(first), second.plus(3));
        assert_eq!(lost.name(), "closed", "what comes back late undoes nothing");
        let mut forgotten = opened();
        assert_eq!(forgotten.admit(SETTING, first), probe(first));
        forgotten.forget(probe(first), first.plus(100));
        assert_eq!(forgotten.admit(SETTING, first.plus(200)), probe(first.plus(200)));
        let mut late = opened();
        assert_eq!(late.admit(SETTING, first), probe(first));
        assert_eq!(late.admit(SETTING, second), probe(second));
        late.note(probe(first), false, SETTING, second.plus(1));
        assert_eq!(late.name(), "closed", "a late sign of life is one");
    }

    #[test]
    fn a_probe_with_a_body_makes_room_for_the_next_after_a_second() {
        let mut breaker = opened();
        let (first, second) = (NOW.plus(1_000), NOW.plus(2_000));
        assert_eq!(breaker.admit(SETTING.with_body(), first), probe(first));
        assert_eq!(breaker.admit(SETTING, first.plus(999)), Admission::Refuse { retry_ms: 1 });
        assert_eq!(breaker.admit(SETTING, second), probe(second));
        // The target took neither.
        breaker.note(probe(first), true, SETTING, second.plus(500));
        assert_eq!(breaker.admit(SETTING, second.plus(500)), Admission::Refuse { retry_ms: 2_000 });
        breaker.note(probe(second), true, SETTING, second.plus(600));
        assert_eq!(breaker.admit(SETTING, second.plus(600)), Admission::Refuse { retry_ms: 1_900 }, "twice is once");
    }

    #[test]
    fn retries_cost_a_tenth_of_the_requests_at_most() {
        let mut budget = Budget::default();
        let retries = (0..10_000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        let count = retries.count();
        assert!((1000..=1006).contains(&count), "{count}");
    }
}
