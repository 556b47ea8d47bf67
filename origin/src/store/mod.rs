//! The databases: SQLite or PostgreSQL, whichever a URL names, with one set of
//! statements for both. A file here has the statements of one domain. Nothing
//! outside this room writes SQL.

pub mod accounts;
pub mod audit;
mod backup;
mod database;
pub mod guessing;
pub mod keys;
pub mod outbox;
pub mod passwords;
pub mod permissions;
pub mod profiles;
mod reconcile;
pub mod registrations;
pub mod rights;
pub mod roles;
pub mod services;
pub mod sessions;
pub mod stale;

pub use accounts::Accounts;
pub use audit::AuditTrail;
pub use backup::{CopyFault, copy};
pub use database::{Database, Schema, explain, in_time};
pub use guessing::Guessing;
pub use keys::SigningKeys;
pub use outbox::Outbox;
pub use permissions::Permissions;
pub use profiles::Profiles;
pub use reconcile::{Differences, ReconcileFault, reconcile};
pub use rights::Rights;
pub use roles::Roles;
pub use services::Services;
pub use sessions::Sessions;
pub use stale::Stale;

use sqlx::{Row as _, any::AnyRow};
use uuid::Uuid;

/// A row's id.
fn id(row: &AnyRow, column: &str) -> Result<Uuid, sqlx::Error> {
    let text: String = row.try_get(column)?;
    Uuid::parse_str(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// True for a violated UNIQUE constraint.
fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
