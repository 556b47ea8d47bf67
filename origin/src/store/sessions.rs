//! Sessions and the refresh tokens of their families. A token is kept as its
//! SHA-256 alone.

use sqlx::{AnyConnection, Row as _, any::AnyRow};
use uuid::Uuid;

use super::{
    Database,
    accounts::{self, Account},
    database::Lock,
    id,
    outbox::{self, Revoked},
};
use crate::{clock::Clock, limits};

/// SHA-256 of a refresh token.
pub type TokenHash = [u8; 32];

/// What became of a refresh token that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spending {
    /// It was good and is spent now; here is its successor's family.
    Spent {
        /// Whose it was, as the account was then. Read with the rest: what could fail behind it
        /// would leave its owner with a spent token and no other.
        account: Account,
        /// The family.
        session: Uuid,
        /// Seconds: when the access token that comes of it says that it was issued.
        issued_at: i64,
    },
    /// It had been spent before: the family is revoked.
    Reused {
        /// Whose it was.
        account: Uuid,
        /// The family.
        session: Uuid,
    },
    /// It was spent a moment ago: here is its successor once more.
    Again {
        /// Whose it was, as the account is now.
        account: Account,
        /// The family.
        session: Uuid,
        /// Seconds: when the access token that comes of it says that it was issued.
        issued_at: i64,
        /// The successor, as [`Successor::sealed`] was.
        sealed: Vec<u8>,
    },
    /// The account's tokens are revoked up to a time that our clock has not nearly reached; the
    /// token is not spent.
    Ahead,
    /// Unknown, expired, or of a session that was revoked or has reached its longest life; or
    /// spent a moment ago by an older version, which kept no successor.
    Refused,
}

/// How long sessions live and how often a refresh token may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Milliseconds after its use in which a refresh token is answered with the same
    /// successor; 0 for never.
    pub reuse_ms: i64,
    /// Milliseconds after its login at which a session ends.
    pub lifetime_ms: i64,
}

impl Rules {
    /// When a session that began at `created_at` ends unless it is refreshed after `now`.
    const fn expires_at(self, created_at: i64, now: i64) -> i64 {
        let longest = created_at.saturating_add(self.lifetime_ms);
        let next = now.saturating_add(limits::REFRESH_TOKEN_MS);
        if next < longest { next } else { longest }
    }
}

/// The refresh token that takes another's place.
#[derive(Debug, Clone, Copy)]
pub struct Successor<'a> {
    /// Its hash.
    pub hash: TokenHash,
    /// The token itself, encrypted with a key that only the spent token gives.
    pub sealed: &'a [u8],
}

/// When a token that is made at `now` (milliseconds) says that it was issued, in seconds.
/// One of the very second up to which the account's tokens are revoked would be taken for
/// one of those: it says the next, which is within any leeway.
fn issued_at(now: i64, revoked_until: i64) -> i64 {
    (now / 1000).max(revoked_until.saturating_add(1))
}

/// Whether a token would say that it was issued further ahead of `now` (milliseconds) than
/// clocks that are right explain: the account's tokens were revoked by one that was wrong, and
/// the gateway would take no token.
fn is_far_ahead(issued_at: i64, now: i64) -> bool {
    // A revocation is at most so far ahead of the clock of the process that wrote it.
    let revoked_until = (now / 1000).saturating_add(limits::REVOKED_AHEAD_S).saturating_add(limits::CLOCKS_APART_S);
    issued_at > revoked_until.saturating_add(1)
}

/// Up to which second an account's tokens are to be revoked, so that those are among them
/// that a process with a clock ahead of ours issued. One that is further ahead than
/// [`limits::CLOCKS_APART_S`] does not count: the gateway takes no token of its, and nobody
/// could log in until our clock has come that far.
pub(super) fn tokens_end(now: i64, revoked_until: i64, issued_until: i64) -> i64 {
    let now = now / 1000;
    let issued_until = if issued_until > now.saturating_add(limits::CLOCKS_APART_S) { now } else { issued_until };
    let until = now.max(issued_until);
    if revoked_until >= until { revoked_until.saturating_add(1) } else { until }
}

/// Writes down, in a transaction that holds the account's lock, when a token says that it
/// was issued.
async fn note_issued(transaction: &mut AnyConnection, account: Uuid, issued_at: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE accounts SET issued_until = $2 WHERE id = $1 AND issued_until < $2")
        .bind(account.to_string())
        .bind(issued_at)
        .execute(transaction)
        .await?;
    Ok(())
}

/// Ends all access tokens of an account that were issued up to now, in a transaction that
/// holds the account's lock; its sessions live on. False when that was done so often within
/// seconds that tokens would have to be issued in the future: the transaction must go no
/// further.
pub(super) async fn end_tokens(transaction: &mut AnyConnection, account: Uuid, now: i64) -> Result<bool, sqlx::Error> {
    // Past the second before which tokens were told not to be issued: they may say
    // the next one, which this second may not have reached.
    let row = sqlx::query("SELECT revoked_until, issued_until FROM accounts WHERE id = $1")
        .bind(account.to_string())
        .fetch_optional(&mut *transaction)
        .await?;
    let Some(row) = row else { return Ok(true) };
    let until = tokens_end(now, row.try_get("revoked_until")?, row.try_get("issued_until")?);
    if until.saturating_sub(now / 1000) > limits::REVOKED_AHEAD_S {
        return Ok(false);
    }
    sqlx::query("UPDATE accounts SET revoked_until = $2 WHERE id = $1")
        .bind(account.to_string())
        .bind(until)
        .execute(&mut *transaction)
        .await?;
    outbox::note(transaction, Revoked::Account(account, until), now).await?;
    Ok(true)
}

/// Ends all sessions of an account and all its access tokens, in a transaction that holds
/// its lock. False as of [`end_tokens`].
pub(super) async fn end_all(transaction: &mut AnyConnection, account: Uuid, now: i64) -> Result<bool, sqlx::Error> {
    sqlx::query("UPDATE sessions SET revoked_at = $2 WHERE account_id = $1 AND revoked_at IS NULL")
        .bind(account.to_string())
        .bind(now)
        .execute(&mut *transaction)
        .await?;
    end_tokens(transaction, account, now).await
}

/// A session that begins.
#[derive(Debug, Clone, Copy)]
pub struct NewSession<'a> {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub account: Uuid,
    /// PHC string that the password was verified against.
    pub verified: &'a str,
    /// Its first refresh token.
    pub token: TokenHash,
    /// The program that logs in, as fit for showing.
    pub user_agent: &'a str,
}

/// What became of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// A session began.
    Begun(Begun),
    /// The account is no more, or its password is another by now.
    Gone,
    /// The account's tokens are revoked up to a time that our clock has not nearly reached.
    Ahead,
}

/// A session that began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Whose it is, as the account is under its lock: a role that was taken away while the
    /// password took its time is not among its roles, and one that is taken away later ends
    /// the session's first tokens.
    pub account: Account,
    /// Seconds: when its first access token says that it was issued.
    pub issued_at: i64,
    /// How many sessions of the account ended for it.
    pub ended: usize,
}

/// A session that lives, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: Uuid,
    /// When its login was, in milliseconds.
    pub created_at: i64,
    /// When its last login or refresh was.
    pub last_used_at: i64,
    /// When it ends unless it is refreshed.
    pub expires_at: i64,
    /// The program that logged in.
    pub user_agent: String,
}

fn listed(row: &AnyRow) -> Result<Listed, sqlx::Error> {
    Ok(Listed {
        id: id(row, "id")?,
        created_at: row.try_get("created_at")?,
        last_used_at: row.try_get("last_used_at")?,
        expires_at: row.try_get("expires_at")?,
        user_agent: row.try_get("user_agent")?,
    })
}

/// Revokes sessions, by id, in a transaction that holds their account's lock.
pub(super) async fn end(transaction: &mut AnyConnection, ids: &[String], now: i64) -> Result<(), sqlx::Error> {
    for text in ids {
        let session = Uuid::parse_str(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        sqlx::query("UPDATE sessions SET revoked_at = $2 WHERE id = $1")
            .bind(text)
            .bind(now)
            .execute(&mut *transaction)
            .await?;
        outbox::note(&mut *transaction, Revoked::Session(session), now).await?;
    }
    Ok(())
}

/// The sessions' statements. Times are read under the account's lock: what is written first
/// has the earlier time, so that a token is always on the right side of a revocation.
#[derive(Debug, Clone)]
pub struct Sessions(pub(crate) Database);

impl Sessions {
    /// Those of a database.
    pub fn of(database: Database) -> Self {
        Self(database)
    }

    /// Begins a session with its first refresh token. Of more than [`limits::SESSIONS`] the
    /// oldest end. [`Beginning::Gone`] when the account is no more, or its password
    /// is another by now: a login with the old one, on its way while the owner changed it,
    /// must not outlive the change.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin(&self, new: &NewSession<'_>, rules: Rules, clock: &Clock) -> Result<Beginning, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(new.account)]).await?;
        let now = clock.now();
        let expires_at = rules.expires_at(now, now);
        let revoked_until: Option<i64> =
            sqlx::query_scalar("SELECT revoked_until FROM accounts WHERE id = $1 AND password_hash = $2")
                .bind(new.account.to_string())
                .bind(new.verified)
                .fetch_optional(&mut *transaction)
                .await?;
        let Some(revoked_until) = revoked_until else { return Ok(Beginning::Gone) };
        let issued_at = issued_at(now, revoked_until);
        if is_far_ahead(issued_at, now) {
            return Ok(Beginning::Ahead);
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
        end(&mut transaction, &surplus, now).await?;
        sqlx::query(
            "INSERT INTO sessions (id, account_id, created_at, expires_at, last_used_at, user_agent) \
             VALUES ($1, $2, $3, $4, $3, $5)",
        )
        .bind(new.id.to_string())
        .bind(new.account.to_string())
        .bind(now)
        .bind(expires_at)
        .bind(new.user_agent)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("INSERT INTO refresh_tokens (hash, session_id, expires_at) VALUES ($1, $2, $3)")
            .bind(new.token.as_slice())
            .bind(new.id.to_string())
            .bind(expires_at)
            .execute(&mut *transaction)
            .await?;
        note_issued(&mut transaction, new.account, issued_at).await?;
        let Some(account) = accounts::find(&mut *transaction, new.account).await? else { return Ok(Beginning::Gone) };
        transaction.commit().await?;
        Ok(Beginning::Begun(Begun { account, issued_at, ended: surplus.len() }))
    }

    /// Spends a refresh token and puts its successor in its place. Of any number that
    /// show the same token at one instant exactly one wins, because the account's
    /// lock is taken before the token is read. The others get the winner's successor, if they
    /// came within [`Rules::reuse_ms`] of it, however long they waited for their turn; past
    /// that it is a reuse, and the family is revoked.
    ///
    /// A client that lost the answer of a refresh (a broken connection, a crash before the
    /// new token was stored) gets the same answer when it tries again in that time. The
    /// successor is kept encrypted, and only the spent token opens it; it is forgotten with
    /// the next refresh after that time.
    ///
    /// # Errors
    /// The database's.
    pub async fn spend(
        &self,
        hash: TokenHash,
        successor: &Successor<'_>,
        rules: Rules,
        clock: &Clock,
    ) -> Result<Spending, sqlx::Error> {
        // When a token was shown and when it was spent may be noted by two hosts: both read
        // the one clock that they share.
        let column = self.0.clock_column();
        // Whose it is never changes, so it may be asked before the lock.
        let text = format!(
            "SELECT s.account_id, {column} AS shown_at FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id \
             WHERE t.hash = $1"
        );
        let owner = sqlx::query(sqlx::AssertSqlSafe(text)).bind(hash.as_slice()).fetch_optional(self.0.pool()).await?;
        let Some(owner) = owner else { return Ok(Spending::Refused) };
        let shown_at = self.0.shared_clock(&owner, "shown_at", clock)?;
        let owner = id(&owner, "account_id")?;
        let mut transaction = self.0.begin(&[Lock::Account(owner)]).await?;
        let now = clock.now();
        let text = format!(
            "SELECT t.session_id, t.expires_at, t.spent_at, t.successor, s.revoked_at, s.created_at, s.account_id, \
               a.revoked_until, a.issued_until, \
               {column} AS spends_at \
             FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id \
             JOIN accounts a ON a.id = s.account_id WHERE t.hash = $1"
        );
        let row =
            sqlx::query(sqlx::AssertSqlSafe(text)).bind(hash.as_slice()).fetch_optional(&mut *transaction).await?;
        let Some(row) = row else { return Ok(Spending::Refused) };
        let (session, account) = (id(&row, "session_id")?, id(&row, "account_id")?);
        let spent_at: Option<i64> = row.try_get("spent_at")?;
        let revoked_at: Option<i64> = row.try_get("revoked_at")?;
        let token_expires_at: i64 = row.try_get("expires_at")?;
        let expires_at = rules.expires_at(row.try_get("created_at")?, now);
        if revoked_at.is_some() || token_expires_at <= now || expires_at <= now {
            return Ok(Spending::Refused);
        }
        let issued_at = issued_at(now, row.try_get("revoked_until")?);
        let sealed: Option<Vec<u8>> = row.try_get("successor")?;
        if let (Some(at), Some(sealed)) = (spent_at, sealed)
            && shown_at.saturating_sub(at) < rules.reuse_ms
        {
            if is_far_ahead(issued_at, now) {
                return Ok(Spending::Ahead);
            }
            // Mostly the first use has noted that second.
            if row.try_get::<i64, _>("issued_until")? < issued_at {
                note_issued(&mut transaction, account, issued_at).await?;
            }
            let Some(account) = accounts::find(&mut *transaction, account).await? else { return Ok(Spending::Refused) };
            transaction.commit().await?;
            return Ok(Spending::Again { account, session, issued_at, sealed });
        }
        if spent_at.is_some_and(|at| shown_at.saturating_sub(at) < rules.reuse_ms) {
            // An older version spent it and kept no successor: a client that tries again right
            // after an upgrade is refused and keeps its session.
            return Ok(Spending::Refused);
        }
        if spent_at.is_some() {
            // Somebody else has this token too, and nobody can say who is the
            // thief: all that descends from it ends (RFC 9700, section 4.14.2).
            sqlx::query("UPDATE sessions SET revoked_at = $2 WHERE id = $1")
                .bind(session.to_string())
                .bind(now)
                .execute(&mut *transaction)
                .await?;
            outbox::note(&mut transaction, Revoked::Session(session), now).await?;
            transaction.commit().await?;
            return Ok(Spending::Reused { account, session });
        }
        if is_far_ahead(issued_at, now) {
            return Ok(Spending::Ahead);
        }
        let spends_at = self.0.shared_clock(&row, "spends_at", clock)?;
        sqlx::query("UPDATE refresh_tokens SET successor = NULL WHERE session_id = $1 AND spent_at <= $2")
            .bind(session.to_string())
            .bind(spends_at.saturating_sub(rules.reuse_ms))
            .execute(&mut *transaction)
            .await?;
        sqlx::query("UPDATE refresh_tokens SET spent_at = $2, successor = $3 WHERE hash = $1")
            .bind(hash.as_slice())
            .bind(spends_at)
            .bind((rules.reuse_ms > 0).then_some(successor.sealed))
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO refresh_tokens (hash, session_id, expires_at) VALUES ($1, $2, $3)")
            .bind(successor.hash.as_slice())
            .bind(session.to_string())
            .bind(expires_at)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("UPDATE sessions SET expires_at = $2, last_used_at = $3 WHERE id = $1")
            .bind(session.to_string())
            .bind(expires_at)
            .bind(now)
            .execute(&mut *transaction)
            .await?;
        note_issued(&mut transaction, account, issued_at).await?;
        let Some(account) = accounts::find(&mut *transaction, account).await? else { return Ok(Spending::Refused) };
        transaction.commit().await?;
        Ok(Spending::Spent { account, session, issued_at })
    }

    /// Whether a session is there and neither revoked nor expired.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_live(&self, session: Uuid, account: Uuid, now: i64) -> Result<bool, sqlx::Error> {
        let row = sqlx::query(
            "SELECT 1 FROM sessions WHERE id = $1 AND account_id = $2 AND revoked_at IS NULL AND expires_at > $3",
        )
        .bind(session.to_string())
        .bind(account.to_string())
        .bind(now)
        .fetch_optional(self.0.pool())
        .await?;
        Ok(row.is_some())
    }

    /// Whether a session lives and began after an instant.
    ///
    /// # Errors
    /// The database's.
    pub async fn began_after(&self, session: Uuid, account: Uuid, after: i64) -> Result<bool, sqlx::Error> {
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

    /// Whether a session lives, and a token of it that says it was issued at `issued_at`
    /// (seconds) is not revoked with all tokens of the account.
    ///
    /// # Errors
    /// The database's.
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

    /// An account's sessions that live, the newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, account: Uuid, now: i64) -> Result<Vec<Listed>, sqlx::Error> {
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
        rows.iter().map(listed).collect()
    }

    /// Ends one session of an account. False when the account has none of this id that
    /// lives.
    ///
    /// # Errors
    /// The database's.
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
        outbox::note(&mut transaction, Revoked::Session(session), now).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Ends the session that a refresh token belongs to, if it is the account's.
    ///
    /// # Errors
    /// The database's.
    pub async fn revoke_by_token(&self, hash: TokenHash, account: Uuid, clock: &Clock) -> Result<(), sqlx::Error> {
        let session: Option<String> = sqlx::query_scalar(
            "SELECT s.id FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id \
             WHERE t.hash = $1 AND s.account_id = $2",
        )
        .bind(hash.as_slice())
        .bind(account.to_string())
        .fetch_optional(self.0.pool())
        .await?;
        match session.and_then(|text| Uuid::parse_str(&text).ok()) {
            Some(session) => self.revoke(session, account, clock).await.map(drop),
            None => Ok(()),
        }
    }

    /// Ends all sessions of an account, and with them all tokens issued up to now. False
    /// when that was done so often within seconds that tokens would have to be issued in
    /// the future.
    ///
    /// # Errors
    /// The database's.
    pub async fn revoke_all(&self, account: Uuid, clock: &Clock) -> Result<bool, sqlx::Error> {
        let mut transaction = self.0.begin(&[Lock::Account(account)]).await?;
        let now = clock.now();
        if !end_all(&mut transaction, account, now).await? {
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Forgets some sessions that expired or were revoked before an instant, with their
    /// tokens, and some tokens that expired of sessions that live: to know nothing of one is
    /// to refuse it. The most rows of one kind that were forgotten.
    ///
    /// # Errors
    /// The database's.
    pub async fn sweep(&self, before: i64, rows: i64) -> Result<u64, sqlx::Error> {
        let mut most = 0;
        for text in [
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at <= $1 LIMIT $2)",
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE revoked_at <= $1 LIMIT $2)",
            "DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens WHERE expires_at <= $1 LIMIT $2)",
        ] {
            let done = sqlx::query(text).bind(before).bind(rows).execute(&mut *self.0.writer().await?).await?;
            most = done.rows_affected().max(most);
        }
        Ok(most)
    }
}
