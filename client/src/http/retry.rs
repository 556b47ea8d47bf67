//! Whether a failed call is retried, and after which pause. Calls that may not be repeated are not
//! retried.

use portcullis_resilience::{Backoff, full_jitter};
use tokio::time::Duration;

use crate::{
    error::ClientError,
    request::{ApiRequest, Repeat},
};

/// How often and how soon a failed call is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries of one call; 0 for none.
    pub retries: u32,
    /// Bound of the first pause, which is random; each further bound is twice as long.
    pub first_pause: Duration,
    /// The longest bound of a pause, except for `Retry-After`.
    pub longest_pause: Duration,
    /// The longest `Retry-After` that is waited for; a longer one ends the call.
    pub longest_retry_after: Duration,
}

impl Default for RetryPolicy {
    /// 2 retries; 100 ms, 2 s; 5 s.
    fn default() -> Self {
        Self {
            retries: 2,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(2),
            longest_retry_after: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// Returns the pause before the next try, after `retries` retries, or `None` for no further try.
    pub(super) fn pause(&self, request: &ApiRequest, error: &ClientError, retries: u32) -> Option<Duration> {
        if retries >= self.retries {
            return None;
        }
        let may = match error {
            ClientError::Unreachable => true,
            ClientError::Timeout | ClientError::Lost => request.repeat == Repeat::Always,
            // The service received the request, and may have processed a part of it.
            ClientError::Refused(refusal) => {
                matches!(refusal.status, 429 | 502 | 503 | 504) && request.repeat == Repeat::Always
            }
            ClientError::Invalid(_)
            | ClientError::BreakerOpen { .. }
            | ClientError::Malformed { .. }
            | ClientError::LoggedOut
            | ClientError::Store(_) => false,
        };
        if !may {
            return None;
        }
        let pause = self.jitter(retries);
        match error.retry_after() {
            Some(wait) if wait > self.longest_retry_after => None,
            // Callers that were refused together must not return together.
            Some(wait) => Some(wait.saturating_add(pause)),
            None => Some(pause),
        }
    }

    /// Full jitter, so that callers spread.
    fn jitter(&self, retries: u32) -> Duration {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let backoff = Backoff { first_ms: millis(self.first_pause), longest_ms: millis(self.longest_pause) };
        let delay_ms = backoff.delay_ms(retries.saturating_add(1));
        Duration::from_millis(full_jitter(delay_ms, fastrand::u32(..)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Refusal, request::Method};
    use uuid::Uuid;

    fn refused(status: u16, retry_after: Option<u64>) -> ClientError {
        let mut refusal = Refusal::new(status, "x");
        refusal.retry_after = retry_after.map(Duration::from_secs);
        refusal.into()
    }

    #[test]
    fn a_call_is_made_again_where_that_does_no_harm() {
        let get = || ApiRequest::new(Method::GET, "/x");
        let put = || ApiRequest::new(Method::PUT, "/x");
        let post = || ApiRequest::new(Method::POST, "/x");
        let delete = || ApiRequest::new(Method::DELETE, "/x");
        let keyed = || post().with_idempotency_key(Uuid::nil());
        for (name, request, error, again) in [
            ("GET, unsent", get(), ClientError::Unreachable, true),
            ("POST, unsent", post(), ClientError::Unreachable, true),
            ("DELETE, unsent", delete(), ClientError::Unreachable, true),
            ("GET, too slow", get(), ClientError::Timeout, true),
            ("PUT, broken off", put(), ClientError::Lost, true),
            ("POST, too slow", post(), ClientError::Timeout, false),
            ("POST, broken off", post(), ClientError::Lost, false),
            ("DELETE, broken off", delete(), ClientError::Lost, false),
            ("POST with a key, broken off", keyed(), ClientError::Lost, true),
            ("GET, 503", get(), refused(503, None), true),
            ("GET, 502", get(), refused(502, None), true),
            ("GET, 504", get(), refused(504, None), true),
            ("GET, 429", get(), refused(429, Some(1)), true),
            ("GET, 500", get(), refused(500, None), false),
            ("GET, 401", get(), refused(401, None), false),
            ("GET, 404", get(), refused(404, None), false),
            ("POST, 503", post(), refused(503, Some(1)), false),
            ("POST with a key, 503", keyed(), refused(503, Some(1)), true),
            ("GET, to come back in an hour", get(), refused(503, Some(3600)), false),
            ("GET, breaker open", get(), ClientError::BreakerOpen { retry_after: Duration::ZERO }, false),
            ("GET, malformed", get(), ClientError::Malformed { status: 200, reason: "" }, false),
        ] {
            assert_eq!(RetryPolicy::default().pause(&request, &error, 0).is_some(), again, "{name}");
        }
        assert_eq!(RetryPolicy::default().pause(&get(), &ClientError::Lost, 2), None, "two retries are enough");
    }

    #[test]
    fn pauses_grow_up_to_a_limit_and_are_never_less_than_the_service_asks_for() {
        let policy = RetryPolicy { retries: 40, ..RetryPolicy::default() };
        let request = ApiRequest::new(Method::GET, "/x");
        for (retries, most) in [(0, 100), (1, 200), (2, 400), (5, 2000), (39, 2000)] {
            let pauses: Vec<_> = (0..200).filter_map(|_| policy.pause(&request, &ClientError::Lost, retries)).collect();
            assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(most)), "{retries}");
            assert!(pauses.iter().any(|pause| *pause < Duration::from_millis(most / 2)), "{retries}");
            assert!(pauses.iter().any(|pause| *pause > Duration::from_millis(most / 2)), "{retries}");
        }
        assert!(policy.pause(&request, &refused(503, Some(3)), 0).unwrap() >= Duration::from_secs(3));
    }
}
