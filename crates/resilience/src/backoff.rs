//! How long to wait before the next try.

/// What `u32::MAX` stands for as a random number: the whole.
const WHOLE: u64 = 0xFFFF_FFFF;

/// Exponential back-off: each failure in a row doubles the delay, up to a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Milliseconds after the first failure.
    pub first_ms: u64,
    /// Milliseconds at most.
    pub longest_ms: u64,
}

impl Backoff {
    /// Returns the milliseconds to wait after so many failures in a row, without jitter.
    pub fn delay_ms(self, failures: u32) -> u64 {
        let factor = 2_u64.saturating_pow(failures.saturating_sub(1));
        self.first_ms.saturating_mul(factor).min(self.longest_ms)
    }
}

/// Returns a uniform part of a delay, from 0 to the whole: callers that failed together spread
/// over the whole delay.
pub fn full_jitter(delay_ms: u64, random: u32) -> u64 {
    delay_ms.saturating_mul(u64::from(random)) / WHOLE
}

/// Returns from half of a delay to the whole: spreads callers, and never asks again at once.
pub fn equal_jitter(delay_ms: u64, random: u32) -> u64 {
    delay_ms.saturating_sub(full_jitter(delay_ms / 2, random))
}
