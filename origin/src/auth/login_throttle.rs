//! The wait that wrong passwords impose on the next login (NIST SP 800-63B, section 5.2.2:
//! rate limiting). An owner at a known address is never delayed by guesses from other networks. Pure.

use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256};
use uuid::Uuid;

use crate::{limits, store::login_failures::FailureCount};

/// Attempts that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bucket<'a> {
    /// Logins from all networks that the account does not know.
    Unknown {
        /// Normalised e-mail address, or the text that was sent instead of one.
        email: &'a str,
    },
    /// Logins from one network.
    Network {
        /// As in [`Self::Unknown`].
        email: &'a str,
        /// The network, if the gateway asserts an address.
        address: Option<IpAddr>,
    },
    /// One user's changes of the e-mail address. Each reveals whether an address is taken.
    EmailChanges {
        /// The user.
        user: Uuid,
    },
}

impl Bucket<'_> {
    /// Key in the database: a hash, so that the addresses that were tried are not stored.
    pub(super) fn key(&self) -> [u8; 32] {
        match self {
            Self::Unknown { email } => sha256(&[b"strangers", email.as_bytes()]),
            Self::Network { email, address } => {
                let address = address.map(|address| address.to_string()).unwrap_or_default();
                sha256(&[b"network", email.as_bytes(), address.as_bytes()])
            }
            Self::EmailChanges { user } => sha256(&[b"email changes", user.as_bytes()]),
        }
    }
}

/// Hash under which a network of an account's logins is stored. The address itself would reveal
/// where a person lives.
pub(super) fn known_address(account: Uuid, address: IpAddr) -> [u8; 32] {
    sha256(&[account.as_bytes(), address.to_string().as_bytes()])
}

/// Hashes parts, each preceded by its length: different lists of parts never hash the same text.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    bytes
}

/// Number of failures that still count.
pub(super) fn count(before: Option<FailureCount>, now: i64) -> i64 {
    let kept = before.filter(|failures| now.saturating_sub(failures.last_at) < limits::FAILURES_KEPT_MS);
    kept.map_or(0, |failures| failures.count)
}

/// Milliseconds until the next attempt is allowed, where `free` failures have no delay; 0 for at once.
pub(super) fn wait_ms(before: Option<FailureCount>, free: i64, now: i64) -> i64 {
    let delay = delay(count(before, now), free);
    // The clock of another process may be ahead: the wait never exceeds the rule's.
    before.map_or(0, |failures| failures.last_at.saturating_add(delay).saturating_sub(now).clamp(0, delay))
}

/// Milliseconds between the last of so many failures in a row and the next attempt.
fn delay(failures: i64, free: i64) -> i64 {
    let beyond = failures.saturating_sub(free);
    if beyond < 0 {
        return 0;
    }
    let factor = u32::try_from(beyond).ok().and_then(|beyond| 2_i64.checked_pow(beyond)).unwrap_or(i64::MAX);
    limits::FAILURE_DELAY_MS.saturating_mul(factor).min(limits::FAILURE_DELAY_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_the_fifth_failure_on_each_doubles_the_wait_up_to_a_minute() {
        for (failures, seconds) in [
            (1, 0),
            (4, 0),
            (5, 1),
            (6, 2),
            (7, 4),
            (8, 8),
            (9, 16),
            (10, 32),
            (11, 60),
            (12, 60),
            (1000, 60),
            (i64::MAX, 60),
            (i64::MIN, 0),
        ] {
            assert_eq!(delay(failures, limits::FAILURES_FREE), seconds * 1000, "{failures} failures");
        }
    }

    #[test]
    fn an_attempt_waits_for_the_rest_of_the_delay() {
        const KEPT: i64 = 15 * 60 * 1000;
        let now = 1_800_000_000_000;
        let failed = |count, ago: i64| Some(FailureCount { count, last_at: now - ago });
        for (before, expected) in [
            (None, 0),
            (failed(4, 0), 0),
            (failed(5, 0), 1000),
            (failed(5, 999), 1),
            (failed(5, 1000), 0),
            (failed(6, 1000), 1000),
            (failed(40, 0), 60_000),
            (failed(40, 60_000), 0),
            (failed(40, KEPT), 0),
            // A clock that is ahead.
            (failed(5, -1_000_000), 1000),
            (failed(1, -1_000_000), 0),
            (Some(FailureCount { count: i64::MAX, last_at: i64::MAX }), 60_000),
            (Some(FailureCount { count: 9, last_at: i64::MIN }), 0),
        ] {
            assert_eq!(wait_ms(before, limits::FAILURES_FREE, now), expected, "{before:?}");
        }
    }

    #[test]
    fn no_two_buckets_share_a_key() {
        let (one, two) = ("192.0.2.1".parse().ok(), "192.0.2.2".parse().ok());
        let keys = [
            Bucket::Unknown { email: "ada@example.com" },
            Bucket::Unknown { email: "ada@example.co" },
            Bucket::Network { email: "ada@example.com", address: None },
            Bucket::Network { email: "ada@example.com", address: one },
            Bucket::Network { email: "ada@example.com", address: two },
            Bucket::Network { email: "ada@example.com1", address: one },
            Bucket::Unknown { email: "ada@example.com192.0.2.1" },
        ]
        .map(|bucket| bucket.key());
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[index + 1..].contains(key), "{index}");
        }
    }
}
