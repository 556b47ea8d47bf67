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
    pub const fn new(retries: u32) -> Self {
        let parts = retries.saturating_mul(RETRY_COST);
        Self(if parts < SAVED_MAX { parts } else { SAVED_MAX })
    }

    /// Adds what a request earns.
    pub const fn deposit(&mut self) {
        if self.0 < SAVED_MAX {
            self.0 = self.0.saturating_add(1);
        }
    }

    /// Takes one retry and returns true, or returns false if there is none.
    pub const fn withdraw(&mut self) -> bool {
        match self.0.checked_sub(RETRY_COST) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}
