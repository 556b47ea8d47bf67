//! How long a further try of a password must wait after so many wrong ones (NIST
//! SP 800-63B, section 5.2.2: rate limiting; no lock-out, which a stranger could bring
//! about). Pure.

use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256};
use uuid::Uuid;

use crate::{limits, store::login_failures::FailureCount};

/// Who is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bucket<'a> {
    /// All from where nobody has logged in to the account, who slow each other down.
    Strangers {
        /// Normalised e-mail address, or what was sent in its place.
        email: &'a str,
    },
    /// One network address from which the account's owner logged in before.
    Known {
        /// Normalised e-mail address.
        email: &'a str,
        /// The network.
        address: IpAddr,
    },
    /// One user's changes of the e-mail address. Each tells whether an address is taken.
    EmailChanges {
        /// The user.
        user: Uuid,
    },
}

impl Bucket<'_> {
    /// Its name in the database: a hash, so that no address is stored that somebody tried.
    pub(super) fn key(&self) -> [u8; 32] {
        match self {
            Self::Strangers { email } => sha256(&[b"strangers", email.as_bytes()]),
            Self::Known { email, address } => sha256(&[b"known", email.as_bytes(), address.to_string().as_bytes()]),
            Self::EmailChanges { user } => sha256(&[b"email changes", user.as_bytes()]),
        }
    }
}

/// What is stored of a network address from which an account was logged in to. Not the
/// address itself, which says where a person lives.
pub(super) fn known_address(account: Uuid, address: IpAddr) -> [u8; 32] {
    sha256(&[account.as_bytes(), address.to_string().as_bytes()])
}

/// Each part behind its length: no two lists of parts are one text.
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

/// Milliseconds until a password may be tried: 0 for at once.
pub(super) fn wait(before: Option<FailureCount>, now: i64) -> i64 {
    let Some(before) = before.filter(|failures| now.saturating_sub(failures.last_at) < limits::FAILURES_KEPT_MS) else {
        return 0;
    };
    let delay = delay(before.count);
    // Another process's clock may be ahead: nobody waits longer than the rule says.
    before.last_at.saturating_add(delay).saturating_sub(now).clamp(0, delay)
}

/// Milliseconds between a failure, so many in a row, and the next try.
fn delay(failures: i64) -> i64 {
    let beyond = failures.saturating_sub(limits::FAILURES_FREE);
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
            assert_eq!(delay(failures), seconds * 1000, "{failures} failures");
        }
    }

    #[test]
    fn a_try_waits_for_what_is_left() {
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
            assert_eq!(wait(before, now), expected, "{before:?}");
        }
    }

    #[test]
    fn no_two_buckets_share_a_key() {
        let (one, two) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let keys = [
            Bucket::Strangers { email: "ada@example.com" },
            Bucket::Strangers { email: "ada@example.co" },
            Bucket::Known { email: "ada@example.com", address: one },
            Bucket::Known { email: "ada@example.com", address: two },
            Bucket::Known { email: "ada@example.com1", address: one },
            Bucket::Strangers { email: "ada@example.com192.0.2.1" },
        ]
        .map(|bucket| bucket.key());
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[index + 1..].contains(key), "{index}");
        }
    }
}
