//! Revocation of sessions and access tokens, and the times at which access tokens are issued.
//!
//! The functions run in the caller's transaction, which holds the account's lock.

use sqlx::{AnyConnection, Row as _};
use uuid::Uuid;

use super::{
    outbox::{self, Revoked},
    rows,
};
use crate::limits;

/// Returns the `iat` (seconds) of a token that is issued at `now` (milliseconds). A token of the
/// second up to which the account's tokens are revoked would count as revoked, so its `iat` is the
/// next second, which is within every verifier's leeway.
pub(super) fn issued_at(now: i64, revoked_until: i64) -> i64 {
    (now / 1000).max(revoked_until.saturating_add(1))
}

/// Returns whether `issued_at` is further ahead of `now` (milliseconds) than correct clocks explain.
/// Then a process with a wrong clock revoked the account's tokens, and the gateway would reject the
/// token.
pub(super) fn is_far_ahead(issued_at: i64, now: i64) -> bool {
    // A revocation is at most this far ahead of the clock of the process that wrote it.
    let revoked_until = (now / 1000).saturating_add(limits::REVOKED_AHEAD_S).saturating_add(limits::CLOCKS_APART_S);
    issued_at > revoked_until.saturating_add(1)
}

/// Returns the second up to which an account's tokens are to be revoked, so that tokens of a process
/// whose clock is ahead are included. An `issued_until` that [is too far ahead](is_uncovered) is
/// ignored: logins would fail until the clock reached it.
fn revoke_until(now: i64, revoked_until: i64, issued_until: i64) -> i64 {
    let until = (now / 1000).max(if is_uncovered(issued_until, now) { 0 } else { issued_until });
    if revoked_until >= until { revoked_until.saturating_add(1) } else { until }
}

/// Returns whether a token was issued by a process whose clock is more than [`limits::CLOCKS_APART_S`]
/// ahead. The gateway rejects it until its own clock is that far, and would then accept it although
/// the account's tokens are revoked.
fn is_uncovered(issued_until: i64, now: i64) -> bool {
    issued_until > (now / 1000).saturating_add(limits::CLOCKS_APART_S)
}

/// Records the `iat` of a token that is issued.
pub(super) async fn record_issued(
    transaction: &mut AnyConnection,
    account: Uuid,
    issued_at: i64,
) -> Result<(), sqlx::Error> {
    let statement = "UPDATE accounts SET issued_until = $2 WHERE id = $1 AND issued_until < $2";
    rows::write(transaction, statement, account, issued_at).await
}

/// Enqueues the revocation of all access tokens of an account, and returns the second up to which
/// they are revoked; `None` if there is no account. If the second does not cover a token, the account's
/// sessions end, which covers their tokens whatever their `iat`.
pub(super) async fn enqueue_account(
    transaction: &mut AnyConnection,
    account: Uuid,
    now: i64,
) -> Result<Option<i64>, sqlx::Error> {
    let row = sqlx::query("SELECT revoked_until, issued_until FROM accounts WHERE id = $1")
        .bind(account.to_string())
        .fetch_optional(&mut *transaction)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let issued_until = row.try_get("issued_until")?;
    let until = revoke_until(now, row.try_get("revoked_until")?, issued_until);
    outbox::enqueue(transaction, Revoked::Account(account, until), now).await?;
    if is_uncovered(issued_until, now) {
        let sessions: Vec<String> =
            sqlx::query_scalar("SELECT id FROM sessions WHERE account_id = $1 AND revoked_at IS NULL")
                .bind(account.to_string())
                .fetch_all(&mut *transaction)
                .await?;
        revoke_sessions(transaction, &sessions, now).await?;
        // The tokens of later sessions are covered again.
        rows::write(transaction, "UPDATE accounts SET issued_until = $2 WHERE id = $1", account, until).await?;
    }
    Ok(Some(until))
}

/// Revokes all access tokens of an account that were issued up to now; its sessions continue, unless
/// one of the tokens is of a process whose clock is far ahead. Returns false if this happened so often
/// within seconds that new tokens would have to be issued in the future: the caller must not commit
/// then.
pub(super) async fn revoke_tokens(
    transaction: &mut AnyConnection,
    account: Uuid,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let Some(until) = enqueue_account(transaction, account, now).await? else { return Ok(true) };
    if until.saturating_sub(now / 1000) > limits::REVOKED_AHEAD_S {
        return Ok(false);
    }
    rows::write(transaction, "UPDATE accounts SET revoked_until = $2 WHERE id = $1", account, until).await?;
    Ok(true)
}

/// Revokes all sessions and access tokens of an account. Returns false like [`revoke_tokens`].
pub(super) async fn revoke_account(
    transaction: &mut AnyConnection,
    account: Uuid,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let is_done = revoke_tokens(transaction, account, now).await?;
    let statement = "UPDATE sessions SET revoked_at = $2 WHERE account_id = $1 AND revoked_at IS NULL";
    rows::write(transaction, statement, account, now).await?;
    Ok(is_done)
}

/// Revokes a session.
pub(super) async fn revoke_session(
    transaction: &mut AnyConnection,
    session: Uuid,
    now: i64,
) -> Result<(), sqlx::Error> {
    rows::write(transaction, "UPDATE sessions SET revoked_at = $2 WHERE id = $1", session, now).await?;
    outbox::enqueue(transaction, Revoked::Session(session), now).await
}

/// Revokes sessions by the text of their ids.
pub(super) async fn revoke_sessions(
    transaction: &mut AnyConnection,
    ids: &[String],
    now: i64,
) -> Result<(), sqlx::Error> {
    for text in ids {
        let session = Uuid::parse_str(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        revoke_session(transaction, session, now).await?;
    }
    Ok(())
}
