#![doc = include_str!("../README.md")]

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
pub mod precondition;
pub mod request;
pub mod secret;
pub mod session;
pub mod trace;

pub use account::AuthClient;
pub use admin::AdminClient;
pub use error::ClientError;
pub use http::HttpAuthClient;
pub use secret::Secret;
pub use session::AuthenticatedClient;

// The page's Rust is compiled with the documentation's tests.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../docs/assertion.md")]
mod assertion_page {}
