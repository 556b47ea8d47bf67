//! The time as a value that a test can move.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// A clock: the system's, moved by as much as a test asks for, or standing still.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    hands: Arc<Hands>,
    /// Milliseconds by which this host's clock is ahead of what the others have.
    apart: i64,
}

#[derive(Debug, Default)]
struct Hands {
    /// Milliseconds ahead of the system's.
    ahead: AtomicI64,
    /// Where the system's stood when it was stopped; 0 while it runs.
    stopped_at: AtomicI64,
}

impl Clock {
    /// Milliseconds since 1970.
    pub fn now(&self) -> i64 {
        self.shared(system_now()).saturating_add(self.apart)
    }

    /// What a clock that several hosts share shows, such as a database's, when it says
    /// `measured`: that, moved as tests move this one.
    pub fn shared(&self, measured: i64) -> i64 {
        let system = match self.hands.stopped_at.load(Ordering::Relaxed) {
            0 => measured,
            stopped_at => stopped_at,
        };
        system.saturating_add(self.hands.ahead.load(Ordering::Relaxed))
    }

    /// What the host's own clock shows to each process on it.
    pub fn host(&self) -> i64 {
        self.shared(system_now())
    }

    /// The clock of another host, which is this much ahead; for tests. Time passes for both.
    #[must_use]
    pub fn apart(&self, millis: i64) -> Self {
        Self { hands: Arc::clone(&self.hands), apart: self.apart.saturating_add(millis) }
    }

    /// Lets no time pass but what a test says; for tests.
    pub fn stop(&self) {
        self.hands.stopped_at.store(system_now(), Ordering::Relaxed);
    }

    /// Moves the clock forward; for tests.
    pub fn pass(&self, millis: i64) {
        self.hands.ahead.fetch_add(millis, Ordering::Relaxed);
    }
}

fn system_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time of RFC 3339 as milliseconds since 1970.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

/// Milliseconds since 1970 as RFC 3339 in UTC.
pub fn rfc3339(millis: i64) -> String {
    let nanos = i128::from(millis).saturating_mul(1_000_000);
    time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default()
}
