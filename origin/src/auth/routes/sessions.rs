//! Sessions: login, refresh, logout, and the list of the caller's sessions.

use std::time::Duration;

use axum::{Json as Answer, extract::State, http::StatusCode};
use portcullis_client::secret::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::{
        Auth,
        access::{REVOKED, live_account},
        audit_log::AuditContext,
        hash_queue::Priority,
        password_check::{INVALID_CREDENTIALS, PasswordCheck},
        passwords::is_outdated,
        proofs::{INVALID_PROOF, ProvenKey},
        refresh_tokens::{self, Presented},
        tokens,
    },
    clock::rfc3339,
    fields::{
        Check, normal_email,
        schemas::{Password, RefreshToken},
    },
    http::{self, ApiError, Id, Json, OptionalJson, openapi::refuses},
    limits,
    store::{
        self, UserRecord,
        refresh_tokens::{RefreshOutcome, Successor},
        sessions::{self as stored, NewSession, StartOutcome},
    },
    user::User,
};

const CLOCK_BEHIND: ApiError = ApiError::unavailable(
    "clock_behind",
    "The account's tokens are revoked up to a time that the service's clock has not reached",
);

/// A login.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Login {
    #[schema(required = true, nullable = false, example = "ada@example.com")]
    email: Option<String>,
    #[schema(required = true, nullable = false, value_type = Password)]
    password: Option<Secret>,
}

/// The tokens of a session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tokens {
    /// For the `Authorization` header, after `token_type`.
    #[schema(example = "eyJhbGciOiJSUzI1NiIs...")]
    access_token: String,
    /// For the next refresh, once. Opaque, not a JWT.
    #[schema(example = "VGhpcyBpcyBhbiBleGFtcGxlIG9mIGEgdG9rZW4uLi4")]
    refresh_token: String,
    /// `Bearer`, or `DPoP` if the client has sent a proof with the login (RFC 9449).
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Lifetime of the access token in seconds.
    #[schema(example = 900)]
    expires_in: i64,
    user: User,
}

impl Tokens {
    /// Answers with tokens once the second has begun that their `iat` names. After a revocation that
    /// is the next second: sent at once, the token would be `token_not_yet_valid` at a gateway whose
    /// clock is behind by all of its leeway. Waits [`limits::ISSUE_WAIT`] at most.
    async fn new(
        auth: &Auth,
        account: UserRecord,
        session: Uuid,
        issued_at: i64,
        refresh_token: &Secret,
        proof_key: Option<String>,
    ) -> Result<Answer<Self>, ApiError> {
        let ahead_ms = issued_at.saturating_mul(1000).saturating_sub(auth.clock.now()).max(0).unsigned_abs();
        if ahead_ms > 0 {
            tokio::time::sleep(Duration::from_millis(ahead_ms).min(limits::ISSUE_WAIT)).await;
        }
        Ok(Answer(Self {
            token_type: if proof_key.is_some() { "DPoP" } else { "Bearer" },
            access_token: tokens::access(auth, &account, session, issued_at, proof_key)?,
            refresh_token: refresh_token.expose().to_owned(),
            expires_in: limits::ACCESS_TOKEN_MS / 1000,
            user: account.into(),
        }))
    }
}

/// Logs in.
///
/// The answer and its time are the same for a wrong password, an unknown address and text that is
/// not an address. After five wrong passwords in a row the next attempt has to wait (429).
#[utoipa::path(
    post,
    path = "/api/v1/auth/login",
    request_body = Login,
    responses((status = 200, description = "A new session.", body = Tokens), refuses::Body, refuses::Credentials)
)]
pub(super) async fn login(
    State(auth): State<Auth>,
    client: http::Client,
    audit: AuditContext,
    ProvenKey(proven): ProvenKey,
    Json(body): Json<Login>,
) -> Result<Answer<Tokens>, ApiError> {
    let proof_key = proven.map(|(thumbprint, _)| thumbprint);
    let mut check = Check::default();
    check.required("email", body.email.is_some());
    check.required("password", body.password.is_some());
    check.done()?;
    let (text, password) = (body.email.unwrap_or_default(), body.password.unwrap_or_default());
    let email = normal_email(&text);
    // Twice at most: another login may replace the hash of the same password in between.
    for _ in 0..2 {
        let found = auth.accounts.find_login(email.as_deref().unwrap_or_default()).await?;
        if let Some((account, _)) = &found {
            // Also for a failed login: the log names the account that was attacked.
            audit.set_user(account.id);
        }
        let check = PasswordCheck {
            email: email.as_deref().unwrap_or(&text),
            account: found.as_ref().map(|(account, hash)| (account.id, hash.as_str())),
            address: client.address,
            has_session: false,
        };
        check.require(&auth, &password).await?;
        let (account, hash) = found.ok_or(INVALID_CREDENTIALS)?;
        let (refresh_token, token) = refresh_tokens::fresh()?;
        let new = NewSession {
            id: tokens::fresh_id(&auth)?,
            account: account.id,
            verified: &hash,
            token,
            user_agent: &client.user_agent,
            proof_key: proof_key.as_deref(),
        };
        match auth.sessions.start(&new, auth.session_limits, &auth.clock).await? {
            StartOutcome::Started(begun) => {
                audit.set_entity(new.id);
                if begun.ended > 0 {
                    auth.revocation_push.wake();
                }
                replace_outdated_hash(&auth, account.id, &hash, &password);
                return Tokens::new(&auth, begun.account, new.id, begun.issued_at, &refresh_token, proof_key).await;
            }
            StartOutcome::ClockBehind => return Err(CLOCK_BEHIND),
            StartOutcome::AccountChanged => {}
        }
    }
    Err(INVALID_CREDENTIALS)
}

/// Hashes a password again if its hash has outdated parameters. The login does not wait for it, because
/// its session is committed: an answer after the request's time would lose the tokens. After a failure the
/// next login tries again. The queue of hashes bounds these tasks.
fn replace_outdated_hash(auth: &Auth, account: Uuid, outdated: &str, password: &Secret) {
    if !is_outdated(outdated) {
        return;
    }
    let (passwords, accounts) = (auth.passwords.clone(), auth.accounts.clone());
    let (outdated, password) = (outdated.to_owned(), password.clone());
    tokio::spawn(async move {
        let Ok(hash) = passwords.hash(&password, Priority::Unknown).await else { return };
        match store::with_timeout(accounts.renew_hash(account, &outdated, &hash)).await {
            Ok(true) => tracing::info!(user_id = %account, "a password was hashed again with today's parameters"),
            // Another login replaced it, or the password was changed.
            Ok(false) => {}
            Err(error) => store::log_error(&error),
        }
    });
}

/// A refresh.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Refresh {
    #[schema(required = true, nullable = false, value_type = RefreshToken)]
    refresh_token: Option<Secret>,
}

/// Renews the tokens of a session.
///
/// A refresh token is valid once. Within ten seconds (configurable) of its use the same token
/// returns the same new refresh token, for clients that lost the answer. Any later use ends the
/// session, because the token was stolen.
#[utoipa::path(
    post,
    path = "/api/v1/auth/refresh",
    request_body = Refresh,
    responses(
        (status = 200, description = "The session's new tokens.", body = Tokens),
        refuses::Body, refuses::Credentials
    )
)]
pub(super) async fn refresh(
    State(auth): State<Auth>,
    audit: AuditContext,
    ProvenKey(proven): ProvenKey,
    Json(body): Json<Refresh>,
) -> Result<Answer<Tokens>, ApiError> {
    let mut check = Check::default();
    check.required("refresh_token", body.refresh_token.is_some());
    check.done()?;
    let presented =
        body.refresh_token.and_then(|text| Presented::parse(text.expose())).ok_or(ApiError::invalid_token())?;
    let (successor, hash) = refresh_tokens::fresh()?;
    let sealed = presented.seal(&successor)?;
    let next = Successor { hash, sealed: &sealed };
    let (proven, proved_at) = proven.unzip();
    let shown = (presented.hash(), proven.as_deref().zip(proved_at));
    // Of a session that is not bound, the access token is bound all the same if the client wants it.
    match auth.sessions.refresh(shown, &next, auth.session_limits, &auth.clock).await? {
        RefreshOutcome::Rotated { account, session, issued_at, proof_key } => {
            audit.set_user(account.id);
            audit.set_entity(session);
            Tokens::new(&auth, account, session, issued_at, &successor, proof_key.or(proven)).await
        }
        RefreshOutcome::Repeated { account, session, issued_at, proof_key, sealed } => {
            audit.set_user(account.id);
            audit.set_entity(session);
            let refresh_token = presented.open(&sealed)?;
            Tokens::new(&auth, account, session, issued_at, &refresh_token, proof_key.or(proven)).await
        }
        RefreshOutcome::Reused { account, session } => {
            audit.set_user(account);
            audit.set_entity(session);
            auth.revocation_push.wake();
            tracing::warn!("a spent refresh token was used again; its session is revoked");
            Err(REVOKED)
        }
        RefreshOutcome::ClockBehind => Err(CLOCK_BEHIND),
        RefreshOutcome::WrongKey | RefreshOutcome::OldProof => Err(INVALID_PROOF),
        RefreshOutcome::Rejected => Err(ApiError::invalid_token()),
    }
}

/// A confirmation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    #[schema(example = "Logged out")]
    pub(super) message: &'static str,
}

/// A logout.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct Logout {
    #[schema(value_type = Option<RefreshToken>)]
    refresh_token: Option<Secret>,
}

/// Logs out.
///
/// The session of the access token ends, and that of the refresh token if one is sent. The body is
/// optional.
#[utoipa::path(
    post,
    path = "/api/v1/auth/logout",
    request_body = Option<Logout>,
    responses((status = 200, description = "The session is ended.", body = Done), refuses::Body)
)]
pub(super) async fn logout(
    State(auth): State<Auth>,
    user: http::AuthenticatedUser,
    OptionalJson(body): OptionalJson<Logout>,
) -> Result<Answer<Done>, ApiError> {
    // Logging out twice succeeds; but an ended session cannot end another one.
    let was_live = match user.session_id {
        Some(session) => auth.sessions.revoke(session, user.id, &auth.clock).await?,
        None => false,
    };
    if let Some(presented) = body.refresh_token.filter(|_| was_live).and_then(|text| Presented::parse(text.expose()))
        && let Some((session, account)) = auth.sessions.find_by_token(presented.hash(), auth.clock.now()).await?
        && account == user.id
    {
        auth.sessions.revoke(session, account, &auth.clock).await?;
    }
    auth.revocation_push.wake();
    Ok(Answer(Done { message: "Logged out" }))
}

/// A session of the caller.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    id: Uuid,
    #[schema(format = DateTime, example = "2026-01-02T03:04:05Z")]
    created_at: String,
    #[schema(format = DateTime, example = "2026-01-02T03:04:05Z")]
    last_used_at: String,
    #[schema(format = DateTime, example = "2026-01-09T03:04:05Z")]
    expires_at: String,
    /// `User-Agent` of the program that logged in.
    #[schema(example = "Mozilla/5.0")]
    user_agent: String,
    /// Whether the request belongs to this session.
    current: bool,
}

impl Session {
    fn new(session: stored::SessionSummary, current: Option<Uuid>) -> Self {
        Self {
            id: session.id,
            created_at: rfc3339(session.created_at),
            last_used_at: rfc3339(session.last_used_at),
            expires_at: rfc3339(session.expires_at),
            user_agent: session.user_agent,
            current: Some(session.id) == current,
        }
    }
}

/// The caller's sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sessions {
    sessions: Vec<Session>,
}

/// Lists the caller's sessions, the newest first.
#[utoipa::path(
    get,
    path = "/api/v1/auth/sessions",
    responses((status = 200, description = "The live sessions.", body = Sessions))
)]
pub(super) async fn list_sessions(
    State(auth): State<Auth>,
    user: http::AuthenticatedUser,
) -> Result<Answer<Sessions>, ApiError> {
    let account = live_account(&auth, &user).await?;
    let sessions = auth.sessions.list(account.id, auth.clock.now()).await?;
    let sessions = sessions.into_iter().map(|session| Session::new(session, user.session_id)).collect();
    Ok(Answer(Sessions { sessions }))
}

/// Ends one of the caller's sessions.
///
/// The session of another account is not found.
#[utoipa::path(
    delete,
    path = "/api/v1/auth/sessions/{id}",
    params(("id" = Uuid, Path, description = "The session.")),
    responses((status = 204, description = "The session is ended."), refuses::Missing)
)]
pub(super) async fn end_session(
    State(auth): State<Auth>,
    user: http::AuthenticatedUser,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    let account = live_account(&auth, &user).await?;
    if !auth.sessions.revoke(id, account.id, &auth.clock).await? {
        return Err(ApiError::not_found());
    }
    auth.revocation_push.wake();
    Ok(StatusCode::NO_CONTENT)
}
