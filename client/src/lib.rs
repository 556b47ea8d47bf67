//! What a Rust program needs to live behind, or beside, the gateway.
//!
//! - [`http`]: the client of the gateway's API, [`account::AuthClient`] over HTTP.
//! - [`session`]: a session that refreshes itself, over tasks and processes.
//! - [`account`], [`admin`]: the calls and what they speak of; [`request`]: any other.
//! - [`error`]: why a call failed.
//! - `mock`, with the feature `mock`: a fake service for tests.
//! - [`assertion`]: the check of `X-Gateway-Assertion`, by which an origin knows
//!   who a request is from; pure.
//! - `extract`, with the feature `axum`: the same as layers and extractors.
//! - [`internal`]: calls between the auth and the user service, with service
//!   tokens that are fetched and kept.
//! - [`secret`]: text that does not print.

pub mod account;
pub mod admin;
pub mod assertion;
pub mod error;
#[cfg(feature = "axum")]
pub mod extract;
pub mod http;
pub mod internal;
#[cfg(feature = "mock")]
pub mod mock;
pub mod request;
pub mod secret;
pub mod session;

// The page's Rust is compiled with the documentation's tests.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../docs/assertion.md")]
mod assertion_page {}
