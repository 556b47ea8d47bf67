//! Calls from one service to another: [`ServiceClient`] makes any call of the called
//! service's API with a service token (RFC 6749, section 4.4), which it fetches from the
//! auth service, keeps, and renews before it expires or when it is refused.
//!
//! Time-outs, retries, the breaker, metrics, logs and traces are those of the client of the
//! gateway, with shorter times: the caller is itself being waited for.

mod token;

use std::{fmt, sync::Arc};

use time::OffsetDateTime;
use tokio::time::Duration;

use crate::{
    error::ClientError,
    http::{BreakerPolicy, Plaintext, RetryPolicy, Settings as TransportSettings, Transport, check},
    internal::{Settings, WHOLE_TIME},
    request::{ApiAnswer, ApiRequest},
};
use token::ServiceTokens;

/// Time for a connection to stand.
const CONNECT: Duration = Duration::from_secs(1);

/// The longest `Retry-After` that is waited for: the caller is being waited for itself.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Time for one exchange, answer included.
const CALL: Duration = Duration::from_millis(1500);

/// How calls are made. Fields that a program does not name are those of the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallPolicy {
    /// Time for one exchange, answer included.
    pub exchange: Duration,
    /// Time for a call with its retries and pauses, without the fetch of a token.
    pub whole: Duration,
    /// How failed calls are made again.
    pub retry: RetryPolicy,
    /// When a service that is out is left alone.
    pub breaker: BreakerPolicy,
}

impl Default for CallPolicy {
    /// 1.5 s and 2.5 s; one retry; five outages in a row open the breaker.
    fn default() -> Self {
        let retry = RetryPolicy { retries: 1, longest_retry_after: RETRY_AFTER, ..RetryPolicy::default() };
        Self { exchange: CALL, whole: WHOLE_TIME, retry, breaker: BreakerPolicy::default() }
    }
}

/// One service's line to another. Clones share its connections, its breaker and its token.
///
/// ```no_run
/// # use portcullis_client::{ApiRequest, ClientError, Secret, ServiceClient, internal::Settings, request::Method};
/// # async fn read(secret: Secret) -> Result<(), ClientError> {
/// let users = ServiceClient::new(Settings {
///     caller: "billing".to_owned(),
///     secret,
///     auth_url: "http://127.0.0.1:8083".to_owned(),
///     audience: "user-service".to_owned(),
///     target_url: "http://127.0.0.1:8081".to_owned(),
/// })?;
/// let request = ApiRequest::new(Method::GET, "/api/v1/internal/users").with_query("limit", "10");
/// let page: serde_json::Value = users.send(request).await?.json()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ServiceClient {
    inner: Arc<Inner>,
}

struct Inner {
    caller: String,
    target: Transport,
    tokens: Arc<ServiceTokens>,
}

impl fmt::Debug for ServiceClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServiceClient").field("base_url", &self.inner.target.base()).finish_non_exhaustive()
    }
}

impl ServiceClient {
    /// A line with the default [`CallPolicy`]. Both URLs may be `http:`, for a network that
    /// is the services' own; `https:` anywhere else.
    ///
    /// # Errors
    /// [`ClientError::Invalid`], which says what is wrong with which setting.
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        Self::with_policy(settings, CallPolicy::default())
    }

    /// The same with another policy, for calls and for the fetch of tokens.
    ///
    /// # Errors
    /// [`ClientError::Invalid`], which says what is wrong with which setting.
    pub fn with_policy(settings: Settings, policy: CallPolicy) -> Result<Self, ClientError> {
        let transport = |url: &str| {
            let settings = TransportSettings {
                user_agent: format!("{} portcullis-client/{}", settings.caller, env!("CARGO_PKG_VERSION")),
                connect: CONNECT,
                call: policy.exchange,
                whole: policy.whole,
                retry: policy.retry,
                breaker: policy.breaker,
                now: Arc::new(OffsetDateTime::now_utc),
            };
            Transport::new(check(url, Plaintext::Anywhere)?, settings)
        };
        let (target, auth) = (transport(&settings.target_url)?, transport(&settings.auth_url)?);
        let tokens = Arc::new(ServiceTokens::new(auth, &settings)?);
        Ok(Self { inner: Arc::new(Inner { caller: settings.caller, target, tokens }) })
    }

    /// Makes a call of any route of the called service.
    ///
    /// A call that is answered 401 is made once more with a new token: the old one may have
    /// been signed before the keys changed. It was refused before anything was done.
    ///
    /// # Errors
    /// [`ClientError`]: that of the token's fetch, or of the call.
    pub async fn send(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        let inner = &*self.inner;
        let request = request.with_header("x-service-caller", &inner.caller).with_header("x-internal-call", "true");
        // A call that cannot be sent fetches no token.
        request.target()?;
        let token = inner.tokens.get().await?;
        let answer = inner.target.exchange(&request.clone().with_token(&token)).await;
        if answer.as_ref().is_err_and(|error| error.status() == Some(401)) {
            inner.tokens.discard(&token);
            let token = inner.tokens.get().await?;
            return inner.target.exchange(&request.with_token(&token)).await;
        }
        answer
    }
}
