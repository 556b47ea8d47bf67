//! Copies of SQLite databases while they are in use. PostgreSQL has `pg_dump` for it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    str::FromStr as _,
};

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::Schema;

/// Why there is no copy.
#[derive(Debug)]
pub enum CopyFault {
    /// The database is none of SQLite.
    Kind,
    /// There is something at the place of the copy.
    Taken,
    /// The database holds other tables than the service's.
    Foreign,
    /// The copy, read again, is not sound.
    Damaged,
    /// The copy cannot be written.
    File(io::Error),
    /// The database cannot be read.
    Store(sqlx::Error),
}

/// Copies a service's SQLite database, of a URL, to a file that is not there yet: what was committed
/// when it began, whoever writes meanwhile, and nobody waits for it. The copy is its owner's
/// alone, on the disk when this returns, and was read once more.
///
/// # Errors
/// [`CopyFault`]; nothing is left of the copy then.
pub async fn copy(url: &str, schema: Schema, to: &Path) -> Result<(), CopyFault> {
    if !url.starts_with("sqlite:") {
        return Err(CopyFault::Kind);
    }
    // Before SQLite writes into it: there is no moment at which others may read.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists { CopyFault::Taken } else { CopyFault::File(error) }
    })?;
    let copied = copy_into(url, schema, to, &file).await;
    if copied.is_err() {
        // What is half a copy must not be taken for one.
        let _ = std::fs::remove_file(to);
    }
    copied
}

async fn copy_into(url: &str, schema: Schema, to: &Path, file: &File) -> Result<(), CopyFault> {
    let place = to.to_str().ok_or_else(|| CopyFault::File(io::ErrorKind::InvalidFilename.into()))?;
    // Not opened as a service does it: a copy before an upgrade is one of what was there.
    let options = SqliteConnectOptions::from_str(url).map_err(CopyFault::Store)?.create_if_missing(false);
    let mut connection = options.connect().await.map_err(CopyFault::Store)?;
    if !is_of(&mut connection, schema).await.map_err(CopyFault::Store)? {
        return Err(CopyFault::Foreign);
    }
    let done = sqlx::query("VACUUM INTO $1").bind(place).execute(&mut connection).await;
    let closed = connection.close().await;
    done.and(closed).map_err(CopyFault::Store)?;
    check(to).await?;
    file.sync_all().map_err(CopyFault::File)?;
    let folder = to.parent().map_or_else(|| File::open("."), File::open);
    folder.and_then(|folder| folder.sync_all()).map_err(CopyFault::File)
}

/// Whether there is the table that each version of the service has: an empty file, or the
/// other service's, would pass for a back-up until it is needed.
async fn is_of(connection: &mut SqliteConnection, schema: Schema) -> Result<bool, sqlx::Error> {
    let table = match schema {
        Schema::Auth => "accounts",
        Schema::Users => "profiles",
    };
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1")
        .bind(table)
        .fetch_one(connection)
        .await?;
    Ok(count == 1)
}

/// Reads the copy from end to end, as whoever needs it would, while there is still a database
/// to copy.
async fn check(copy: &Path) -> Result<(), CopyFault> {
    let options = SqliteConnectOptions::new().filename(copy).read_only(true).immutable(true);
    let mut connection = options.connect().await.map_err(CopyFault::Store)?;
    let said: Result<String, sqlx::Error> =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await;
    let closed = connection.close().await;
    let said = said.and_then(|said| closed.map(|()| said)).map_err(CopyFault::Store)?;
    if said == "ok" { Ok(()) } else { Err(CopyFault::Damaged) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_copy_that_the_disk_changed_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("copy.db");
        let options = SqliteConnectOptions::new().filename(&place).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(
            "CREATE TABLE accounts (id TEXT PRIMARY KEY, text TEXT); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
             INSERT INTO accounts SELECT 'id' || i, hex(zeroblob(100)) FROM n",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        connection.close().await.unwrap();
        check(&place).await.unwrap();
        let mut bytes = std::fs::read(&place).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 4096].fill(0xff);
        std::fs::write(&place, bytes).unwrap();
        assert!(matches!(check(&place).await, Err(CopyFault::Damaged | CopyFault::Store(_))));
    }
}
