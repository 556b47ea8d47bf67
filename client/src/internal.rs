//! Calls between the services: service tokens by client credentials (RFC 6749,
//! section 4.4), kept until shortly before they expire, and the internal routes
//! of both services.
//!
//! A call that may be done twice is tried again once when no answer came; one that may
//! not (a conditional change, a new account) only when it cannot have arrived: its first
//! try may have been done, and the second would be told of a conflict with itself. No text
//! of a secret or a token is in any error.
//!
//! Calls that are made within a [`TraceContext::scope`] carry its trace.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{secret::Secret, trace::TraceContext};

/// Time for a connection to stand.
const CONNECT: Duration = Duration::from_secs(1);

/// Time for one exchange, answer included.
const CALL: Duration = Duration::from_millis(1500);

/// Time for a whole call: a token's fetch, the exchange, and one more try of both.
/// The caller's own caller has it, and the wait for a password's turn before it, in a request's time.
pub const WHOLE_TIME: Duration = Duration::from_millis(2500);

/// Time for a call that hashes a password: its turn (8 s at most) and, for a new account, the
/// call back to the user service ([`WHOLE_TIME`]). The calling service has it within a request's
/// time.
pub const HASHING_TIME: Duration = Duration::from_millis(11_000);

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
    /// The other side refused for a reason of the user for whom the call is.
    Denied(Denial),
    /// The answer is not what the contract says.
    Malformed,
}

/// Why a user may not change their own account now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// Their session has ended.
    SessionEnded,
    /// The change needs the current password, or a login of the last minutes.
    ReauthenticationRequired,
    /// The current password is wrong.
    PasswordWrong,
    /// Too many wrong passwords.
    PasswordDelayed {
        /// Seconds until the next try counts.
        retry_after_s: u64,
    },
    /// Too many changes of the e-mail address.
    EmailChangeDelayed {
        /// Seconds until the next try counts.
        retry_after_s: u64,
    },
}

impl Denial {
    /// The denial that a problem document's code says.
    fn from_code(code: &str, retry_after_s: u64) -> Option<Self> {
        match code {
            "session_ended" => Some(Self::SessionEnded),
            "reauthentication_required" => Some(Self::ReauthenticationRequired),
            "password_wrong" => Some(Self::PasswordWrong),
            "login_delayed" => Some(Self::PasswordDelayed { retry_after_s }),
            "email_change_delayed" => Some(Self::EmailChangeDelayed { retry_after_s }),
            _ => None,
        }
    }
}

impl std::fmt::Display for Denial {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::SessionEnded => "the user's session has ended",
            Self::ReauthenticationRequired => "the user's current password is needed",
            Self::PasswordWrong => "the user's current password is wrong",
            Self::PasswordDelayed { .. } => "the user sent too many wrong passwords",
            Self::EmailChangeDelayed { .. } => "the user changed the e-mail address too often",
        })
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unavailable => formatter.write_str("the service does not answer"),
            Self::Refused(status) => write!(formatter, "the service refused with {status}"),
            Self::Denied(denial) => write!(formatter, "the service refused: {denial}"),
            Self::Malformed => formatter.write_str("the service's answer is malformed"),
        }
    }
}

impl std::error::Error for CallError {}

/// Header of the user for whom a service calls.
pub const ACTING_USER: &str = "x-acting-user";

/// Header of that user's session.
pub const ACTING_SESSION: &str = "x-acting-session";

/// For whom a service calls. Whether they may is decided by the called service, by what
/// its database says of them now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acting {
    /// User id.
    pub user: Uuid,
    /// Session, if the gateway told one.
    pub session: Option<Uuid>,
}

/// A profile: what the auth service says of an account, and the user service keeps.
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
    /// Milliseconds since 1970, by the auth service's clock.
    pub updated_at: i64,
    /// Grows with each change of the account. Of two copies the one with the greater is
    /// newer; an older one never replaces it.
    pub version: i64,
}

/// What is to change of an account; what is `None` stays. Merged where the account is
/// locked: of two changes at one instant neither undoes the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountChange {
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// First name, may be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// Last name, may be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    /// The user's current password, for a change of their own e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "expose_some")]
    pub current_password: Option<Secret>,
}

/// What a user says who deletes their own account.
#[derive(Serialize)]
struct Confirmation<'a> {
    #[serde(serialize_with = "expose")]
    current_password: &'a Secret,
}

/// A user that an administrator makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAccount {
    /// E-mail address.
    pub email: String,
    /// Password.
    #[serde(serialize_with = "expose")]
    pub password: Secret,
    /// First name, may be empty.
    pub first_name: String,
    /// Last name, may be empty.
    pub last_name: String,
    /// Role names.
    pub roles: Vec<String>,
}

/// Writes a password into the body of a call about an account.
fn expose_some<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => expose(secret, serializer),
        None => serializer.serialize_none(),
    }
}

/// Writes a password into the body of a call about an account.
fn expose<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// A call on its way.
struct Call<'a, B> {
    method: reqwest::Method,
    path: &'a str,
    body: Option<&'a B>,
    acting: Option<Acting>,
    if_match: Option<&'a str>,
    /// Time for one exchange.
    exchange: Duration,
    /// Time for all of it.
    whole: Duration,
    /// Whether a second one does what one does.
    is_repeatable: bool,
}

impl<'a, B> Call<'a, B> {
    fn new(method: reqwest::Method, path: &'a str, body: Option<&'a B>) -> Self {
        Self {
            method,
            path,
            body,
            acting: None,
            if_match: None,
            exchange: CALL,
            whole: WHOLE_TIME,
            is_repeatable: true,
        }
    }
}

/// How one exchange failed.
struct Failure {
    error: CallError,
    /// Whether the request may have reached the other side.
    has_left: bool,
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

    /// Creates a profile, or makes an existing one equal, unless that is newer.
    ///
    /// # Errors
    /// [`CallError`]; `Refused(409)` when the profile was deleted.
    pub async fn put_profile(&self, profile: &Profile) -> Result<(), CallError> {
        self.call(Call::new(reqwest::Method::POST, "/api/v1/internal/users", Some(profile))).await.map(drop)
    }

    /// Deletes a profile. False when there was none.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn delete_profile(&self, id: Uuid) -> Result<bool, CallError> {
        let path = format!("/api/v1/internal/users/{id}");
        was_there(self.call(Call::<()>::new(reqwest::Method::DELETE, &path, None)).await)
    }

    /// Makes an active account with its profile.
    ///
    /// # Errors
    /// [`CallError`]; `Refused(409)` when the e-mail address is taken, `Refused(403)` when
    /// whom it is for may not, `Refused(422)` when there is no such role.
    pub async fn make_account(&self, acting: Option<Acting>, new: &NewAccount) -> Result<Profile, CallError> {
        let mut call = Call::new(reqwest::Method::POST, "/api/v1/internal/accounts", Some(new));
        call.acting = acting;
        (call.exchange, call.whole, call.is_repeatable) = (HASHING_TIME, HASHING_TIME, false);
        parse(&self.call(call).await?)
    }

    /// Changes an account, if it has a version that `if_match` (RFC 9110, section 13.1.1)
    /// names; what it is afterwards.
    ///
    /// # Errors
    /// [`CallError`]; `Refused(409)` when the e-mail address is taken, `Refused(412)` when
    /// the account has another version, `Refused(403)` when whom it is for may not, `Denied`
    /// when they may not now.
    pub async fn change_account(
        &self,
        id: Uuid,
        acting: Option<Acting>,
        change: &AccountChange,
        if_match: Option<&str>,
    ) -> Result<Profile, CallError> {
        let path = format!("/api/v1/internal/accounts/{id}");
        let mut call = Call::new(reqwest::Method::PATCH, &path, Some(change));
        (call.acting, call.if_match, call.is_repeatable) = (acting, if_match, if_match.is_none());
        if change.current_password.is_some() {
            // A password is hashed, and counts when it is wrong.
            (call.exchange, call.whole, call.is_repeatable) = (HASHING_TIME, HASHING_TIME, false);
        }
        parse(&self.call(call).await?)
    }

    /// Ends an account and all its sessions, if it has a version that `if_match` names.
    /// False when there was none.
    ///
    /// # Errors
    /// [`CallError`]; `Refused(409)` when it is the last administrator's, `Refused(412)`
    /// when the account has another version, `Refused(403)` when whom it is for may not,
    /// `Denied` when they may not now.
    pub async fn delete_account(
        &self,
        id: Uuid,
        acting: Option<Acting>,
        current_password: Option<&Secret>,
        if_match: Option<&str>,
    ) -> Result<bool, CallError> {
        let path = format!("/api/v1/internal/accounts/{id}");
        let confirmation = current_password.map(|current_password| Confirmation { current_password });
        // A second one finds no account, and whoever asks goes on with the profile.
        let mut call = Call::new(reqwest::Method::DELETE, &path, confirmation.as_ref());
        (call.acting, call.if_match) = (acting, if_match);
        if current_password.is_some() {
            (call.exchange, call.whole, call.is_repeatable) = (HASHING_TIME, HASHING_TIME, false);
        }
        was_there(self.call(call).await)
    }

    /// The answer's body.
    async fn call<B: Serialize>(&self, call: Call<'_, B>) -> Result<Vec<u8>, CallError> {
        tokio::time::timeout(call.whole, self.call_twice(call)).await.unwrap_or(Err(CallError::Unavailable))
    }

    async fn call_twice<B: Serialize>(&self, call: Call<'_, B>) -> Result<Vec<u8>, CallError> {
        match self.call_once(&call).await {
            // The connection may have been one that the other side had closed;
            // a 401 may be a token signed before the other side's keys changed.
            Err(Failure { error: CallError::Unavailable, has_left }) if call.is_repeatable || !has_left => {}
            Err(Failure { error: CallError::Refused(401), .. }) => *self.held.lock().await = None,
            other => return other.map_err(|failure| failure.error),
        }
        self.call_once(&call).await.map_err(|failure| failure.error)
    }

    async fn call_once<B: Serialize>(&self, call: &Call<'_, B>) -> Result<Vec<u8>, Failure> {
        let before = |error| Failure { error, has_left: false };
        let after = |error| Failure { error, has_left: true };
        let token = self.token().await.map_err(before)?;
        let request = self
            .http
            .request(call.method.clone(), format!("{}{}", self.settings.target_url, call.path))
            .timeout(call.exchange);
        let mut request = traced(request)
            .bearer_auth(token.expose())
            .header("x-service-caller", &self.settings.caller)
            .header("x-internal-call", "true");
        if let Some(acting) = call.acting {
            request = request.header(ACTING_USER, acting.user.to_string());
            if let Some(session) = acting.session {
                request = request.header(ACTING_SESSION, session.to_string());
            }
        }
        if let Some(if_match) = call.if_match {
            request = request.header("if-match", if_match);
        }
        if let Some(body) = call.body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| Failure { error: CallError::Unavailable, has_left: !error.is_connect() })?;
        match answer.status().as_u16() {
            200..=299 => {}
            502..=504 => return Err(after(CallError::Unavailable)),
            status @ (403 | 429) => {
                let retry_after_s =
                    answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                let body = read(answer).await.unwrap_or_default();
                let code = parse::<Problem>(&body).map(|problem| problem.code).unwrap_or_default();
                let denial = Denial::from_code(&code, retry_after_s.unwrap_or(1));
                return Err(after(denial.map_or(CallError::Refused(status), CallError::Denied)));
            }
            status => return Err(after(CallError::Refused(status))),
        }
        read(answer).await.map_err(after)
    }

    /// The kept token, or a new one. One task fetches, the others wait for it.
    async fn token(&self) -> Result<Secret, CallError> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref()
            && Instant::now() < held.until
        {
            return Ok(held.token.clone());
        }
        let request = self.http.post(format!("{}/api/v1/auth/token", self.settings.auth_url));
        let answer = traced(request)
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

/// The one member of a problem document that decides.
#[derive(Deserialize)]
struct Problem {
    code: String,
}

/// An answer's body, within bounds.
async fn read(mut answer: reqwest::Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| CallError::Unavailable)? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES {
            return Err(CallError::Malformed);
        }
    }
    Ok(body)
}

/// Within a trace, each exchange is a span of its own, the second try included.
fn traced(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    match TraceContext::current() {
        Some(trace) => request.header(TraceContext::HEADER, trace.child().to_string()),
        None => request,
    }
}

fn parse<A: DeserializeOwned>(body: &[u8]) -> Result<A, CallError> {
    serde_json::from_slice(body).map_err(|_| CallError::Malformed)
}

/// A deletion's outcome: whether there was something.
fn was_there(outcome: Result<Vec<u8>, CallError>) -> Result<bool, CallError> {
    match outcome {
        Ok(_) => Ok(true),
        Err(CallError::Refused(404)) => Ok(false),
        Err(error) => Err(error),
    }
}
