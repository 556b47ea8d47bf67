//! Key sets (RFC 7517): which keys are usable, how long a set may be used, and when to fetch it.
//!
//! The caller fetches, reads the store and tells the time.

mod curve;
mod discovery;
mod fetched;
pub(crate) mod jwk;
mod jwks;
pub mod limits;
mod plan;
mod signing;

pub use discovery::{discovery_url, parse_discovery};
pub use fetched::{FetchedKeySet, fresh_ms};
pub use jwk::Key;
pub use jwks::{KeyQuery, KeySet, KeySetError};
pub use plan::{IssuerKeys, KeyFetch, KeyPlan, plan};
pub use signing::{SigningKey, key_set, parse_signing_keys};
