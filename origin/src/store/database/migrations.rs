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

// One constant for each engine and schema; `build.rs` writes them.
include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// Returns the migrations of a schema.
fn migrations(engine: Engine, schema: Schema) -> Cow<'static, [Migration]> {
    let list = match (engine, schema) {
        (Engine::Sqlite, Schema::Auth) => SQLITE_AUTH,
        (Engine::Sqlite, Schema::Users) => SQLITE_USERS,
        (Engine::Postgres, Schema::Auth) => POSTGRES_AUTH,
        (Engine::Postgres, Schema::Users) => POSTGRES_USERS,
    };
    let migrations = (1_i64..).zip(list).map(|(version, (name, text))| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, text.into_sql_str(), false)
    });
    migrations.collect()
}

/// Applies the migrations that a database lacks.
pub(super) async fn migrate(pool: &AnyPool, engine: Engine, schema: Schema) -> Result<(), sqlx::Error> {
    let migrator = Migrator { migrations: migrations(engine, schema), ..Migrator::DEFAULT };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `sha384sum` of the released migrations. sqlx refuses a database whose recorded checksums differ.
    const RELEASED: &str = include_str!("../../../migrations/released.sha384");

    #[test]
    fn databases_of_earlier_releases_can_be_migrated() {
        for (engine, engine_name) in [(Engine::Sqlite, "sqlite"), (Engine::Postgres, "postgres")] {
            for (schema, folder) in [(Schema::Auth, "auth/"), (Schema::Users, "users/")] {
                let released = RELEASED.lines().filter_map(|line| {
                    let (checksum, file) = line.split_once("  ").unwrap();
                    let (stem, rest) = file.strip_prefix(folder)?.split_once('.').unwrap();
                    let is_of_engine = rest == "sql" || rest.strip_suffix(".sql") == Some(engine_name);
                    is_of_engine.then(|| format!("{checksum} {stem}"))
                });
                let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                let ours = migrations(engine, schema);
                let ours =
                    ours.iter().map(|one| format!("{} {:04}_{}", hex(&one.checksum), one.version, one.description));
                let released: Vec<_> = released.collect();
                assert!(released.len() >= 4);
                assert_eq!(ours.take(released.len()).collect::<Vec<_>>(), released);
            }
        }
    }
}
