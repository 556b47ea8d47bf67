//! Key sets (RFC 7517): which keys are usable, how long a set may be used, and when to fetch it.
//!
//! The caller fetches, reads the store and tells the time.

mod curve;
mod discovery;
mod fetched;
mod freshness;
mod jwk;
mod jwks;
pub mod limits;
mod plan;

pub use discovery::{DiscoveryError, discovery_url, parse_discovery};
pub use fetched::FetchedKeySet;
pub use freshness::fresh_ms;
pub use jwk::Key;
pub use jwks::{JwksError, KeyQuery, KeySet};
pub use plan::{IssuerKeys, KeyFetch, KeyPlan, KeyStanding, plan};
