//! Calls from one service to another: [`ServiceClient`] calls any route of another service with a
//! service token (RFC 6749, section 4.4). It fetches the token from the auth service by client
//! credentials, keeps it, and renews it before it expires or when it is refused.
//!
//! Time-outs, retries, circuit breaker, metrics, logs and traces are those of [`http`](crate::http),
//! with shorter times ([`CallPolicy`]): the caller has a client that waits.
//!
//! The called service checks the token with the auth service's key set (features `axum` and `jwks`). A
//! caller that is not on the list receives 403:
//!
//! ```
//! use std::sync::Arc;
//! use axum::{Router, middleware::from_fn_with_state, routing::get};
//! use portcullis_client::{
//!     ClientError,
//!     extract::{ServiceCaller, ServiceRule, require_service},
//!     jwks::{JwksVerifier, TokenRule},
//! };
//!
//! fn internal(auth_url: &str) -> Result<Router, ClientError> {
//!     let rule = ServiceRule {
//!         verifier: Arc::new(JwksVerifier::new(auth_url, TokenRule::service("stock"))?),
//!         issuer: "auth-service".into(),
//!         audience: "stock",
//!         callers: ["billing".to_owned()].into(),
//!     };
//!     let routes = Router::new().route("/internal/levels", get(|caller: ServiceCaller| async move { caller.name }));
//!     Ok(routes.layer(from_fn_with_state(rule, require_service)))
//! }
//! ```

mod config;
mod token;

use std::{fmt, sync::Arc};

use time::OffsetDateTime;
use tokio::time::Duration;

pub use config::{CallPolicy, ServiceConfig, WHOLE_TIME};
pub(crate) use config::{EXCHANGE, SLACK};

use crate::{
    error::ClientError,
    http::{Plaintext, Transport, TransportConfig, parse_base_url},
    request::{ApiAnswer, ApiRequest},
};
use token::ServiceTokens;

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(1);

/// A client of another service. Clones share connections, circuit breaker and token.
///
/// ```no_run
/// # use portcullis_client::{ApiRequest, ClientError, Secret, ServiceClient, request::Method, service::ServiceConfig};
/// # async fn read(secret: Secret) -> Result<(), ClientError> {
/// let users = ServiceClient::new(ServiceConfig {
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
    /// Returns a client with the default [`CallPolicy`]. Both URLs may be `http:` on a private network of
    /// the services; use `https:` anywhere else.
    ///
    /// # Errors
    /// [`ClientError::Invalid`], which names the invalid setting.
    pub fn new(config: ServiceConfig) -> Result<Self, ClientError> {
        Self::with_policy(config, CallPolicy::default())
    }

    /// Returns a client with another policy, for calls and for fetches of tokens.
    ///
    /// # Errors
    /// [`ClientError::Invalid`], which names the invalid setting.
    pub fn with_policy(config: ServiceConfig, policy: CallPolicy) -> Result<Self, ClientError> {
        let transport = |url: &str, whole| {
            let transport = TransportConfig {
                user_agent: format!("{} portcullis-client/{}", config.caller, env!("CARGO_PKG_VERSION")),
                connect: CONNECT,
                call: policy.exchange,
                whole,
                retry: policy.retry,
                breaker: policy.breaker,
                now: Arc::new(OffsetDateTime::now_utc),
            };
            Transport::new(parse_base_url(url, Plaintext::Anywhere)?, transport)
        };
        let target = transport(&config.target_url, policy.whole)?;
        let auth = transport(&config.auth_url, policy.exchange)?;
        let tokens = Arc::new(ServiceTokens::new(auth, &config)?);
        Ok(Self { inner: Arc::new(Inner { caller: config.caller, target, tokens }) })
    }

    /// Calls any route of the called service.
    ///
    /// A call that is answered 401 is sent once more with a new token, because the old one may have been
    /// signed before the keys changed. The service refused it before processing anything.
    ///
    /// # Errors
    /// [`ClientError`]: the one of the token's fetch, or of the call.
    pub async fn send(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        let inner = &*self.inner;
        let request = request.with_header("x-service-caller", &inner.caller).with_header("x-internal-call", "true");
        // An invalid call fetches no token.
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
