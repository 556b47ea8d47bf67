//! The circuit breaker of a client: [`portcullis_resilience::Breaker`] behind a lock that is held
//! for a moment only, never across a call.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use portcullis_resilience::{Breaker, BreakerDecision, BreakerSettings, BreakerState, Observation};
use tokio::time::{Duration, Instant};

/// When the circuit opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Consecutive outages that open the circuit; 0 for never. An outage is a failed connection, a
    /// time-out, 502, 504, or 503 without `Retry-After`. Other refusals are answers.
    pub outages: u32,
    /// The longest open period, after which one call tests the service. The first period is 1 s,
    /// or this value if it is shorter; each test that fails doubles it.
    pub rest: Duration,
}

impl Default for BreakerPolicy {
    /// 5 outages; 60 s at most, like the gateway's breaker of an upstream.
    fn default() -> Self {
        Self { outages: 5, rest: Duration::from_secs(60) }
    }
}

/// The circuit of one service.
#[derive(Debug)]
pub(super) struct SharedBreaker {
    policy: BreakerPolicy,
    /// Zero of the breaker's clock: the first call.
    started: OnceLock<Instant>,
    breaker: Mutex<Breaker>,
}

/// Permission for one exchange, which reports an observation. Dropping it without one, because
/// the caller went away, makes room for the next probe.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    shared: &'a SharedBreaker,
    settings: BreakerSettings,
    /// `None` after the report.
    decision: Option<BreakerDecision>,
}

impl SharedBreaker {
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        Self { policy, started: OnceLock::new(), breaker: Mutex::default() }
    }

    /// Returns a permit for one exchange that takes at most `time`, or how long to wait for one.
    pub(super) fn admit(&self, now: Instant, time: Duration) -> Result<Permit<'_>, Duration> {
        let settings = BreakerSettings {
            failures: self.policy.outages,
            longest_open_ms: millis(self.policy.rest),
            // A call that is kept but not polled neither reports nor drops its permit.
            probe_timeout_ms: millis(time),
        };
        match self.breaker().admit(settings, self.since_start(now)) {
            BreakerDecision::Refuse { retry_ms } => Err(Duration::from_millis(retry_ms)),
            decision @ (BreakerDecision::Pass { .. } | BreakerDecision::Probe { .. }) => {
                Ok(Permit { shared: self, settings, decision: Some(decision) })
            }
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_start(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(*self.started.get_or_init(|| now)))
    }
}

impl Permit<'_> {
    /// Reports what the exchange says about the service.
    pub(super) fn report(mut self, observation: Observation, now: Instant) {
        self.record(observation, now);
    }

    fn record(&mut self, observation: Observation, now: Instant) {
        let Some(decision) = self.decision.take() else { return };
        let mut breaker = self.shared.breaker();
        let before = breaker.state();
        breaker.record(decision, observation, self.settings, self.shared.since_start(now));
        let after = breaker.state();
        drop(breaker);
        match (before, after, observation) {
            (BreakerState::Closed | BreakerState::HalfOpen, BreakerState::Open, Observation::Failure) => {
                tracing::warn!("the service fails; the circuit is open");
            }
            (BreakerState::HalfOpen, BreakerState::Closed, _) => {
                tracing::info!("the service answers again; the circuit is closed");
            }
            _ => {}
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.record(Observation::Unknown, Instant::now());
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Observation::{Failure, Success, Unknown};
    use portcullis_resilience::FIRST_OPEN_MS;

    const CALL: Duration = Duration::from_secs(10);
    const REST: Duration = Duration::from_secs(60);
    const FIRST_REST: Duration = Duration::from_millis(FIRST_OPEN_MS);

    fn run(breaker: &SharedBreaker, observations: &[Observation], now: Instant) {
        for observation in observations {
            breaker.admit(now, CALL).unwrap().report(*observation, now);
        }
    }

    #[test]
    fn so_many_outages_in_a_row_open_it_and_fewer_do_not() {
        let now = Instant::now();
        for (name, observations, open) in [
            ("five", &[Failure; 5][..], true),
            ("four", &[Failure; 4], false),
            ("broken by an answer", &[Failure, Failure, Failure, Failure, Success, Failure], false),
            ("not broken by what says nothing", &[Failure, Failure, Unknown, Failure, Failure, Failure], true),
            ("answers alone", &[Success; 20], false),
        ] {
            let breaker = SharedBreaker::new(BreakerPolicy::default());
            run(&breaker, observations, now);
            assert_eq!(breaker.admit(now, CALL).is_err(), open, "{name}");
        }
        let never = SharedBreaker::new(BreakerPolicy { outages: 0, rest: REST });
        run(&never, &[Failure; 100], now);
    }

    #[test]
    fn after_its_rest_one_probe_decides() {
        let opened = Instant::now();
        let breaker = SharedBreaker::new(BreakerPolicy::default());
        run(&breaker, &[Failure; 5], opened);
        let early = opened + Duration::from_millis(900);
        assert_eq!(breaker.admit(early, CALL).unwrap_err(), Duration::from_millis(100));

        let later = opened + FIRST_REST;
        let probe = breaker.admit(later, CALL).unwrap();
        assert!(breaker.admit(later, CALL).is_err(), "there is one probe at a time");
        probe.report(Failure, later);
        assert!(breaker.admit(later + Duration::from_millis(1900), CALL).is_err(), "a failed probe is a longer rest");

        let later = later + FIRST_REST * 2;
        breaker.admit(later, CALL).unwrap().report(Success, later);
        run(&breaker, &[Failure; 4], later);
        assert!(breaker.admit(later, CALL).is_ok(), "the count starts again");
    }

    #[test]
    fn each_failed_probe_doubles_the_rest_up_to_the_longest_and_a_good_one_ends_it() {
        for (longest_s, rests_s) in [(60, &[1, 2, 4, 8, 16, 32, 60, 60][..]), (3, &[1, 2, 3, 3]), (1, &[1, 1, 1])] {
            let breaker = SharedBreaker::new(BreakerPolicy { outages: 5, rest: Duration::from_secs(longest_s) });
            let mut now = Instant::now();
            for round in 0..2 {
                run(&breaker, &[Failure; 5], now);
                for rest_s in rests_s {
                    let rest = Duration::from_secs(*rest_s);
                    assert_eq!(breaker.admit(now, CALL).unwrap_err(), rest, "{longest_s}, {round}");
                    now += rest;
                    breaker.admit(now, CALL).unwrap().report(Failure, now);
                }
                now += REST;
                breaker.admit(now, CALL).unwrap().report(Success, now);
            }
        }
    }

    #[test]
    fn a_restart_of_two_seconds_costs_three() {
        let start = Instant::now();
        let breaker = SharedBreaker::new(BreakerPolicy::default());
        let back = start + Duration::from_secs(2);
        let mut now = start;
        // Five calls a second, until one is answered.
        let answered = loop {
            if let Ok(permit) = breaker.admit(now, CALL) {
                permit.report(if now < back { Failure } else { Success }, now);
                if now >= back {
                    break now;
                }
            }
            now += Duration::from_millis(200);
        };
        assert!(answered - back <= Duration::from_secs(2), "{:?}", answered - back);
    }

    #[test]
    fn a_probe_whose_caller_went_away_leaves_room_for_the_next() {
        let breaker = SharedBreaker::new(BreakerPolicy { outages: 1, rest: Duration::ZERO });
        let now = Instant::now();
        run(&breaker, &[Failure], now);
        drop(breaker.admit(now, CALL).unwrap());
        assert!(breaker.admit(Instant::now(), CALL).is_ok());
    }

    #[test]
    fn a_probe_that_is_kept_and_not_polled_counts_as_lost_after_the_time_of_its_exchange() {
        let breaker = SharedBreaker::new(BreakerPolicy { outages: 1, rest: Duration::ZERO });
        let now = Instant::now();
        run(&breaker, &[Failure], now);
        let kept = breaker.admit(now, CALL).unwrap();
        let early = now + Duration::from_secs(7);
        assert_eq!(breaker.admit(early, CALL).unwrap_err(), Duration::from_secs(3));
        breaker.admit(now + CALL, CALL).unwrap().report(Success, now + CALL);
        assert!(breaker.admit(now + CALL, CALL).is_ok());
        drop(kept);
        assert!(breaker.admit(now + CALL, CALL).is_ok(), "a late end opens nothing");
    }

    #[test]
    fn a_probe_that_says_nothing_makes_room_for_the_next_at_once() {
        let breaker = SharedBreaker::new(BreakerPolicy { outages: 1, rest: REST });
        let now = Instant::now();
        run(&breaker, &[Failure], now);
        let later = now + REST;
        run(&breaker, &[Unknown, Unknown], later);
        breaker.admit(later, CALL).unwrap().report(Success, later);
        let (one, two) = (breaker.admit(later, CALL), breaker.admit(later, CALL));
        assert!(one.is_ok() && two.is_ok(), "closed, and not one at a time");
    }

    #[test]
    fn exchanges_from_before_it_opened_say_nothing() {
        let breaker = SharedBreaker::new(BreakerPolicy::default());
        let now = Instant::now();
        let early = breaker.admit(now, CALL).unwrap();
        run(&breaker, &[Failure; 5], now);
        early.report(Success, now);
        assert!(breaker.admit(now, CALL).is_err());
    }
}
