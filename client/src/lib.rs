//! What a Rust program needs to live behind, or beside, the gateway.
//!
//! - [`assertion`]: the check of `X-Gateway-Assertion`, by which an origin knows
//!   who a request is from; pure.
//! - [`internal`]: calls between the auth and the user service, with service
//!   tokens that are fetched and kept.
//! - [`secret`]: text that does not print.

pub mod assertion;
pub mod internal;
pub mod secret;
