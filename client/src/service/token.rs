//! A service's own token for another service: fetched by client credentials, kept until
//! shortly before it expires.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use tokio::time::{Duration, Instant};
use tracing::Instrument as _;

use crate::{
    error::ClientError,
    http::Transport,
    internal::Settings,
    request::{ApiRequest, Method, Repeat},
    secret::Secret,
    trace::TraceContext,
};

/// A token is fetched again this long before it expires.
const MARGIN: Duration = Duration::from_secs(30);

/// Bytes of a token that is taken: what a header line may have.
const TOKEN_BYTES: usize = 8 * 1024;

/// Bytes of a service's name.
const NAME_BYTES: usize = 64;

pub(super) struct ServiceTokens {
    auth: Transport,
    caller: String,
    secret: Secret,
    audience: String,
    held: Mutex<Option<Held>>,
    /// Held by the task that fetches. When the last fetch ended, and what became of it.
    fetching: tokio::sync::Mutex<Option<(Instant, Result<Secret, ClientError>)>>,
}

struct Held {
    token: Secret,
    until: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Secret,
    expires_in: u64,
}

impl ServiceTokens {
    pub(super) fn new(auth: Transport, settings: &Settings) -> Result<Self, ClientError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        let is_name = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES && name.bytes().all(is_plain);
        if !is_name(&settings.caller) || !is_name(&settings.audience) {
            return Err(ClientError::Invalid("a service's name has 1 to 64 letters, digits, dots and dashes"));
        }
        Ok(Self {
            auth,
            caller: settings.caller.clone(),
            secret: settings.secret.clone(),
            audience: settings.audience.clone(),
            held: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// The token at hand, or a new one. One task fetches. The others wait for it and share what
    /// becomes of the fetch, a failure too: none waits longer than one fetch may take.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Secret, ClientError> {
        let asked_at = Instant::now();
        if let Some(token) = self.at_hand() {
            return Ok(token);
        }
        let tokens = Arc::clone(self);
        // A task of its own: a caller that leaves does not end a fetch that others wait for.
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
        // The task ends early only with the runtime.
        tokio::spawn(fetch.in_current_span()).await.unwrap_or(Err(ClientError::Lost))
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_hand(&self) -> Option<Secret> {
        self.held().as_ref().filter(|held| Instant::now() < held.until).map(|held| held.token.clone())
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
            return Err(malformed("a token that no header line holds"));
        }
        let life = Duration::from_secs(expires_in).saturating_sub(MARGIN);
        let until = Instant::now().checked_add(life).ok_or(malformed("a token without an end"))?;
        *self.held() = Some(Held { token: access_token.clone(), until });
        Ok(access_token)
    }

    /// Forgets a token that was refused, unless another task has a new one already.
    pub(super) fn discard(&self, token: &Secret) {
        let mut held = self.held();
        if held.as_ref().is_some_and(|held| held.token == *token) {
            *held = None;
        }
    }
}
