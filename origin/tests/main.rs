//! Both services over real sockets and real SQLite files, with a clock that a
//! test can move. What they do behind the real gateway is in `tests/stack`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics has failed, which is its purpose"
)]

mod support;

mod routes;

mod api_key_push;
mod backup;
mod client_library;
mod clocks;
mod command_line;
mod concurrency;
mod concurrent_start;
#[cfg(target_os = "linux")]
mod connections;
mod crash;
mod dead_connections;
mod direct_mode;
mod disk_full;
mod erasure;
mod fields;
mod flood;
mod key_revocation;
mod master_key;
mod password_hashes;
mod problem_documents;
mod profile_sync;
mod revocation_push;
mod settings;
mod several_hosts;
mod start;
mod stored_secrets;
mod time_limits;
mod tls;
mod unicode;
