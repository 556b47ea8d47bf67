#![doc = include_str!("../README.md")]

pub mod account;
pub mod admin;
pub mod assertion;
pub mod error;
#[cfg(feature = "axum")]
pub mod extract;
pub mod http;
pub mod internal;
#[cfg(feature = "jwks")]
pub mod jwks;
#[cfg(feature = "mock")]
pub mod mock;
pub mod precondition;
pub mod profile;
pub mod request;
#[cfg(feature = "openapi")]
mod schema;
pub mod secret;
pub mod service;
pub mod session;
pub mod trace;

pub use account::{AuthClient, Credentials, Registration};
pub use admin::AdminClient;
pub use error::{ClientError, ErrorKind};
pub use http::HttpAuthClient;
pub use internal::InternalClient;
pub use profile::{ProfileChange, ProfileFields};
pub use request::ApiRequest;
pub use secret::Secret;
pub use service::ServiceClient;
pub use session::{AuthenticatedClient, FileStore, MemoryStore, SessionStore};
pub use trace::TraceContext;

// Compiles the Rust of the page with the documentation tests.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../docs/assertion.md")]
mod assertion_page {}
