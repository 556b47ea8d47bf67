//! The sum of the time limits within a request is below the time that its caller waits.

use std::time::Duration;

use portcullis_client::internal::{HASHING_TIME, HASHING_WHOLE_TIME, WHOLE_TIME};
use portcullis_origin::limits;

/// Time of steps without a limit: a hash, and the network.
const REST: Duration = Duration::from_millis(500);

/// Returns how long the gateway waits for an upstream, from its policy.
fn gateway_waits(upstream: &str) -> Duration {
    let policy = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../gateway.toml")).unwrap();
    let table = policy.split(&format!("[upstreams.{upstream}]")).nth(1).unwrap();
    let line = table.lines().find(|line| line.starts_with("timeout_ms")).unwrap();
    let value = line.split('=').nth(1).unwrap().split('#').next().unwrap();
    Duration::from_millis(value.trim().parse().unwrap())
}

#[test]
fn the_gateway_waits_longer_than_a_service_takes() {
    for upstream in ["auth", "users"] {
        let takes = limits::REQUEST_TIME + limits::AUDIT_WAIT + REST;
        assert!(takes < gateway_waits(upstream), "{upstream}: {takes:?}");
    }
}

#[test]
fn the_time_limit_of_a_request_covers_all_of_its_waits() {
    for (what, takes) in [
        ("a registration", limits::HASH_WAIT + WHOLE_TIME),
        ("a user's call that hashes a password", HASHING_WHOLE_TIME),
        ("a user's call that does not", WHOLE_TIME),
        ("a login right after a revocation", limits::HASH_WAIT + limits::ISSUE_WAIT),
        ("a wait for the database", 3 * limits::STORE_WAIT),
    ] {
        assert!(takes + REST <= limits::REQUEST_TIME, "{what}: {takes:?}");
    }
    assert!(limits::HASH_WAIT + WHOLE_TIME + REST <= HASHING_TIME, "the making of an account at the auth service");
}
