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
pub struct Clock(Arc<Hands>);

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
        let system = match self.0.stopped_at.load(Ordering::Relaxed) {
            0 => system_now(),
            stopped_at => stopped_at,
        };
        system.saturating_add(self.0.ahead.load(Ordering::Relaxed))
    }

    /// Lets no time pass but what a test says; for tests.
    pub fn stop(&self) {
        self.0.stopped_at.store(system_now(), Ordering::Relaxed);
    }

    /// Moves the clock forward; for tests.
    pub fn pass(&self, millis: i64) {
        self.0.ahead.fetch_add(millis, Ordering::Relaxed);
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
