//! Logging in, refreshing, logging out, and asking who one is.

use axum::{
    Json as Answer,
    extract::{FromRequestParts, State},
    http::{HeaderMap, request::Parts},
};
use portcullis_client::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Auth, ROLE_ADMIN,
    account::User,
    attempt::{self, Attempt, INVALID_CREDENTIALS},
    audit::Notes,
    password::is_outdated,
    token::{self, ACCESS_TYPE, AccessClaims},
};
use crate::{
    clock::rfc3339,
    fields::{Check, normal_email},
    http::{self, ApiError, Json, OptionalJson},
    limits, signing,
    store::{
        accounts::Account,
        sessions::{NewSession, Spending},
    },
};

pub(super) const REVOKED: ApiError = ApiError::unauthorized("token_revoked", "Token has been revoked");

#[derive(Debug, Deserialize)]
pub(super) struct Login {
    email: Option<String>,
    password: Option<Secret>,
}

/// POST /api/v1/auth/login. The answer and the work are the same for a wrong
/// password, an unknown address and text that is no address.
pub(super) async fn login(
    State(auth): State<Auth>,
    client: http::Client,
    notes: Notes,
    Json(body): Json<Login>,
) -> Result<Answer<Value>, ApiError> {
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
        };
        attempt::verify(&auth, &attempt, &password).await?;
        let (account, verified) = found.ok_or(INVALID_CREDENTIALS)?;
        let (refresh, token) = token::refresh()?;
        let new = NewSession {
            id: token::fresh_id(&auth)?,
            account: account.id,
            verified: &verified,
            token,
            user_agent: &client.user_agent,
        };
        if let Some(begun) = auth.sessions.begin(&new, &auth.clock).await? {
            notes.about(new.id);
            if begun.ended > 0 {
                auth.pusher.wake();
            }
            renew(&auth, account.id, &verified, &password).await;
            // The password took its time. A role that was taken away meanwhile ended the tokens of
            // before, and this one is of after: it must not carry it.
            let account = auth.accounts.find(account.id).await?.ok_or(INVALID_CREDENTIALS)?;
            return tokens(&auth, &account, new.id, begun.issued_at, &refresh);
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
    let Ok(hash) = auth.passwords.hash(password).await else { return };
    match auth.accounts.renew_hash(account, verified, &hash).await {
        Ok(true) => tracing::info!(user_id = %account, "a password was hashed anew at today's figures"),
        // Somebody else did, or changed the password.
        Ok(false) => {}
        Err(error) => http::log_store_fault(&error),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Refresh {
    refresh_token: Option<Secret>,
}

/// POST /api/v1/auth/refresh.
pub(super) async fn refresh(
    State(auth): State<Auth>,
    notes: Notes,
    Json(body): Json<Refresh>,
) -> Result<Answer<Value>, ApiError> {
    let mut check = Check::default();
    check.required("refresh_token", body.refresh_token.is_some());
    check.done()?;
    let shown = body.refresh_token.and_then(|text| token::hash(text.expose())).ok_or(ApiError::invalid_token())?;
    let (successor, hash) = token::refresh()?;
    match auth.sessions.spend(shown, hash, &auth.clock).await? {
        Spending::Spent { account, session, issued_at } => {
            notes.by(account);
            notes.about(session);
            let account = auth.accounts.find(account).await?.ok_or(ApiError::invalid_token())?;
            tokens(&auth, &account, session, issued_at, &successor)
        }
        Spending::Reused { account, session } => {
            notes.by(account);
            notes.about(session);
            auth.pusher.wake();
            tracing::warn!("a spent refresh token was shown again; its session is revoked");
            Err(REVOKED)
        }
        Spending::Refused => Err(ApiError::invalid_token()),
    }
}

fn tokens(
    auth: &Auth,
    account: &Account,
    session: Uuid,
    issued_at: i64,
    refresh: &Secret,
) -> Result<Answer<Value>, ApiError> {
    Ok(Answer(json!({
        "access_token": token::access(auth, account, session, issued_at)?,
        "refresh_token": refresh.expose(),
        "token_type": "Bearer",
        "expires_in": limits::ACCESS_TOKEN_MS / 1000,
        "user": User::from(account),
    })))
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Logout {
    refresh_token: Option<Secret>,
}

/// POST /api/v1/auth/logout. The session of the access token ends, and that of
/// the refresh token if one is sent. A body is not needed.
pub(super) async fn logout(
    State(auth): State<Auth>,
    user: http::User,
    OptionalJson(body): OptionalJson<Logout>,
) -> Result<Answer<Value>, ApiError> {
    if let Some(session) = user.session_id {
        auth.sessions.revoke(session, user.id, &auth.clock).await?;
    }
    if let Some(hash) = body.refresh_token.and_then(|text| token::hash(text.expose())) {
        auth.sessions.revoke_by_token(hash, user.id, &auth.clock).await?;
    }
    auth.pusher.wake();
    Ok(Answer(json!({ "message": "Logged out" })))
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

/// GET /api/v1/auth/me.
pub(super) async fn me(State(auth): State<Auth>, user: http::User) -> Result<Answer<Value>, ApiError> {
    let account = live_account(&auth, &user).await?;
    Ok(Answer(json!({ "user": User::from(&account) })))
}

/// GET and POST /api/v1/auth/validate-token.
pub(super) async fn validate(
    State(auth): State<Auth>,
    user: http::User,
    headers: HeaderMap,
) -> Result<Answer<Value>, ApiError> {
    let account = live_account(&auth, &user).await?;
    let text = http::credentials(&headers, "bearer")
        .ok_or(ApiError::unauthorized("credentials_missing", "Authorization header required"))?;
    let claims: AccessClaims = signing::verify(&auth.keyring.public(), ACCESS_TYPE, text, auth.clock.now())
        .map_err(|_| ApiError::invalid_token())?;
    // The token must be the one that the gateway vouched for.
    if claims.sub != user.id || Some(claims.sid) != user.session_id {
        return Err(ApiError::invalid_token());
    }
    let expires_at = rfc3339(claims.exp.saturating_mul(1000));
    Ok(Answer(json!({ "valid": true, "user": User::from(&account), "expires_at": expires_at })))
}
