//! From JWKS bytes and a time to a key, or to a plan for getting one.
//!
//! Owns what a key set is (RFC 7517), which keys of it are fit for use, how old
//! a set may be, and when an issuer may be asked again. Touches nothing: the
//! fetching, the KV reads and the clock are the gate's ports.

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
