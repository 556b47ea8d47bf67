//! One try of a password, wherever it is tried: let in or told to wait, checked, and
//! counted when it was wrong.
//!
//! Whether to wait is asked once more when it is the try's turn to be hashed, and a wrong
//! one is counted before the next has its turn. Of any number at one instant no more than
//! [`limits::FAILURES_FREE`] and those that have a turn already are hashed, and many logins
//! at once with the right password get in each other's way by nothing.

use std::net::IpAddr;

use portcullis_client::secret::Secret;
use uuid::Uuid;

use super::{
    Auth,
    guessing::{Bucket, known_address, wait},
    turns::Priority,
};
use crate::{
    http::ApiError,
    limits,
    peers::network,
    store::login_failures::{FailureCount, Key},
};

/// Whoever tries a password learns no more than this.
pub(super) const INVALID_CREDENTIALS: ApiError = ApiError::invalid_credentials();

/// What somebody says of themselves, and what there is to compare it with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    /// Normalised e-mail address, or what was sent in its place.
    pub(super) email: &'a str,
    /// The account with this address and its password's PHC string, if there is one.
    pub(super) account: Option<(Uuid, &'a str)>,
    /// The network address that the gateway vouches for.
    pub(super) address: Option<IpAddr>,
    /// Whether a session of the account asks, which passes strangers in the queue.
    pub(super) has_session: bool,
}

/// Checks a password. The work, the count and the answer are the same for a wrong password
/// and an account that is not there.
///
/// # Errors
/// 401 for a wrong one; 429 while tries must wait, without any hashing; 503.
pub(super) async fn verify(auth: &Auth, attempt: &Attempt<'_>, password: &Secret) -> Result<(), ApiError> {
    if is_right(auth, attempt, password).await? { Ok(()) } else { Err(INVALID_CREDENTIALS) }
}

/// The same, for who answers a wrong one otherwise.
///
/// # Errors
/// 429 and 503.
pub(super) async fn is_right(auth: &Auth, attempt: &Attempt<'_>, password: &Secret) -> Result<bool, ApiError> {
    let address = attempt.address.map(network);
    let owner = attempt.account.map_or(Uuid::nil(), |(id, _)| id);
    let bucket = match address {
        Some(address)
            if auth.login_failures.is_known(owner, known_address(owner, address), auth.clock.now()).await? =>
        {
            Bucket::Known { email: attempt.email, address }
        }
        Some(_) | None => Bucket::Strangers { email: attempt.email },
    };
    let key = bucket.key();
    // Who must wait anyway takes no turn from anybody.
    let_in(auth, key).await?;
    let is_known = attempt.has_session || matches!(bucket, Bucket::Known { .. });
    let turn = auth.passwords.turn(if is_known { Priority::Known } else { Priority::Stranger }).await?;
    let seen = let_in(auth, key).await?;
    let (right, turn) = turn.verify(password, attempt.account.map(|(_, hash)| hash)).await?;
    if !right {
        auth.login_failures.record_failure(key, auth.clock.now()).await?;
        return Ok(false);
    }
    drop(turn);
    let address = address.map(|address| known_address(owner, address));
    if seen.is_some() || address.is_some() {
        auth.login_failures.record_success(key, owner, address, &auth.clock).await?;
    }
    Ok(true)
}

/// What was counted in a bucket, if a try may go on.
async fn let_in(auth: &Auth, key: Key) -> Result<Option<FailureCount>, ApiError> {
    let seen = auth.login_failures.find(key).await?;
    match wait(seen, auth.clock.now()) {
        0 => Ok(seen),
        wait_ms => Err(delayed(wait_ms)),
    }
}

fn delayed(wait_ms: i64) -> ApiError {
    let seconds = u64::try_from(wait_ms).unwrap_or_default().div_ceil(1000);
    ApiError::login_delayed(seconds.max(1))
}

const _: () = assert!(limits::FAILURE_DELAY_MAX_MS < limits::FAILURES_KEPT_MS, "a wait outlives its failures");
