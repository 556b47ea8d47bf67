//! Circuit breaker, retry budget, back-off and the networks of clients.

use portcullis_resilience::{
    Backoff, Breaker, BreakerDecision, BreakerSettings,
    BreakerState::{Closed, HalfOpen, Open},
    Observation::{Failure, Success, Unknown},
    RetryBudget, equal_jitter, full_jitter, network,
};

const SETTINGS: BreakerSettings = BreakerSettings { failures: 5, longest_open_ms: 60_000, probe_timeout_ms: 6_000 };

const NOW: u64 = 1_800_000_000_000;

/// A request that a circuit admits before it has ever opened.
const PASS: BreakerDecision = BreakerDecision::Pass { openings: 0 };

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
fn five_failures_in_a_row_open_a_circuit_and_nothing_less() {
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
            assert_eq!(decision, PASS);
            breaker.record(decision, *observation, SETTINGS, NOW);
        }
        assert_eq!(breaker.state(), expected, "{observations:?}");
    }
}

#[test]
fn one_probe_closes_a_circuit_or_opens_it_again() {
    for (observation, expected) in [(Success, Closed), (Failure, Open)] {
        let mut breaker = opened();
        assert_eq!(breaker.admit(SETTINGS, NOW + 999), BreakerDecision::Refuse { retry_ms: 1 });
        let later = NOW + 1_000;
        assert!(breaker.would_admit(SETTINGS, later));
        assert_eq!(breaker.admit(SETTINGS, later), probe(later));
        assert_eq!(breaker.admit(SETTINGS, later), BreakerDecision::Refuse { retry_ms: 6_000 }, "one alone");
        breaker.record(PASS, Success, SETTINGS, later);
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
fn a_circuit_opens_for_a_second_at_first_and_twice_as_long_after_each_probe_that_fails() {
    assert_eq!(open_periods(SETTINGS, 9), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(open_periods(BreakerSettings { longest_open_ms: 5_000, ..SETTINGS }, 5), [1, 2, 4, 5, 5]);
    assert_eq!(open_periods(BreakerSettings { longest_open_ms: 1_000, ..SETTINGS }, 3), [1, 1, 1]);
}

#[test]
fn after_a_success_a_circuit_opens_for_a_second_again() {
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
fn a_request_that_was_sent_before_a_circuit_opened_says_nothing_after_it_has_closed() {
    let mut breaker = opened();
    let later = NOW + 1_000;
    let decision = breaker.admit(SETTINGS, later);
    breaker.record(decision, Success, SETTINGS, later);
    for _ in 0..4 {
        let decision = breaker.admit(SETTINGS, later);
        breaker.record(decision, Failure, SETTINGS, later);
    }
    breaker.record(PASS, Failure, SETTINGS, later);
    assert_eq!(breaker.state(), Closed, "no fifth failure");
    breaker.record(PASS, Success, SETTINGS, later);
    let decision = breaker.admit(SETTINGS, later);
    breaker.record(decision, Failure, SETTINGS, later);
    assert_eq!(breaker.state(), Open, "no success between the failures");
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

#[test]
fn a_circuit_that_changed_while_the_clock_was_ahead_does_not_stay_open() {
    let back = NOW - 3 * 24 * 3_600_000;
    let mut open = opened();
    assert_eq!(open.admit(SETTINGS, back), probe(back));
    let mut half_open = opened();
    assert_eq!(half_open.admit(SETTINGS, NOW + 1_000), probe(NOW + 1_000));
    assert_eq!(half_open.admit(SETTINGS, back), probe(back));
}

#[test]
fn retries_add_a_tenth_of_the_requests_at_most() {
    let mut budget = RetryBudget::new(5);
    let retries = (0..10_000).filter(|_| {
        budget.deposit();
        budget.withdraw()
    });
    let count = retries.count();
    assert!((1000..=1006).contains(&count), "{count}");
}

#[test]
fn the_retry_budget_is_a_tenth_of_the_calls_and_ten_are_saved_at_most() {
    let mut budget = RetryBudget::new(10);
    let mut spent_after = |deposits: u32, calls: u32| {
        for _ in 0..deposits {
            budget.deposit();
        }
        (0..calls).filter(|_| budget.withdraw()).count()
    };
    assert_eq!(spent_after(0, 100), 10);
    assert_eq!(spent_after(100, 100), 10);
    assert_eq!(spent_after(9, 1), 0);
    assert_eq!(spent_after(10_000, 100), 10, "no more than ten are saved");
}

const BACKOFF: Backoff = Backoff { first_ms: 100, longest_ms: 2_000 };

#[test]
fn each_failure_doubles_the_delay_up_to_the_longest() {
    for (failures, expected) in [(0, 100), (1, 100), (2, 200), (3, 400), (6, 2_000), (u32::MAX, 2_000)] {
        assert_eq!(BACKOFF.delay_ms(failures), expected, "{failures}");
    }
}

#[test]
fn jitter_spreads_over_the_whole_delay_or_its_second_half() {
    for (delay, random, full, equal) in
        [(1_000, 0, 0, 1_000), (1_000, u32::MAX, 1_000, 500), (1_000, u32::MAX / 2, 499, 751), (0, u32::MAX, 0, 0)]
    {
        assert_eq!((full_jitter(delay, random), equal_jitter(delay, random)), (full, equal), "{delay} {random}");
    }
}

#[test]
fn a_network_is_an_ipv4_address_or_half_of_an_ipv6_one() {
    for (address, expected) in [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("::1", "::"),
    ] {
        assert_eq!(network(address.parse().unwrap()).to_string(), expected);
    }
}
