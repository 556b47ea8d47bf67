//! One try of a password, wherever it is tried: let in or told to wait, counted, checked,
//! and forgotten when it was right.
//!
//! A try is counted as wrong before its hash is computed. Counting afterwards would let in
//! as many at one instant as there are connections; so it is never more than
//! [`limits::FAILURES_FREE`](crate::limits::FAILURES_FREE).

use std::net::IpAddr;

use portcullis_client::secret::Secret;
use uuid::Uuid;

use super::{
    Auth,
    guessing::{Bucket, admit, known_address, network},
};
use crate::{http::ApiError, limits};

/// Whoever tries a password learns no more than this.
pub(super) const INVALID_CREDENTIALS: ApiError =
    ApiError::unauthorized("invalid_credentials", "Invalid email or password");

/// What somebody says of themselves, and what there is to compare it with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    /// Normalised e-mail address, or what was sent in its place.
    pub(super) email: &'a str,
    /// The account with this address and its password's PHC string, if there is one.
    pub(super) account: Option<(Uuid, &'a str)>,
    /// The network address that the gateway vouches for.
    pub(super) address: Option<IpAddr>,
}

/// Checks a password. The work, the count and the answer are the same for a wrong password
/// and an account that is not there.
///
/// # Errors
/// 401 for a wrong one; 429 while tries must wait, without any hashing; 503.
pub(super) async fn verify(auth: &Auth, attempt: &Attempt<'_>, password: &Secret) -> Result<(), ApiError> {
    let address = attempt.address.map(network);
    let owner = attempt.account.map_or(Uuid::nil(), |(id, _)| id);
    let bucket = match address {
        Some(address) if auth.guessing.is_known(owner, known_address(owner, address), auth.clock.now()).await? => {
            Bucket::Known { email: attempt.email, address }
        }
        Some(_) | None => Bucket::Strangers { email: attempt.email },
    };
    let key = bucket.key();
    // A flood of tries that must wait anyway is told so without a lock.
    let seen = auth.guessing.failures(key).await?;
    admit(seen, auth.clock.now()).map_err(delayed)?;
    auth.guessing.count(key, &auth.clock, admit).await?.map_err(delayed)?;
    match auth.passwords.verify(password, attempt.account.map(|(_, hash)| hash)).await {
        Ok(true) => {
            let known = address.map(|address| known_address(owner, address));
            auth.guessing.succeeded(key, owner, known, &auth.clock).await?;
            Ok(())
        }
        Ok(false) => Err(INVALID_CREDENTIALS),
        Err(busy) => {
            // Nobody has learned anything of the password.
            auth.guessing.take_back(key).await?;
            Err(busy.into())
        }
    }
}

fn delayed(wait_ms: i64) -> ApiError {
    let seconds = u64::try_from(wait_ms).unwrap_or_default().div_ceil(1000);
    ApiError::rate_limited("login_delayed", "Too many failed attempts; try again later", seconds.max(1))
}

const _: () = assert!(limits::FAILURE_DELAY_MAX_MS < limits::FAILURES_KEPT_MS, "a wait outlives its failures");
