//! Copies of SQLite databases in use. For PostgreSQL there is `pg_dump`.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    str::FromStr as _,
};

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::Schema;

/// Why a database was not copied.
#[derive(Debug)]
pub enum CopyError {
    /// The database is not SQLite.
    NotSqlite,
    /// The file of the copy exists already.
    Exists,
    /// The database lacks the service's tables.
    Foreign,
    /// The integrity check of the copy failed.
    Damaged,
    /// The copy cannot be written.
    File(io::Error),
    /// The database cannot be read.
    Database(sqlx::Error),
}

/// Copies a service's SQLite database to a new file, as of the start of the copy. Writers of the
/// database do not wait. When this returns, the copy is on the disk, readable by its owner only, and
/// passed an integrity check.
///
/// # Errors
/// [`CopyError`]; the incomplete copy is removed.
pub async fn copy(url: &str, schema: Schema, to: &Path) -> Result<(), CopyError> {
    if !url.starts_with("sqlite:") {
        return Err(CopyError::NotSqlite);
    }
    // Created with its mode before SQLite writes, so that other users can read it at no time.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists { CopyError::Exists } else { CopyError::File(error) }
    })?;
    let copied = copy_into(url, schema, to, &file).await;
    if copied.is_err() {
        // An incomplete copy must not be mistaken for a backup.
        let _ = std::fs::remove_file(to);
    }
    copied
}

async fn copy_into(url: &str, schema: Schema, to: &Path, file: &File) -> Result<(), CopyError> {
    let place = to.to_str().ok_or_else(|| CopyError::File(io::ErrorKind::InvalidFilename.into()))?;
    // Opened without migrations: a copy before an upgrade has the old schema.
    let options = SqliteConnectOptions::from_str(url).map_err(CopyError::Database)?.create_if_missing(false);
    let mut connection = options.connect().await.map_err(CopyError::Database)?;
    if !is_of(&mut connection, schema).await.map_err(CopyError::Database)? {
        return Err(CopyError::Foreign);
    }
    let done = sqlx::query("VACUUM INTO $1").bind(place).execute(&mut connection).await;
    let closed = connection.close().await;
    done.and(closed).map_err(CopyError::Database)?;
    check(to).await?;
    file.sync_all().map_err(CopyError::File)?;
    let folder = to.parent().map_or_else(|| File::open("."), File::open);
    folder.and_then(|folder| folder.sync_all()).map_err(CopyError::File)
}

/// Returns whether the database has a table that every version of the service has. Otherwise a copy
/// of an empty file, or of the other service's database, would pass as a backup.
async fn is_of(connection: &mut SqliteConnection, schema: Schema) -> Result<bool, sqlx::Error> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1")
        .bind(schema.table())
        .fetch_one(connection)
        .await?;
    Ok(count == 1)
}

/// Checks the integrity of the copy while the original still exists.
async fn check(copy: &Path) -> Result<(), CopyError> {
    let options = SqliteConnectOptions::new().filename(copy).read_only(true).immutable(true);
    let mut connection = options.connect().await.map_err(CopyError::Database)?;
    let result: Result<String, sqlx::Error> =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await;
    let closed = connection.close().await;
    let result = result.and_then(|result| closed.map(|()| result)).map_err(CopyError::Database)?;
    if result == "ok" { Ok(()) } else { Err(CopyError::Damaged) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_check_of_a_copy_detects_changed_bytes() {
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
        assert!(matches!(check(&place).await, Err(CopyError::Damaged | CopyError::Database(_))));
    }
}
