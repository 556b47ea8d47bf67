//! The migrations, which are part of the program. A released migration never changes, because its
//! checksum is stored in each database.

use std::{borrow::Cow, time::Instant};

use sqlx::{
    AnyPool, SqlSafeStr as _,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use super::{
    super::error::is_lock_timeout,
    engine::{Engine, Schema},
};
use crate::limits;

/// Names and texts in the order of their versions, which start at 1.
type Migrations = &'static [(&'static str, &'static str)];

macro_rules! migrations {
    ($folder:literal: $($file:literal),+) => {
        &[$(($file, include_str!(concat!("../../../migrations/", $folder, "/", $file, ".sql")))),+]
    };
}

macro_rules! auth {
    ($folder:literal) => {
        migrations!($folder:
            "0001_accounts", "0002_revocations", "0003_rights", "0004_sessions", "0005_audit", "0006_services",
            "0007_guessing", "0008_halves", "0009_names", "0010_agree", "0011_readiness", "0012_issued",
            "0013_successors", "0014_sweeps"
        )
    };
}

macro_rules! users {
    ($folder:literal) => {
        migrations!($folder: "0001_profiles", "0002_versions", "0003_deleted", "0004_readiness")
    };
}

const SQLITE_AUTH: Migrations = auth!("sqlite/auth");
const SQLITE_USERS: Migrations = users!("sqlite/users");
const POSTGRES_AUTH: Migrations = auth!("postgres/auth");
const POSTGRES_USERS: Migrations = users!("postgres/users");

/// Applies the migrations that a database lacks.
pub(super) async fn migrate(pool: &AnyPool, engine: Engine, schema: Schema) -> Result<(), sqlx::Error> {
    let list = match (engine, schema) {
        (Engine::Sqlite, Schema::Auth) => SQLITE_AUTH,
        (Engine::Sqlite, Schema::Users) => SQLITE_USERS,
        (Engine::Postgres, Schema::Auth) => POSTGRES_AUTH,
        (Engine::Postgres, Schema::Users) => POSTGRES_USERS,
    };
    let migrations = (1_i64..).zip(list).map(|(version, (file, text))| {
        let (_, name) = file.split_once('_').unwrap_or_default();
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, text.into_sql_str(), false)
    });
    let migrator = Migrator { migrations: Cow::Owned(migrations.collect()), ..Migrator::DEFAULT };
    let begun = Instant::now();
    loop {
        match migrator.run(pool).await {
            Ok(()) => return Ok(()),
            // Another process applies the migrations, and `lock_timeout` ended the wait for it.
            Err(MigrateError::Execute(error)) if is_lock_timeout(&error) && begun.elapsed() < limits::MIGRATE_WAIT => {
                tokio::time::sleep(limits::MIGRATE_PAUSE).await;
            }
            Err(error) => return Err(sqlx::Error::Migrate(Box::new(error))),
        }
    }
}
