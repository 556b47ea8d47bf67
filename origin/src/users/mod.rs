//! The user service: profiles.
//!
//! It takes identity from the gateway's assertion, and calls of services by their token, never from
//! a bare header. Addresses and names are changed in the auth service first, which keeps addresses
//! unique, and then copied here.

mod access;
mod cursor;
mod keys;
mod routes;

use std::sync::Arc;

use axum::extract::FromRef;
use portcullis_client::{internal::InternalClient, jwks::JwksVerifier};

pub use keys::service_verifier;
pub use routes::{app, description};

use crate::{
    clock::Clock,
    http::{GatewayAuth, Metrics},
    operations::Operations,
    store::{Database, Profiles},
};

/// Name of this service, as caller and as audience.
pub const SERVICE: &str = "user-service";

/// State of the user service.
#[derive(Debug, Clone)]
pub struct Users {
    /// Database, for readiness.
    pub database: Database,
    /// Profiles.
    pub profiles: Profiles,
    /// Client of the auth service.
    pub auth: Arc<InternalClient>,
    /// Services that may read profiles, besides the auth service.
    pub readers: Arc<[String]>,
    /// `iss` of service tokens.
    pub issuer: Arc<str>,
    /// Verifies service tokens.
    pub keys: Arc<JwksVerifier>,
    /// Metrics.
    pub metrics: Metrics,
    /// Gateway in front of this service.
    pub gateway: GatewayAuth,
    /// Clock.
    pub clock: Clock,
}

impl FromRef<Users> for Operations {
    fn from_ref(users: &Users) -> Self {
        Self {
            database: users.database.clone(),
            metrics: users.metrics.clone(),
            outbox: None,
            clock: users.clock.clone(),
        }
    }
}
