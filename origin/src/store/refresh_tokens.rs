//! Rotation of refresh tokens (RFC 9700, section 4.14.2).
//!
//! A client that lost the answer to a refresh (broken connection, crash before the new token was
//! stored) gets the same successor if it repeats the request within [`SessionLimits::reuse_ms`]. The
//! successor is stored encrypted, only the spent token decrypts it, and the next refresh after that
//! time deletes it.

use std::time::Duration;

use portcullis_token::limits::PROOF_AHEAD_MS;
use sqlx::{AnyConnection, Row as _, any::AnyRow};
use uuid::Uuid;

use super::{
    database::Lock,
    revocation,
    rows::{self, UserRecord, id},
    sessions::{SessionLimits, Sessions, TokenHash, insert_token},
};
use crate::{clock::Clock, limits};

/// The result of a refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The token was valid and is spent; its successor replaces it.
    Rotated {
        /// The account, read in the same transaction: if a later read failed, the client would have
        /// a spent token and no other.
        account: UserRecord,
        /// Session id.
        session: Uuid,
        /// `iat` of the new access token, in seconds.
        issued_at: i64,
        /// Thumbprint of the key to which the session's tokens are bound.
        proof_key: Option<String>,
    },
    /// The token was spent before; the session is revoked.
    Reused {
        /// Account id.
        account: Uuid,
        /// Session id.
        session: Uuid,
    },
    /// The token was spent within [`SessionLimits::reuse_ms`]; its successor is returned again.
    Repeated {
        /// The account as it is now.
        account: UserRecord,
        /// Session id.
        session: Uuid,
        /// `iat` of the new access token, in seconds.
        issued_at: i64,
        /// Thumbprint of the key to which the session's tokens are bound.
        proof_key: Option<String>,
        /// The stored [`Successor::sealed`].
        sealed: Vec<u8>,
    },
    /// The account's tokens are revoked up to a time far ahead of this process's clock. The token is
    /// not spent.
    ClockBehind,
    /// The session's tokens are bound to a key that was not proved. The token is not spent: a thief without the key
    /// cannot end the session.
    WrongKey,
    /// The token was spent before, and the proof of the session's key may be one of an earlier refresh. Only the holder of
    /// the key makes a newer one, so a request that was captured and is sent again does not end the session.
    OldProof,
    /// The token is unknown or expired, its session is revoked or has reached its longest lifetime,
    /// or an older version that stored no successor spent the token a moment ago.
    Rejected,
}

/// The refresh token that replaces a spent one.
#[derive(Debug, Clone, Copy)]
pub struct Successor<'a> {
    /// Hash of the new token.
    pub hash: TokenHash,
    /// The new token, encrypted with a key that is derived from the spent token.
    pub sealed: &'a [u8],
}

/// A refresh token with its session, read under the account's lock.
struct Presented {
    session: Uuid,
    account: Uuid,
    /// Time by the clock that all processes of the database share at which the token was presented.
    presented_at: i64,
    /// Time by the same clock of this transaction.
    now: i64,
    spent_at: Option<i64>,
    sealed: Option<Vec<u8>>,
    /// End of the session after this refresh.
    expires_at: i64,
    issued_at: i64,
    issued_until: i64,
    proof_key: Option<String>,
    /// When the session was last refreshed, by the clock of the process that did it.
    refreshed_at: i64,
}

impl Presented {
    /// Returns whether a proof of the session's key may be one that was sent with an earlier refresh of the session. The
    /// last refresh may have been repeated for a while, and the client's clock may be ahead.
    fn may_be_replay(&self, proved_at: Option<i64>, session_limits: SessionLimits) -> bool {
        let last_repeat = self.refreshed_at.saturating_add(session_limits.reuse_ms);
        let newest = last_repeat.saturating_add_unsigned(PROOF_AHEAD_MS);
        self.proof_key.is_some() && proved_at.is_none_or(|at| at <= newest)
    }

    /// Returns whether the token was spent a short enough time ago to be presented again.
    fn is_repeat(&self, session_limits: SessionLimits) -> bool {
        let reuse_ms = session_limits.reuse_ms;
        self.spent_at.is_some_and(|at| {
            let age_ms = self.presented_at.saturating_sub(at);
            // Another request may spend the token while this one waits for the lock. A time further
            // ahead is of a clock that was set back since, and a stolen token must not be a repeat for
            // as long as the clock is behind.
            let waited = Duration::from_millis(age_ms.min(0).unsigned_abs());
            reuse_ms > 0 && age_ms < reuse_ms && waited < limits::REQUEST_TIME
        })
    }
}

impl Sessions {
    /// Spends a refresh token and stores its successor.
    ///
    /// Of concurrent requests with the same token exactly one rotates it, because the account's lock
    /// is taken before the token is read. The others get the same successor if they arrived within
    /// [`SessionLimits::reuse_ms`] of the rotation, regardless of how long they waited for the lock.
    /// A later use is a reuse and revokes the session. `proven` is the thumbprint of the client's key, and when the client
    /// has proved to hold it, in milliseconds since 1970 by the client's clock.
    pub async fn refresh(
        &self,
        (hash, proven): (TokenHash, Option<(&str, i64)>),
        successor: &Successor<'_>,
        session_limits: SessionLimits,
        clock: &Clock,
    ) -> Result<RefreshOutcome, sqlx::Error> {
        let (proven, proved_at) = proven.unzip();
        // Two hosts may record when a token was presented and when it was spent, so both times are
        // read from the clock that the hosts share.
        let column = self.0.clock_column();
        // The owner of a token never changes, so it can be read before the lock.
        let text = format!(
            "SELECT s.account_id, {column} AS shown_at FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id \
             WHERE t.hash = $1"
        );
        let owner = sqlx::query(sqlx::AssertSqlSafe(text)).bind(hash.as_slice()).fetch_optional(self.0.pool()).await?;
        let Some(owner) = owner else { return Ok(RefreshOutcome::Rejected) };
        let presented_at = self.0.shared_clock(&owner, "shown_at", clock)?;
        let mut transaction = self.0.begin(&[Lock::Account(id(&owner, "account_id")?)]).await?;
        let now = clock.now();
        let text = format!(
            "SELECT t.session_id, t.expires_at, t.spent_at, t.successor, s.revoked_at, s.created_at, s.last_used_at, \
               s.account_id, s.proof_key, \
               a.revoked_until, a.issued_until, \
               {column} AS spends_at \
             FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id \
             JOIN accounts a ON a.id = s.account_id WHERE t.hash = $1"
        );
        let row =
            sqlx::query(sqlx::AssertSqlSafe(text)).bind(hash.as_slice()).fetch_optional(&mut *transaction).await?;
        let Some(row) = row else { return Ok(RefreshOutcome::Rejected) };
        let shared_now = self.0.shared_clock(&row, "spends_at", clock)?;
        let Some(mut token) = presented(&row, session_limits, (presented_at, shared_now), now)? else {
            return Ok(RefreshOutcome::Rejected);
        };
        if token.proof_key.is_some() && token.proof_key.as_deref() != proven {
            return Ok(RefreshOutcome::WrongKey);
        }
        let is_repeat = token.is_repeat(session_limits);
        match (token.spent_at, token.sealed.take()) {
            (Some(_), Some(sealed)) if is_repeat => {
                if revocation::is_far_ahead(token.issued_at, now) {
                    return Ok(RefreshOutcome::ClockBehind);
                }
                // In most cases the rotation has recorded this second.
                if token.issued_until < token.issued_at {
                    revocation::record_issued(&mut transaction, token.account, token.issued_at).await?;
                }
                let Some(account) = rows::find_account(&mut *transaction, token.account).await? else {
                    return Ok(RefreshOutcome::Rejected);
                };
                transaction.commit().await?;
                let Presented { session, issued_at, proof_key, .. } = token;
                Ok(RefreshOutcome::Repeated { account, session, issued_at, proof_key, sealed })
            }
            // An older version spent the token and stored no successor. A client that repeats its
            // request right after an upgrade is rejected and keeps its session.
            (Some(_), _) if is_repeat => Ok(RefreshOutcome::Rejected),
            (Some(_), _) if token.may_be_replay(proved_at, session_limits) => Ok(RefreshOutcome::OldProof),
            (Some(_), _) => {
                // Two parties have the token, and one of them stole it: the session ends.
                revocation::revoke_session(&mut transaction, token.session, now).await?;
                transaction.commit().await?;
                Ok(RefreshOutcome::Reused { account: token.account, session: token.session })
            }
            (None, _) => {
                if revocation::is_far_ahead(token.issued_at, now) {
                    return Ok(RefreshOutcome::ClockBehind);
                }
                rotate(&mut transaction, &token, (hash, successor), session_limits, now).await?;
                let Some(account) = rows::find_account(&mut *transaction, token.account).await? else {
                    return Ok(RefreshOutcome::Rejected);
                };
                transaction.commit().await?;
                let Presented { session, issued_at, proof_key, .. } = token;
                Ok(RefreshOutcome::Rotated { account, session, issued_at, proof_key })
            }
        }
    }
}

/// Reads a presented token from its row. `None` if it is expired or its session has ended.
fn presented(
    row: &AnyRow,
    session_limits: SessionLimits,
    (presented_at, shared_now): (i64, i64),
    now: i64,
) -> Result<Option<Presented>, sqlx::Error> {
    let revoked_at: Option<i64> = row.try_get("revoked_at")?;
    let token_expires_at: i64 = row.try_get("expires_at")?;
    let expires_at = session_limits.expires_at(row.try_get("created_at")?, now);
    if revoked_at.is_some() || token_expires_at <= now || expires_at <= now {
        return Ok(None);
    }
    Ok(Some(Presented {
        session: id(row, "session_id")?,
        account: id(row, "account_id")?,
        presented_at,
        now: shared_now,
        spent_at: row.try_get("spent_at")?,
        sealed: row.try_get("successor")?,
        expires_at,
        issued_at: revocation::issued_at(now, row.try_get("revoked_until")?),
        issued_until: row.try_get("issued_until")?,
        proof_key: row.try_get("proof_key")?,
        refreshed_at: row.try_get("last_used_at")?,
    }))
}

/// Marks a token as spent, adds its successor, and extends the session.
async fn rotate(
    transaction: &mut AnyConnection,
    token: &Presented,
    (hash, successor): (TokenHash, &Successor<'_>),
    session_limits: SessionLimits,
    now: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE refresh_tokens SET successor = NULL \
         WHERE session_id = $1 AND spent_at <= $2 AND successor IS NOT NULL",
    )
    .bind(token.session.to_string())
    .bind(token.now.saturating_sub(session_limits.reuse_ms))
    .execute(&mut *transaction)
    .await?;
    sqlx::query("UPDATE refresh_tokens SET spent_at = $2, successor = $3 WHERE hash = $1")
        .bind(hash.as_slice())
        .bind(token.now)
        .bind((session_limits.reuse_ms > 0).then_some(successor.sealed))
        .execute(&mut *transaction)
        .await?;
    insert_token(&mut *transaction, successor.hash, token.session, token.expires_at).await?;
    sqlx::query("UPDATE sessions SET expires_at = $2, last_used_at = $3 WHERE id = $1")
        .bind(token.session.to_string())
        .bind(token.expires_at)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
    revocation::record_issued(transaction, token.account, token.issued_at).await
}
