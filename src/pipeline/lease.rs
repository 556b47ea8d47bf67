//! How long something is held or kept, on a clock that may be set back.

use portcullis_token::UnixMillis;

/// A time from which something lasts. Of a clock that was days ahead for a moment, it ends when the clock is
/// set back, and not days later.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) since: UnixMillis,
    pub(super) lasts_ms: u64,
}

impl Lease {
    pub(super) const fn is_over(self, now: UnixMillis) -> bool {
        now.abs_diff(self.since) >= self.lasts_ms
    }
}
