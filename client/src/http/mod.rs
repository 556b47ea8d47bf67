//! [`AuthClient`] over HTTP: pooled connections to one base URL, deadlines, retries
//! where they are safe, a breaker, and a memory of validated tokens.

mod attempt;
mod breaker;
mod builder;
mod cache;
mod retry;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

pub use breaker::BreakerPolicy;
pub use builder::Builder;
pub use cache::CachePolicy;
pub use retry::RetryPolicy;

use crate::{
    account::{AuthClient, PasswordChange, Validation},
    error::ClientError,
    request::{ApiAnswer, ApiRequest},
    secret::Secret,
};
use breaker::{Breaker, Outcome};
use cache::{Cache, Found};
use retry::Budget;

/// How often a task waits for the call of another, who may go away each time, before it
/// makes its own.
const WAITS: usize = 3;

/// The client of a gateway. Clones share connections, breaker, budget and cache, so one
/// is made for a base URL and cloned.
#[derive(Clone)]
pub struct HttpAuthClient {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    base: String,
    /// Time for one exchange, answer included.
    call: Duration,
    /// Time for a call with all its retries and pauses.
    whole: Duration,
    retry: RetryPolicy,
    budget: Budget,
    breaker: Breaker,
    cache: Option<Cache>,
    now: Arc<dyn Fn() -> OffsetDateTime + Send + Sync>,
}

impl fmt::Debug for HttpAuthClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HttpAuthClient").field("base_url", &self.inner.base).finish_non_exhaustive()
    }
}

impl HttpAuthClient {
    /// A client of the gateway at a base URL, with the defaults of [`Builder`].
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a URL that is not `https:`, or `http:` to a
    /// loopback address.
    pub fn new(base_url: &str) -> Result<Self, ClientError> {
        Self::builder(base_url).build()
    }

    /// Settings for a client.
    pub fn builder(base_url: &str) -> Builder {
        Builder::new(base_url)
    }

    /// One exchange, booked on the breaker and in the metrics. `left` is what other tries
    /// left of the time for the whole call.
    async fn attempt(&self, request: &ApiRequest, url: &str, left: Option<Duration>) -> Result<ApiAnswer, ClientError> {
        let inner = &*self.inner;
        let begun = Instant::now();
        let permit = match inner.breaker.admit(begun) {
            Ok(permit) => permit,
            Err(retry_after) => {
                attempt::count(request, "breaker_open");
                return Err(ClientError::BreakerOpen { retry_after });
            }
        };
        let time = left.map_or(inner.call, |left| left.min(inner.call));
        let result = attempt::exchange(&inner.http, request, url, time, inner.now.as_ref()).await;
        // What had less time than a call has says nothing of the service.
        let hurried = time < inner.call && matches!(result, Err(ClientError::Timeout));
        let outcome = if hurried { Outcome::Unknown } else { outcome_of(result.as_ref().err()) };
        permit.report(outcome, Instant::now());
        attempt::record(request, &result, begun.elapsed());
        result
    }
}

/// Whether the service is out. A refusal is its word, and so is "come again later".
fn outcome_of(error: Option<&ClientError>) -> Outcome {
    match error {
        Some(ClientError::Unreachable | ClientError::Timeout | ClientError::Lost) => Outcome::Outage,
        Some(ClientError::Refused(refusal)) => match refusal.status {
            502 | 504 => Outcome::Outage,
            503 if refusal.retry_after.is_none() => Outcome::Outage,
            _ => Outcome::Well,
        },
        Some(ClientError::Invalid(_)) => Outcome::Unknown,
        Some(_) | None => Outcome::Well,
    }
}

#[async_trait]
impl AuthClient for HttpAuthClient {
    async fn exchange(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        let inner = &*self.inner;
        let url = format!("{}{}", inner.base, request.target()?);
        let begun = Instant::now();
        inner.budget.deposit();
        let mut failed: Option<ClientError> = None;
        let mut retries = 0_u32;
        loop {
            let left = failed.as_ref().map(|_| inner.whole.saturating_sub(begun.elapsed()));
            let error = match self.attempt(&request, &url, left).await {
                Ok(answer) => return Ok(answer),
                // What opened the breaker says more than that it is open.
                Err(ClientError::BreakerOpen { retry_after }) => {
                    return Err(failed.unwrap_or(ClientError::BreakerOpen { retry_after }));
                }
                Err(error) => error,
            };
            let left = inner.whole.saturating_sub(begun.elapsed());
            let pause = inner.retry.pause(&request, &error, retries);
            match pause.filter(|pause| *pause < left) {
                Some(pause) if inner.budget.spend() => tokio::time::sleep(pause).await,
                Some(_) | None => return Err(error),
            }
            retries = retries.saturating_add(1);
            failed = Some(error);
        }
    }

    /// Answers from memory for as long as [`CachePolicy`] says. Tasks that ask for one
    /// token at one moment are one call, and told the same.
    async fn validate(&self, access_token: &Secret) -> Result<Validation, ClientError> {
        let Some(cache) = &self.inner.cache else { return Plain(self).validate(access_token).await };
        let key = cache::key(access_token);
        for _ in 0..WAITS {
            match cache.find(&key, (self.inner.now)(), Instant::now()) {
                Found::Known(validation) => return Ok(validation),
                // No longer than its call may take: it may be a future that nobody polls any more,
                // this very task's perhaps.
                Found::UnderWay(waiting) => match tokio::time::timeout(self.inner.whole, waiting.outcome()).await {
                    Ok(Some(outcome)) => return outcome,
                    Ok(None) => {}
                    Err(_) => break,
                },
                Found::Unknown(ticket) => {
                    let outcome = Plain(self).validate(access_token).await;
                    ticket.settle(&outcome, (self.inner.now)());
                    return outcome;
                }
            }
        }
        Plain(self).validate(access_token).await
    }

    async fn logout(&self, access_token: &Secret, refresh_token: Option<&Secret>) -> Result<(), ClientError> {
        let result = Plain(self).logout(access_token, refresh_token).await;
        // Whatever became of it: it may have been done.
        if let Some(cache) = &self.inner.cache {
            cache.forget(&cache::key(access_token));
        }
        result
    }

    async fn change_password(&self, access_token: &Secret, change: &PasswordChange) -> Result<(), ClientError> {
        let result = Plain(self).change_password(access_token, change).await;
        self.forget_all();
        result
    }

    async fn end_session(&self, access_token: &Secret, id: Uuid) -> Result<(), ClientError> {
        let result = Plain(self).end_session(access_token, id).await;
        self.forget_all();
        result
    }
}

impl HttpAuthClient {
    /// Forgets all validated tokens: which of them belong to ended sessions is not known.
    fn forget_all(&self) {
        if let Some(cache) = &self.inner.cache {
            cache.clear();
        }
    }
}

/// The client with the trait's own methods, without the memory.
#[derive(Debug)]
struct Plain<'a>(&'a HttpAuthClient);

#[async_trait]
impl AuthClient for Plain<'_> {
    async fn exchange(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        self.0.exchange(request).await
    }
}
