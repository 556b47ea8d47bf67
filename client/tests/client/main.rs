//! The client against servers on local sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics has failed, which is its purpose"
)]

mod answers;
mod breaker;
mod cache;
mod calls;
mod fake;
mod internal;
mod jwks;
mod lists;
mod mock;
mod renewal;
mod replaced;
mod retries;
mod service;
mod service_calls;
mod sharing;
mod traces;
mod versions;
