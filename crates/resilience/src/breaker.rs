//! A circuit breaker for one target.
//!
//! Consecutive failures open the circuit. After an open period one request, the probe, tests the
//! target: its success closes the circuit, its failure opens it again for twice as long, up to a
//! bound. The first open period is a second, because services that restart are back within
//! seconds; a long outage costs the target about one request per bound.

/// Milliseconds of the first open period.
pub const FIRST_OPEN_MS: u64 = 1_000;

/// When the circuit opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Consecutive failures that open the circuit; 0 for never.
    pub failures: u32,
    /// Milliseconds of an open period at most.
    pub longest_open_ms: u64,
    /// Milliseconds after which a probe without an outcome counts as lost and the next request
    /// becomes the probe.
    pub probe_timeout_ms: u64,
}

/// Whether a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerDecision {
    /// Send the request.
    Pass,
    /// Send the request, as the probe.
    Probe {
        /// When the probe began; distinguishes it from a later one.
        since_ms: u64,
    },
    /// Do not send the request.
    Refuse {
        /// Milliseconds until the next probe.
        retry_ms: u64,
    },
}

/// What a request says about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// The target works.
    Success,
    /// The target does not work.
    Failure,
    /// Nothing: the client went away, for example.
    Unknown,
}

/// State of the circuit, the better before the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// The probe has no outcome yet.
    HalfOpen,
    /// No request passes.
    Open,
}

impl BreakerState {
    /// Returns the name for status pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// Returns the value for metrics: 0 closed, 1 half open, 2 open.
    pub const fn gauge(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { since_ms: u64, open_ms: u64 },
    HalfOpen { since_ms: u64, open_ms: u64, probe_timeout_ms: u64 },
}

/// The circuit of one target. Settings and `now_ms` are arguments of each call; all calls use one
/// clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker(State);

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl Breaker {
    /// Returns a closed circuit.
    pub const fn new() -> Self {
        Self(State::Closed { failures: 0 })
    }

    /// Decides whether a request may be sent. [`Breaker::record`] expects the outcome of each
    /// request that may.
    pub fn admit(&mut self, settings: BreakerSettings, now_ms: u64) -> BreakerDecision {
        let (since_ms, wait_ms, open_ms) = match self.0 {
            State::Closed { .. } => return BreakerDecision::Pass,
            State::Open { since_ms, open_ms } => (since_ms, open_ms, open_ms),
            State::HalfOpen { since_ms, open_ms, probe_timeout_ms } => (since_ms, probe_timeout_ms, open_ms),
        };
        let waited = now_ms.saturating_sub(since_ms);
        if waited < wait_ms {
            return BreakerDecision::Refuse { retry_ms: wait_ms.saturating_sub(waited) };
        }
        self.0 = State::HalfOpen { since_ms: now_ms, open_ms, probe_timeout_ms: settings.probe_timeout_ms };
        BreakerDecision::Probe { since_ms: now_ms }
    }

    /// Returns whether [`Breaker::admit`] would let a request pass, without making it the probe.
    pub fn would_admit(&self, settings: BreakerSettings, now_ms: u64) -> bool {
        !matches!(Self(self.0).admit(settings, now_ms), BreakerDecision::Refuse { .. })
    }

    /// Records what an admitted request says about the target.
    pub fn record(
        &mut self,
        decision: BreakerDecision,
        observation: Observation,
        settings: BreakerSettings,
        now_ms: u64,
    ) {
        self.0 = match (self.0, decision, observation) {
            (state, BreakerDecision::Refuse { .. }, _) => state,
            // The next request may probe at once.
            (
                State::HalfOpen { since_ms, open_ms, .. },
                BreakerDecision::Probe { since_ms: own },
                Observation::Unknown,
            ) if since_ms == own => State::Open { since_ms: now_ms.saturating_sub(open_ms), open_ms },
            (state, _, Observation::Unknown) => state,
            // However late: the target answered.
            (_, BreakerDecision::Probe { .. }, Observation::Success) => State::Closed { failures: 0 },
            // Also for a probe that counted as lost: its successor goes to the same target.
            (State::HalfOpen { open_ms, .. }, BreakerDecision::Probe { .. }, Observation::Failure) => {
                State::Open { since_ms: now_ms, open_ms: open_ms.saturating_mul(2).min(settings.longest_open_ms) }
            }
            // The circuit closed, or opened, since this probe was sent.
            (state, BreakerDecision::Probe { .. }, Observation::Failure) => state,
            (State::Closed { .. }, BreakerDecision::Pass, Observation::Success) => State::Closed { failures: 0 },
            (State::Closed { failures }, BreakerDecision::Pass, Observation::Failure) => {
                let failures = failures.saturating_add(1);
                if settings.failures > 0 && failures >= settings.failures {
                    State::Open { since_ms: now_ms, open_ms: FIRST_OPEN_MS.min(settings.longest_open_ms) }
                } else {
                    State::Closed { failures }
                }
            }
            // Sent before the circuit opened: says nothing about the present.
            (state @ (State::Open { .. } | State::HalfOpen { .. }), BreakerDecision::Pass, _) => state,
        };
    }

    /// Returns the state of the circuit.
    pub const fn state(&self) -> BreakerState {
        match self.0 {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use BreakerState::{Closed, HalfOpen, Open};
    use Observation::{Failure, Success, Unknown};

    const SETTINGS: BreakerSettings = BreakerSettings { failures: 5, longest_open_ms: 60_000, probe_timeout_ms: 6_000 };

    const NOW: u64 = 1_800_000_000_000;

    fn probe(since_ms: u64) -> BreakerDecision {
        BreakerDecision::Probe { since_ms }
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            let decision = breaker.admit(SETTINGS, NOW);
            breaker.record(decision, Failure, SETTINGS, NOW);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_nothing_less() {
        for (observations, expected) in [
            (&[Failure; 4][..], Closed),
            (&[Failure; 5], Open),
            (&[Failure, Failure, Failure, Failure, Success, Failure, Failure, Failure, Failure], Closed),
            (&[Failure, Failure, Unknown, Failure, Failure, Failure], Open),
            (&[Success; 50], Closed),
        ] {
            let mut breaker = Breaker::default();
            for observation in observations {
                let decision = breaker.admit(SETTINGS, NOW);
                assert_eq!(decision, BreakerDecision::Pass);
                breaker.record(decision, *observation, SETTINGS, NOW);
            }
            assert_eq!(breaker.state(), expected, "{observations:?}");
        }
    }

    #[test]
    fn one_probe_closes_it_or_opens_it_again() {
        for (observation, expected) in [(Success, Closed), (Failure, Open)] {
            let mut breaker = opened();
            assert_eq!(breaker.admit(SETTINGS, NOW + 999), BreakerDecision::Refuse { retry_ms: 1 });
            let later = NOW + 1_000;
            assert!(breaker.would_admit(SETTINGS, later));
            assert_eq!(breaker.admit(SETTINGS, later), probe(later));
            assert_eq!(breaker.admit(SETTINGS, later), BreakerDecision::Refuse { retry_ms: 6_000 }, "one alone");
            breaker.record(BreakerDecision::Pass, Success, SETTINGS, later);
            assert_eq!(breaker.state(), HalfOpen, "what was sent before says nothing");
            breaker.record(probe(later), observation, SETTINGS, later + 10);
            assert_eq!(breaker.state(), expected);
        }
    }

    /// Seconds of each open period while every probe fails at once.
    fn open_periods(settings: BreakerSettings, count: usize) -> Vec<u64> {
        let mut breaker = Breaker::default();
        for _ in 0..settings.failures {
            let decision = breaker.admit(settings, NOW);
            breaker.record(decision, Failure, settings, NOW);
        }
        let mut now = NOW;
        let period = |_| {
            let BreakerDecision::Refuse { retry_ms } = breaker.admit(settings, now) else { panic!("it is open") };
            assert!(!breaker.would_admit(settings, now.saturating_add(retry_ms).saturating_sub(1)));
            now = now.saturating_add(retry_ms);
            let decision = breaker.admit(settings, now);
            assert_eq!(decision, probe(now));
            breaker.record(decision, Failure, settings, now);
            retry_ms / 1000
        };
        (0..count).map(period).collect()
    }

    #[test]
    fn it_opens_for_a_second_at_first_and_twice_as_long_after_each_probe_that_fails() {
        assert_eq!(open_periods(SETTINGS, 9), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(open_periods(BreakerSettings { longest_open_ms: 5_000, ..SETTINGS }, 5), [1, 2, 4, 5, 5]);
        assert_eq!(open_periods(BreakerSettings { longest_open_ms: 1_000, ..SETTINGS }, 3), [1, 1, 1]);
    }

    #[test]
    fn after_a_success_it_opens_for_a_second_again() {
        let mut breaker = opened();
        let mut now = NOW;
        for open_ms in [1_000, 2_000, 4_000] {
            now += open_ms;
            let decision = breaker.admit(SETTINGS, now);
            breaker.record(decision, if open_ms == 4_000 { Success } else { Failure }, SETTINGS, now);
        }
        assert_eq!(breaker.state(), Closed);
        for _ in 0..5 {
            let decision = breaker.admit(SETTINGS, now);
            breaker.record(decision, Failure, SETTINGS, now);
        }
        assert_eq!(breaker.admit(SETTINGS, now), BreakerDecision::Refuse { retry_ms: 1_000 });
    }

    #[test]
    fn a_probe_that_is_lost_or_says_nothing_lets_the_next_try() {
        let mut lost = opened();
        let (first, second) = (NOW + 1_000, NOW + 7_000);
        assert_eq!(lost.admit(SETTINGS, first), probe(first));
        assert_eq!(lost.admit(SETTINGS, second), probe(second));
        lost.record(probe(second), Success, SETTINGS, second + 1);
        lost.record(probe(first), Failure, SETTINGS, second + 2);
        lost.record(probe(first), Unknown, SETTINGS, second + 3);
        assert_eq!(lost.state(), Closed, "what comes back late undoes nothing");
        let mut forgotten = opened();
        assert_eq!(forgotten.admit(SETTINGS, first), probe(first));
        forgotten.record(probe(first), Unknown, SETTINGS, first + 100);
        assert_eq!(forgotten.admit(SETTINGS, first + 200), probe(first + 200));
        let mut late = opened();
        assert_eq!(late.admit(SETTINGS, first), probe(first));
        assert_eq!(late.admit(SETTINGS, second), probe(second));
        late.record(probe(first), Success, SETTINGS, second + 1);
        assert_eq!(late.state(), Closed, "a late success is one");
    }

    #[test]
    fn a_probe_with_a_shorter_time_out_makes_room_for_the_next_when_that_is_over() {
        let with_body = BreakerSettings { probe_timeout_ms: 1_000, ..SETTINGS };
        let mut breaker = opened();
        let (first, second) = (NOW + 1_000, NOW + 2_000);
        assert_eq!(breaker.admit(with_body, first), probe(first));
        assert_eq!(breaker.admit(SETTINGS, first + 999), BreakerDecision::Refuse { retry_ms: 1 });
        assert_eq!(breaker.admit(SETTINGS, second), probe(second));
        // The target took neither.
        breaker.record(probe(first), Failure, SETTINGS, second + 500);
        assert_eq!(breaker.admit(SETTINGS, second + 500), BreakerDecision::Refuse { retry_ms: 2_000 });
        breaker.record(probe(second), Failure, SETTINGS, second + 600);
        assert_eq!(breaker.admit(SETTINGS, second + 600), BreakerDecision::Refuse { retry_ms: 1_900 }, "twice is once");
    }
}
