//! Where the tokens of a session are kept between calls and between processes.

use std::{any::Any, fmt, sync::Arc};

use async_trait::async_trait;
use time::{Duration, OffsetDateTime};

use crate::{account::TokenSet, error::StoreError, secret::Secret};

/// A token is renewed this long before it expires, so that it does not expire on its way.
const AHEAD: Duration = Duration::seconds(30);

/// A short-lived token is renewed after four fifths of its lifetime instead.
const LIFETIME_PARTS: i32 = 5;

/// The longest lifetime that is accepted: ten years, so that sums stay in range.
const LONGEST_LIFETIME_S: i64 = 10 * 365 * 24 * 60 * 60;

/// The longest wait for the lock of a store: somewhat more than a refresh may take.
pub(super) const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// The tokens of a session and their times, by this machine's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTokens {
    /// Sent with each request.
    pub access_token: Secret,
    /// Sent once, for the next pair.
    pub refresh_token: Secret,
    /// When the access token expires.
    pub expires_at: OffsetDateTime,
    /// When the access token is to be renewed.
    pub renew_at: OffsetDateTime,
    /// When the tokens were requested, in whole milliseconds, and always after their predecessors:
    /// orders two pairs even if a clock is set back.
    pub issued_at: OffsetDateTime,
}

impl SessionTokens {
    /// Returns the tokens of an answer that was requested at `asked_at` and replaces `before`.
    pub fn from_set(set: &TokenSet, asked_at: OffsetDateTime, before: Option<&Self>) -> Self {
        let asked_at = asked_at.replace_millisecond(asked_at.millisecond()).unwrap_or(asked_at);
        let seconds = i64::try_from(set.expires_in).unwrap_or(LONGEST_LIFETIME_S).min(LONGEST_LIFETIME_S);
        let lifetime = Duration::seconds(seconds);
        let ahead = AHEAD.min(lifetime.checked_div(LIFETIME_PARTS).unwrap_or(AHEAD));
        let expires_at = asked_at.saturating_add(lifetime);
        let after = before.map(|before| before.issued_at.saturating_add(Duration::MILLISECOND));
        Self {
            access_token: set.access_token.clone(),
            refresh_token: set.refresh_token.clone(),
            expires_at,
            renew_at: expires_at.saturating_sub(ahead),
            issued_at: after.map_or(asked_at, |after| after.max(asked_at)),
        }
    }

    /// Whether these are other tokens than `other`, and not older.
    pub(super) fn is_newer(&self, other: &Self) -> bool {
        self.access_token != other.access_token && self.issued_at >= other.issued_at
    }
}

/// Holds the lock of a store until it is dropped.
pub struct StoreGuard {
    _lock: Option<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for StoreGuard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StoreGuard")
    }
}

impl StoreGuard {
    /// Returns a guard of a value that releases the lock when it is dropped.
    pub fn new(lock: impl Any + Send + Sync) -> Self {
        Self { _lock: Some(Box::new(lock)) }
    }

    /// Returns a guard for a store without a lock.
    pub const fn none() -> Self {
        Self { _lock: None }
    }
}

/// Keeps the tokens of one session. Several clients, in one or several processes, may share a
/// store and with it a session.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync {
    /// Returns the stored tokens.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn load(&self) -> Result<Option<SessionTokens>, StoreError>;

    /// Replaces `expected` by `next`, or removes it. Returns false and changes nothing if the store
    /// holds something else; refresh tokens are compared. The caller holds the lock, if there is
    /// one.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn replace(&self, expected: Option<&SessionTokens>, next: Option<&SessionTokens>)
    -> Result<bool, StoreError>;

    /// Returns the tokens that can still be read when [`SessionStore::load`] fails as malformed or
    /// exposed: their session is ended when it is replaced.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn salvage(&self) -> Result<Option<SessionTokens>, StoreError> {
        Ok(None)
    }

    /// Replaces the content by `next`, readable or not, or removes it. Called with the lock held,
    /// when [`SessionStore::load`] fails as malformed or exposed.
    ///
    /// # Errors
    /// [`StoreError`]; the default implementation fails with [`StoreError::Malformed`].
    async fn overwrite(&self, next: Option<&SessionTokens>) -> Result<(), StoreError> {
        let _ = next;
        Err(StoreError::Malformed)
    }

    /// Keeps others from renewing the session until the guard is dropped. The lock is held during a
    /// refresh. A store without a lock relies on `replace` alone: two processes may then spend one
    /// token at the same time, and the one that loses reloads.
    ///
    /// # Errors
    /// [`StoreError::Busy`], after a bounded wait.
    async fn lock(&self) -> Result<StoreGuard, StoreError> {
        Ok(StoreGuard::none())
    }
}

/// Whether the stored tokens are those that a caller expects.
pub(super) fn is_expected(stored: Option<&SessionTokens>, expected: Option<&SessionTokens>) -> bool {
    stored.map(|tokens| &tokens.refresh_token) == expected.map(|tokens| &tokens.refresh_token)
}

/// Tokens in memory, for the lifetime of the process. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryStore {
    tokens: Arc<tokio::sync::Mutex<Option<SessionTokens>>>,
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
        Ok(self.tokens.lock().await.clone())
    }

    async fn replace(
        &self,
        expected: Option<&SessionTokens>,
        next: Option<&SessionTokens>,
    ) -> Result<bool, StoreError> {
        let mut stored = self.tokens.lock().await;
        let is_expected = is_expected(stored.as_ref(), expected);
        if is_expected {
            *stored = next.cloned();
        }
        Ok(is_expected)
    }

    async fn lock(&self) -> Result<StoreGuard, StoreError> {
        let lock = Arc::clone(&self.lock).lock_owned();
        let guard = tokio::time::timeout(LOCK_WAIT, lock).await.map_err(|_| StoreError::Busy)?;
        Ok(StoreGuard::new(guard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_the_lock_of_a_store_in_memory_is_bounded() {
        let store = MemoryStore::default();
        let held = store.lock().await.unwrap();
        assert_eq!(store.lock().await.unwrap_err(), StoreError::Busy);
        drop(held);
        store.lock().await.unwrap();
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
        assert_eq!(endless.expires_at, start + Duration::seconds(LONGEST_LIFETIME_S));

        let before = SessionTokens::from_set(&set(900), start, None);
        let set_back = SessionTokens::from_set(&set(900), start - Duration::HOUR, Some(&before));
        assert_eq!(set_back.issued_at, start + Duration::MILLISECOND);
    }
}
