//! Rows that several files of statements read, and their mapping to types. Roles and permissions are
//! answers, too. Their times are milliseconds since 1970, and RFC 3339 in answers.

pub use portcullis_client::internal::UserRecord;
use serde::Serialize;
use sqlx::{Any, AnyConnection, Executor, Row as _, any::AnyRow};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Database;
use crate::{clock::serialize_rfc3339, profile};

fn user_record(row: &AnyRow, roles: Vec<String>) -> Result<UserRecord, sqlx::Error> {
    Ok(UserRecord {
        id: id(row, "id")?,
        email: row.try_get("email")?,
        profile: profile::read(row)?,
        roles,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

/// Returns the columns of an account `a`, for [`account`].
pub(super) fn account_columns() -> String {
    format!(
        "a.id, a.email, {}, a.created_at, a.updated_at, a.version, \
           (SELECT string_agg(r.name, ',' ORDER BY r.name) FROM account_roles h JOIN roles r ON r.id = h.role_id \
             WHERE h.account_id = a.id) AS roles",
        profile::columns("a.")
    )
}

/// Maps a row with [`account_columns`].
pub(super) fn account(row: &AnyRow) -> Result<UserRecord, sqlx::Error> {
    let roles: Option<String> = row.try_get("roles")?;
    let roles = roles.unwrap_or_default().split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect();
    user_record(row, roles)
}

/// Finds an active account by id.
pub(super) async fn find_account<'e>(
    executor: impl Executor<'e, Database = Any>,
    account_id: Uuid,
) -> Result<Option<UserRecord>, sqlx::Error> {
    let text = format!("SELECT {} FROM accounts a WHERE a.id = $1 AND a.state = 'active'", account_columns());
    let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(account_id.to_string()).fetch_optional(executor).await?;
    row.map(|row| account(&row)).transpose()
}

/// Increments the version of an account, in a transaction that holds the account's lock.
pub(super) async fn increment_version(
    transaction: &mut AnyConnection,
    account_id: Uuid,
    now: i64,
) -> Result<(), sqlx::Error> {
    let statement = "UPDATE accounts SET version = version + 1, updated_at = $2 WHERE id = $1";
    write(transaction, statement, account_id, now).await
}

/// Executes a statement with the parameters id and number, such as a time or a version.
pub(super) async fn write(
    connection: &mut AnyConnection,
    statement: &'static str,
    id: Uuid,
    number: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(statement).bind(id.to_string()).bind(number).execute(connection).await?;
    Ok(())
}

/// Returns whether a statement with the parameter id finds a row.
pub(super) async fn exists(
    connection: &mut AnyConnection,
    statement: &'static str,
    id: Uuid,
) -> Result<bool, sqlx::Error> {
    Ok(sqlx::query(statement).bind(id.to_string()).fetch_optional(connection).await?.is_some())
}

/// Maps a row of `profiles`.
pub(super) fn profile(row: &AnyRow) -> Result<UserRecord, sqlx::Error> {
    let roles: String = row.try_get("roles")?;
    let roles = serde_json::from_str(&roles).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    user_record(row, roles)
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Role {
    /// Role id.
    pub id: Uuid,
    /// Name, as tokens carry it.
    #[schema(example = "bookkeeper")]
    pub name: String,
    /// May be empty.
    #[schema(example = "Keeps the books")]
    pub description: String,
    /// Whether the program relies on it; its name cannot be changed.
    pub built_in: bool,
    /// Time of its creation.
    #[serde(serialize_with = "serialize_rfc3339")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-02T03:04:05Z")]
    pub created_at: i64,
    /// Time of its last change.
    #[serde(serialize_with = "serialize_rfc3339")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-02T03:04:05Z")]
    pub updated_at: i64,
}

/// Maps a row of `roles`.
pub(super) fn role(row: &AnyRow) -> Result<Role, sqlx::Error> {
    let built_in: i64 = row.try_get("built_in")?;
    Ok(Role {
        id: id(row, "id")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        built_in: built_in != 0,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// A permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Permission {
    /// Permission id.
    pub id: Uuid,
    /// Name by which services ask for it.
    #[schema(example = "read:invoices")]
    pub name: String,
    /// Resource that it is about.
    #[schema(example = "invoices")]
    pub resource: String,
    /// Action that it allows.
    #[schema(example = "read")]
    pub action: String,
    /// Whether the program relies on it; it cannot be changed.
    pub built_in: bool,
    /// Time of its creation.
    #[serde(serialize_with = "serialize_rfc3339")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-02T03:04:05Z")]
    pub created_at: i64,
    /// Time of its last change.
    #[serde(serialize_with = "serialize_rfc3339")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-02T03:04:05Z")]
    pub updated_at: i64,
}

/// Maps a row of `permissions`.
pub(super) fn permission(row: &AnyRow) -> Result<Permission, sqlx::Error> {
    let built_in: i64 = row.try_get("built_in")?;
    Ok(Permission {
        id: id(row, "id")?,
        name: row.try_get("name")?,
        resource: row.try_get("resource")?,
        action: row.try_get("action")?,
        built_in: built_in != 0,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// Finds a row of a table by its id.
pub(super) async fn find<'e, T>(
    executor: impl Executor<'e, Database = Any>,
    table: &'static str,
    row_id: Uuid,
    map: fn(&AnyRow) -> Result<T, sqlx::Error>,
) -> Result<Option<T>, sqlx::Error> {
    let text = format!("SELECT * FROM {table} WHERE id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(row_id.to_string()).fetch_optional(executor).await?;
    row.map(|row| map(&row)).transpose()
}

/// Reads one page of a table in the order of the names, and the number of rows in all.
pub(super) async fn page_by_name<T>(
    database: &Database,
    table: &'static str,
    (limit, offset): (i64, i64),
    map: fn(&AnyRow) -> Result<T, sqlx::Error>,
) -> Result<(Vec<T>, i64), sqlx::Error> {
    let text = format!("SELECT * FROM {table} ORDER BY name LIMIT $1 OFFSET $2");
    let rows = sqlx::query(sqlx::AssertSqlSafe(text)).bind(limit).bind(offset).fetch_all(database.pool()).await?;
    let text = format!("SELECT count(*) FROM {table}");
    let total = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_one(database.pool()).await?;
    Ok((rows.iter().map(map).collect::<Result<_, _>>()?, total))
}

/// Parses an id column.
pub(super) fn id(row: &AnyRow, column: &str) -> Result<Uuid, sqlx::Error> {
    let text: String = row.try_get(column)?;
    Uuid::parse_str(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
