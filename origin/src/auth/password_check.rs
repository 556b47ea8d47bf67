//! The check of a password, wherever one is sent: throttled, verified, and counted when wrong.
//!
//! The throttle is asked again once the check has its permit to hash, and a wrong password is
//! counted before the next check gets one. So of any number of simultaneous guesses from a network no more than
//! [`limits::FAILURES_FREE`] and those that hold a permit are hashed, while simultaneous logins
//! with the right password do not delay each other.

use std::net::IpAddr;

use portcullis_client::secret::Secret;
use portcullis_resilience::network;
use uuid::Uuid;

use super::{
    Auth,
    hash_queue::Priority,
    login_throttle::{Bucket, count, known_address, wait_ms},
};
use crate::{http::ApiError, limits, store::login_failures::Key};

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
        let is_known = match address {
            Some(address) => {
                auth.login_failures.is_known(owner, known_address(owner, address), auth.clock.now()).await?
            }
            None => false,
        };
        let throttle = Throttle {
            network: Bucket::Network { email: self.email, address }.key(),
            // Strangers must not delay a session's owner. Its own guesses are counted by network.
            all: (!is_known && !self.has_session).then(|| Bucket::Unknown { email: self.email }.key()),
        };
        // A throttled attempt must not take a place in the queue.
        throttle.check(auth).await?;
        let is_known = self.has_session || is_known;
        let permit = auth.passwords.acquire(if is_known { Priority::Known } else { Priority::Unknown }).await?;
        let failures = throttle.check(auth).await?;
        let (right, permit) = permit.verify(password, self.account.map(|(_, hash)| hash)).await?;
        if !right {
            throttle.record(auth, failures).await?;
            return Ok(false);
        }
        drop(permit);
        let address = address.map(|address| known_address(owner, address));
        if failures.network > 0 || address.is_some() {
            auth.login_failures.record_success(throttle.network, owner, address, &auth.clock).await?;
        }
        Ok(true)
    }
}

/// The buckets of an attempt.
struct Throttle {
    network: Key,
    /// That of all unknown networks, for an attempt from one of them.
    all: Option<Key>,
}

/// Failures that still count.
struct Failures {
    network: i64,
    all: i64,
}

impl Throttle {
    /// Returns the failures if an attempt is allowed now.
    async fn check(&self, auth: &Auth) -> Result<Failures, ApiError> {
        let network = auth.login_failures.find(self.network).await?;
        let all = match self.all {
            Some(key) => auth.login_failures.find(key).await?,
            None => None,
        };
        let now = auth.clock.now();
        let wait = wait_ms(network, limits::FAILURES_FREE, now).max(wait_ms(all, limits::FAILURES_FREE_OF_ALL, now));
        match wait {
            0 => Ok(Failures { network: count(network, now), all: count(all, now) }),
            wait => Err(ApiError::login_delayed(retry_after_s(wait))),
        }
    }

    /// Counts a wrong password. One from a network that is delayed already does not bring the delay of all
    /// networks nearer: a stranger in one network could keep the owner out. Once that delay applies, each
    /// one renews it.
    async fn record(&self, auth: &Auth, before: Failures) -> Result<(), ApiError> {
        let now = auth.clock.now();
        auth.login_failures.record_failure(self.network, now).await?;
        let is_delayed = before.network >= limits::FAILURES_FREE && before.all < limits::FAILURES_FREE_OF_ALL;
        match self.all {
            Some(all) if !is_delayed => Ok(auth.login_failures.record_failure(all, now).await?),
            Some(_) | None => Ok(()),
        }
    }
}

/// A wait in whole seconds, at least one.
pub(super) fn retry_after_s(wait_ms: i64) -> u64 {
    u64::try_from(wait_ms).unwrap_or_default().div_ceil(1000).max(1)
}

const _: () = assert!(limits::FAILURE_DELAY_MAX_MS < limits::FAILURES_KEPT_MS, "a wait outlives its failures");
