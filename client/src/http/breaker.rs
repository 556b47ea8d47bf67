//! The breaker: a service that failed several times in a row is left alone for a second,
//! then asked once; each further failure doubles the rest. Pure but for its state, which is held for a moment only and never
//! across a call.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant};

/// The first rest: a service that restarts is back within seconds, and must not be without
/// callers for a minute because of it.
const FIRST_REST: Duration = Duration::from_secs(1);

/// When the breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Outages in a row that open it; 0 for never. An outage is no connection, no
    /// answer in time, 502, 504, or 503 without `Retry-After`; a refusal is none.
    pub outages: u32,
    /// The longest time for which it is open before one call is let through to see. The
    /// first rest is 1 s, or this where it is shorter; each probe that fails doubles it.
    pub rest: Duration,
}

impl Default for BreakerPolicy {
    /// 5 in a row; 60 s at most, as the gateway itself leaves an upstream alone.
    fn default() -> Self {
        Self { outages: 5, rest: Duration::from_secs(60) }
    }
}

/// What an exchange says of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Well,
    Outage,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        outages: u32,
    },
    Open {
        until: Instant,
        rest: Duration,
    },
    /// After a rest of this length.
    Probing {
        rest: Duration,
    },
}

#[derive(Debug)]
pub(super) struct Breaker {
    policy: BreakerPolicy,
    state: Mutex<State>,
}

/// Leave to make one exchange, whose outcome is reported. One that is dropped, because
/// its caller went away, makes room for the next probe.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    pub(super) const fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: Mutex::new(State::Closed { outages: 0 }) }
    }

    /// Leave for one exchange, or how long to wait for it.
    pub(super) fn admit(&self, now: Instant) -> Result<Permit<'_>, Duration> {
        let mut state = self.state();
        let is_probe = match *state {
            State::Closed { .. } => false,
            State::Open { until, rest } if now >= until => {
                *state = State::Probing { rest };
                true
            }
            State::Open { until, .. } => return Err(until.duration_since(now)),
            // The probe's outcome is at most a call away.
            State::Probing { .. } => return Err(Duration::ZERO),
        };
        drop(state);
        Ok(Permit { breaker: self, is_probe })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, now: Instant, rest: Duration) -> State {
        let rest = rest.min(self.policy.rest);
        tracing::warn!(rest_s = rest.as_secs(), "the service is out and left alone");
        State::Open { until: now.checked_add(rest).unwrap_or(now), rest }
    }
}

impl Permit<'_> {
    /// Books an outcome. Exchanges that began before the breaker opened say nothing to
    /// it: only the probe closes it.
    pub(super) fn report(mut self, outcome: Outcome, now: Instant) {
        let mut state = self.breaker.state();
        *state = match (*state, outcome) {
            (State::Probing { .. }, Outcome::Well) if self.is_probe => {
                tracing::info!("the service is back");
                State::Closed { outages: 0 }
            }
            (State::Probing { rest }, Outcome::Outage) if self.is_probe => {
                self.breaker.open(now, rest.saturating_mul(2))
            }
            (State::Probing { rest }, Outcome::Unknown) if self.is_probe => State::Open { until: now, rest },
            (State::Closed { .. }, Outcome::Well) => State::Closed { outages: 0 },
            (State::Closed { outages }, Outcome::Outage) => {
                let outages = outages.saturating_add(1);
                let opens = self.breaker.policy.outages > 0 && outages >= self.breaker.policy.outages;
                if opens { self.breaker.open(now, FIRST_REST) } else { State::Closed { outages } }
            }
            (state, _) => state,
        };
        drop(state);
        self.is_probe = false;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            let mut state = self.breaker.state();
            if let State::Probing { rest } = *state {
                *state = State::Open { until: Instant::now(), rest };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Outage, Unknown, Well};

    const REST: Duration = Duration::from_secs(60);

    fn run(breaker: &Breaker, outcomes: &[Outcome], now: Instant) {
        for outcome in outcomes {
            breaker.admit(now).unwrap().report(*outcome, now);
        }
    }

    #[test]
    fn so_many_outages_in_a_row_open_it_and_fewer_do_not() {
        let now = Instant::now();
        for (name, outcomes, open) in [
            ("five", &[Outage; 5][..], true),
            ("four", &[Outage; 4], false),
            ("broken by an answer", &[Outage, Outage, Outage, Outage, Well, Outage], false),
            ("not broken by what says nothing", &[Outage, Outage, Unknown, Outage, Outage, Outage], true),
            ("answers alone", &[Well; 20], false),
        ] {
            let breaker = Breaker::new(BreakerPolicy::default());
            run(&breaker, outcomes, now);
            assert_eq!(breaker.admit(now).is_err(), open, "{name}");
        }
        let never = Breaker::new(BreakerPolicy { outages: 0, rest: REST });
        run(&never, &[Outage; 100], now);
    }

    #[test]
    fn after_its_rest_one_probe_decides() {
        let opened = Instant::now();
        let breaker = Breaker::new(BreakerPolicy::default());
        run(&breaker, &[Outage; 5], opened);
        let early = opened + Duration::from_millis(900);
        assert_eq!(breaker.admit(early).unwrap_err(), Duration::from_millis(100));

        let later = opened + FIRST_REST;
        let probe = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_err(), "there is one probe at a time");
        probe.report(Outage, later);
        assert!(breaker.admit(later + Duration::from_millis(1900)).is_err(), "a failed probe is a longer rest");

        let later = later + FIRST_REST * 2;
        breaker.admit(later).unwrap().report(Well, later);
        run(&breaker, &[Outage; 4], later);
        assert!(breaker.admit(later).is_ok(), "the count begins anew");
    }

    #[test]
    fn each_failed_probe_doubles_the_rest_up_to_the_longest_and_a_good_one_ends_it() {
        for (longest_s, rests_s) in [(60, &[1, 2, 4, 8, 16, 32, 60, 60][..]), (3, &[1, 2, 3, 3]), (1, &[1, 1, 1])] {
            let breaker = Breaker::new(BreakerPolicy { outages: 5, rest: Duration::from_secs(longest_s) });
            let mut now = Instant::now();
            for round in 0..2 {
                run(&breaker, &[Outage; 5], now);
                for rest_s in rests_s {
                    let rest = Duration::from_secs(*rest_s);
                    assert_eq!(breaker.admit(now).unwrap_err(), rest, "{longest_s}, {round}");
                    now += rest;
                    breaker.admit(now).unwrap().report(Outage, now);
                }
                now += REST;
                breaker.admit(now).unwrap().report(Well, now);
            }
        }
    }

    #[test]
    fn a_restart_of_two_seconds_costs_three() {
        let start = Instant::now();
        let breaker = Breaker::new(BreakerPolicy::default());
        let back = start + Duration::from_secs(2);
        let mut now = start;
        // Five calls a second, until one is answered.
        let answered = loop {
            if let Ok(permit) = breaker.admit(now) {
                permit.report(if now < back { Outage } else { Well }, now);
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
        let breaker = Breaker::new(BreakerPolicy { outages: 1, rest: Duration::ZERO });
        let now = Instant::now();
        run(&breaker, &[Outage], now);
        drop(breaker.admit(now).unwrap());
        assert!(breaker.admit(Instant::now()).is_ok());
    }

    #[test]
    fn a_probe_that_says_nothing_makes_room_for_the_next_at_once() {
        let breaker = Breaker::new(BreakerPolicy { outages: 1, rest: REST });
        let now = Instant::now();
        run(&breaker, &[Outage], now);
        let later = now + REST;
        run(&breaker, &[Unknown, Unknown], later);
        breaker.admit(later).unwrap().report(Well, later);
        let (one, two) = (breaker.admit(later), breaker.admit(later));
        assert!(one.is_ok() && two.is_ok(), "closed, and not one at a time");
    }

    #[test]
    fn exchanges_from_before_it_opened_say_nothing() {
        let breaker = Breaker::new(BreakerPolicy::default());
        let now = Instant::now();
        let early = breaker.admit(now).unwrap();
        run(&breaker, &[Outage; 5], now);
        early.report(Well, now);
        assert!(breaker.admit(now).is_err());
    }
}
