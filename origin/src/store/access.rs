//! What the statements on roles, permissions and their assignment have in common.

use sqlx::{AnyConnection, any::AnyRow};
use uuid::Uuid;

use super::error::is_unique_violation;

/// The role that holds every permission and that at least one account must hold. A migration
/// creates it.
pub const ADMIN: &str = "admin";

/// Why a change of roles or permissions was rejected.
#[derive(Debug)]
pub enum AccessError {
    /// The account, role or permission does not exist, or the assignment does not.
    NotFound,
    /// The program relies on the role or permission.
    BuiltIn,
    /// Another role or permission has the name.
    NameTaken,
    /// Accounts hold the role, or roles hold the permission.
    InUse,
    /// No administrator would be left.
    LastAdministrator,
    /// A limit on the number of rows is reached.
    TooMany,
    /// The account's tokens were revoked so often within seconds that the change must wait.
    Busy,
    /// The database failed.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for AccessError {
    fn from(error: sqlx::Error) -> Self {
        // The names are the only unique columns of these tables besides the ids.
        if is_unique_violation(&error) { Self::NameTaken } else { Self::Database(error) }
    }
}

/// Checks that a table has fewer rows than `limit`, in a transaction that holds the lock on it.
///
/// # Errors
/// [`AccessError::TooMany`] if it does not.
pub(super) async fn check_room(
    transaction: &mut AnyConnection,
    table: &'static str,
    limit: i64,
) -> Result<(), AccessError> {
    let text = format!("SELECT count(*) FROM {table}");
    let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_one(transaction).await?;
    if count >= limit { Err(AccessError::TooMany) } else { Ok(()) }
}

/// Inserts or updates a role or a permission, and returns its row. The parameters of `statement` are the
/// id, the texts and the time, in this order.
///
/// # Errors
/// [`AccessError::NameTaken`].
pub(super) async fn write<T>(
    transaction: &mut AnyConnection,
    statement: &'static str,
    id: Uuid,
    texts: &[&str],
    now: i64,
    map: fn(&AnyRow) -> Result<T, sqlx::Error>,
) -> Result<T, AccessError> {
    let mut query = sqlx::query(statement).bind(id.to_string());
    for text in texts {
        query = query.bind(*text);
    }
    Ok(map(&query.bind(now).fetch_one(transaction).await?)?)
}
