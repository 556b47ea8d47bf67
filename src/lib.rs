//! Portcullis, a gateway at the edge.
//!
//! The map, in the order in which a request meets the rooms:
//!
//! - [`config`]: `gateway.toml` and its checks, to a `Policy`
//! - [`route`]: request head to route; canonical path, pattern, access rule
//! - [`token`]: bytes to verified claims
//! - [`keys`]: JWKS bytes and a time to a key, or a plan for getting one
//! - [`revocation`]: which tokens stopped being good early; a copy of that, and its age
//! - [`pipeline`]: the one order of things: decide, deny, forward; and its ports
//! - `host`: wasm32 only; fetch and scheduled events, KV, WebCrypto, clock, log
//!
//! `token`, `keys`, `revocation`, `route` and `config` are pure. Nobody imports `host`.
//! ARCHITECTURE.md has the reasons.

pub use portcullis_policy::{config, route};
pub use portcullis_token::{self as token, keys, revocation};

pub mod pipeline;

#[cfg(target_arch = "wasm32")]
mod host;
