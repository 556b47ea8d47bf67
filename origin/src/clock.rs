//! The clock, which tests can move.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::Serializer;

use crate::limits;

/// A clock: the system's, moved by a test or stopped.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    hands: Arc<Hands>,
    /// Milliseconds by which this host's clock is ahead of the others'.
    apart: i64,
}

#[derive(Debug, Default)]
struct Hands {
    /// Milliseconds ahead of the system's clock.
    ahead: AtomicI64,
    /// Time of the system's clock when this one was stopped; 0 while it runs.
    stopped_at: AtomicI64,
}

impl Clock {
    /// Returns the milliseconds since 1970.
    pub fn now(&self) -> i64 {
        self.shared(system_now()).saturating_add(self.apart)
    }

    /// Returns the time of a clock that several hosts share, such as a database's, which shows
    /// `measured`. Tests move it together with this clock.
    pub fn shared(&self, measured: i64) -> i64 {
        let system = match self.hands.stopped_at.load(Ordering::Relaxed) {
            0 => measured,
            stopped_at => stopped_at,
        };
        system.saturating_add(self.hands.ahead.load(Ordering::Relaxed))
    }

    /// Returns the time of the host's clock, which all processes on the host share.
    pub fn host(&self) -> i64 {
        self.shared(system_now())
    }

    /// Returns the clock of another host that is `millis` ahead; for tests. Both advance together.
    #[must_use]
    pub fn apart(&self, millis: i64) -> Self {
        Self { hands: Arc::clone(&self.hands), apart: self.apart.saturating_add(millis) }
    }

    /// Stops the clock; for tests.
    pub fn stop(&self) {
        self.hands.stopped_at.store(system_now(), Ordering::Relaxed);
    }

    /// Lets time pass; for tests.
    pub fn pass(&self, millis: i64) {
        self.hands.ahead.fetch_add(millis, Ordering::Relaxed);
    }
}

/// The wall clock, which may be set, and the monotonic clock at the same moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    millis: i64,
    monotonic: Instant,
    /// Milliseconds by which a test moved both.
    passed: i64,
}

impl Reading {
    fn take(clock: &Clock) -> Self {
        let passed = clock.hands.ahead.load(Ordering::Relaxed);
        Self { millis: clock.now(), monotonic: Instant::now(), passed }
    }

    fn elapsed_ms(self, later: Self) -> i64 {
        let elapsed = later.monotonic.saturating_duration_since(self.monotonic).as_millis();
        i64::try_from(elapsed).unwrap_or(i64::MAX).saturating_add(later.passed.saturating_sub(self.passed))
    }
}

/// Watches the clock. What cannot be undone must wait until the clock runs evenly: one that jumps
/// ahead must not end sessions or delete keys.
#[derive(Debug)]
pub struct ClockWatch {
    /// First reading since the last jump.
    first: Reading,
}

impl ClockWatch {
    /// Starts to watch.
    pub fn start(clock: &Clock) -> Self {
        Self { first: Reading::take(clock) }
    }

    /// Returns the time if the clock has run evenly for [`limits::CLOCK_WATCH`].
    pub fn trusted(&mut self, clock: &Clock) -> Option<i64> {
        let now = Reading::take(clock);
        let elapsed = self.first.elapsed_ms(now);
        let expected = self.first.millis.saturating_add(elapsed);
        if now.millis.abs_diff(expected) > limits::CLOCK_SLEW_MS {
            self.first = now;
            return None;
        }
        let is_long = Duration::from_millis(elapsed.unsigned_abs()) >= limits::CLOCK_WATCH;
        is_long.then(|| now.millis.min(expected))
    }
}

fn system_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Parses an RFC 3339 time to milliseconds since 1970.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

/// Serialises milliseconds since 1970 as [`rfc3339`].
pub fn serialize_rfc3339<S: Serializer>(millis: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*millis))
}

/// Formats milliseconds since 1970 as RFC 3339 in UTC.
pub fn rfc3339(millis: i64) -> String {
    let nanos = i128::from(millis).saturating_mul(1_000_000);
    time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default()
}
