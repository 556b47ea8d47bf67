//! The auth service: accounts, passwords, sessions, tokens and rights.
//!
//! It owns addresses, roles and passwords. Names are stored here, too, as a copy of the profile, so
//! that a login needs no other service.
//!
//! - [`routes`]: the HTTP routes, one module per resource
//! - `access`, `direct`, `on_behalf_of`, `services`: who asks
//! - `passwords`, `hash_queue`, `password_check`, `login_throttle`, `reauthentication`: passwords
//! - `tokens`, `refresh_tokens`, `proofs`, `keyring`: what is issued
//! - `registration`, `admins`: how accounts are made
//! - `api_keys`: keys of programs
//! - `audit_log`, `audit_events`, `audit_cap`: what is recorded
//! - `profile_delivery`, `revocation_push`, `api_key_push`, `cleanup`: background work, run by `worker`

mod access;
mod admins;
mod api_key_push;
mod api_keys;
mod audit_cap;
mod audit_events;
mod audit_log;
mod cleanup;
mod direct;
mod gateway_client;
mod hash_queue;
mod keyring;
mod login_throttle;
mod on_behalf_of;
mod password_check;
mod passwords;
mod profile_delivery;
mod proofs;
mod reauthentication;
mod refresh_tokens;
mod registration;
mod revocation_push;
mod routes;
mod services;
mod tokens;
mod worker;

use std::sync::Arc;

use axum::extract::FromRef;
use portcullis_client::internal::InternalClient;

pub use admins::{AdminWish, Created, FirstAdmin, create_admin, make_first_admin};
pub use api_key_push::{ApiKeyPush, push_api_keys};
pub use api_keys::{ApiKeyFault, CreatedKey, KeyRequest, create_api_key, end_api_key};
pub use audit_cap::AuditCap;
pub use audit_log::record_command;
pub use cleanup::clean_up;
pub use hash_queue::{Busy, Priority};
pub use keyring::{KeySet, Keyring, KeyringFault};
pub use passwords::Passwords;
pub use profile_delivery::{ProfileDelivery, deliver_profiles};
pub use revocation_push::{RevocationPush, push_revocations};
pub use routes::{app, description};
pub use services::{BuiltIn, ServiceFault, add_service, built_in, remove_service};
pub use tokens::SERVICE_TYPE;

use crate::{
    clock::Clock,
    http::{GatewayAuth, Metrics},
    operations::Operations,
    store::{
        self, AccountRoles, Accounts, ApiKeys, AuditLog, Database, LoginFailures, Outbox, Permissions, ProfileSync,
        Roles, Services, Sessions, sessions::SessionLimits,
    },
};

/// `aud` of access tokens.
pub const AUDIENCE: &str = "api";

/// Whether accounts' e-mail addresses are verified: never, because no mail is sent. Services must
/// not take the address in a token for proof of identity.
pub const EMAIL_VERIFIED: bool = false;

/// Name of this service, as caller and as audience.
pub const SERVICE: &str = "auth-service";

/// `aud` of tokens for the gateway itself.
pub const GATEWAY: &str = "portcullis";

/// Role of every registered account.
pub const ROLE_USER: &str = "user";

/// Role of administrators, who have every permission.
pub const ROLE_ADMIN: &str = store::access::ADMIN;

/// State of the auth service.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Database, for readiness.
    pub database: Database,
    /// Accounts.
    pub accounts: Accounts,
    /// Sessions.
    pub sessions: Sessions,
    /// Lifetimes of sessions.
    pub session_limits: SessionLimits,
    /// `iss` of tokens.
    pub issuer: Arc<str>,
    /// The gateway's URL as clients write it; without it, proofs are ignored.
    pub public_url: Option<Arc<str>>,
    /// Roles.
    pub roles: Roles,
    /// Permissions.
    pub permissions: Permissions,
    /// Roles that accounts hold.
    pub account_roles: AccountRoles,
    /// Counts of failed logins.
    pub login_failures: LoginFailures,
    /// Audit log.
    pub audit: AuditLog,
    /// Bound of the refusals in it.
    pub audit_cap: AuditCap,
    /// Signing keys.
    pub keyring: Arc<Keyring>,
    /// Password hashing.
    pub passwords: Passwords,
    /// Revocations that wait for their push to the gateway.
    pub outbox: Outbox,
    /// Pushes them.
    pub revocation_push: Arc<RevocationPush>,
    /// API keys.
    pub api_keys: ApiKeys,
    /// Pushes them.
    pub api_key_push: Arc<ApiKeyPush>,
    /// What API keys begin with.
    pub api_key_prefix: Arc<str>,
    /// Pending synchronisations of profiles that may differ from their accounts.
    pub profile_sync: ProfileSync,
    /// Copies accounts to those profiles.
    pub profile_delivery: Arc<ProfileDelivery>,
    /// Client of the user service.
    pub users: Arc<InternalClient>,
    /// Services that an operator added.
    pub services: Services,
    /// Services of this program.
    pub built_in: Arc<[BuiltIn]>,
    /// Metrics.
    pub metrics: Metrics,
    /// Gateway in front of this service.
    pub gateway: GatewayAuth,
    /// Clock.
    pub clock: Clock,
}

impl FromRef<Auth> for Operations {
    fn from_ref(auth: &Auth) -> Self {
        Self {
            database: auth.database.clone(),
            metrics: auth.metrics.clone(),
            outbox: Some(auth.outbox.clone()),
            clock: auth.clock.clone(),
        }
    }
}
