//! SQLite: one file a service, write-ahead log, foreign keys, and migrations
//! that are part of the program.

pub mod accounts;
pub mod keys;
pub mod outbox;
pub mod profiles;
pub mod sessions;

use std::{borrow::Cow, fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path, str::FromStr as _};

use sqlx::{
    SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::limits;

/// Which service's tables a database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// Accounts, sessions, signing keys.
    Auth,
    /// Profiles.
    Users,
}

const AUTH: &[(i64, &str, &str)] = &[
    (1, "accounts", include_str!("../../../migrations/auth/0001_accounts.sql")),
    (2, "revocations", include_str!("../../../migrations/auth/0002_revocations.sql")),
];
const USERS: &[(i64, &str, &str)] = &[(1, "profiles", include_str!("../../../migrations/users/0001_profiles.sql"))];

/// Opens a database, makes it if there is none, and brings its tables up to
/// date.
///
/// # Errors
/// The database's; [`sqlx::Error::Configuration`] for a URL that is not
/// `sqlite:`.
pub async fn open(url: &str, schema: Schema) -> Result<SqlitePool, sqlx::Error> {
    if !url.starts_with("sqlite:") {
        return Err(sqlx::Error::Configuration("only sqlite: URLs are supported".into()));
    }
    let options = SqliteConnectOptions::from_str(url)?;
    make_private(options.get_filename())?;
    let options = options
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // With the write-ahead log a power cut can lose the last commits but
        // never break the file; FULL loses none: an acknowledged write stays.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(limits::STORE_WAIT);
    let pool = SqlitePoolOptions::new()
        .max_connections(limits::POOL)
        .acquire_timeout(limits::STORE_WAIT)
        .connect_with(options)
        .await?;
    migrate(&pool, schema).await?;
    Ok(pool)
}

/// Makes the file for its owner alone, whatever folder it lies in: it holds password
/// hashes. SQLite gives its log the same mode.
fn make_private(file: &Path) -> Result<(), sqlx::Error> {
    if file.as_os_str() == ":memory:" || file.exists() {
        return Ok(());
    }
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file);
    made.map(drop).map_err(sqlx::Error::Io)
}

async fn migrate(pool: &SqlitePool, schema: Schema) -> Result<(), sqlx::Error> {
    let list = match schema {
        Schema::Auth => AUTH,
        Schema::Users => USERS,
    };
    let migrations = list
        .iter()
        .map(|(version, name, text)| {
            Migration::new(
                *version,
                Cow::Borrowed(*name),
                MigrationType::Simple,
                sqlx::SqlStr::from_static(text),
                false,
            )
        })
        .collect::<Vec<_>>();
    let migrator = Migrator { migrations: Cow::Owned(migrations), ..Migrator::DEFAULT };
    migrator.run(pool).await.map_err(|error| sqlx::Error::Migrate(Box::new(error)))
}

/// Whether the database answers.
pub async fn is_well(pool: &SqlitePool) -> bool {
    sqlx::query("SELECT 1").execute(pool).await.is_ok()
}

/// True for a violated UNIQUE constraint.
fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
