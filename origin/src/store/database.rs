//! One service's database: opening, migrations that are part of the program, and
//! transactions that write.
//!
//! Both kinds behave alike because every transaction that decides by what it reads says
//! first what it is about ([`Lock`]). SQLite has one writer at a time anyway; PostgreSQL
//! lets those wait for each other that are about the same thing, with no statement of
//! its own in any domain's file.

use std::{borrow::Cow, fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path, str::FromStr as _};

use sqlx::{
    Any, AnyPool, SqlSafeStr as _, Transaction,
    any::AnyPoolOptions,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteConnectOptions,
};
use uuid::Uuid;

use crate::limits;

/// Which service's tables a database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// Accounts, sessions, signing keys.
    Auth,
    /// Profiles.
    Users,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

/// A service's database. Clones share its connections.
#[derive(Clone)]
pub struct Database {
    pool: AnyPool,
    kind: Kind,
}

// Not derived: the pool's options hold the URL, and with it a password.
impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Database").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What a writing transaction is about: two about the same thing never run at once, not
/// even in two processes. In the order in which they are taken, so that no two
/// transactions wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// The set of signing keys.
    Keys,
    /// What roles and permissions there are, and which accounts hold them.
    Rights,
    /// Who holds the role that somebody must hold.
    Administrators,
    /// One account, its sessions and tokens.
    Account(Uuid),
}

impl Lock {
    /// The key of PostgreSQL's advisory lock. That two accounts share one costs a wait.
    fn key(self) -> i64 {
        match self {
            Self::Keys => 1,
            Self::Administrators => 2,
            Self::Rights => 3,
            Self::Account(id) => {
                // The random half of a UUIDv7.
                let (_, random) = id.as_u64_pair();
                i64::from_ne_bytes(random.to_ne_bytes())
            }
        }
    }
}

/// Migrations in their order, with names; the first is number one. What was ever released
/// never changes: its checksum is in the databases.
type Migrations = &'static [(&'static str, &'static str)];

macro_rules! migrations {
    ($folder:literal: $($file:literal),+) => {
        &[$(($file, include_str!(concat!("../../migrations/", $folder, "/", $file, ".sql")))),+]
    };
}

const SQLITE_AUTH: Migrations = migrations!("sqlite/auth":
    "0001_accounts", "0002_revocations", "0003_rights", "0004_sessions", "0005_audit", "0006_services",
    "0007_guessing", "0008_halves", "0009_names", "0010_agree"
);
const SQLITE_USERS: Migrations = migrations!("sqlite/users": "0001_profiles", "0002_versions", "0003_deleted");
const POSTGRES_AUTH: Migrations = migrations!("postgres/auth":
    "0001_accounts", "0002_revocations", "0003_rights", "0004_sessions", "0005_audit", "0006_services",
    "0007_guessing", "0008_halves", "0009_names", "0010_agree"
);
const POSTGRES_USERS: Migrations = migrations!("postgres/users": "0001_profiles", "0002_versions", "0003_deleted");

impl Database {
    /// Opens a database and brings its tables up to date. An SQLite file is made if there
    /// is none; a PostgreSQL database must be there.
    ///
    /// # Errors
    /// The database's; [`sqlx::Error::Configuration`] for a URL of another kind.
    pub async fn open(url: &str, schema: Schema) -> Result<Self, sqlx::Error> {
        sqlx::any::install_default_drivers();
        let kind = if url.starts_with("sqlite:") {
            make_private(SqliteConnectOptions::from_str(url)?.get_filename())?;
            Kind::Sqlite
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Kind::Postgres
        } else {
            return Err(sqlx::Error::Configuration("a URL begins with sqlite: or postgres:".into()));
        };
        let pool = AnyPoolOptions::new()
            .max_connections(limits::POOL)
            .acquire_timeout(limits::STORE_WAIT)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    for statement in set_up(kind).iter().copied() {
                        sqlx::query(statement).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect(url)
            .await?;
        let database = Self { pool, kind };
        database.migrate(schema).await?;
        Ok(database)
    }

    async fn migrate(&self, schema: Schema) -> Result<(), sqlx::Error> {
        let list = match (self.kind, schema) {
            (Kind::Sqlite, Schema::Auth) => SQLITE_AUTH,
            (Kind::Sqlite, Schema::Users) => SQLITE_USERS,
            (Kind::Postgres, Schema::Auth) => POSTGRES_AUTH,
            (Kind::Postgres, Schema::Users) => POSTGRES_USERS,
        };
        let migrations = (1_i64..).zip(list).map(|(version, (file, text))| {
            let (_, name) = file.split_once('_').unwrap_or_default();
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, text.into_sql_str(), false)
        });
        let migrator = Migrator { migrations: Cow::Owned(migrations.collect()), ..Migrator::DEFAULT };
        migrator.run(&self.pool).await.map_err(|error| sqlx::Error::Migrate(Box::new(error)))
    }

    /// Whether the database answers.
    pub async fn is_well(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.pool).await.is_ok()
    }

    /// Closes every connection. SQLite's last one folds the write-ahead log into its file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// For statements that stand alone.
    pub(super) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// A transaction that writes, once nobody else's is about the same things. What is
    /// read of the clock in it is later than all that those wrote.
    ///
    /// # Errors
    /// The database's; also when others took too long.
    pub(super) async fn begin(&self, locks: &[Lock]) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self.kind {
            // Not when it first writes: what it has read by then might be old.
            Kind::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await,
            Kind::Postgres => {
                let mut transaction = self.pool.begin().await?;
                for lock in locks {
                    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock.key()).execute(&mut *transaction).await?;
                }
                Ok(transaction)
            }
        }
    }
}

/// What each new connection is told first.
fn set_up(kind: Kind) -> &'static [&'static str] {
    match kind {
        // With the write-ahead log a power cut can lose the last commits but never break
        // the file; FULL loses none: an acknowledged write stays.
        Kind::Sqlite => &[
            "PRAGMA busy_timeout = 3000",
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "PRAGMA foreign_keys = ON",
        ],
        // A connection that hangs holds no lock for longer than a request lives.
        Kind::Postgres => &[
            "SET lock_timeout = '3s'",
            "SET statement_timeout = '10s'",
            "SET idle_in_transaction_session_timeout = '15s'",
        ],
    }
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
