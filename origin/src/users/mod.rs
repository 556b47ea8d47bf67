//! The user service: profiles.
//!
//! Takes identity from the gateway's assertion and calls from the auth service
//! by its token; a bare header is nothing. Addresses and names are changed in
//! the auth service first, which keeps addresses unique, and then here.

mod keys;
mod listing;
mod profile;
mod routes;

use std::sync::Arc;

use portcullis_client::internal::InternalClient;

pub use keys::FetchedKeys;
pub use routes::{app, description};

use crate::{
    clock::Clock,
    http::{GatewayAuth, Metrics},
    store::{Database, Profiles},
};

/// This service, as caller and as audience.
pub const SERVICE: &str = "user-service";

/// Everything that a handler of the user service works with.
#[derive(Debug, Clone)]
pub struct Users {
    /// The database, for readiness.
    pub database: Database,
    /// Profiles.
    pub profiles: Profiles,
    /// The line to the auth service.
    pub auth: Arc<InternalClient>,
    /// Services that may read profiles, besides the auth service.
    pub readers: Arc<[String]>,
    /// Checks service tokens.
    pub keys: Arc<FetchedKeys>,
    /// What is counted.
    pub metrics: Metrics,
    /// The gateway before us.
    pub gateway: GatewayAuth,
    /// The time.
    pub clock: Clock,
}
