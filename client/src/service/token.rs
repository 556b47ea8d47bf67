//! The token of one service for another: fetched by client credentials, and kept until shortly before
//! it expires.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use tokio::time::{Duration, Instant};
use tracing::Instrument as _;

use super::config::ServiceConfig;
use crate::{
    error::ClientError,
    http::Transport,
    request::{ApiRequest, Method, Repeat},
    secret::Secret,
    trace::TraceContext,
};

/// A token is renewed this long before it expires.
const MARGIN: Duration = Duration::from_secs(30);

/// Bytes of an accepted token: the limit of a header line.
const TOKEN_BYTES: usize = 8 * 1024;

/// Bytes of a service's name.
const NAME_BYTES: usize = 64;

pub(super) struct ServiceTokens {
    auth: Transport,
    caller: String,
    secret: Secret,
    audience: String,
    current: Mutex<Option<CurrentToken>>,
    /// Locked by the task that fetches. Time and result of the last fetch.
    fetching: tokio::sync::Mutex<Option<(Instant, Result<Secret, ClientError>)>>,
}

struct CurrentToken {
    token: Secret,
    until: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Secret,
    expires_in: u64,
}

impl ServiceTokens {
    pub(super) fn new(auth: Transport, config: &ServiceConfig) -> Result<Self, ClientError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        let is_name = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES && name.bytes().all(is_plain);
        if !is_name(&config.caller) || !is_name(&config.audience) {
            return Err(ClientError::Invalid("a service's name has 1 to 64 letters, digits, dots and dashes"));
        }
        Ok(Self {
            auth,
            caller: config.caller.clone(),
            secret: config.secret.clone(),
            audience: config.audience.clone(),
            current: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// Returns the current token, or a new one. One task fetches it; the others wait for the result,
    /// a failure included, so that none waits longer than one fetch may take.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Secret, ClientError> {
        let asked_at = Instant::now();
        if let Some(token) = self.valid() {
            return Ok(token);
        }
        let tokens = Arc::clone(self);
        // A separate task: a cancelled caller does not end a fetch that others wait for.
        let fetch = TraceContext::scope(TraceContext::current(), async move {
            let mut last = tokens.fetching.lock().await;
            if let Some((ended_at, outcome)) = &*last
                && *ended_at >= asked_at
            {
                return outcome.clone();
            }
            let outcome = tokens.fetch().await;
            *last = Some((Instant::now(), outcome.clone()));
            outcome
        });
        // The task fails only when the runtime shuts down.
        tokio::spawn(fetch.in_current_span()).await.unwrap_or(Err(ClientError::Lost))
    }

    fn current(&self) -> MutexGuard<'_, Option<CurrentToken>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn valid(&self) -> Option<Secret> {
        self.current().as_ref().filter(|current| Instant::now() < current.until).map(|current| current.token.clone())
    }

    async fn fetch(&self) -> Result<Secret, ClientError> {
        let request = ApiRequest::new(Method::POST, "/api/v1/auth/token")
            .with_basic(&self.caller, &self.secret)
            .with_form(format!("grant_type=client_credentials&audience={}", self.audience))
            .with_repeat(Repeat::Always);
        let answer = self.auth.exchange(&request).await?;
        let status = answer.status();
        let malformed = |reason| ClientError::Malformed { status, reason };
        let TokenAnswer { access_token, expires_in } = answer.json()?;
        if access_token.expose().len() > TOKEN_BYTES {
            return Err(malformed("the token is too long for a header line"));
        }
        let lifetime = Duration::from_secs(expires_in).saturating_sub(MARGIN);
        let until = Instant::now().checked_add(lifetime).ok_or(malformed("the token does not expire"))?;
        *self.current() = Some(CurrentToken { token: access_token.clone(), until });
        Ok(access_token)
    }

    /// Discards a refused token, unless another task has fetched a new one.
    pub(super) fn discard(&self, token: &Secret) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|current| current.token == *token) {
            *current = None;
        }
    }
}
