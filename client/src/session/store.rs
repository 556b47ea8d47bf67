//! Where a session's tokens lie between calls and between processes.

use std::{any::Any, fmt, sync::Arc};

use async_trait::async_trait;
use time::{Duration, OffsetDateTime};

use crate::{account::TokenSet, secret::Secret};

/// A token is renewed this long before it ends, so that it does not end on its way.
const AHEAD: Duration = Duration::seconds(30);

/// A short-lived token is renewed after four fifths of its life instead.
const LIFE_PARTS: i32 = 5;

/// The longest life that is believed: ten years. Sums stay in range.
const LIFE_MOST_S: i64 = 10 * 365 * 24 * 60 * 60;

/// The tokens of a session and their times, by this machine's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTokens {
    /// Shown with each request.
    pub access_token: Secret,
    /// Shown once, for the next pair.
    pub refresh_token: Secret,
    /// When the access token ends.
    pub expires_at: OffsetDateTime,
    /// When it is time for a new one.
    pub renew_at: OffsetDateTime,
    /// When they were asked for, and always after those before them: of two pairs it
    /// tells the later one, though clocks be set back. Whole milliseconds.
    pub issued_at: OffsetDateTime,
}

impl SessionTokens {
    /// The tokens of an answer that was asked for at `asked_at`, which take the place of
    /// `before`.
    pub fn from_set(set: &TokenSet, asked_at: OffsetDateTime, before: Option<&Self>) -> Self {
        let asked_at = asked_at.replace_millisecond(asked_at.millisecond()).unwrap_or(asked_at);
        let life = Duration::seconds(i64::try_from(set.expires_in).unwrap_or(LIFE_MOST_S).min(LIFE_MOST_S));
        let ahead = AHEAD.min(life.checked_div(LIFE_PARTS).unwrap_or(AHEAD));
        let expires_at = asked_at.saturating_add(life);
        let after = before.map(|before| before.issued_at.saturating_add(Duration::MILLISECOND));
        Self {
            access_token: set.access_token.clone(),
            refresh_token: set.refresh_token.clone(),
            expires_at,
            renew_at: expires_at.saturating_sub(ahead),
            issued_at: after.map_or(asked_at, |after| after.max(asked_at)),
        }
    }

    /// Whether these are other tokens than `than`, and not from before them.
    pub(super) fn is_newer(&self, than: &Self) -> bool {
        self.access_token != than.access_token && self.issued_at >= than.issued_at
    }
}

/// Why a store failed. Holds no path and nothing of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else holds its lock for too long.
    Busy,
    /// What it holds is no session.
    Malformed,
    /// Others than its owner may read it.
    Exposed,
    /// It cannot be read or written.
    Io(std::io::ErrorKind),
    /// A failure of another kind of store, in its own words.
    Other(&'static str),
}

impl StoreError {
    /// Whether a login heals it, by replacing what is there.
    pub(super) const fn is_healed_by_login(self) -> bool {
        matches!(self, Self::Malformed | Self::Exposed)
    }

    /// Stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Busy => "store_busy",
            Self::Malformed => "store_malformed",
            Self::Exposed => "store_exposed",
            Self::Io(_) | Self::Other(_) => "store_failed",
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => formatter.write_str("the session's store is locked by somebody else"),
            Self::Malformed => formatter
                .write_str("the session's store holds something that is no session; log in again, which replaces it"),
            Self::Exposed => formatter.write_str(
                "the session's file can be read by others; log in again, which ends that session and replaces the \
                 file, or chmod it to 600 if no other user can have read it",
            ),
            Self::Io(kind) => write!(formatter, "the session's store cannot be read or written: {kind}"),
            Self::Other(what) => write!(formatter, "the session's store failed: {what}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// Holds a store's lock until it is dropped.
pub struct StoreGuard {
    _held: Option<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for StoreGuard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StoreGuard")
    }
}

impl StoreGuard {
    /// Of a value whose drop releases the lock.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self { _held: Some(Box::new(held)) }
    }

    /// Of a store without a lock.
    pub const fn none() -> Self {
        Self { _held: None }
    }
}

/// Where a session's tokens lie. Several clients, in one process or in several, may
/// share one store and so one session.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync {
    /// The tokens that are there.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn load(&self) -> Result<Option<SessionTokens>, StoreError>;

    /// Puts `next` in place of `expected`, or removes it. False, and nothing is changed,
    /// where something else is there by now; refresh tokens tell. Called with the lock
    /// held, where there is one.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn replace(&self, expected: Option<&SessionTokens>, next: Option<&SessionTokens>)
    -> Result<bool, StoreError>;

    /// The tokens that can be read of what [`SessionStore::load`] refuses as malformed or
    /// exposed: their session is ended when it is replaced.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn salvage(&self) -> Result<Option<SessionTokens>, StoreError> {
        Ok(None)
    }

    /// Puts `next` in place of whatever is there, readable or not, or removes it. Called
    /// with the lock held, where [`SessionStore::load`] says malformed or exposed.
    ///
    /// # Errors
    /// [`StoreError`]; without an implementation [`StoreError::Malformed`].
    async fn overwrite(&self, next: Option<&SessionTokens>) -> Result<(), StoreError> {
        let _ = next;
        Err(StoreError::Malformed)
    }

    /// Keeps others from renewing the session until the guard is dropped. It is held
    /// over a refresh. A store that has no lock relies on `replace` alone: two processes
    /// may then spend one token at the same time, and the one that lost reloads.
    ///
    /// # Errors
    /// [`StoreError::Busy`], after a bounded wait.
    async fn lock(&self) -> Result<StoreGuard, StoreError> {
        Ok(StoreGuard::none())
    }
}

/// Whether a store's content is what a caller expects.
pub(super) fn is_expected(there: Option<&SessionTokens>, expected: Option<&SessionTokens>) -> bool {
    there.map(|tokens| &tokens.refresh_token) == expected.map(|tokens| &tokens.refresh_token)
}

/// Tokens in memory, for as long as the process lives. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryStore {
    held: Arc<tokio::sync::Mutex<Option<SessionTokens>>>,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MemoryStore")
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn load(&self) -> Result<Option<SessionTokens>, StoreError> {
        Ok(self.held.lock().await.clone())
    }

    async fn replace(
        &self,
        expected: Option<&SessionTokens>,
        next: Option<&SessionTokens>,
    ) -> Result<bool, StoreError> {
        let mut held = self.held.lock().await;
        let may = is_expected(held.as_ref(), expected);
        if may {
            *held = next.cloned();
        }
        Ok(may)
    }

    async fn lock(&self) -> Result<StoreGuard, StoreError> {
        Ok(StoreGuard::new(Arc::clone(&self.lock).lock_owned().await))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_a_store_says_what_to_look_at() {
        for (error, code, text) in [
            (StoreError::Busy, "store_busy", "locked"),
            (StoreError::Malformed, "store_malformed", "log in again, which replaces it"),
            (StoreError::Exposed, "store_exposed", "log in again, which ends that session"),
            (StoreError::Exposed, "store_exposed", "chmod it to 600"),
            (StoreError::Io(std::io::ErrorKind::StorageFull), "store_failed", "storage"),
            (StoreError::Other("the card is not there"), "store_failed", "the card is not there"),
        ] {
            assert_eq!(error.code(), code);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn tokens_are_renewed_before_they_end_however_short_they_live() {
        let set = |expires_in| {
            let user = serde_json::json!({
                "id": uuid::Uuid::nil(), "email": "", "created_at": "2026-01-01T00:00:00Z",
                "updated_at": "2026-01-01T00:00:00Z",
            });
            serde_json::from_value::<TokenSet>(serde_json::json!({
                "access_token": "a", "refresh_token": "r", "expires_in": expires_in, "user": user,
            }))
            .unwrap()
        };
        let start = OffsetDateTime::UNIX_EPOCH;
        for (expires_in, renewed_after) in [(900, 870), (150, 120), (100, 80), (10, 8), (0, 0)] {
            let tokens = SessionTokens::from_set(&set(expires_in), start, None);
            assert_eq!(tokens.renew_at, start + Duration::seconds(renewed_after), "{expires_in}");
        }
        let endless = SessionTokens::from_set(&set(i64::MAX), start, None);
        assert_eq!(endless.expires_at, start + Duration::seconds(LIFE_MOST_S));

        let before = SessionTokens::from_set(&set(900), start, None);
        let set_back = SessionTokens::from_set(&set(900), start - Duration::HOUR, Some(&before));
        assert_eq!(set_back.issued_at, start + Duration::MILLISECOND);
    }
}
