//! The check of a password, wherever one is sent: throttled, verified, and counted when wrong.
//!
//! The throttle is asked again once the check has its permit to hash, and a wrong password is
//! counted before the next check gets one. So of any number of simultaneous guesses no more than
//! [`limits::FAILURES_FREE`] and those that hold a permit are hashed, while simultaneous logins
//! with the right password do not delay each other.

use std::net::IpAddr;

use portcullis_client::secret::Secret;
use portcullis_resilience::network;
use uuid::Uuid;

use super::{
    Auth,
    hash_queue::Priority,
    login_throttle::{Bucket, known_address, wait_ms},
};
use crate::{
    http::ApiError,
    limits,
    store::login_failures::{FailureCount, Key},
};

/// The answer to a wrong password and to an unknown account alike.
pub(super) const INVALID_CREDENTIALS: ApiError = ApiError::invalid_credentials();

/// A password check: for which account, and who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct PasswordCheck<'a> {
    /// Normalised e-mail address, or the text that was sent instead of one.
    pub(super) email: &'a str,
    /// The account with this address and its password's PHC string, if there is one.
    pub(super) account: Option<(Uuid, &'a str)>,
    /// Network address, as the gateway asserts it.
    pub(super) address: Option<IpAddr>,
    /// Whether the request belongs to a session of the account, which has priority in the queue.
    pub(super) has_session: bool,
}

impl PasswordCheck<'_> {
    /// Requires the right password. Time, count and answer are the same for a wrong password and
    /// for an account that does not exist.
    ///
    /// # Errors
    /// 401 for a wrong password; 429, without any hashing, while attempts must wait; 503.
    pub(super) async fn require(&self, auth: &Auth, password: &Secret) -> Result<(), ApiError> {
        if self.is_right(auth, password).await? { Ok(()) } else { Err(INVALID_CREDENTIALS) }
    }

    /// Verifies the password, for callers with an answer of their own to a wrong one.
    ///
    /// # Errors
    /// 429 and 503, as [`Self::require`].
    pub(super) async fn is_right(&self, auth: &Auth, password: &Secret) -> Result<bool, ApiError> {
        let address = self.address.map(network);
        let owner = self.account.map_or(Uuid::nil(), |(id, _)| id);
        let bucket = match address {
            Some(address)
                if auth.login_failures.is_known(owner, known_address(owner, address), auth.clock.now()).await? =>
            {
                Bucket::Known { email: self.email, address }
            }
            Some(_) | None => Bucket::Unknown { email: self.email },
        };
        let key = bucket.key();
        // A throttled attempt must not take a place in the queue.
        throttle(auth, key).await?;
        let is_known = self.has_session || matches!(bucket, Bucket::Known { .. });
        let permit = auth.passwords.acquire(if is_known { Priority::Known } else { Priority::Unknown }).await?;
        let failures = throttle(auth, key).await?;
        let (right, permit) = permit.verify(password, self.account.map(|(_, hash)| hash)).await?;
        if !right {
            auth.login_failures.record_failure(key, auth.clock.now()).await?;
            return Ok(false);
        }
        drop(permit);
        let address = address.map(|address| known_address(owner, address));
        if failures.is_some() || address.is_some() {
            auth.login_failures.record_success(key, owner, address, &auth.clock).await?;
        }
        Ok(true)
    }
}

/// Returns the failures counted in a bucket, if an attempt is allowed now.
async fn throttle(auth: &Auth, key: Key) -> Result<Option<FailureCount>, ApiError> {
    let failures = auth.login_failures.find(key).await?;
    match wait_ms(failures, auth.clock.now()) {
        0 => Ok(failures),
        wait => Err(ApiError::login_delayed(retry_after_s(wait))),
    }
}

/// A wait in whole seconds, at least one.
pub(super) fn retry_after_s(wait_ms: i64) -> u64 {
    u64::try_from(wait_ms).unwrap_or_default().div_ceil(1000).max(1)
}

const _: () = assert!(limits::FAILURE_DELAY_MAX_MS < limits::FAILURES_KEPT_MS, "a wait outlives its failures");
