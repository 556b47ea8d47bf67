//! The settings of an [`HttpAuthClient`], checked before anything is sent.

use std::{fmt, net::IpAddr, sync::Arc};

use reqwest::Url;
use time::OffsetDateTime;
use tokio::time::Duration;

use super::{BreakerPolicy, Cache, CachePolicy, HttpAuthClient, Inner, RetryPolicy, Settings, Transport};
use crate::error::ClientError;

/// Time for a connection to stand, TLS included.
const CONNECT: Duration = Duration::from_secs(2);

/// Time for one exchange: twice what the gateway gives an upstream.
const CALL: Duration = Duration::from_secs(10);

/// Time for a call with its retries: what a person waits for.
const WHOLE: Duration = Duration::from_secs(20);

/// Settings of a client.
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
    now: Arc<dyn Fn() -> OffsetDateTime + Send + Sync>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password until `build` refuses it.
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

    /// What the program calls itself. Sessions are listed with it.
    pub fn user_agent(mut self, name: &str) -> Self {
        name.clone_into(&mut self.user_agent);
        self
    }

    /// Time for a connection to stand, TLS included; 2 s unless set.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect = time;
        self
    }

    /// Time for one exchange, answer included; 10 s unless set.
    pub fn call_timeout(mut self, time: Duration) -> Self {
        self.call = time;
        self
    }

    /// Time for a call with its retries and pauses; 20 s unless set.
    pub fn whole_timeout(mut self, time: Duration) -> Self {
        self.whole = time;
        self
    }

    /// How failed calls are made again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// When a service that is out is left alone.
    pub fn breaker(mut self, policy: BreakerPolicy) -> Self {
        self.breaker = policy;
        self
    }

    /// What is remembered of validated tokens.
    pub fn cache(mut self, policy: CachePolicy) -> Self {
        self.cache = policy;
        self
    }

    /// Another clock, for tests.
    pub fn clock(mut self, now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        self.now = Arc::new(now);
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`ClientError::Invalid`], which says what is wrong with which setting.
    pub fn build(self) -> Result<HttpAuthClient, ClientError> {
        let base = check(&self.base_url, Plaintext::LoopbackAlone)?;
        let settings = Settings {
            user_agent: self.user_agent,
            connect: self.connect,
            call: self.call,
            whole: self.whole,
            retry: self.retry,
            breaker: self.breaker,
            now: self.now,
        };
        let inner = Inner { transport: Transport::new(base, settings)?, cache: Cache::new(self.cache) };
        Ok(HttpAuthClient { inner: Arc::new(inner) })
    }
}

/// Where `http:` is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plaintext {
    /// On this machine: passwords cross no network in the clear.
    LoopbackAlone,
    /// Anywhere: between services whose network is theirs alone.
    Anywhere,
}

/// The base URL without the slash at its end.
pub(crate) fn check(text: &str, plaintext: Plaintext) -> Result<String, ClientError> {
    let url = Url::parse(text).map_err(|_| ClientError::Invalid("the base URL is not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ClientError::Invalid("the base URL holds credentials, which would end in logs"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(ClientError::Invalid("the base URL has a query or a fragment"));
    }
    match url.scheme() {
        "https" if cfg!(feature = "tls") => {}
        "https" => return Err(ClientError::Invalid("https needs the feature `tls`")),
        "http" if plaintext == Plaintext::Anywhere || is_loopback(&url) => {}
        "http" => {
            return Err(ClientError::Invalid(
                "http sends passwords in the clear; use https (http is for loopback addresses alone)",
            ));
        }
        _ => return Err(ClientError::Invalid("the base URL is neither https nor http")),
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_https_or_on_this_machine() {
        for (text, expected) in [
            ("https://api.example.com", Ok("https://api.example.com")),
            ("https://api.example.com/", Ok("https://api.example.com")),
            ("https://api.example.com/gate/", Ok("https://api.example.com/gate")),
            ("http://127.0.0.1:8787", Ok("http://127.0.0.1:8787")),
            ("http://127.9.9.9", Ok("http://127.9.9.9")),
            ("http://[::1]:8787", Ok("http://[::1]:8787")),
            ("http://localhost:8787/", Ok("http://localhost:8787")),
            ("http://api.example.com", Err("in the clear")),
            ("http://127.0.0.1.example.com", Err("in the clear")),
            ("http://localhost.example.com", Err("in the clear")),
            ("http://10.0.0.1", Err("in the clear")),
            ("ftp://api.example.com", Err("neither")),
            ("https://ada:hunter2@api.example.com", Err("credentials")),
            ("https://api.example.com?x=1", Err("query")),
            ("https://api.example.com#x", Err("fragment")),
            ("api.example.com", Err("not a URL")),
            ("", Err("not a URL")),
        ] {
            match (check(text, Plaintext::LoopbackAlone), expected) {
                (Ok(base), Ok(expected)) => assert_eq!(base, expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        assert!(check("http://users.internal:8081/", Plaintext::Anywhere).is_ok_and(|base| base.ends_with("8081")));
        let printed = format!("{:?}", HttpAuthClient::builder("https://ada:hunter2@api.example.com"));
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
