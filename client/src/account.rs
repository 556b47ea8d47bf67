//! Accounts and sessions of the API, and [`AuthClient`]: registering, logging in, validating tokens
//! and managing one's own sessions.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    error::ClientError,
    profile::ProfileFields,
    request::{ApiAnswer, ApiRequest, Method},
    secret::{Secret, body_with_secret},
};

/// A user as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The account's id.
    pub id: Uuid,
    /// Normalised e-mail address.
    pub email: String,
    /// Whether the user has proved to receive mail at this address. Grant nothing by an unverified
    /// address.
    #[serde(default)]
    pub email_verified: bool,
    /// Profile fields.
    #[serde(flatten)]
    pub profile: ProfileFields,
    /// Names of the user's roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// When the account was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When the account was last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A registration. It holds the idempotency key by which the service recognises a repeated call:
/// after a time-out send the same value again, not a new one. Its serialized form does not contain the
/// password.
#[derive(Debug, Clone, Serialize)]
pub struct Registration {
    /// E-mail address.
    pub email: String,
    /// 8 to 128 characters.
    #[serde(skip)]
    pub password: Secret,
    /// Profile fields.
    #[serde(flatten)]
    pub profile: ProfileFields,
    #[serde(skip)]
    idempotency_key: Uuid,
}

impl Registration {
    /// Returns a registration with an empty profile and a new idempotency key.
    pub fn new(email: &str, password: Secret) -> Self {
        let profile = ProfileFields::default();
        Self { email: email.to_owned(), password, profile, idempotency_key: Uuid::new_v4() }
    }

    /// Sets the profile.
    #[must_use]
    pub fn with_profile(mut self, profile: ProfileFields) -> Self {
        self.profile = profile;
        self
    }

    /// Sets the idempotency key, for example one that was kept in a file.
    #[must_use]
    pub const fn with_idempotency_key(mut self, key: Uuid) -> Self {
        self.idempotency_key = key;
        self
    }
}

/// Credentials for a login.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: Secret,
}

impl Credentials {
    /// Returns credentials of an address and its password.
    pub fn new(email: &str, password: Secret) -> Self {
        Self { email: email.to_owned(), password }
    }
}

/// The tokens of a login or a refresh.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TokenSet {
    /// Sent with each request.
    pub access_token: Secret,
    /// Sent once, for the next pair.
    pub refresh_token: Secret,
    /// Lifetime of the access token in seconds.
    pub expires_in: u64,
    /// The user of the tokens.
    pub user: User,
}

/// A validated access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// The user, with the roles at the time of the validation. To decide what a user may do now, ask
    /// for permissions, which are never cached.
    pub user: User,
    /// When the token expires.
    pub expires_at: OffsetDateTime,
}

/// A session: a login and all tokens that follow from it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Session {
    /// Id, for [`AuthClient::end_session`].
    pub id: Uuid,
    /// When the user logged in.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub created_at: Option<OffsetDateTime>,
    /// When the session was last refreshed.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    /// When the session ends unless it is refreshed.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// User agent of the program that logged in.
    #[serde(default)]
    pub user_agent: Option<String>,
    /// Whether the request's token belongs to this session.
    #[serde(default)]
    pub current: bool,
}

/// A change of the password.
#[derive(Debug, Clone)]
pub struct PasswordChange {
    /// The current password.
    pub current_password: Secret,
    /// The new password, 8 to 128 characters.
    pub new_password: Secret,
}

#[derive(Deserialize)]
struct ValidationAnswer {
    valid: bool,
    user: User,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// Calls of the auth service. The trait can be used as `dyn AuthClient`.
///
/// [`AuthClient::exchange`] is the only required method. A fake for tests implements it, as
/// `MockAuthClient` does (feature `mock`), or overrides single calls.
///
/// # Errors
/// Every call fails with [`ClientError`] alone.
#[async_trait]
pub trait AuthClient: fmt::Debug + Send + Sync {
    /// Calls any route of the gateway, and retries if that is safe.
    async fn exchange(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError>;

    /// Creates an account. 409 `email_taken` if there is one.
    async fn register(&self, registration: &Registration) -> Result<User, ClientError> {
        let body = body_with_secret(registration, "password", Some(&registration.password));
        let request = ApiRequest::new(Method::POST, "/api/v1/auth/register")
            .with_json(&body)
            .with_idempotency_key(registration.idempotency_key);
        self.exchange(request).await?.member("user")
    }

    /// Starts a session. 401 `invalid_credentials` for an unknown address and for a wrong password.
    async fn login(&self, credentials: &Credentials) -> Result<TokenSet, ClientError> {
        let body = json!({ "email": credentials.email, "password": credentials.password.expose() });
        self.exchange(ApiRequest::new(Method::POST, "/api/v1/auth/login").with_json(&body)).await?.json()
    }

    /// Exchanges a refresh token for the next pair. The call is retried only if it was not sent: the
    /// service takes a second use for theft and ends the session.
    async fn refresh(&self, refresh_token: &Secret) -> Result<TokenSet, ClientError> {
        let body = json!({ "refresh_token": refresh_token.expose() });
        self.exchange(ApiRequest::new(Method::POST, "/api/v1/auth/refresh").with_json(&body)).await?.json()
    }

    /// Validates an access token and returns its user. 401 if the token is invalid.
    async fn validate(&self, access_token: &Secret) -> Result<Validation, ClientError> {
        let request = ApiRequest::new(Method::GET, "/api/v1/auth/validate-token").with_token(access_token);
        let answer = self.exchange(request).await?;
        let ValidationAnswer { valid, user, expires_at } = answer.json()?;
        if !valid {
            return Err(ClientError::Malformed {
                status: answer.status(),
                reason: "a success that says the token is invalid",
            });
        }
        Ok(Validation { user, expires_at })
    }

    /// Ends the sessions of the access token and of the refresh token.
    async fn logout(&self, access_token: &Secret, refresh_token: Option<&Secret>) -> Result<(), ClientError> {
        let mut request = ApiRequest::new(Method::POST, "/api/v1/auth/logout").with_token(access_token);
        if let Some(refresh_token) = refresh_token {
            request = request.with_json(&json!({ "refresh_token": refresh_token.expose() }));
        }
        self.exchange(request).await.map(|_| ())
    }

    /// Returns the token's user as the service knows it now.
    async fn me(&self, access_token: &Secret) -> Result<User, ClientError> {
        let request = ApiRequest::new(Method::GET, "/api/v1/auth/me").with_token(access_token);
        self.exchange(request).await?.member("user")
    }

    /// Returns a user's profile: the token's own, or any for an administrator.
    async fn user(&self, access_token: &Secret, id: Uuid) -> Result<User, ClientError> {
        let request =
            ApiRequest::new(Method::GET, "/api/v1/users/{id}").with_segment(&id.to_string()).with_token(access_token);
        self.exchange(request).await?.member("data")
    }

    /// Changes the password, which ends the user's other sessions. 401 `invalid_credentials` if the
    /// current one is wrong.
    async fn change_password(&self, access_token: &Secret, change: &PasswordChange) -> Result<(), ClientError> {
        let body = json!({
            "current_password": change.current_password.expose(),
            "new_password": change.new_password.expose(),
        });
        let request = ApiRequest::new(Method::POST, "/api/v1/auth/password").with_json(&body).with_token(access_token);
        self.exchange(request).await.map(|_| ())
    }

    /// Lists the user's sessions.
    async fn sessions(&self, access_token: &Secret) -> Result<Vec<Session>, ClientError> {
        let request = ApiRequest::new(Method::GET, "/api/v1/auth/sessions").with_token(access_token);
        self.exchange(request).await?.member("sessions")
    }

    /// Ends one of the user's sessions.
    async fn end_session(&self, access_token: &Secret, id: Uuid) -> Result<(), ClientError> {
        let request = ApiRequest::new(Method::DELETE, "/api/v1/auth/sessions/{id}")
            .with_segment(&id.to_string())
            .with_token(access_token);
        self.exchange(request).await.map(|_| ())
    }
}
