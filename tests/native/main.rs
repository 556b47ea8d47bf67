//! Native tests of the public functions of the crates, and of the whole gateway with fake ports.

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

mod access;
mod answers;
mod api_keys;
mod asserted_claims;
mod assertion;
mod assertion_keys;
mod authorizers;
mod bindings;
mod claims;
mod conditions;
mod config;
mod config_mistakes;
mod config_variants;
mod content_digest;
mod corpus;
mod credentials;
mod decisions;
mod denials;
mod events;
mod fakes;
mod headers;
mod introspection;
mod json_schema;
mod key_cache;
mod keys;
mod keysets;
mod limits;
mod metrics;
mod operators;
mod parsers;
mod pipeline;
mod proofs;
mod providers;
mod records;
mod redact;
mod reference;
mod refusals;
mod reserved;
mod resilience;
mod resources;
mod revocation_cache;
mod revocation_push;
mod revocations;
mod rfc;
mod rules;
mod schema;
mod signer;
mod spans;
mod table;
mod target;
mod token_cache;
mod token_sources;
mod tokens;
mod upstreams;
mod validation;
mod wire;
mod wycheproof;
