//! The internal routes of the auth and the user service, typed. How a call is made (token,
//! time-outs, breaker, metrics, trace) is [`ServiceClient`]'s matter.
//!
//! A call that may be done twice is tried again once when no answer came; one that may
//! not (a conditional change, a new account) only when it cannot have arrived: its first
//! try may have been done, and the second would be told of a conflict with itself. No text
//! of a secret or a token is in any error.

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::{
    error::{ClientError, Refusal},
    http::BreakerPolicy,
    request::{ApiAnswer, ApiRequest, Method, Repeat},
    secret::Secret,
    service::{CallPolicy, ServiceClient},
};

/// Time for a whole call: a token's fetch, the exchange, and one more try of both.
/// The caller's own caller has it, and the wait for a password's turn before it, in a request's time.
pub const WHOLE_TIME: Duration = Duration::from_millis(2500);

/// Time for a call that hashes a password: its turn (8 s at most) and, for a new account, the
/// call back to the user service ([`WHOLE_TIME`]). The calling service has it within a request's
/// time.
pub const HASHING_TIME: Duration = Duration::from_millis(11_000);

/// The longest rest of the breaker between the two services: a registration needs both, and
/// must go on as soon as the other one is back. Four probes a second are load for none.
const REST: Duration = Duration::from_millis(250);

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

/// Header of the user on whose behalf a service calls.
pub const ACTING_USER: &str = "x-acting-user";

/// Header of that user's session.
pub const ACTING_SESSION: &str = "x-acting-session";

/// The user on whose behalf a service calls. The called service decides by its database whether
/// that user may make the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActingUser {
    /// User id.
    pub user: Uuid,
    /// Session, if the gateway asserts one.
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
    #[cfg_attr(feature = "openapi", schema(schema_with = schema::line))]
    pub email: String,
    /// First name, may be empty.
    #[cfg_attr(feature = "openapi", schema(schema_with = schema::line))]
    pub first_name: String,
    /// Last name, may be empty.
    #[cfg_attr(feature = "openapi", schema(schema_with = schema::line))]
    pub last_name: String,
    /// Names of the roles, sorted.
    #[cfg_attr(feature = "openapi", schema(schema_with = schema::lines))]
    pub roles: Vec<String>,
    /// Milliseconds since 1970.
    #[cfg_attr(feature = "openapi", schema(schema_with = schema::instant))]
    pub created_at: i64,
    /// Milliseconds since 1970, by the clock of the auth service.
    #[cfg_attr(feature = "openapi", schema(schema_with = schema::instant))]
    pub updated_at: i64,
    /// Grows with each change of the account. Of two copies the one with the greater version is
    /// newer; an older one never replaces it.
    pub version: i64,
}

impl UserRecord {
    /// Returns whether the user holds a role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }
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

/// Time for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// One exchange and, where that is safe, another ([`WHOLE_TIME`]).
    Little,
    /// The hash of a password ([`HASHING_TIME`]), in one exchange.
    Hashing,
}

/// One service's line to another.
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
    /// A client with pooled connections.
    ///
    /// # Errors
    /// [`ClientError::Invalid`], which says what is wrong with which setting.
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        let audience = settings.audience.clone();
        let breaker = BreakerPolicy { rest: REST, ..BreakerPolicy::default() };
        let policy = CallPolicy { breaker, ..CallPolicy::default() };
        Ok(Self { service: ServiceClient::with_policy(settings, policy)?, audience })
    }

    /// Creates a profile, or makes an existing one equal, unless that is newer.
    ///
    /// # Errors
    /// [`CallError`]; `Refused(409)` when the profile was deleted.
    pub async fn put_profile(&self, profile: &UserRecord) -> Result<(), CallError> {
        let request = ApiRequest::new(Method::POST, USERS).with_json(profile).with_repeat(Repeat::Always);
        self.call(request, Takes::Little).await.map(drop)
    }

    /// Deletes a profile. False when there was none.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn delete_profile(&self, id: Uuid) -> Result<bool, CallError> {
        let request = of(Method::DELETE, USER, id).with_repeat(Repeat::Always);
        was_there(self.call(request, Takes::Little).await)
    }

    /// Makes an active account with its profile.
    ///
    /// # Errors
    /// [`CallError`]; `Refused(409)` when the e-mail address is taken, `Refused(403)` when
    /// whom it is for may not, `Refused(422)` when there is no such role.
    pub async fn make_account(&self, acting: Option<ActingUser>, new: &NewAccount) -> Result<UserRecord, CallError> {
        let request = on_behalf_of(ApiRequest::new(Method::POST, ACCOUNTS).with_json(new), acting);
        parse(&self.call(request, Takes::Hashing).await?)
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
        acting: Option<ActingUser>,
        change: &AccountChange,
        if_match: Option<&str>,
    ) -> Result<UserRecord, CallError> {
        let request = on_behalf_of(of(Method::PATCH, ACCOUNT, id).with_json(change), acting);
        // A password is hashed, and counts when it is wrong.
        let takes = if change.current_password.is_some() { Takes::Hashing } else { Takes::Little };
        let is_repeatable = if_match.is_none() && takes == Takes::Little;
        let request = request.with_condition(if_match).with_repeat(repeat(is_repeatable));
        parse(&self.call(request, takes).await?)
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
        acting: Option<ActingUser>,
        current_password: Option<&Secret>,
        if_match: Option<&str>,
    ) -> Result<bool, CallError> {
        let mut request = on_behalf_of(of(Method::DELETE, ACCOUNT, id), acting).with_condition(if_match);
        if let Some(current_password) = current_password {
            request = request.with_json(&Confirmation { current_password });
        }
        let takes = if current_password.is_some() { Takes::Hashing } else { Takes::Little };
        // A second one finds no account, and whoever asks goes on with the profile.
        let request = request.with_repeat(repeat(takes == Takes::Little));
        was_there(self.call(request, takes).await)
    }

    /// Makes a call within its time, the fetch of a token included.
    async fn call(&self, request: ApiRequest, takes: Takes) -> Result<ApiAnswer, CallError> {
        let (request, whole) = match takes {
            Takes::Little => (request, WHOLE_TIME),
            Takes::Hashing => (request.with_timeout(HASHING_TIME), HASHING_TIME),
        };
        let answer = tokio::time::timeout(whole, self.service.send(request)).await;
        answer.unwrap_or(Err(ClientError::Timeout)).map_err(|error| CallError::from(&error))
    }
}

/// The routes of the user service, and those of the auth service.
const USERS: &str = "/api/v1/internal/users";
const USER: &str = "/api/v1/internal/users/{id}";
const ACCOUNTS: &str = "/api/v1/internal/accounts";
const ACCOUNT: &str = "/api/v1/internal/accounts/{id}";

fn of(method: Method, template: &'static str, id: Uuid) -> ApiRequest {
    ApiRequest::new(method, template).with_segment(&id.to_string())
}

const fn repeat(is_repeatable: bool) -> Repeat {
    if is_repeatable { Repeat::Always } else { Repeat::IfUnsent }
}

fn on_behalf_of(request: ApiRequest, acting: Option<ActingUser>) -> ApiRequest {
    let Some(acting) = acting else { return request };
    let request = request.with_header(ACTING_USER, &acting.user.to_string());
    match acting.session {
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

/// A deletion's outcome: whether there was something.
fn was_there(outcome: Result<ApiAnswer, CallError>) -> Result<bool, CallError> {
    match outcome {
        Ok(_) => Ok(true),
        Err(CallError::Refused(404)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Schemas of the fields of [`UserRecord`], as the user service checks them.
#[cfg(feature = "openapi")]
mod schema {
    use utoipa::openapi::{
        Type,
        schema::{Array, ArrayBuilder, KnownFormat, Object, ObjectBuilder, SchemaFormat},
    };

    /// One line of text.
    pub(super) fn line() -> Object {
        let pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$";
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).build()
    }

    pub(super) fn lines() -> Array {
        ArrayBuilder::new().items(line()).build()
    }

    /// Milliseconds since 1970, up to the year 9999.
    pub(super) fn instant() -> Object {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(0))
            .maximum(Some(253_402_300_799_999_i64))
            .build()
    }
}
