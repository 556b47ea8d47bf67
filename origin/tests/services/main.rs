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

mod accounts;
mod app;
mod audit;
mod backup;
mod budgets;
mod client_library;
mod clocks;
mod command_line;
mod crash;
mod crowd;
mod direct;
mod disk_full;
mod door;
mod erased;
mod flood;
mod guessing;
mod hosts;
mod internal;
mod leaked_key;
mod listing;
mod metrics;
mod openapi;
mod ownership;
mod passwords;
#[cfg(target_os = "linux")]
mod peers;
mod preconditions;
mod profiles;
mod registration;
mod revocations;
mod rights;
mod roles;
mod saga;
mod services;
mod session_list;
mod sessions;
mod signing;
mod silence;
mod starting;
mod tls;
mod together;
mod unicode;
