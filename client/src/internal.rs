//! Calls between the services: service tokens by client credentials (RFC 6749,
//! section 4.4), kept until shortly before they expire, and the internal routes
//! of both services.
//!
//! Every call is idempotent, so each is tried again once when the connection
//! failed. No text of a secret or a token is in any error.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::secret::Secret;

/// Time for a connection to stand.
const CONNECT: Duration = Duration::from_secs(1);

/// Time for one exchange, answer included.
const CALL: Duration = Duration::from_millis(1500);

/// Time for a whole call: a token's fetch, the exchange, and one more try of both.
/// The caller's own caller, the gateway, waits for five seconds in all.
const WHOLE: Duration = Duration::from_millis(2500);

/// A token is fetched anew this long before it expires.
const MARGIN: Duration = Duration::from_secs(30);

/// Bytes of an answer that is read.
const ANSWER_BYTES: usize = 64 * 1024;

/// Which service calls which, and with what.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the calling service, such as `auth-service`.
    pub caller: String,
    /// Its secret.
    pub secret: Secret,
    /// Base URL of the auth service, which gives the tokens.
    pub auth_url: String,
    /// Name of the called service, such as `user-service`.
    pub audience: String,
    /// Base URL of the called service.
    pub target_url: String,
}

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallError {
    /// No answer: down, unreachable or too slow. Worth trying later.
    Unavailable,
    /// The other side refused, with this status.
    Refused(u16),
    /// The answer is not what the contract says.
    Malformed,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unavailable => formatter.write_str("the service does not answer"),
            Self::Refused(status) => write!(formatter, "the service refused with {status}"),
            Self::Malformed => formatter.write_str("the service's answer is malformed"),
        }
    }
}

impl std::error::Error for CallError {}

/// A profile as the user service is told to keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The account's id.
    pub id: Uuid,
    /// Normalised e-mail address.
    pub email: String,
    /// First name, may be empty.
    pub first_name: String,
    /// Last name, may be empty.
    pub last_name: String,
    /// Role names.
    pub roles: Vec<String>,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// What the user service tells the auth service of a changed profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountChange {
    /// Normalised e-mail address.
    pub email: String,
    /// First name, may be empty.
    pub first_name: String,
    /// Last name, may be empty.
    pub last_name: String,
}

struct Held {
    token: Secret,
    until: Instant,
}

/// One service's line to another.
pub struct InternalClient {
    http: reqwest::Client,
    settings: Settings,
    held: Mutex<Option<Held>>,
}

impl std::fmt::Debug for InternalClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("InternalClient").field("audience", &self.settings.audience).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Secret,
    expires_in: u64,
}

impl InternalClient {
    /// A client with pooled connections.
    ///
    /// # Errors
    /// [`CallError::Unavailable`] when the HTTP client cannot be set up.
    pub fn new(settings: Settings) -> Result<Self, CallError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(CALL)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|_| CallError::Unavailable)?;
        Ok(Self { http, settings, held: Mutex::new(None) })
    }

    /// Creates a profile, or makes an existing one equal.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn put_profile(&self, profile: &Profile) -> Result<(), CallError> {
        self.call(reqwest::Method::POST, "/api/v1/internal/users", Some(profile)).await
    }

    /// Tells the auth service of a changed profile.
    ///
    /// # Errors
    /// [`CallError`]; `Refused(409)` when the e-mail address is taken.
    pub async fn change_account(&self, id: Uuid, change: &AccountChange) -> Result<(), CallError> {
        self.call(reqwest::Method::PATCH, &format!("/api/v1/internal/accounts/{id}"), Some(change)).await
    }

    /// Ends an account and all its sessions. False when there was none.
    ///
    /// # Errors
    /// [`CallError`]; `Refused(409)` when it is the last administrator's.
    pub async fn delete_account(&self, id: Uuid) -> Result<bool, CallError> {
        match self.call(reqwest::Method::DELETE, &format!("/api/v1/internal/accounts/{id}"), None::<&()>).await {
            Ok(()) => Ok(true),
            Err(CallError::Refused(404)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn call<B: Serialize>(&self, method: reqwest::Method, path: &str, body: Option<&B>) -> Result<(), CallError> {
        tokio::time::timeout(WHOLE, self.call_twice(method, path, body)).await.unwrap_or(Err(CallError::Unavailable))
    }

    async fn call_twice<B: Serialize>(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<(), CallError> {
        match self.call_once(method.clone(), path, body).await {
            // The connection may have been one that the other side had closed;
            // a 401 may be a token signed before the other side's keys changed.
            Err(CallError::Unavailable) => self.call_once(method, path, body).await,
            Err(CallError::Refused(401)) => {
                *self.held.lock().await = None;
                self.call_once(method, path, body).await
            }
            other => other,
        }
    }

    async fn call_once<B: Serialize>(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<(), CallError> {
        let token = self.token().await?;
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.settings.target_url))
            .bearer_auth(token.expose())
            .header("x-service-caller", &self.settings.caller)
            .header("x-internal-call", "true");
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|_| CallError::Unavailable)?;
        let status = answer.status().as_u16();
        match status {
            200..=299 => Ok(()),
            502..=504 => Err(CallError::Unavailable),
            _ => Err(CallError::Refused(status)),
        }
    }

    /// The kept token, or a new one. One task fetches, the others wait for it.
    async fn token(&self) -> Result<Secret, CallError> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref()
            && Instant::now() < held.until
        {
            return Ok(held.token.clone());
        }
        let answer = self
            .http
            .post(format!("{}/api/v1/auth/token", self.settings.auth_url))
            .basic_auth(&self.settings.caller, Some(self.settings.secret.expose()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("grant_type=client_credentials&audience={}", self.settings.audience))
            .send()
            .await
            .map_err(|_| CallError::Unavailable)?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(if status >= 500 { CallError::Unavailable } else { CallError::Refused(status) });
        }
        if answer.content_length().is_some_and(|length| usize::try_from(length).is_ok_and(|n| n > ANSWER_BYTES)) {
            return Err(CallError::Malformed);
        }
        let answer: TokenAnswer = answer.json().await.map_err(|_| CallError::Malformed)?;
        let life = Duration::from_secs(answer.expires_in).saturating_sub(MARGIN);
        let until = Instant::now().checked_add(life).ok_or(CallError::Malformed)?;
        *held = Some(Held { token: answer.access_token.clone(), until });
        Ok(answer.access_token)
    }
}
