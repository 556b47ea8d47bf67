//! [`AuthClient`] over HTTP: pooled connections to one base URL, deadlines, retries
//! where they are safe, a breaker, and a memory of validated tokens.

mod attempt;
mod breaker;
mod builder;
mod cache;
mod retry;
mod transport;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::time::Instant;
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
pub(crate) use builder::{Plaintext, check};
use cache::{Cache, Found};
pub(crate) use transport::{Settings, Transport};

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
    transport: Transport,
    cache: Option<Cache>,
}

impl fmt::Debug for HttpAuthClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HttpAuthClient").field("base_url", &self.inner.transport.base()).finish_non_exhaustive()
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
}

#[async_trait]
impl AuthClient for HttpAuthClient {
    async fn exchange(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        self.inner.transport.exchange(&request).await
    }

    /// Answers from memory for as long as [`CachePolicy`] says. Tasks that ask for one
    /// token at one moment are one call, and told the same.
    async fn validate(&self, access_token: &Secret) -> Result<Validation, ClientError> {
        let transport = &self.inner.transport;
        let Some(cache) = &self.inner.cache else { return Plain(self).validate(access_token).await };
        let key = cache::key(access_token);
        for _ in 0..WAITS {
            match cache.find(&key, transport.now(), Instant::now()) {
                Found::Known(validation) => return Ok(validation),
                // No longer than its call may take: it may be a future that nobody polls any more,
                // this very task's perhaps.
                Found::UnderWay(waiting) => match tokio::time::timeout(transport.whole(), waiting.outcome()).await {
                    Ok(Some(outcome)) => return outcome,
                    Ok(None) => {}
                    Err(_) => break,
                },
                Found::Unknown(ticket) => {
                    let outcome = Plain(self).validate(access_token).await;
                    ticket.settle(&outcome, transport.now());
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
