//! Copies of SQLite databases while they are in use. PostgreSQL has `pg_dump` for it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    str::FromStr as _,
};

use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

/// Why there is no copy.
#[derive(Debug)]
pub enum CopyFault {
    /// The database is none of SQLite.
    Kind,
    /// There is something at the place of the copy.
    Taken,
    /// The copy cannot be written.
    File(io::Error),
    /// The database cannot be read.
    Store(sqlx::Error),
}

/// Copies the SQLite database of a URL to a file that is not there yet: what was committed
/// when it began, whoever writes meanwhile, and nobody waits for it. The copy is its owner's
/// alone, and on the disk when this returns.
///
/// # Errors
/// [`CopyFault`]; nothing is left of the copy then.
pub async fn copy(url: &str, to: &Path) -> Result<(), CopyFault> {
    if !url.starts_with("sqlite:") {
        return Err(CopyFault::Kind);
    }
    // Before SQLite writes into it: there is no moment at which others may read.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists { CopyFault::Taken } else { CopyFault::File(error) }
    })?;
    let copied = copy_into(url, to, &file).await;
    if copied.is_err() {
        // What is half a copy must not be taken for one.
        let _ = std::fs::remove_file(to);
    }
    copied
}

async fn copy_into(url: &str, to: &Path, file: &File) -> Result<(), CopyFault> {
    let place = to.to_str().ok_or_else(|| CopyFault::File(io::ErrorKind::InvalidFilename.into()))?;
    // Not opened as a service does it: a copy before an upgrade is one of what was there.
    let options = SqliteConnectOptions::from_str(url).map_err(CopyFault::Store)?.create_if_missing(false);
    let mut connection = options.connect().await.map_err(CopyFault::Store)?;
    let done = sqlx::query("VACUUM INTO $1").bind(place).execute(&mut connection).await;
    let closed = connection.close().await;
    done.and(closed).map_err(CopyFault::Store)?;
    file.sync_all().map_err(CopyFault::File)?;
    let folder = to.parent().map_or_else(|| File::open("."), File::open);
    folder.and_then(|folder| folder.sync_all()).map_err(CopyFault::File)
}
