//! What a Rust program needs to live behind, or beside, the gateway.
//!
//! - [`assertion`]: the check of `X-Gateway-Assertion`, by which an origin knows
//!   who a request is from; pure.
//! - `extract`, with the feature `axum`: the same as layers and extractors.
//! - [`internal`]: calls between the auth and the user service, with service
//!   tokens that are fetched and kept.
//! - [`secret`]: text that does not print.

pub mod assertion;
#[cfg(feature = "axum")]
pub mod extract;
pub mod internal;
pub mod secret;

// The page's Rust is compiled with the documentation's tests.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../docs/assertion.md")]
mod assertion_page {}
