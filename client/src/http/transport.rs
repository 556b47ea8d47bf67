//! Calls of one base URL, for all clients of this crate: pooled connections, deadlines, retries where
//! they are safe, a breaker, metrics and logs. Shared by the client of the gateway and by
//! calls between services; it knows nothing of accounts or tokens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;
use tokio::time::{Duration, Instant};

use portcullis_resilience::{Outcome, RetryBudget};

use super::{BreakerPolicy, RetryPolicy, attempt, breaker::SharedBreaker};
use crate::{
    error::ClientError,
    request::{ApiAnswer, ApiRequest},
};

/// How long an idle connection is kept: less than servers keep theirs, so that a
/// request is not sent into a connection that the other side has just closed.
const IDLE: Duration = Duration::from_secs(30);

/// Connections kept for reuse.
const IDLE_CONNECTIONS: usize = 32;

/// Retries that a new client has: all that it may save.
const RETRIES_AT_FIRST: u32 = 10;

/// A clock.
pub(crate) type Now = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// How calls are made.
pub(crate) struct Settings {
    pub(crate) user_agent: String,
    /// Time for a connection to stand, TLS included.
    pub(crate) connect: Duration,
    /// Time for one exchange, answer included.
    pub(crate) call: Duration,
    /// Time for a call with all its retries and pauses.
    pub(crate) whole: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) breaker: BreakerPolicy,
    pub(crate) now: Now,
}

pub(crate) struct Transport {
    http: reqwest::Client,
    base: String,
    call: Duration,
    whole: Duration,
    retry: RetryPolicy,
    budget: Mutex<RetryBudget>,
    breaker: SharedBreaker,
    now: Now,
}

impl Transport {
    /// Of a base URL that was checked, without a slash at its end.
    pub(crate) fn new(base: String, settings: Settings) -> Result<Self, ClientError> {
        if settings.call.is_zero() || settings.whole.is_zero() {
            return Err(ClientError::Invalid("a time-out of zero lets no call succeed"));
        }
        let http = reqwest::Client::builder()
            .user_agent(settings.user_agent)
            .connect_timeout(settings.connect)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            // Tokens and passwords go to the base URL and nowhere else, whatever an
            // answer or the environment says.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|_| ClientError::Invalid("the HTTP client cannot be set up"))?;
        Ok(Self {
            http,
            base,
            call: settings.call.min(settings.whole),
            whole: settings.whole,
            retry: settings.retry,
            budget: Mutex::new(RetryBudget::new(RETRIES_AT_FIRST)),
            breaker: SharedBreaker::new(settings.breaker),
            now: settings.now,
        })
    }

    fn budget(&self) -> MutexGuard<'_, RetryBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        (self.now)()
    }

    /// Time for a call with all its retries and pauses, unless the call has its own.
    pub(crate) const fn whole(&self) -> Duration {
        self.whole
    }

    /// Makes a call, and again where that is safe.
    pub(crate) async fn exchange(&self, request: &ApiRequest) -> Result<ApiAnswer, ClientError> {
        let url = format!("{}{}", self.base, request.target()?);
        let begun = Instant::now();
        let (call, whole) = request.time.map_or((self.call, self.whole), |time| (time, time));
        self.budget().deposit();
        let mut failed: Option<ClientError> = None;
        let mut retries = 0_u32;
        loop {
            let left = failed.as_ref().map(|_| whole.saturating_sub(begun.elapsed()));
            let error = match self.attempt(request, &url, call, left).await {
                Ok(answer) => return Ok(answer),
                // What opened the breaker says more than that it is open.
                Err(ClientError::BreakerOpen { retry_after }) => {
                    return Err(failed.unwrap_or(ClientError::BreakerOpen { retry_after }));
                }
                Err(error) => error,
            };
            let left = whole.saturating_sub(begun.elapsed());
            let pause = self.retry.pause(request, &error, retries);
            match pause.filter(|pause| *pause < left) {
                Some(pause) if self.budget().withdraw() => tokio::time::sleep(pause).await,
                Some(_) | None => return Err(error),
            }
            retries = retries.saturating_add(1);
            failed = Some(error);
        }
    }

    /// One exchange, booked on the breaker and in the metrics. `left` is what other tries
    /// left of the time for the whole call.
    async fn attempt(
        &self,
        request: &ApiRequest,
        url: &str,
        call: Duration,
        left: Option<Duration>,
    ) -> Result<ApiAnswer, ClientError> {
        let begun = Instant::now();
        let permit = match self.breaker.admit(begun) {
            Ok(permit) => permit,
            Err(retry_after) => {
                attempt::count(request, "breaker_open");
                return Err(ClientError::BreakerOpen { retry_after });
            }
        };
        let time = left.map_or(call, |left| left.min(call));
        let result = attempt::exchange(&self.http, request, url, time, self.now.as_ref()).await;
        // What had less time than a call has says nothing of the service.
        let hurried = time < call && matches!(result, Err(ClientError::Timeout));
        let outcome = if hurried { Outcome::Unknown } else { outcome_of(result.as_ref().err()) };
        permit.report(outcome, Instant::now());
        attempt::record(request, &result, begun.elapsed());
        result
    }
}

/// Whether the service is out. A refusal is its word, and so is "come again later".
fn outcome_of(error: Option<&ClientError>) -> Outcome {
    match error {
        Some(ClientError::Unreachable | ClientError::Timeout | ClientError::Lost) => Outcome::Failure,
        Some(ClientError::Refused(refusal)) => match refusal.status {
            502 | 504 => Outcome::Failure,
            503 if refusal.retry_after.is_none() => Outcome::Failure,
            _ => Outcome::Success,
        },
        Some(ClientError::Invalid(_)) => Outcome::Unknown,
        Some(_) | None => Outcome::Success,
    }
}
