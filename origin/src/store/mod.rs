//! The databases: SQLite or PostgreSQL, chosen by the URL, with one set of statements for both.
//!
//! Each file holds the statements of one domain. No module outside this one contains SQL. Types and
//! row mappings that several files share are in `rows`; `access` and `error` are below the
//! statements as well, so no two files import each other.

pub mod access;
pub mod account_roles;
pub mod accounts;
pub mod api_keys;
pub mod audit;
mod backup;
mod database;
mod error;
pub mod keys;
pub mod login_failures;
pub mod outbox;
pub mod passwords;
pub mod permissions;
pub mod profile_sync;
pub mod profiles;
mod reconcile;
pub mod refresh_tokens;
pub mod registrations;
mod revocation;
pub mod roles;
mod rows;
pub mod services;
pub mod sessions;

pub use account_roles::AccountRoles;
pub use accounts::Accounts;
pub use api_keys::ApiKeys;
pub use audit::AuditLog;
pub use backup::{CopyError, copy};
pub use database::{Database, Schema, describe_open_error, with_timeout};
pub use error::{error_kind, log_error};
pub use keys::SigningKeys;
pub use login_failures::LoginFailures;
pub use outbox::Outbox;
pub use permissions::Permissions;
pub use profile_sync::ProfileSync;
pub use profiles::Profiles;
pub use reconcile::{Differences, ReconcileError, reconcile};
pub use roles::Roles;
pub use rows::{Permission, Role, UserRecord};
pub use services::Services;
pub use sessions::Sessions;
