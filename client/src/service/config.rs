//! Settings of calls between services.

use tokio::time::Duration;

use crate::{
    http::{BreakerPolicy, RetryPolicy},
    secret::Secret,
};

/// The longest `Retry-After` that is waited for: the caller has a client that waits.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Time for one exchange, answer included, and for the fetch of a token.
pub(crate) const EXCHANGE: Duration = Duration::from_millis(1200);

/// Time of a call that no exchange takes: pauses between tries.
pub(crate) const SLACK: Duration = Duration::from_millis(100);

/// Time for a whole call: the fetch of a token and an exchange, or two tries of the exchange. It is
/// longer than both together, because only the time-out of an exchange counts against the service. The
/// calling service needs it, after a wait for a turn to hash a password, within the time of a request.
pub const WHOLE_TIME: Duration = EXCHANGE.saturating_mul(2).saturating_add(SLACK);

/// The calling and the called service.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Name of the calling service, such as `auth-service`.
    pub caller: String,
    /// Secret of the calling service.
    pub secret: Secret,
    /// Base URL of the auth service, which issues the tokens.
    pub auth_url: String,
    /// Name of the called service, such as `user-service`.
    pub audience: String,
    /// Base URL of the called service.
    pub target_url: String,
}

/// Time limits, retries and circuit breaker of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallPolicy {
    /// Time for one exchange, answer included, and for the fetch of a token with its retries.
    pub exchange: Duration,
    /// Time for a call with its retries and pauses, without the fetch of a token.
    pub whole: Duration,
    /// How failed calls are retried.
    pub retry: RetryPolicy,
    /// When the circuit opens, and for how long.
    pub breaker: BreakerPolicy,
}

impl Default for CallPolicy {
    /// 1.2 s and 2.5 s; one retry; five outages in a row open the circuit.
    fn default() -> Self {
        let retry = RetryPolicy { retries: 1, longest_retry_after: RETRY_AFTER, ..RetryPolicy::default() };
        Self { exchange: EXCHANGE, whole: WHOLE_TIME, retry, breaker: BreakerPolicy::default() }
    }
}
