//! One service's database: opening, migrations that are part of the program, and
//! transactions that write.
//!
//! Both kinds behave alike because every transaction that decides by what it reads says
//! first what it is about ([`Lock`]). SQLite has one writer at a time anyway; PostgreSQL
//! lets those wait for each other that are about the same thing, with no statement of
//! its own in any domain's file.

use std::{
    borrow::Cow,
    fs::{File, OpenOptions, Permissions, TryLockError},
    ops::{Deref, DerefMut},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::Arc,
    time::Instant,
};

use sqlx::{
    Any, AnyConnection, AnyPool, Connection as _, Row as _, SqlSafeStr as _, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions, AnyRow},
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    pool::PoolConnection,
    sqlite::SqliteConnectOptions,
};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::{clock::Clock, limits};

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
    /// SQLite's one writer. Those of this process wait for it here, first come, first served,
    /// and without a connection: left to themselves they would try again after pauses, and
    /// whoever came last would often be first.
    turns: Option<Arc<Semaphore>>,
    /// When it was last tried whether something can be written, and whether it could.
    tried: Arc<Mutex<Option<(Instant, bool)>>>,
}

/// Something that writes on a connection, alone on SQLite for as long as it lives.
pub(super) struct Writing<C> {
    // The order in which they are dropped: what was not committed is undone before the next
    // one's turn.
    connection: C,
    turn: Option<OwnedSemaphorePermit>,
}

impl<C: Deref<Target = AnyConnection>> Deref for Writing<C> {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.connection
    }
}

impl<C: DerefMut<Target = AnyConnection>> DerefMut for Writing<C> {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }
}

impl Writing<Transaction<'static, Any>> {
    /// Makes what was written stay.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        let Self { connection, turn } = self;
        let done = connection.commit().await;
        drop(turn);
        done
    }
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
    "0007_guessing", "0008_halves", "0009_names", "0010_agree", "0011_readiness",
    "0012_issued", "0013_successors", "0014_sweeps"
);
const SQLITE_USERS: Migrations = migrations!("sqlite/users":
    "0001_profiles", "0002_versions", "0003_deleted",
    "0004_readiness"
);
const POSTGRES_AUTH: Migrations = migrations!("postgres/auth":
    "0001_accounts", "0002_revocations", "0003_rights", "0004_sessions", "0005_audit", "0006_services",
    "0007_guessing", "0008_halves", "0009_names", "0010_agree", "0011_readiness",
    "0012_issued", "0013_successors", "0014_sweeps"
);
const POSTGRES_USERS: Migrations = migrations!("postgres/users":
    "0001_profiles", "0002_versions", "0003_deleted",
    "0004_readiness"
);

impl Database {
    /// Opens a database and brings its tables up to date. An SQLite file is made if there
    /// is none; a PostgreSQL database must be there.
    ///
    /// # Errors
    /// The database's; [`sqlx::Error::Configuration`] for a URL of another kind.
    pub async fn open(url: &str, schema: Schema) -> Result<Self, sqlx::Error> {
        sqlx::any::install_default_drivers();
        let kind = if url.starts_with("sqlite:") {
            make_private(&file_of(url)?)?;
            Kind::Sqlite
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Kind::Postgres
        } else {
            return Err(sqlx::Error::Configuration("a URL begins with sqlite: or postgres:".into()));
        };
        // Two processes that begin on one fresh database take turns.
        let _turn = match kind {
            Kind::Sqlite => Some(folder_turn(&file_of(url)?).await?),
            Kind::Postgres => {
                reach(url).await?.close().await?;
                None
            }
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
            // In the place of the pool's own test, which has no time limit: one dead
            // connection costs a moment then, and not all the time of who wants one.
            .test_before_acquire(false)
            .before_acquire(|connection, _| Box::pin(async move { answers(connection).await.map(|()| true) }))
            .after_release(|connection, _| Box::pin(async move { is_sound(connection).await }))
            .connect(url)
            .await?;
        let turns = (kind == Kind::Sqlite).then(|| Arc::new(Semaphore::new(1)));
        let database = Self { pool, kind, turns, tried: Arc::default() };
        database.migrate(schema).await?;
        Ok(database)
    }

    /// Whether there is a database with a service's tables behind a URL. Makes nothing.
    ///
    /// # Errors
    /// The database's.
    pub async fn exists(url: &str, schema: Schema) -> Result<bool, sqlx::Error> {
        sqlx::any::install_default_drivers();
        if url.starts_with("sqlite:") {
            return Ok(file_of(url)?.exists());
        }
        let table = match schema {
            Schema::Auth => "accounts",
            Schema::Users => "profiles",
        };
        let mut connection = reach(url).await?;
        let found: i64 = sqlx::query_scalar("SELECT CAST(count(to_regclass($1)) AS BIGINT)")
            .bind(table)
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(found == 1)
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
        let begun = Instant::now();
        loop {
            match migrator.run(&self.pool).await {
                Ok(()) => return Ok(()),
                // Another process is at it; ours is not to wait for longer than `lock_timeout`.
                Err(MigrateError::Execute(error)) if is_locked(&error) && begun.elapsed() < limits::MIGRATE_WAIT => {
                    tokio::time::sleep(limits::MIGRATE_PAUSE).await;
                }
                Err(error) => return Err(sqlx::Error::Migrate(Box::new(error))),
            }
        }
    }

    /// Whether something can be written. A full disk can be read for as long as one likes.
    /// What was found out is said again for [`limits::READY_KEEP`], so that questions
    /// cannot wear out the disk.
    pub async fn is_well(&self) -> bool {
        let mut tried = self.tried.lock().await;
        if let Some((at, is_well)) = *tried
            && at.elapsed() < limits::READY_KEEP
        {
            return is_well;
        }
        let is_well = match in_time(self.write()).await {
            Ok(()) => true,
            Err(error) => {
                crate::http::log_store_fault(&error);
                false
            }
        };
        *tried = Some((Instant::now(), is_well));
        is_well
    }

    async fn write(&self) -> Result<(), sqlx::Error> {
        let mut transaction = self.begin(&[]).await?;
        sqlx::query("UPDATE readiness SET writes = writes + 1").execute(&mut *transaction).await?;
        transaction.commit().await
    }

    /// Closes every connection, for a bounded time. SQLite's last one folds the write-ahead
    /// log into its file.
    pub async fn close(&self) {
        if tokio::time::timeout(limits::CLOSE_TIME, self.pool.close()).await.is_err() {
            tracing::warn!("a connection to the database does not close; it is given up");
        }
    }

    /// The expression by which a statement reads the clock that all processes at this
    /// database share, for [`Database::shared_clock`]. Those of SQLite are on one host.
    pub(super) fn clock_column(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "0",
            Kind::Postgres => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// Milliseconds since 1970 by that clock. Only such instants can be compared when they
    /// were written by different processes: hosts' own clocks differ.
    ///
    /// # Errors
    /// When the row has no such column.
    pub(super) fn shared_clock(&self, row: &AnyRow, column: &str, clock: &Clock) -> Result<i64, sqlx::Error> {
        match self.kind {
            Kind::Sqlite => Ok(clock.host()),
            Kind::Postgres => Ok(clock.shared(row.try_get(column)?)),
        }
    }

    /// For statements that stand alone and only read.
    pub(super) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// For a statement that stands alone and writes.
    ///
    /// # Errors
    /// The database's; also when others took too long.
    pub(super) async fn writer(&self) -> Result<Writing<PoolConnection<Any>>, sqlx::Error> {
        let turn = self.turn().await?;
        Ok(Writing { connection: self.pool.acquire().await?, turn })
    }

    async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, sqlx::Error> {
        let Some(turns) = &self.turns else { return Ok(None) };
        match tokio::time::timeout(limits::STORE_WAIT, Arc::clone(turns).acquire_owned()).await {
            Ok(turn) => turn.map(Some).map_err(|_| sqlx::Error::PoolClosed),
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// A transaction that writes, once nobody else's is about the same things. What is
    /// read of the clock in it is later than all that those wrote.
    ///
    /// # Errors
    /// The database's; also when others took too long.
    pub(super) async fn begin(&self, locks: &[Lock]) -> Result<Writing<Transaction<'static, Any>>, sqlx::Error> {
        let turn = self.turn().await?;
        let connection = match self.kind {
            // Not when it first writes: what it has read by then might be old.
            Kind::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await?,
            Kind::Postgres => {
                let mut transaction = self.pool.begin().await?;
                for lock in locks {
                    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock.key()).execute(&mut *transaction).await?;
                }
                transaction
            }
        };
        Ok(Writing { connection, turn })
    }
}

/// True for PostgreSQL's `lock_not_available`.
fn is_locked(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "55P03")
}

/// The file of an SQLite URL.
fn file_of(url: &str) -> Result<PathBuf, sqlx::Error> {
    Ok(SqliteConnectOptions::from_str(url)?.get_filename().to_owned())
}

/// Waits until no other process opens a database in a file's folder for the first time.
/// SQLite's own locks do not span several migrations, nor the change to a write-ahead log.
/// The lock is on the folder and leaves nothing there; it ends with the value.
async fn folder_turn(file: &Path) -> Result<Option<File>, sqlx::Error> {
    if file.as_os_str() == ":memory:" {
        return Ok(None);
    }
    let parent = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let folder = File::open(parent).map_err(sqlx::Error::Io)?;
    let begun = Instant::now();
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::WouldBlock) if begun.elapsed() < limits::MIGRATE_WAIT => {
                tokio::time::sleep(limits::MIGRATE_PAUSE).await;
            }
            Err(TryLockError::WouldBlock) => return Err(no_answer()),
            // A file system that knows no locks has no second process either, one hopes.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(sqlx::Error::Io(error)),
        }
    }
}

/// A first connection. The pool tries again and again where none is listening, and says in
/// the end no more than that its time is over.
async fn reach(url: &str) -> Result<AnyConnection, sqlx::Error> {
    let options = AnyConnectOptions::from_str(url)?;
    let begun = Instant::now();
    loop {
        let rest = limits::STORE_WAIT.saturating_sub(begun.elapsed());
        match tokio::time::timeout(rest, AnyConnection::connect_with(&options)).await {
            Err(_) => return Err(no_answer()),
            // It may be starting.
            Ok(Err(sqlx::Error::Io(error)))
                if error.kind() == std::io::ErrorKind::ConnectionRefused && rest > limits::REACH_PAUSE =>
            {
                tokio::time::sleep(limits::REACH_PAUSE).await;
            }
            Ok(outcome) => return outcome,
        }
    }
}

/// Why a database cannot be opened, for people. Names host and port and nothing else of
/// the URL.
pub fn explain(url: &str, error: &sqlx::Error) -> String {
    let place = reqwest::Url::parse(url).ok().and_then(|url| {
        let host = url.host_str().filter(|host| !host.is_empty())?;
        Some(format!(" at {host}:{}", url.port().unwrap_or(5432)))
    });
    let place = place.filter(|_| !url.starts_with("sqlite:")).unwrap_or_default();
    let sqlx::Error::Io(fault) = error else { return error.to_string() };
    if fault.kind() == std::io::ErrorKind::ConnectionRefused {
        format!("PostgreSQL{place} refuses the connection: nothing listens there; start it, or correct host and port")
    } else if fault.kind() == std::io::ErrorKind::TimedOut {
        format!("PostgreSQL{place} does not answer; is it running, and may this machine reach it?")
    } else {
        error.to_string()
    }
}

/// Gives a statement or a transaction of the background its time. Who asks for a request
/// has the request's ([`limits::REQUEST_TIME`]). What ran out of time is undone, and its
/// connection closed unless it answers.
///
/// # Errors
/// What the work says; [`sqlx::Error::Io`] when its time is over.
pub async fn in_time<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(limits::STATEMENT_TIME, work).await.unwrap_or_else(|_| Err(no_answer()))
}

/// A connection that was not heard of in time.
fn no_answer() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the database does not answer in time"))
}

/// Tests whether the other end of a connection is there. Its rollback, if there is one to
/// be done, is done then.
async fn answers(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    tokio::time::timeout(limits::PING_TIME, connection.ping()).await.unwrap_or_else(|_| Err(no_answer()))
}

/// Whether a connection may be used again: it answers, and is in no transaction. A commit
/// that fails, on a full disk above all, may end the transaction for SQLite and not for the
/// driver; whoever had the connection next could begin none.
async fn is_sound(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    answers(connection).await?;
    Ok(!connection.is_in_transaction())
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
            // What is deleted is overwritten, and not only forgotten.
            "PRAGMA secure_delete = ON",
        ],
        // A connection that hangs holds no lock for longer than a request lives, and one
        // whose other end is gone none for longer than a minute.
        Kind::Postgres => &[
            "SET tcp_keepalives_idle = 20",
            "SET tcp_keepalives_interval = 10",
            "SET tcp_keepalives_count = 3",
            "SET lock_timeout = '3s'",
            "SET statement_timeout = '10s'",
            "SET idle_in_transaction_session_timeout = '15s'",
        ],
    }
}

/// Makes the file for its owner alone, whatever folder it lies in: it holds password
/// hashes. SQLite gives its log the same mode.
fn make_private(file: &Path) -> Result<(), sqlx::Error> {
    if file.as_os_str() == ":memory:" {
        return Ok(());
    }
    if let Ok(about) = std::fs::metadata(file) {
        if about.permissions().mode() & 0o077 != 0 {
            // Copied there by whoever restored it, most likely.
            std::fs::set_permissions(file, Permissions::from_mode(0o600)).map_err(sqlx::Error::Io)?;
            tracing::warn!(file = %file.display(), "a database could be read by others; it is its owner's alone now");
        }
        return Ok(());
    }
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file);
    made.map(drop).map_err(sqlx::Error::Io)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    async fn open() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}?mode=rwc", folder.path().join("auth.db").display());
        let database = Database::open(&url, Schema::Auth).await.unwrap();
        (folder, database)
    }

    #[tokio::test]
    async fn who_writes_on_sqlite_waits_in_the_order_of_coming_and_takes_no_connection_meanwhile() {
        let (_folder, database) = open().await;
        let first = database.begin(&[]).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        // More of them than connections, and of both sorts.
        let waiting: Vec<_> = (0..3 * limits::POOL)
            .map(|number| {
                let (database, order) = (database.clone(), Arc::clone(&order));
                async move {
                    if number % 2 == 0 {
                        let transaction = database.begin(&[]).await.unwrap();
                        order.lock().unwrap().push(number);
                        transaction.commit().await.unwrap();
                    } else {
                        let mut writer = database.writer().await.unwrap();
                        order.lock().unwrap().push(number);
                        sqlx::query("DELETE FROM outbox").execute(&mut *writer).await.unwrap();
                    }
                }
            })
            .map(tokio::spawn)
            .collect();
        // All have come: on this one thread each runs as far as it can before we do again.
        tokio::task::yield_now().await;
        let read = sqlx::query("SELECT 1").execute(database.pool()).await;
        assert!(read.is_ok(), "whoever reads finds a connection");
        assert!(order.lock().unwrap().is_empty(), "nobody writes beside the first");
        first.commit().await.unwrap();
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..3 * limits::POOL).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_was_not_committed_is_undone_and_the_next_one_writes() {
        let (_folder, database) = open().await;
        let mut given_up = database.begin(&[]).await.unwrap();
        let text =
            "INSERT INTO roles (id, name, description, built_in, created_at, updated_at) VALUES ($1, $1, '', 0, 0, 0)";
        sqlx::query(text).bind("given-up").execute(&mut *given_up).await.unwrap();
        drop(given_up);
        let mut kept = database.begin(&[]).await.unwrap();
        sqlx::query(text).bind("kept").execute(&mut *kept).await.unwrap();
        kept.commit().await.unwrap();
        let names: Vec<String> = sqlx::query_scalar("SELECT id FROM roles WHERE id IN ('given-up', 'kept')")
            .fetch_all(database.pool())
            .await
            .unwrap();
        assert_eq!(names, ["kept"]);
    }
}
