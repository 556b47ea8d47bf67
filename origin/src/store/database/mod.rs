//! A service's database: opening it, and transactions that write.
//!
//! Each transaction whose writes depend on its reads takes a [`Lock`] first. SQLite has one writer at
//! a time; on PostgreSQL transactions with the same lock wait for each other. So the statements of the
//! domains are the same for both engines.

mod connection;
mod engine;
mod lock;
mod migrations;

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Instant,
};

use sqlx::{
    Any, AnyConnection, AnyPool, Connection as _, Row as _, Transaction,
    any::{AnyPoolOptions, AnyRow},
    pool::PoolConnection,
};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

pub use connection::describe_open_error;
pub use engine::Schema;
pub(super) use lock::Lock;

use self::engine::Engine;
use super::error::{log_error, timed_out};
use crate::{clock::Clock, limits};

/// A service's database. Clones share its connections.
#[derive(Clone)]
pub struct Database {
    pool: AnyPool,
    engine: Engine,
    /// The queues of this process's writers, who wait in the order of their arrival and without a
    /// connection, so that readers have one. One queue for SQLite, which has a single writer and itself
    /// retries after pauses, in no particular order; on PostgreSQL, each lock belongs to one queue.
    queues: Arc<[Arc<Semaphore>]>,
    /// Time and result of the last test write.
    tested: Arc<Mutex<Option<(Instant, bool)>>>,
}

/// A connection that writes, with its permits to write.
pub(super) struct Writing<C> {
    // Dropped in this order: an uncommitted transaction is rolled back before the next writer starts.
    connection: C,
    permits: Vec<OwnedSemaphorePermit>,
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
    /// Commits the transaction.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        let Self { connection, permits } = self;
        let done = connection.commit().await;
        drop(permits);
        done
    }
}

// Not derived: the pool's options contain the URL and its password.
impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Database").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens a database and applies its migrations. Creates an SQLite file that does not exist; a
    /// PostgreSQL database must exist.
    ///
    /// # Errors
    /// [`sqlx::Error::Configuration`] for a URL of another scheme, or an error of the database.
    pub async fn open(url: &str, schema: Schema) -> Result<Self, sqlx::Error> {
        sqlx::any::install_default_drivers();
        let engine = Engine::of_url(url)?;
        // Two processes that open one new database do so one after the other.
        let _directory = match engine {
            Engine::Sqlite => {
                let file = connection::sqlite_file(url)?;
                connection::make_private(&file)?;
                Some(connection::lock_directory(&file).await?)
            }
            Engine::Postgres => {
                connection::connect(url).await?.close().await?;
                None
            }
        };
        let pool = AnyPoolOptions::new()
            .max_connections(limits::POOL)
            .acquire_timeout(limits::STORE_WAIT)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    for statement in engine.set_up().iter().copied() {
                        sqlx::query(statement).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            // Replaces the pool's own test, which has no timeout: a dead connection delays a caller by
            // `PING_TIME` at most.
            .test_before_acquire(false)
            .before_acquire(|connection, _| Box::pin(async move { connection::ping(connection).await.map(|()| true) }))
            .after_release(|connection, _| Box::pin(async move { connection::is_reusable(connection).await }))
            .connect(url)
            .await?;
        migrations::migrate(&pool, engine, schema).await?;
        let queues = if engine == Engine::Sqlite { 1 } else { limits::LOCK_QUEUES };
        let queues = std::iter::repeat_with(|| Arc::new(Semaphore::new(1))).take(queues).collect();
        Ok(Self { pool, engine, queues, tested: Arc::default() })
    }

    /// Returns whether a URL leads to a database with a service's tables. Creates nothing.
    pub async fn exists(url: &str, schema: Schema) -> Result<bool, sqlx::Error> {
        sqlx::any::install_default_drivers();
        if url.starts_with("sqlite:") {
            return Ok(connection::sqlite_file(url)?.exists());
        }
        let mut connection = connection::connect(url).await?;
        let found: i64 = sqlx::query_scalar("SELECT CAST(count(to_regclass($1)) AS BIGINT)")
            .bind(schema.table())
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(found == 1)
    }

    /// Returns whether the database accepts writes; a full disk can still be read. The result is cached
    /// for [`limits::READY_KEEP`], so that frequent requests do not wear out the disk.
    pub async fn is_writable(&self) -> bool {
        let mut tested = self.tested.lock().await;
        if let Some((at, is_writable)) = *tested
            && at.elapsed() < limits::READY_KEEP
        {
            return is_writable;
        }
        let is_writable = match with_timeout(self.test_write()).await {
            Ok(()) => true,
            Err(error) => {
                log_error(&error);
                false
            }
        };
        *tested = Some((Instant::now(), is_writable));
        is_writable
    }

    async fn test_write(&self) -> Result<(), sqlx::Error> {
        let mut transaction = self.begin(&[]).await?;
        sqlx::query("UPDATE readiness SET writes = writes + 1").execute(&mut *transaction).await?;
        transaction.commit().await
    }

    /// Closes all connections, within [`limits::CLOSE_TIME`]. Closing SQLite's last connection moves
    /// the write-ahead log into the file.
    pub async fn close(&self) {
        if tokio::time::timeout(limits::CLOSE_TIME, self.pool.close()).await.is_err() {
            tracing::warn!("a connection to the database does not close and is abandoned");
        }
    }

    /// Returns the SQL expression for the clock that all processes of this database share, for
    /// [`Database::shared_clock`]. Processes of an SQLite database run on one host.
    pub(super) fn clock_column(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite => "0",
            Engine::Postgres => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// Returns the time of that clock in milliseconds since 1970. Times that different processes wrote
    /// can be compared only if they are of this clock, because the clocks of hosts differ.
    ///
    /// # Errors
    /// [`sqlx::Error::ColumnNotFound`].
    pub(super) fn shared_clock(&self, row: &AnyRow, column: &str, clock: &Clock) -> Result<i64, sqlx::Error> {
        match self.engine {
            Engine::Sqlite => Ok(clock.host()),
            Engine::Postgres => Ok(clock.shared(row.try_get(column)?)),
        }
    }

    /// Reads that clock.
    pub(super) async fn shared_now(
        &self,
        executor: impl sqlx::Executor<'_, Database = Any>,
        clock: &Clock,
    ) -> Result<i64, sqlx::Error> {
        let text = format!("SELECT {} AS now", self.clock_column());
        self.shared_clock(&sqlx::query(sqlx::AssertSqlSafe(text)).fetch_one(executor).await?, "now", clock)
    }

    /// Returns the pool, for single statements that read.
    pub(super) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Returns a connection for a single statement that writes.
    ///
    /// # Errors
    /// [`sqlx::Error::PoolTimedOut`] if other writers take longer than [`limits::STORE_WAIT`].
    pub(super) async fn writer(&self) -> Result<Writing<PoolConnection<Any>>, sqlx::Error> {
        let permits = self.permits(&[]).await?;
        Ok(Writing { connection: self.pool.acquire().await?, permits })
    }

    /// Waits in the queues of the locks.
    async fn permits(&self, locks: &[Lock]) -> Result<Vec<OwnedSemaphorePermit>, sqlx::Error> {
        let is_needed =
            |number: &usize| self.engine == Engine::Sqlite || locks.iter().any(|lock| lock.queue() == *number);
        let wait = async {
            let mut permits = Vec::new();
            // In the order of the queues, so that no two writers wait for each other.
            for (_, queue) in self.queues.iter().enumerate().filter(|(number, _)| is_needed(number)) {
                permits.push(Arc::clone(queue).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?);
            }
            Ok(permits)
        };
        tokio::time::timeout(limits::STORE_WAIT, wait).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Runs a statement that deletes up to `$2` rows from before `$1`. Returns their number.
    pub(super) async fn sweep(&self, text: &'static str, before: i64, rows: i64) -> Result<u64, sqlx::Error> {
        let mut transaction = self.begin(&[Lock::Sweep]).await?;
        let done = sqlx::query(text).bind(before).bind(rows).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }

    /// Begins a transaction that writes and holds the locks. A time that is read in it is later than
    /// all writes of earlier holders.
    ///
    /// # Errors
    /// [`sqlx::Error::PoolTimedOut`] if other writers take longer than [`limits::STORE_WAIT`].
    pub(super) async fn begin(&self, locks: &[Lock]) -> Result<Writing<Transaction<'static, Any>>, sqlx::Error> {
        let permits = self.permits(locks).await?;
        let connection = match self.engine {
            // Not at the first write: what the transaction has read by then might be outdated.
            Engine::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await?,
            Engine::Postgres => {
                let mut transaction = self.pool.begin().await?;
                for lock in locks {
                    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock.key()).execute(&mut *transaction).await?;
                }
                transaction
            }
        };
        Ok(Writing { connection, permits })
    }
}

/// Limits a statement or transaction of a background task to [`limits::STATEMENT_TIME`]. Requests
/// have a limit of their own ([`limits::REQUEST_TIME`]). A transaction that times out is rolled back,
/// and its connection is closed unless it answers.
///
/// # Errors
/// The error of `work`; [`sqlx::Error::Io`] after the timeout.
pub async fn with_timeout<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(limits::STATEMENT_TIME, work).await.unwrap_or_else(|_| Err(timed_out()))
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
    async fn writers_on_sqlite_wait_in_the_order_of_arrival_without_a_connection() {
        let (_folder, database) = open().await;
        let first = database.begin(&[]).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        // More writers than connections, half of them with a transaction.
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
        // On this single thread every task runs until it waits.
        tokio::task::yield_now().await;
        let read = sqlx::query("SELECT 1").execute(database.pool()).await;
        assert!(read.is_ok(), "a reader gets a connection");
        assert!(order.lock().unwrap().is_empty(), "no other writer runs while the first one does");
        first.commit().await.unwrap();
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..3 * limits::POOL).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn an_uncommitted_transaction_is_rolled_back_and_the_next_writer_continues() {
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
