//! Classification and logging of database errors. The text of an error may hold values of a row,
//! so neither a log nor an answer contains it.

use std::io;

/// Returns the kind of a database error, as a label of a metric.
pub fn error_kind(error: &sqlx::Error) -> &'static str {
    if matches!(error, sqlx::Error::Database(_)) {
        "database"
    } else if matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) {
        "pool"
    } else if matches!(error, sqlx::Error::Io(_)) {
        "io"
    } else {
        "other"
    }
}

/// Logs a database error by its kind or SQL state.
pub fn log_error(error: &sqlx::Error) {
    let kind = if let sqlx::Error::Database(database) = error {
        database.code().map_or_else(|| "database".to_owned(), |code| code.into_owned())
    } else if matches!(error, sqlx::Error::PoolTimedOut) {
        "no connection in time: the database refuses connections, cannot be reached, or all are in use".to_owned()
    } else if matches!(error, sqlx::Error::Io(_)) {
        "input/output".to_owned()
    } else {
        "other".to_owned()
    };
    tracing::error!(kind, "the database failed");
}

/// Returns whether a statement violated a UNIQUE constraint.
pub(super) fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// Returns whether a statement failed with PostgreSQL's `lock_not_available`.
pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "55P03")
}

/// The error of a connection that did not answer in time.
pub(super) fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database does not answer in time"))
}
