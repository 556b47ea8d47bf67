//! Portcullis, an API gateway at the edge: the Worker.
//!
//! - [`pipeline`]: the steps of a request, the services that they use, and their ports; pure.
//! - `host`: wasm32 only; the runtime behind the ports. Nothing imports it.
//!
//! The policy is in `portcullis_policy`, tokens, keys and revocation are in `portcullis_token`.
//! docs/decisions has the reasons.

pub mod pipeline;

#[cfg(target_arch = "wasm32")]
mod host;
