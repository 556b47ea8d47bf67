//! [`HttpAuthClient`]: the gateway's client, with a cache of validated tokens.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    cache::{self, CachePolicy, Lookup, ValidationCache},
    transport::Transport,
};
use crate::{
    account::{AuthClient, PasswordChange, Validation},
    error::ClientError,
    request::{ApiAnswer, ApiRequest},
    secret::Secret,
};

/// How often a task waits for the call of another task, which may be cancelled each time, before it
/// sends its own.
const WAITS: usize = 3;

/// The client of a gateway. Clones share connections, circuit breaker, retry budget and cache: create
/// one per base URL and clone it.
#[derive(Clone)]
pub struct HttpAuthClient {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    cache: Option<ValidationCache>,
}

impl fmt::Debug for HttpAuthClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HttpAuthClient").field("base_url", &self.inner.transport.base()).finish_non_exhaustive()
    }
}

impl HttpAuthClient {
    pub(super) fn with_transport(transport: Transport, cache: CachePolicy) -> Self {
        Self { inner: Arc::new(Inner { transport, cache: ValidationCache::new(cache) }) }
    }

    /// Forgets all validated tokens: it is unknown which of them belong to ended sessions.
    fn clear_cache(&self) {
        if let Some(cache) = &self.inner.cache {
            cache.clear();
        }
    }
}

#[async_trait]
impl AuthClient for HttpAuthClient {
    async fn exchange(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        self.inner.transport.exchange(&request).await
    }

    /// Answers from the cache, as [`CachePolicy`] says. Concurrent validations of one token are one
    /// call with one result.
    async fn validate(&self, access_token: &Secret) -> Result<Validation, ClientError> {
        let transport = &self.inner.transport;
        let Some(cache) = &self.inner.cache else { return Uncached(self).validate(access_token).await };
        let digest = cache::digest(access_token);
        for _ in 0..WAITS {
            match cache.find(&digest, transport.now(), Instant::now()) {
                Lookup::Hit(validation) => return Ok(validation),
                // At most as long as a call may take: the other future may never be polled again.
                Lookup::Pending(pending) => match tokio::time::timeout(transport.whole(), pending.outcome()).await {
                    Ok(Some(outcome)) => return outcome,
                    Ok(None) => {}
                    Err(_) => break,
                },
                Lookup::Miss(ticket) => {
                    let outcome = Uncached(self).validate(access_token).await;
                    ticket.settle(&outcome, transport.now());
                    return outcome;
                }
            }
        }
        Uncached(self).validate(access_token).await
    }

    async fn logout(&self, access_token: &Secret, refresh_token: Option<&Secret>) -> Result<(), ClientError> {
        let result = Uncached(self).logout(access_token, refresh_token).await;
        // Also after a failure: the service may have processed the call.
        if let Some(cache) = &self.inner.cache {
            cache.forget(&cache::digest(access_token));
        }
        result
    }

    async fn change_password(&self, access_token: &Secret, change: &PasswordChange) -> Result<(), ClientError> {
        let result = Uncached(self).change_password(access_token, change).await;
        self.clear_cache();
        result
    }

    async fn end_session(&self, access_token: &Secret, id: Uuid) -> Result<(), ClientError> {
        let result = Uncached(self).end_session(access_token, id).await;
        self.clear_cache();
        result
    }
}

/// The client with the default methods of the trait, without the cache.
#[derive(Debug)]
struct Uncached<'a>(&'a HttpAuthClient);

#[async_trait]
impl AuthClient for Uncached<'_> {
    async fn exchange(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        self.0.exchange(request).await
    }
}
