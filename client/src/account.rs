//! Accounts and sessions as the API speaks of them, and [`AuthClient`], the calls by
//! which one registers, logs in and asks who a token belongs to.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    error::ClientError,
    request::{ApiAnswer, ApiRequest, Method},
    secret::Secret,
};

/// A user, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The account's id.
    pub id: Uuid,
    /// Normalised e-mail address.
    pub email: String,
    /// Whether the service knows that the user receives mail at this address. Grant nothing
    /// by an address of which it does not.
    #[serde(default)]
    pub email_verified: bool,
    /// First name, may be empty.
    #[serde(default)]
    pub first_name: String,
    /// Last name, may be empty.
    #[serde(default)]
    pub last_name: String,
    /// Names of its roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// When the account was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// Who wants an account. Holds the key by which the service knows a second try for the
/// first: send the same value again after a time-out, not a new one.
#[derive(Debug, Clone)]
pub struct Registration {
    /// E-mail address.
    pub email: String,
    /// 8 to 128 characters.
    pub password: Secret,
    /// First name, may be empty.
    pub first_name: String,
    /// Last name, may be empty.
    pub last_name: String,
    idempotency_key: Uuid,
}

impl Registration {
    /// With empty names.
    pub fn new(email: &str, password: Secret) -> Self {
        Self {
            email: email.to_owned(),
            password,
            first_name: String::new(),
            last_name: String::new(),
            idempotency_key: Uuid::new_v4(),
        }
    }

    /// With names.
    #[must_use]
    pub fn with_names(mut self, first_name: &str, last_name: &str) -> Self {
        (self.first_name, self.last_name) = (first_name.to_owned(), last_name.to_owned());
        self
    }

    /// The same person under a key of the caller's, such as one that was kept in a file.
    #[must_use]
    pub const fn with_idempotency_key(mut self, key: Uuid) -> Self {
        self.idempotency_key = key;
        self
    }
}

/// Who logs in.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: Secret,
}

impl Credentials {
    /// An address and its password.
    pub fn new(email: &str, password: Secret) -> Self {
        Self { email: email.to_owned(), password }
    }
}

/// What a login or a refresh gives.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TokenSet {
    /// Shown with each request.
    pub access_token: Secret,
    /// Shown once, for the next pair.
    pub refresh_token: Secret,
    /// Seconds for which the access token is good.
    pub expires_in: u64,
    /// Whose they are.
    pub user: User,
}

/// Whose an access token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// The user. Its roles are those of the moment when the service was asked: to
    /// decide what somebody may do now, ask for permissions, which nothing remembers.
    pub user: User,
    /// When the token ends.
    pub expires_at: OffsetDateTime,
}

/// One of a user's sessions: a login, with all the tokens that follow from it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Session {
    /// Its id, by which it can be ended.
    pub id: Uuid,
    /// When its user logged in.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub created_at: Option<OffsetDateTime>,
    /// When it was refreshed last.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    /// When it ends unless it is refreshed.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// What the program that logged in calls itself.
    #[serde(default)]
    pub user_agent: Option<String>,
    /// Whether it is the session of the token that asked.
    #[serde(default)]
    pub current: bool,
}

/// A new password for whoever knows the old one.
#[derive(Debug, Clone)]
pub struct PasswordChange {
    /// The password so far.
    pub current_password: Secret,
    /// The next one, 8 to 128 characters.
    pub new_password: Secret,
}

#[derive(Deserialize)]
struct InUser {
    user: User,
}

#[derive(Deserialize)]
struct InData {
    data: User,
}

#[derive(Deserialize)]
struct InSessions {
    sessions: Vec<Session>,
}

#[derive(Deserialize)]
struct Validated {
    valid: bool,
    user: User,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// The calls of the auth service that a program needs for itself and its users.
///
/// One method must be written, the others follow from it: a fake for tests overrides
/// [`AuthClient::exchange`] (as `MockAuthClient` does, with the feature `mock`) or the calls that a test is about. It can be used as `dyn AuthClient`.
///
/// # Errors
/// Every call fails with [`ClientError`] alone.
#[async_trait]
pub trait AuthClient: fmt::Debug + Send + Sync {
    /// Makes a call, and again where that is safe. Any route of the gateway will do.
    async fn exchange(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError>;

    /// Makes an account. 409 `email_taken` where there is one.
    async fn register(&self, registration: &Registration) -> Result<User, ClientError> {
        let body = json!({
            "email": registration.email,
            "password": registration.password.expose(),
            "first_name": registration.first_name,
            "last_name": registration.last_name,
        });
        let request = ApiRequest::new(Method::POST, "/api/v1/auth/register")
            .with_json(&body)
            .with_idempotency_key(registration.idempotency_key);
        Ok(self.exchange(request).await?.json::<InUser>()?.user)
    }

    /// Begins a session. 401 `invalid_credentials`, whichever of the two is wrong.
    async fn login(&self, credentials: &Credentials) -> Result<TokenSet, ClientError> {
        let body = json!({ "email": credentials.email, "password": credentials.password.expose() });
        self.exchange(ApiRequest::new(Method::POST, "/api/v1/auth/login").with_json(&body)).await?.json()
    }

    /// Spends a refresh token for the next pair. It is sent again only if no connection
    /// stood: a refresh token shown twice looks stolen and ends its session.
    async fn refresh(&self, refresh_token: &Secret) -> Result<TokenSet, ClientError> {
        let body = json!({ "refresh_token": refresh_token.expose() });
        self.exchange(ApiRequest::new(Method::POST, "/api/v1/auth/refresh").with_json(&body)).await?.json()
    }

    /// Asks whose an access token is. 401 for one that is nobody's.
    async fn validate(&self, access_token: &Secret) -> Result<Validation, ClientError> {
        let request = ApiRequest::new(Method::GET, "/api/v1/auth/validate-token").with_token(access_token);
        let answer = self.exchange(request).await?;
        let Validated { valid, user, expires_at } = answer.json()?;
        if !valid {
            return Err(ClientError::Malformed { status: answer.status(), reason: "a success that says invalid" });
        }
        Ok(Validation { user, expires_at })
    }

    /// Ends the access token's session, and the refresh token's.
    async fn logout(&self, access_token: &Secret, refresh_token: Option<&Secret>) -> Result<(), ClientError> {
        let mut request = ApiRequest::new(Method::POST, "/api/v1/auth/logout").with_token(access_token);
        if let Some(refresh_token) = refresh_token {
            request = request.with_json(&json!({ "refresh_token": refresh_token.expose() }));
        }
        self.exchange(request).await.map(|_| ())
    }

    /// The token's user, as of now.
    async fn me(&self, access_token: &Secret) -> Result<User, ClientError> {
        let request = ApiRequest::new(Method::GET, "/api/v1/auth/me").with_token(access_token);
        Ok(self.exchange(request).await?.json::<InUser>()?.user)
    }

    /// A user's profile: one's own, and an administrator reads anybody's.
    async fn user(&self, access_token: &Secret, id: Uuid) -> Result<User, ClientError> {
        let request =
            ApiRequest::new(Method::GET, "/api/v1/users/{id}").with_segment(&id.to_string()).with_token(access_token);
        Ok(self.exchange(request).await?.json::<InData>()?.data)
    }

    /// Changes the password, which ends the user's other sessions. 401
    /// `invalid_credentials` where the current one is wrong.
    async fn change_password(&self, access_token: &Secret, change: &PasswordChange) -> Result<(), ClientError> {
        let body = json!({
            "current_password": change.current_password.expose(),
            "new_password": change.new_password.expose(),
        });
        let request = ApiRequest::new(Method::POST, "/api/v1/auth/password").with_json(&body).with_token(access_token);
        self.exchange(request).await.map(|_| ())
    }

    /// The user's sessions.
    async fn sessions(&self, access_token: &Secret) -> Result<Vec<Session>, ClientError> {
        let request = ApiRequest::new(Method::GET, "/api/v1/auth/sessions").with_token(access_token);
        Ok(self.exchange(request).await?.json::<InSessions>()?.sessions)
    }

    /// Ends one of the user's sessions.
    async fn end_session(&self, access_token: &Secret, id: Uuid) -> Result<(), ClientError> {
        let request = ApiRequest::new(Method::DELETE, "/api/v1/auth/sessions/{id}")
            .with_segment(&id.to_string())
            .with_token(access_token);
        self.exchange(request).await.map(|_| ())
    }
}
