//! Connections: the first one, the health of pooled ones, and the file of an SQLite database.

use std::{
    fs::{File, OpenOptions, Permissions, TryLockError},
    io::ErrorKind,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    str::FromStr as _,
    time::Instant,
};

use sqlx::{AnyConnection, Connection as _, any::AnyConnectOptions, sqlite::SqliteConnectOptions};

use super::super::error::timed_out;
use crate::limits;

/// Returns the file of an SQLite URL.
pub(super) fn sqlite_file(url: &str) -> Result<PathBuf, sqlx::Error> {
    Ok(SqliteConnectOptions::from_str(url)?.get_filename().to_owned())
}

fn is_in_memory(file: &Path) -> bool {
    file.as_os_str() == ":memory:"
}

/// Locks the directory of a database file against other processes that open a database in it. SQLite's
/// own locks span neither several migrations nor the switch to a write-ahead log. The lock leaves no
/// file and ends when the value is dropped.
pub(super) async fn lock_directory(file: &Path) -> Result<Option<File>, sqlx::Error> {
    if is_in_memory(file) {
        return Ok(None);
    }
    let parent = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let directory = File::open(parent).map_err(sqlx::Error::Io)?;
    let begun = Instant::now();
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(Some(directory)),
            Err(TryLockError::WouldBlock) if begun.elapsed() < limits::MIGRATE_WAIT => {
                tokio::time::sleep(limits::MIGRATE_PAUSE).await;
            }
            Err(TryLockError::WouldBlock) => return Err(timed_out()),
            // The file system has no locks; continue without one.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(sqlx::Error::Io(error)),
        }
    }
}

/// Creates the file with mode 0600, because it contains password hashes, or corrects the mode of an
/// existing file. SQLite gives its log files the same mode.
pub(super) fn make_private(file: &Path) -> Result<(), sqlx::Error> {
    if is_in_memory(file) {
        return Ok(());
    }
    if let Ok(about) = std::fs::metadata(file) {
        if about.permissions().mode() & 0o077 != 0 {
            // The usual cause is a restored copy.
            std::fs::set_permissions(file, Permissions::from_mode(0o600)).map_err(sqlx::Error::Io)?;
            tracing::warn!(file = %file.display(), "other users could read the database; its mode is 0600 now");
        }
        return Ok(());
    }
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file);
    made.map(drop).map_err(sqlx::Error::Io)
}

/// Opens a connection outside the pool. The pool retries refused connections and finally reports only
/// a timeout; this function returns the cause.
pub(super) async fn connect(url: &str) -> Result<AnyConnection, sqlx::Error> {
    let options = AnyConnectOptions::from_str(url)?;
    let begun = Instant::now();
    loop {
        let rest = limits::STORE_WAIT.saturating_sub(begun.elapsed());
        match tokio::time::timeout(rest, AnyConnection::connect_with(&options)).await {
            Err(_) => return Err(timed_out()),
            // The server may be starting.
            Ok(Err(sqlx::Error::Io(error)))
                if error.kind() == ErrorKind::ConnectionRefused && rest > limits::REACH_PAUSE =>
            {
                tokio::time::sleep(limits::REACH_PAUSE).await;
            }
            Ok(outcome) => return outcome,
        }
    }
}

/// Describes for operators why a database cannot be opened. Of the URL, only host and port appear.
pub fn describe_open_error(url: &str, error: &sqlx::Error) -> String {
    let sqlx::Error::Io(cause) = error else { return error.to_string() };
    let is_sqlite = url.starts_with("sqlite:");
    let address = reqwest::Url::parse(url).ok().and_then(|url| {
        let host = url.host_str().filter(|host| !host.is_empty())?;
        Some(format!(" at {host}:{}", url.port().unwrap_or(5432)))
    });
    let address = address.unwrap_or_default();
    let is = |kind| cause.kind() == kind;
    if is_sqlite && is(ErrorKind::TimedOut) {
        return "another process holds the lock of the directory of the SQLite file; is it starting, or does it hang?"
            .to_owned();
    }
    if !is_sqlite && is(ErrorKind::ConnectionRefused) {
        return format!(
            "PostgreSQL{address} refuses the connection: nothing listens there; start it, or correct host and port"
        );
    }
    if is(ErrorKind::TimedOut) {
        return format!("PostgreSQL{address} does not answer; is it running, and may this machine reach it?");
    }
    error.to_string()
}

/// Checks that the peer of a connection answers. A pending rollback is done first.
pub(super) async fn ping(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    tokio::time::timeout(limits::PING_TIME, connection.ping()).await.unwrap_or_else(|_| Err(timed_out()))
}

/// Returns whether a connection can be used again: it answers and is in no transaction. A failed
/// commit, such as on a full disk, may end the transaction for SQLite but not for the driver, and the
/// next user of the connection could not begin one.
pub(super) async fn is_reusable(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    ping(connection).await?;
    Ok(!connection.is_in_transaction())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_does_not_open_in_time_is_described_by_its_engine() {
        for (url, expected) in [
            ("sqlite:/srv/auth.db", "another process holds the lock of the directory of the SQLite file"),
            ("sqlite://data/auth.db", "another process holds the lock of the directory of the SQLite file"),
            ("postgres://user:hunter2@db.example.com/auth", "PostgreSQL at db.example.com:5432 does not answer"),
            ("postgresql:///auth", "PostgreSQL does not answer"),
        ] {
            let text = describe_open_error(url, &timed_out());
            assert!(text.starts_with(expected) && !text.contains("hunter2"), "{url}: {text}");
        }
    }
}
