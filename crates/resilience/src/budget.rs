//! A budget for retries, so that retries do not multiply the load on a service that fails.

/// Parts of a retry that one request earns: one, of the ten that a retry costs. At most a tenth
/// of all requests are retries.
const RETRY_COST: u32 = 10;

/// Parts that can be saved: ten retries, so that a quiet caller has some.
const SAVED_MAX: u32 = 100;

/// The retries that the requests to one service share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget(u32);

impl RetryBudget {
    /// Returns a budget that holds so many retries, at most ten.
    pub fn new(retries: u32) -> Self {
        Self(retries.saturating_mul(RETRY_COST).min(SAVED_MAX))
    }

    /// Adds what a request earns.
    pub fn deposit(&mut self) {
        self.0 = self.0.saturating_add(1).min(SAVED_MAX);
    }

    /// Takes one retry and returns true, or returns false if there is none.
    pub fn withdraw(&mut self) -> bool {
        let left = self.0.checked_sub(RETRY_COST);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}
