//! Native tests over the public face of the rooms: the whole gate with fakes
//! behind its ports, the policy's checks, and the arrows between the rooms.

#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "a test that panics has failed, which is its purpose"
)]

mod answers;
mod assertion;
mod claims;
mod config;
mod corpus;
mod credentials;
mod decisions;
mod fakes;
mod flow;
mod keys;
mod keysets;
mod limits;
mod metrics;
mod parsers;
mod providers;
mod records;
mod reference;
mod remembered;
mod revocation_cache;
mod revocation_push;
mod revocations;
mod rfc;
mod rules;
mod schema;
mod signer;
mod spans;
mod tokens;
mod upstreams;
mod wycheproof;
