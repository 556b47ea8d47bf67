//! Logging in, refreshing, logging out, and asking who one is.

use std::time::Duration;

use axum::{
    Json as Answer,
    extract::{FromRequestParts, State},
    http::{HeaderMap, request::Parts},
};
use portcullis_client::secret::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Auth, ROLE_ADMIN,
    account::User,
    attempt::{self, Attempt, INVALID_CREDENTIALS},
    audit::Notes,
    password::is_outdated,
    refresh_token::{self, Shown},
    token::{self, ACCESS_TYPE, AccessClaims},
    turns::Priority,
};
use crate::{
    clock::rfc3339,
    fields::{
        Check,
        described::{Password, RefreshToken},
        normal_email,
    },
    http::{self, ApiError, Json, OptionalJson, openapi::refuses},
    limits, signing,
    store::{
        self,
        accounts::Account,
        refresh_tokens::{RefreshOutcome, Successor},
        sessions::{NewSession, StartOutcome},
    },
};

pub(super) const REVOKED: ApiError = ApiError::token_revoked();

/// Who logs in.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Login {
    #[schema(required = true, nullable = false, example = "ada@example.com")]
    email: Option<String>,
    #[schema(required = true, nullable = false, value_type = Password)]
    password: Option<Secret>,
}

/// What a session is used with.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tokens {
    /// For the `Authorization` header.
    #[schema(example = "eyJhbGciOiJSUzI1NiIs...")]
    access_token: String,
    /// For the next refresh, once. It is no JWT.
    #[schema(example = "VGhpcyBpcyBhbiBleGFtcGxlIG9mIGEgdG9rZW4uLi4")]
    refresh_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds for which the access token is good.
    #[schema(example = 900)]
    expires_in: i64,
    user: User,
}

/// Logs in.
///
/// The answer and the time are the same for a wrong password, an unknown address and text
/// that is no address. After five wrong passwords in a row the next try has to wait (429).
#[utoipa::path(
    post,
    path = "/api/v1/auth/login",
    operation_id = "login",
    tag = "Sessions",
    request_body = Login,
    responses(
        (status = 200, description = "A new session.", body = Tokens),
        refuses::Always, refuses::Body, refuses::Credentials
    )
)]
pub(super) async fn login(
    State(auth): State<Auth>,
    client: http::Client,
    notes: Notes,
    Json(body): Json<Login>,
) -> Result<Answer<Tokens>, ApiError> {
    let mut check = Check::default();
    check.required("email", body.email.is_some());
    check.required("password", body.password.is_some());
    check.done()?;
    let (text, password) = (body.email.unwrap_or_default(), body.password.unwrap_or_default());
    let email = normal_email(&text);
    // Twice if need be: another login may have renewed the hash of the same password.
    for _ in 0..2 {
        let found = auth.accounts.find_login(email.as_deref().unwrap_or_default()).await?;
        if let Some((account, _)) = &found {
            // Of a failed login, too: who is being guessed at.
            notes.by(account.id);
        }
        let attempt = Attempt {
            email: email.as_deref().unwrap_or(&text),
            account: found.as_ref().map(|(account, verified)| (account.id, verified.as_str())),
            address: client.address,
            has_session: false,
        };
        attempt::verify(&auth, &attempt, &password).await?;
        let (account, verified) = found.ok_or(INVALID_CREDENTIALS)?;
        let (refresh, token) = refresh_token::fresh()?;
        let new = NewSession {
            id: token::fresh_id(&auth)?,
            account: account.id,
            verified: &verified,
            token,
            user_agent: &client.user_agent,
        };
        match auth.sessions.start(&new, auth.session_limits, &auth.clock).await? {
            StartOutcome::Started(begun) => {
                notes.about(new.id);
                if begun.ended > 0 {
                    auth.pusher.wake();
                }
                renew(&auth, account.id, &verified, &password).await;
                return tokens(&auth, &begun.account, new.id, begun.issued_at, &refresh).await;
            }
            StartOutcome::ClockBehind => return Err(CLOCK_BEHIND),
            StartOutcome::AccountChanged => {}
        }
    }
    Err(INVALID_CREDENTIALS)
}

/// Hashes a password anew if its hash was made at figures of former times. Nobody's login
/// fails by this; the next one tries again.
async fn renew(auth: &Auth, account: Uuid, verified: &str, password: &Secret) {
    if !is_outdated(verified) {
        return;
    }
    let Ok(hash) = auth.passwords.hash(password, Priority::Known).await else { return };
    match auth.accounts.renew_hash(account, verified, &hash).await {
        Ok(true) => tracing::info!(user_id = %account, "a password was hashed anew at today's figures"),
        // Somebody else did, or changed the password.
        Ok(false) => {}
        Err(error) => store::log_error(&error),
    }
}

/// The token that is spent.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Refresh {
    #[schema(required = true, nullable = false, value_type = RefreshToken)]
    refresh_token: Option<Secret>,
}

/// Renews the tokens of a session.
///
/// A refresh token is good once. One that is shown again within ten seconds (as configured)
/// is answered with the same new refresh token, for clients that lost the answer. Any later
/// use ends the session: somebody else has the token.
#[utoipa::path(
    post,
    path = "/api/v1/auth/refresh",
    operation_id = "refresh",
    tag = "Sessions",
    request_body = Refresh,
    responses(
        (status = 200, description = "The session's new tokens.", body = Tokens),
        refuses::Always, refuses::Body, refuses::Credentials
    )
)]
pub(super) async fn refresh(
    State(auth): State<Auth>,
    notes: Notes,
    Json(body): Json<Refresh>,
) -> Result<Answer<Tokens>, ApiError> {
    let mut check = Check::default();
    check.required("refresh_token", body.refresh_token.is_some());
    check.done()?;
    let shown = body.refresh_token.and_then(|text| Shown::parse(text.expose())).ok_or(ApiError::invalid_token())?;
    let (successor, hash) = refresh_token::fresh()?;
    let sealed = shown.seal(&successor)?;
    let next = Successor { hash, sealed: &sealed };
    match auth.sessions.refresh(shown.hash(), &next, auth.session_limits, &auth.clock).await? {
        RefreshOutcome::Rotated { account, session, issued_at } => {
            notes.by(account.id);
            notes.about(session);
            tokens(&auth, &account, session, issued_at, &successor).await
        }
        RefreshOutcome::Repeated { account, session, issued_at, sealed } => {
            notes.by(account.id);
            notes.about(session);
            tokens(&auth, &account, session, issued_at, &shown.open(&sealed)?).await
        }
        RefreshOutcome::Reused { account, session } => {
            notes.by(account);
            notes.about(session);
            auth.pusher.wake();
            tracing::warn!("a spent refresh token was shown again; its session is revoked");
            Err(REVOKED)
        }
        RefreshOutcome::ClockBehind => Err(CLOCK_BEHIND),
        RefreshOutcome::Rejected => Err(ApiError::invalid_token()),
    }
}

const CLOCK_BEHIND: ApiError = ApiError::unavailable(
    "clock_behind",
    "The account's tokens are revoked up to a time that the service's clock has not reached",
);

/// Answers with tokens once the second has begun that their `iat` names. After a revocation that is
/// the next second: sent at once, the token would be `token_not_yet_valid` at a gateway whose clock
/// is behind by all of its leeway. Waits [`limits::ISSUE_WAIT`] at most.
async fn tokens(
    auth: &Auth,
    account: &Account,
    session: Uuid,
    issued_at: i64,
    refresh: &Secret,
) -> Result<Answer<Tokens>, ApiError> {
    let ahead_ms = issued_at.saturating_mul(1000).saturating_sub(auth.clock.now()).max(0).unsigned_abs();
    if ahead_ms > 0 {
        tokio::time::sleep(Duration::from_millis(ahead_ms).min(limits::ISSUE_WAIT)).await;
    }
    Ok(Answer(Tokens {
        access_token: token::access(auth, account, session, issued_at)?,
        refresh_token: refresh.expose().to_owned(),
        token_type: "Bearer",
        expires_in: limits::ACCESS_TOKEN_MS / 1000,
        user: User::from(account),
    }))
}

/// What is done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    #[schema(example = "Logged out")]
    pub(super) message: &'static str,
}

/// What else is to end.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct Logout {
    #[schema(value_type = Option<RefreshToken>)]
    refresh_token: Option<Secret>,
}

/// Logs out.
///
/// The session of the access token ends, and that of the refresh token if one is sent. A
/// body is not needed.
#[utoipa::path(
    post,
    path = "/api/v1/auth/logout",
    operation_id = "logout",
    tag = "Sessions",
    security(("accessToken" = [])),
    request_body = Option<Logout>,
    responses(
        (status = 200, description = "The session is over.", body = Done),
        refuses::Always, refuses::Body, refuses::Credentials
    )
)]
pub(super) async fn logout(
    State(auth): State<Auth>,
    user: http::User,
    OptionalJson(body): OptionalJson<Logout>,
) -> Result<Answer<Done>, ApiError> {
    // To log out twice is no fault; but a session that has ended ends no other.
    let was_live = match user.session_id {
        Some(session) => auth.sessions.revoke(session, user.id, &auth.clock).await?,
        None => false,
    };
    if let Some(shown) = body.refresh_token.filter(|_| was_live).and_then(|text| Shown::parse(text.expose())) {
        auth.sessions.revoke_by_token(shown.hash(), user.id, &auth.clock).await?;
    }
    auth.pusher.wake();
    Ok(Answer(Done { message: "Logged out" }))
}

/// The account of a request's user, if its session still lives.
pub(super) async fn live_account(auth: &Auth, user: &http::User) -> Result<Account, ApiError> {
    let session = user.session_id.ok_or(ApiError::invalid_token())?;
    if !auth.sessions.is_live(session, user.id, auth.clock.now()).await? {
        return Err(REVOKED);
    }
    auth.accounts.find(user.id).await?.ok_or(REVOKED)
}

/// The account of a request's user, if its session still lives and it is an
/// administrator's now, whatever the token says.
pub(super) async fn live_admin(auth: &Auth, user: &http::User) -> Result<Account, ApiError> {
    let account = live_account(auth, user).await?;
    if account.has_role(ROLE_ADMIN) { Ok(account) } else { Err(ApiError::forbidden()) }
}

/// [`live_admin`] as a handler's first argument: who is none learns nothing about what else
/// they sent.
#[derive(Debug)]
pub(super) struct Admin(pub(super) Account);

impl FromRequestParts<Auth> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, auth: &Auth) -> Result<Self, ApiError> {
        let user = http::User::from_request_parts(parts, auth).await?;
        live_admin(auth, &user).await.map(Self)
    }
}

/// Somebody.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Me {
    user: User,
}

/// Who one is.
#[utoipa::path(
    get,
    path = "/api/v1/auth/me",
    operation_id = "me",
    tag = "Accounts",
    security(("accessToken" = [])),
    responses(
        (status = 200, description = "As the account is now.", body = Me),
        refuses::Always, refuses::Credentials
    )
)]
pub(super) async fn me(State(auth): State<Auth>, user: http::User) -> Result<Answer<Me>, ApiError> {
    let account = live_account(&auth, &user).await?;
    Ok(Answer(Me { user: User::from(&account) }))
}

/// A token that is good.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Valid {
    #[schema(example = true)]
    valid: bool,
    user: User,
    #[schema(format = DateTime, example = "2026-01-02T03:19:05Z")]
    expires_at: String,
}

/// Asks whether the access token is good.
///
/// Its signature, times and session are checked, and whether the account is still there.
#[utoipa::path(
    get,
    path = "/api/v1/auth/validate-token",
    operation_id = "validateToken",
    tag = "Sessions",
    security(("accessToken" = [])),
    responses(
        (status = 200, description = "It is.", body = Valid),
        refuses::Always, refuses::Credentials
    )
)]
pub(super) async fn validate(
    State(auth): State<Auth>,
    user: http::User,
    headers: HeaderMap,
) -> Result<Answer<Valid>, ApiError> {
    valid(&auth, &user, &headers).await
}

/// The same, for clients that post.
#[utoipa::path(
    post,
    path = "/api/v1/auth/validate-token",
    operation_id = "validateTokenByPost",
    tag = "Sessions",
    security(("accessToken" = [])),
    responses(
        (status = 200, description = "It is good.", body = Valid),
        refuses::Always, refuses::Credentials
    )
)]
pub(super) async fn validate_by_post(
    State(auth): State<Auth>,
    user: http::User,
    headers: HeaderMap,
) -> Result<Answer<Valid>, ApiError> {
    valid(&auth, &user, &headers).await
}

async fn valid(auth: &Auth, user: &http::User, headers: &HeaderMap) -> Result<Answer<Valid>, ApiError> {
    let account = live_account(auth, user).await?;
    let text = http::credentials(headers, "bearer").ok_or(ApiError::credentials_missing())?;
    let claims: AccessClaims = signing::verify(&auth.keyring.public(), ACCESS_TYPE, text, auth.clock.now())
        .map_err(|_| ApiError::invalid_token())?;
    // The token must be the one that the gateway vouched for.
    if claims.sub != user.id || Some(claims.sid) != user.session_id {
        return Err(ApiError::invalid_token());
    }
    let expires_at = rfc3339(claims.exp.saturating_mul(1000));
    Ok(Answer(Valid { valid: true, user: User::from(&account), expires_at }))
}
