//! Typed calls of the internal routes of the auth service and the user service, on top of
//! [`ServiceClient`].
//!
//! An idempotent call is retried once without an answer. A conditional change or a new account is
//! retried only if it was not sent: otherwise the second try could conflict with the first. No error
//! contains a secret or a token.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Duration;
use uuid::Uuid;

use crate::{
    admin::{NewUser, UserPatch},
    error::{ClientError, Refusal},
    http::BreakerPolicy,
    profile::ProfileFields,
    request::{ApiAnswer, ApiRequest, Method, Repeat},
    secret::{Secret, body_with_secret},
    service::{CallPolicy, EXCHANGE, SLACK, ServiceClient, ServiceConfig},
};

pub use crate::service::WHOLE_TIME;

/// Time for an exchange in which the service hashes a password: the wait for its turn (at most 8 s) and,
/// for a new account, the call back to the user service ([`WHOLE_TIME`]).
pub const HASHING_TIME: Duration = Duration::from_millis(11_000);

/// Time for a whole such call, the fetch of a token included. It is less than the time of a request to
/// the calling service, and longer than the exchanges together, like [`WHOLE_TIME`].
pub const HASHING_WHOLE_TIME: Duration = HASHING_TIME.saturating_add(EXCHANGE).saturating_add(SLACK);

/// The longest open period of the breaker between the two services: a registration needs both, and
/// must work as soon as the other one is back. Four probes per second are no load.
const LONGEST_OPEN: Duration = Duration::from_millis(250);

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallError {
    /// The service is down, unreachable or too slow. A later try may succeed.
    Unavailable,
    /// The service refused with this status.
    Refused(u16),
    /// The service refused because of the user on whose behalf the call was made.
    Denied(Denial),
    /// The answer violates the contract.
    Malformed,
}

/// Why users cannot change their own account now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// The session has ended.
    SessionEnded,
    /// The change needs the current password, or a login within the last minutes.
    ReauthenticationRequired,
    /// The current password is wrong.
    PasswordWrong,
    /// Too many wrong passwords.
    PasswordDelayed {
        /// Seconds until the next try is accepted.
        retry_after_s: u64,
    },
    /// Too many changes of the e-mail address.
    EmailChangeDelayed {
        /// Seconds until the next try is accepted.
        retry_after_s: u64,
    },
}

impl Denial {
    /// Returns the denial of a problem document's code.
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

/// Header with the user on whose behalf a service calls.
pub const ACTING_USER: &str = "x-acting-user";

/// Header with that user's session.
pub const ACTING_SESSION: &str = "x-acting-session";

/// The user on whose behalf a service calls. The called service decides by the current state of its
/// database whether the user may do so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActingUser {
    /// User id.
    pub user: Uuid,
    /// Session, if the gateway's assertion names one.
    pub session: Option<Uuid>,
}

/// A user as both services store one: an account of the auth service, and its copy, the profile of
/// the user service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserRecord {
    /// User id.
    pub id: Uuid,
    /// Normalised e-mail address.
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::line))]
    pub email: String,
    /// Profile fields.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(inline))]
    pub profile: ProfileFields,
    /// Names of the roles, sorted.
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::lines))]
    pub roles: Vec<String>,
    /// Milliseconds since 1970.
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::instant))]
    pub created_at: i64,
    /// Milliseconds since 1970, by the clock of the auth service.
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::instant))]
    pub updated_at: i64,
    /// Increases with each change of the account. A copy with a smaller version never replaces one with
    /// a greater version.
    pub version: i64,
}

impl UserRecord {
    /// Returns whether the user holds a role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }
}

/// The time that a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeLimit {
    /// One exchange and, if that is safe, a retry ([`WHOLE_TIME`]).
    Short,
    /// One exchange with the hash of a password ([`HASHING_WHOLE_TIME`]).
    Hashing,
}

/// A client of the internal routes of another service.
pub struct InternalClient {
    service: ServiceClient,
    audience: String,
}

impl std::fmt::Debug for InternalClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("InternalClient").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl InternalClient {
    /// Returns a client with pooled connections.
    ///
    /// # Errors
    /// [`ClientError::Invalid`], which names the invalid setting.
    pub fn new(config: ServiceConfig) -> Result<Self, ClientError> {
        let audience = config.audience.clone();
        let breaker = BreakerPolicy { rest: LONGEST_OPEN, ..BreakerPolicy::default() };
        let policy = CallPolicy { breaker, ..CallPolicy::default() };
        Ok(Self { service: ServiceClient::with_policy(config, policy)?, audience })
    }

    /// Creates or replaces a profile, unless the existing one is newer.
    ///
    /// # Errors
    /// [`CallError`]; `Refused(409)` if the profile was deleted.
    pub async fn put_profile(&self, profile: &UserRecord) -> Result<(), CallError> {
        let request = ApiRequest::new(Method::POST, USERS).with_json(profile).with_repeat(Repeat::Always);
        self.call(request, TimeLimit::Short).await.map(drop)
    }

    /// Deletes a profile. Returns false if there was none.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn delete_profile(&self, id: Uuid) -> Result<bool, CallError> {
        let request = request(Method::DELETE, USER, id).with_repeat(Repeat::Always);
        was_there(self.call(request, TimeLimit::Short).await)
    }

    /// Creates an active account with its profile.
    ///
    /// # Errors
    /// [`CallError`]; `Refused(409)` if the e-mail address is taken, `Refused(403)` if the user lacks
    /// the right, `Refused(422)` if a role does not exist.
    pub async fn make_account(&self, on_behalf_of: Option<ActingUser>, new: &NewUser) -> Result<UserRecord, CallError> {
        let body = body_with_secret(new, "password", Some(&new.password));
        let request = with_user(ApiRequest::new(Method::POST, ACCOUNTS).with_json(&body), on_behalf_of);
        parse(&self.call(request, TimeLimit::Hashing).await?)
    }

    /// Changes an account and returns its profile. The change is merged while the account is locked, so
    /// that concurrent changes do not overwrite each other. `if_match` restricts it to versions (RFC
    /// 9110, section 13.1.1).
    ///
    /// # Errors
    /// [`CallError`]; `Refused(409)` if the e-mail address is taken, `Refused(412)` if the account has
    /// another version, `Refused(403)` if the user lacks the right, `Denied` if the user cannot change
    /// it now.
    pub async fn change_account(
        &self,
        id: Uuid,
        on_behalf_of: Option<ActingUser>,
        change: &UserPatch,
        if_match: Option<&str>,
    ) -> Result<UserRecord, CallError> {
        let body = body_with_secret(change, "current_password", change.current_password.as_ref());
        let request = with_user(request(Method::PATCH, ACCOUNT, id).with_json(&body), on_behalf_of);
        // A wrong password counts, so a call with a password is not repeated.
        let limit = if change.current_password.is_some() { TimeLimit::Hashing } else { TimeLimit::Short };
        let is_repeatable = if_match.is_none() && limit == TimeLimit::Short;
        let request = request.with_condition(if_match).with_repeat(repeat(is_repeatable));
        parse(&self.call(request, limit).await?)
    }

    /// Deletes an account with all its sessions. Returns false if there was none. `if_match` restricts
    /// the deletion to versions.
    ///
    /// # Errors
    /// [`CallError`]; `Refused(409)` if it is the last administrator's, `Refused(412)` if the account has
    /// another version, `Refused(403)` if the user lacks the right, `Denied` if the user cannot delete
    /// it now.
    pub async fn delete_account(
        &self,
        id: Uuid,
        on_behalf_of: Option<ActingUser>,
        current_password: Option<&Secret>,
        if_match: Option<&str>,
    ) -> Result<bool, CallError> {
        let mut request = with_user(request(Method::DELETE, ACCOUNT, id), on_behalf_of).with_condition(if_match);
        if current_password.is_some() {
            request = request.with_json(&body_with_secret(&json!({}), "current_password", current_password));
        }
        let limit = if current_password.is_some() { TimeLimit::Hashing } else { TimeLimit::Short };
        // A repeated deletion finds no account, and the caller continues with the profile.
        let request = request.with_repeat(repeat(limit == TimeLimit::Short));
        was_there(self.call(request, limit).await)
    }

    /// Sends a call within its time, the fetch of a token included.
    async fn call(&self, request: ApiRequest, limit: TimeLimit) -> Result<ApiAnswer, CallError> {
        let (request, whole) = match limit {
            TimeLimit::Short => (request, WHOLE_TIME),
            TimeLimit::Hashing => (request.with_timeout(HASHING_TIME), HASHING_WHOLE_TIME),
        };
        let answer = tokio::time::timeout(whole, self.service.send(request)).await;
        answer.unwrap_or(Err(ClientError::Timeout)).map_err(|error| CallError::from(&error))
    }
}

/// Routes of the user service and of the auth service.
const USERS: &str = "/api/v1/internal/users";
const USER: &str = "/api/v1/internal/users/{id}";
const ACCOUNTS: &str = "/api/v1/internal/accounts";
const ACCOUNT: &str = "/api/v1/internal/accounts/{id}";

fn request(method: Method, template: &'static str, id: Uuid) -> ApiRequest {
    ApiRequest::new(method, template).with_segment(&id.to_string())
}

const fn repeat(is_repeatable: bool) -> Repeat {
    if is_repeatable { Repeat::Always } else { Repeat::IfUnsent }
}

fn with_user(request: ApiRequest, on_behalf_of: Option<ActingUser>) -> ApiRequest {
    let Some(ActingUser { user, session }) = on_behalf_of else { return request };
    let request = request.with_header(ACTING_USER, &user.to_string());
    match session {
        Some(session) => request.with_header(ACTING_SESSION, &session.to_string()),
        None => request,
    }
}

impl From<&ClientError> for CallError {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::Unreachable | ClientError::Timeout | ClientError::Lost | ClientError::BreakerOpen { .. } => {
                Self::Unavailable
            }
            ClientError::Refused(refusal) => Self::refused(refusal),
            ClientError::Malformed { .. }
            | ClientError::Invalid(_)
            | ClientError::LoggedOut
            | ClientError::Store(_) => Self::Malformed,
        }
    }
}

impl CallError {
    fn refused(refusal: &Refusal) -> Self {
        let retry_after_s = refusal.retry_after.map_or(1, |wait| wait.as_secs());
        match refusal.status {
            502..=504 => Self::Unavailable,
            status @ (403 | 429) => {
                Denial::from_code(&refusal.code, retry_after_s).map_or(Self::Refused(status), Self::Denied)
            }
            status => Self::Refused(status),
        }
    }
}

fn parse<A: serde::de::DeserializeOwned>(answer: &ApiAnswer) -> Result<A, CallError> {
    answer.json().map_err(|_| CallError::Malformed)
}

/// Returns whether a deletion found something.
fn was_there(outcome: Result<ApiAnswer, CallError>) -> Result<bool, CallError> {
    match outcome {
        Ok(_) => Ok(true),
        Err(CallError::Refused(404)) => Ok(false),
        Err(error) => Err(error),
    }
}
