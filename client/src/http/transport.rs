//! Calls of one base URL, for all clients of this crate: pooled connections, time-outs, retries,
//! circuit breaker, metrics and logs. Knows nothing of accounts or tokens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;
use tokio::time::{Duration, Instant};

use portcullis_resilience::{Observation, RetryBudget};

use super::{
    breaker::{BreakerPolicy, SharedBreaker},
    exchange,
    retry::RetryPolicy,
};
use crate::{
    error::ClientError,
    request::{ApiAnswer, ApiRequest},
};

/// How long an idle connection is kept: shorter than servers keep theirs, so that no request is sent
/// into a connection that the server has just closed.
const IDLE: Duration = Duration::from_secs(30);

/// Connections kept for reuse.
const IDLE_CONNECTIONS: usize = 32;

/// Retries that a new client may use at once.
const FIRST_RETRIES: u32 = 10;

/// A clock.
pub(crate) type Now = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// Settings of a [`Transport`].
pub(crate) struct TransportConfig {
    pub(crate) user_agent: String,
    /// Time to connect, TLS included.
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
    /// Returns a transport for a validated base URL without a final slash.
    pub(crate) fn new(base: String, config: TransportConfig) -> Result<Self, ClientError> {
        if config.call.is_zero() || config.whole.is_zero() {
            return Err(ClientError::Invalid("a time-out of zero lets no call succeed"));
        }
        let http = reqwest::Client::builder()
            .user_agent(config.user_agent)
            .connect_timeout(config.connect)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            // Tokens and passwords are sent to the base URL only, whatever an answer or the
            // environment says.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|_| ClientError::Invalid("the HTTP client cannot be created"))?;
        Ok(Self {
            http,
            base,
            call: config.call.min(config.whole),
            whole: config.whole,
            retry: config.retry,
            budget: Mutex::new(RetryBudget::new(FIRST_RETRIES)),
            breaker: SharedBreaker::new(config.breaker),
            now: config.now,
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

    /// Returns the time for a call with all its retries and pauses, unless the call has its own.
    pub(crate) const fn whole(&self) -> Duration {
        self.whole
    }

    /// Sends a call, and retries it if that is safe.
    pub(crate) async fn exchange(&self, request: &ApiRequest) -> Result<ApiAnswer, ClientError> {
        let url = format!("{}{}", self.base, request.target()?);
        let begun = Instant::now();
        let (call, whole) = request.time.map_or((self.call, self.whole), |time| (time, time));
        self.budget().deposit();
        let mut failed: Option<ClientError> = None;
        let mut retries = 0_u32;
        loop {
            let left = failed.as_ref().map(|_| whole.saturating_sub(begun.elapsed()));
            let error = match self.try_once(request, &url, call, left).await {
                Ok(answer) => return Ok(answer),
                // The failure that opened the circuit says more than that it is open.
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

    /// Sends a call once, and records it in the breaker and in the metrics. `left` is the
    /// time that earlier tries left, if there were any.
    async fn try_once(
        &self,
        request: &ApiRequest,
        url: &str,
        call: Duration,
        left: Option<Duration>,
    ) -> Result<ApiAnswer, ClientError> {
        let begun = Instant::now();
        let time = left.map_or(call, |left| left.min(call));
        let permit = match self.breaker.admit(begun, time) {
            Ok(permit) => permit,
            Err(retry_after) => {
                exchange::count(request, "breaker_open");
                return Err(ClientError::BreakerOpen { retry_after });
            }
        };
        let result = exchange::send(&self.http, request, url, time, self.now.as_ref()).await;
        // A time-out after less than a call's time says nothing about the service.
        let is_cut_short = time < call && matches!(result, Err(ClientError::Timeout));
        let observation = if is_cut_short { Observation::Unknown } else { observation_of(result.as_ref().err()) };
        permit.report(observation, Instant::now());
        exchange::record(request, &result, begun.elapsed());
        result
    }
}

/// Returns what the result of a call says about the service. A refusal, and a 503 with `Retry-After`,
/// show that it works.
fn observation_of(error: Option<&ClientError>) -> Observation {
    match error {
        Some(ClientError::Unreachable | ClientError::Timeout | ClientError::Lost) => Observation::Failure,
        Some(ClientError::Refused(refusal)) => match refusal.status {
            502 | 504 => Observation::Failure,
            503 if refusal.retry_after.is_none() => Observation::Failure,
            _ => Observation::Success,
        },
        Some(ClientError::Invalid(_)) => Observation::Unknown,
        Some(
            ClientError::Malformed { .. }
            | ClientError::BreakerOpen { .. }
            | ClientError::LoggedOut
            | ClientError::Store(_),
        )
        | None => Observation::Success,
    }
}
