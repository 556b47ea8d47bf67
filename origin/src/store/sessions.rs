//! Sessions: their start at a login, their list, and their end. `refresh_tokens` continues them.

use sqlx::{AnyConnection, Row as _, any::AnyRow};
use uuid::Uuid;

use super::{
    Database,
    database::Lock,
    outbox::{self, Revoked},
    revocation,
    rows::{self, UserRecord, id},
};
use crate::{clock::Clock, limits};

/// SHA-256 of a refresh token. The token itself is not stored.
pub type TokenHash = [u8; 32];

/// How long sessions last and how often a refresh token may be presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Milliseconds after its use in which a refresh token is answered with the same successor; 0
    /// for never.
    pub reuse_ms: i64,
    /// Milliseconds from the login to the end of the session.
    pub lifetime_ms: i64,
}

impl SessionLimits {
    /// Returns when a session that started at `created_at` expires unless it is refreshed after
    /// `now`.
    pub(super) const fn expires_at(self, created_at: i64, now: i64) -> i64 {
        let longest = created_at.saturating_add(self.lifetime_ms);
        let next = now.saturating_add(limits::REFRESH_TOKEN_MS);
        if next < longest { next } else { longest }
    }
}

/// A session to start.
#[derive(Debug, Clone, Copy)]
pub struct NewSession<'a> {
    /// Session id.
    pub id: Uuid,
    /// Account id.
    pub account: Uuid,
    /// PHC string against which the password was verified.
    pub verified: &'a str,
    /// Hash of the first refresh token.
    pub token: TokenHash,
    /// `User-Agent` of the login, redacted.
    pub user_agent: &'a str,
    /// Thumbprint of the key to which its tokens are bound.
    pub proof_key: Option<&'a str>,
}

/// The result of the start of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartOutcome {
    /// The session started.
    Started(StartedSession),
    /// The account is gone, or its password has changed since it was verified.
    AccountChanged,
    /// The account's tokens are revoked up to a time far ahead of this process's clock.
    ClockBehind,
}

/// A session that started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedSession {
    /// The account, read under its lock: it lacks a role that was removed while the password was
    /// hashed, and the removal of a role after that revokes the session's first tokens.
    pub account: UserRecord,
    /// `iat` of the first access token, in seconds.
    pub issued_at: i64,
    /// Number of older sessions that were revoked to stay within [`limits::SESSIONS`].
    pub ended: usize,
}

/// A live session, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSummary {
    /// Session id.
    pub id: Uuid,
    /// Time of the login, in milliseconds.
    pub created_at: i64,
    /// Time of the last login or refresh, in milliseconds.
    pub last_used_at: i64,
    /// Time at which the session expires unless it is refreshed, in milliseconds.
    pub expires_at: i64,
    /// `User-Agent` of the login.
    pub user_agent: String,
}

fn summary(row: &AnyRow) -> Result<SessionSummary, sqlx::Error> {
    Ok(SessionSummary {
        id: id(row, "id")?,
        created_at: row.try_get("created_at")?,
        last_used_at: row.try_get("last_used_at")?,
        expires_at: row.try_get("expires_at")?,
        user_agent: row.try_get("user_agent")?,
    })
}

/// Adds a refresh token to a session.
pub(super) async fn insert_token(
    transaction: &mut AnyConnection,
    token: TokenHash,
    session: Uuid,
    expires_at: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO refresh_tokens (hash, session_id, expires_at) VALUES ($1, $2, $3)")
        .bind(token.as_slice())
        .bind(session.to_string())
        .bind(expires_at)
        .execute(transaction)
        .await?;
    Ok(())
}

/// Statements on sessions. The clock is read under the account's lock, so times grow in the order of
/// the writes, and each token is on the right side of each revocation.
#[derive(Debug, Clone)]
pub struct Sessions(pub(crate) Database);

impl Sessions {
    /// Makes the statements for a database.
    pub fn of(database: Database) -> Self {
        Self(database)
    }

    /// Starts a session with its first refresh token, and revokes the oldest sessions beyond
    /// [`limits::SESSIONS`]. A login with the old password that overlaps with a change of the
    /// password is [`StartOutcome::AccountChanged`].
    pub async fn start(
        &self,
        new: &NewSession<'_>,
        session_limits: SessionLimits,
        clock: &Clock,
    ) -> Result<StartOutcome, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(new.account)]).await?;
        let now = clock.now();
        let expires_at = session_limits.expires_at(now, now);
        let revoked_until: Option<i64> =
            sqlx::query_scalar("SELECT revoked_until FROM accounts WHERE id = $1 AND password_hash = $2")
                .bind(new.account.to_string())
                .bind(new.verified)
                .fetch_optional(&mut *transaction)
                .await?;
        let Some(revoked_until) = revoked_until else { return Ok(StartOutcome::AccountChanged) };
        let issued_at = revocation::issued_at(now, revoked_until);
        if revocation::is_far_ahead(issued_at, now) {
            return Ok(StartOutcome::ClockBehind);
        }
        let surplus: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM sessions WHERE account_id = $1 AND revoked_at IS NULL AND expires_at > $2 AND id NOT IN \
             (SELECT id FROM sessions WHERE account_id = $1 AND revoked_at IS NULL AND expires_at > $2 \
              ORDER BY created_at DESC, id DESC LIMIT $3)",
        )
        .bind(new.account.to_string())
        .bind(now)
        .bind(limits::SESSIONS.saturating_sub(1))
        .fetch_all(&mut *transaction)
        .await?;
        revocation::revoke_sessions(&mut transaction, &surplus, now).await?;
        sqlx::query(
            "INSERT INTO sessions (id, account_id, created_at, expires_at, last_used_at, user_agent, proof_key) \
             VALUES ($1, $2, $3, $4, $3, $5, $6)",
        )
        .bind(new.id.to_string())
        .bind(new.account.to_string())
        .bind(now)
        .bind(expires_at)
        .bind(new.user_agent)
        .bind(new.proof_key)
        .execute(&mut *transaction)
        .await?;
        insert_token(&mut transaction, new.token, new.id, expires_at).await?;
        revocation::record_issued(&mut transaction, new.account, issued_at).await?;
        let Some(account) = rows::find_account(&mut *transaction, new.account).await? else {
            return Ok(StartOutcome::AccountChanged);
        };
        transaction.commit().await?;
        Ok(StartOutcome::Started(StartedSession { account, issued_at, ended: surplus.len() }))
    }

    /// Returns whether a session is neither revoked nor expired.
    pub async fn is_live(&self, session: Uuid, account: Uuid, now: i64) -> Result<bool, sqlx::Error> {
        is_live(self.0.pool(), session, account, now).await
    }

    /// Returns whether a session is not revoked and started after a time.
    pub async fn started_after(&self, session: Uuid, account: Uuid, after: i64) -> Result<bool, sqlx::Error> {
        let row = sqlx::query(
            "SELECT 1 FROM sessions WHERE id = $1 AND account_id = $2 AND revoked_at IS NULL AND created_at > $3",
        )
        .bind(session.to_string())
        .bind(account.to_string())
        .bind(after)
        .fetch_optional(self.0.pool())
        .await?;
        Ok(row.is_some())
    }

    /// Returns whether a session is live and a token of it with the `iat` `issued_at` (seconds) is
    /// not among the account's revoked tokens.
    pub async fn is_live_for(
        &self,
        session: Uuid,
        account: Uuid,
        issued_at: i64,
        now: i64,
    ) -> Result<bool, sqlx::Error> {
        let row = sqlx::query(
            "SELECT 1 FROM sessions s JOIN accounts a ON a.id = s.account_id \
             WHERE s.id = $1 AND s.account_id = $2 AND s.revoked_at IS NULL AND s.expires_at > $3 \
               AND a.state = 'active' AND a.revoked_until < $4",
        )
        .bind(session.to_string())
        .bind(account.to_string())
        .bind(now)
        .bind(issued_at)
        .fetch_optional(self.0.pool())
        .await?;
        Ok(row.is_some())
    }

    /// Returns the live sessions of an account, newest first.
    pub async fn list(&self, account: Uuid, now: i64) -> Result<Vec<SessionSummary>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT id, created_at, last_used_at, expires_at, user_agent FROM sessions \
             WHERE account_id = $1 AND revoked_at IS NULL AND expires_at > $2 \
             ORDER BY created_at DESC, id DESC LIMIT $3",
        )
        .bind(account.to_string())
        .bind(now)
        .bind(limits::SESSIONS)
        .fetch_all(self.0.pool())
        .await?;
        rows.iter().map(summary).collect()
    }

    /// Revokes one live session of an account. Returns false if the account has no such session.
    pub async fn revoke(&self, session: Uuid, account: Uuid, clock: &Clock) -> Result<bool, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(account)]).await?;
        let now = clock.now();
        let done =
            sqlx::query("UPDATE sessions SET revoked_at = $3 WHERE id = $1 AND account_id = $2 AND revoked_at IS NULL AND expires_at > $3")
                .bind(session.to_string())
                .bind(account.to_string())
                .bind(now)
                .execute(&mut *transaction)
                .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        outbox::enqueue(&mut transaction, Revoked::Session(session), now).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns the session of a refresh token that has not expired, and the session's account. The token may be spent, and
    /// its session may have ended.
    pub async fn find_by_token(&self, hash: TokenHash, now: i64) -> Result<Option<(Uuid, Uuid)>, sqlx::Error> {
        let row = sqlx::query(
            "SELECT s.id, s.account_id FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id \
             WHERE t.hash = $1 AND t.expires_at > $2",
        )
        .bind(hash.as_slice())
        .bind(now)
        .fetch_optional(self.0.pool())
        .await?;
        row.map(|row| Ok((id(&row, "id")?, id(&row, "account_id")?))).transpose()
    }

    /// Revokes all sessions of an account and all its tokens issued up to now. Returns false, without
    /// a change, if this happened so often within seconds that new tokens would have to be issued in
    /// the future.
    pub async fn revoke_all(&self, account: Uuid, clock: &Clock) -> Result<bool, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(account)]).await?;
        let now = clock.now();
        if !revocation::revoke_account(&mut transaction, account, now).await? {
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Deletes up to `rows` sessions that expired or were revoked before a time, with their tokens,
    /// and up to `rows` expired tokens of live sessions: an unknown token is rejected like an
    /// expired one. Returns the greatest number of rows that one statement deleted.
    pub async fn sweep(&self, before: i64, rows: i64) -> Result<u64, sqlx::Error> {
        let mut most = 0;
        for text in [
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at <= $1 LIMIT $2)",
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE revoked_at <= $1 LIMIT $2)",
            "DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens WHERE expires_at <= $1 LIMIT $2)",
        ] {
            most = self.0.sweep(text, before, rows).await?.max(most);
        }
        Ok(most)
    }
}

/// Returns whether a session is neither revoked nor expired.
pub(super) async fn is_live<'e>(
    executor: impl sqlx::Executor<'e, Database = sqlx::Any>,
    session: Uuid,
    account: Uuid,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let row = sqlx::query(
        "SELECT 1 FROM sessions WHERE id = $1 AND account_id = $2 AND revoked_at IS NULL AND expires_at > $3",
    )
    .bind(session.to_string())
    .bind(account.to_string())
    .bind(now)
    .fetch_optional(executor)
    .await?;
    Ok(row.is_some())
}
