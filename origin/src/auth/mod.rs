//! The auth service: accounts, passwords, sessions and tokens.
//!
//! Truth about addresses, roles and passwords is here; names are kept here too,
//! as a copy of the profile, so that a login needs no other service.

mod account;
mod acting;
mod attempt;
mod audit;
mod audit_cap;
mod confirmation;
mod credentials;
mod direct;
mod first_admin;
mod guessing;
mod keyring;
mod password;
mod password_change;
mod permissions;
mod profiles;
mod pusher;
mod refresh_token;
mod replay;
mod rights;
mod roles;
mod routes;
mod session;
mod session_list;
mod sweeper;
mod token;
mod trail;
mod turns;

use std::sync::Arc;

use portcullis_client::internal::InternalClient;

pub use account::{AdminWish, Created, create_admin};
pub use audit::record_command;
pub use audit_cap::AuditCap;
pub use credentials::{BuiltIn, ServiceFault, add_service, built_in, remove_service};
pub use first_admin::{FirstAdmin, make_first_admin};
pub use keyring::{Keyring, KeyringFault};
pub use password::{Busy, Passwords};
pub use profiles::Reconciler;
pub use pusher::Pusher;
pub use routes::{app, description};
pub use sweeper::sweep;
pub use token::SERVICE_TYPE;
pub use turns::Priority;

pub use crate::signing::ISSUER;
use crate::{
    clock::Clock,
    http::{GatewayAuth, Metrics},
    store::{
        self, AccountRoles, Accounts, AuditLog, Database, LoginFailures, Outbox, Permissions, ProfileSync, Roles,
        Services, Sessions, sessions::SessionLimits,
    },
};

/// `aud` of access tokens.
pub const AUDIENCE: &str = "api";

/// Whether an account's e-mail address is verified: no mail is sent, so none is. Services must
/// not take an address in a token for proof of who somebody is.
pub const EMAIL_VERIFIED: bool = false;

/// This service, as caller and as audience.
pub const SERVICE: &str = "auth-service";

/// `aud` of tokens for the gateway itself.
pub const GATEWAY: &str = "portcullis";

/// The role of every account.
pub const ROLE_USER: &str = "user";

/// The role that may do everything.
pub const ROLE_ADMIN: &str = store::access::ADMIN;

/// Everything that a handler of the auth service works with.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The database, for readiness.
    pub database: Database,
    /// Accounts.
    pub accounts: Accounts,
    /// Sessions.
    pub sessions: Sessions,
    /// How long sessions live.
    pub session_limits: SessionLimits,
    /// Roles.
    pub roles: Roles,
    /// Permissions.
    pub permissions: Permissions,
    /// Who has which.
    pub account_roles: AccountRoles,
    /// Failed logins, counted.
    pub login_failures: LoginFailures,
    /// The audit trail.
    pub audit: AuditLog,
    /// Which refusals it takes.
    pub audit_cap: AuditCap,
    /// Signing keys.
    pub keyring: Arc<Keyring>,
    /// Password hashing.
    pub passwords: Passwords,
    /// Revocations that the gateway has yet to be told of.
    pub outbox: Outbox,
    /// Tells the gateway of them.
    pub pusher: Arc<Pusher>,
    /// Profiles that have yet to be made equal to their accounts.
    pub profile_sync: ProfileSync,
    /// Makes them.
    pub reconciler: Arc<Reconciler>,
    /// The line to the user service.
    pub users: Arc<InternalClient>,
    /// Services that an operator added.
    pub services: Services,
    /// Services that are part of the program.
    pub built_in: Arc<[BuiltIn]>,
    /// What is counted.
    pub metrics: Metrics,
    /// The gateway before us.
    pub gateway: GatewayAuth,
    /// The time.
    pub clock: Clock,
}
