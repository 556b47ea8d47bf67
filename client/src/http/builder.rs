//! The builder of an [`HttpAuthClient`], which validates its settings.

use std::{fmt, sync::Arc};

use time::OffsetDateTime;
use tokio::time::Duration;

use super::{
    base_url::{Plaintext, parse_base_url},
    breaker::BreakerPolicy,
    cache::CachePolicy,
    client::HttpAuthClient,
    retry::RetryPolicy,
    transport::{Now, Transport, TransportConfig},
};
use crate::error::ClientError;

/// Time to connect, TLS included.
const CONNECT: Duration = Duration::from_secs(2);

/// Time for one exchange: twice the gateway's default for an upstream.
const CALL: Duration = Duration::from_secs(10);

/// Time for a call with its retries: about as long as a person waits.
const WHOLE: Duration = Duration::from_secs(20);

/// Builds an [`HttpAuthClient`].
#[must_use]
pub struct Builder {
    base_url: String,
    user_agent: String,
    connect: Duration,
    call: Duration,
    whole: Duration,
    retry: RetryPolicy,
    breaker: BreakerPolicy,
    cache: CachePolicy,
    now: Now,
}

impl fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may contain a password until `build` rejects it.
        formatter.debug_struct("Builder").field("call", &self.call).field("whole", &self.whole).finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new(base_url: &str) -> Self {
        Self {
            base_url: base_url.to_owned(),
            user_agent: concat!("portcullis-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect: CONNECT,
            call: CALL,
            whole: WHOLE,
            retry: RetryPolicy::default(),
            breaker: BreakerPolicy::default(),
            cache: CachePolicy::default(),
            now: Arc::new(OffsetDateTime::now_utc),
        }
    }

    /// Sets the user agent, with which sessions are listed.
    pub fn user_agent(mut self, name: &str) -> Self {
        name.clone_into(&mut self.user_agent);
        self
    }

    /// Sets the time to connect, TLS included (default: 2 s).
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect = time;
        self
    }

    /// Sets the time for one exchange, answer included (default: 10 s).
    pub fn call_timeout(mut self, time: Duration) -> Self {
        self.call = time;
        self
    }

    /// Sets the time for a call with its retries and pauses (default: 20 s).
    pub fn whole_timeout(mut self, time: Duration) -> Self {
        self.whole = time;
        self
    }

    /// Sets how failed calls are retried.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets the circuit breaker.
    pub fn breaker(mut self, policy: BreakerPolicy) -> Self {
        self.breaker = policy;
        self
    }

    /// Sets the cache of validated tokens.
    pub fn cache(mut self, policy: CachePolicy) -> Self {
        self.cache = policy;
        self
    }

    /// Sets another clock, for tests.
    pub fn clock(mut self, now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        self.now = Arc::new(now);
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    /// [`ClientError::Invalid`], which names the invalid setting.
    pub fn build(self) -> Result<HttpAuthClient, ClientError> {
        let base = parse_base_url(&self.base_url, Plaintext::LoopbackOnly)?;
        let config = TransportConfig {
            user_agent: self.user_agent,
            connect: self.connect,
            call: self.call,
            whole: self.whole,
            retry: self.retry,
            breaker: self.breaker,
            now: self.now,
        };
        Ok(HttpAuthClient::with_transport(Transport::new(base, config)?, self.cache))
    }
}

impl HttpAuthClient {
    /// Returns a client of the gateway at a base URL, with the defaults of [`Builder`].
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a URL that is neither `https:` nor `http:` to a loopback address.
    pub fn new(base_url: &str) -> Result<Self, ClientError> {
        Self::builder(base_url).build()
    }

    /// Returns a builder for a client.
    pub fn builder(base_url: &str) -> Builder {
        Builder::new(base_url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_does_not_print_the_credentials_of_its_url() {
        let printed = format!("{:?}", HttpAuthClient::builder("https://ada:hunter2@api.example.com"));
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
