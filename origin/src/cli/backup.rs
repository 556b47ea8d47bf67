//! `backup` and `reconcile`: copies the SQLite databases, and makes restored copies consistent.

use std::{
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use portcullis_origin::{
    boot::StartError,
    clock::Clock,
    settings::Settings,
    store::{self, CopyError, ReconcileError, Schema},
};
use serde_json::json;

use super::{MIGRATE, open_both, output::Output, record_event, serve::Service};

pub(super) async fn backup(service: Service, to: &Path, settings: &Settings, output: Output) -> Result<(), StartError> {
    settings.check_databases()?;
    // The user service's database first, so that no profile in its copy is newer than the account in
    // the later copy of the auth service's.
    let copies = [
        (Service::Users, Schema::Users, settings.users_database(), "USERS_DATABASE_URL", "users.db"),
        (Service::Auth, Schema::Auth, settings.auth_database(), "AUTH_DATABASE_URL", "auth.db"),
    ];
    let cannot = |error: std::io::Error| {
        StartError::Setting(format!("the directory {} cannot be created: {error}; set --to to another", to.display()))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(cannot)?;
    let folder = to.canonicalize().map_err(cannot)?;
    let mut made: Vec<PathBuf> = Vec::new();
    for (of, schema, url, variable, file) in copies {
        if service != Service::All && service != of {
            continue;
        }
        let place = folder.join(file);
        if let Err(fault) = store::copy(&url, schema, &place).await {
            // One copy is not a backup of both databases.
            for file in made {
                let _ = std::fs::remove_file(file);
            }
            return Err(describe(fault, variable, &place));
        }
        made.push(place);
    }
    let files: Vec<String> = made.iter().map(|file| file.display().to_string()).collect();
    output.print(&files.join("\n"), &json!({ "files": files }))
}

fn describe(fault: CopyError, variable: &str, place: &Path) -> StartError {
    let place = place.display();
    match fault {
        CopyError::NotSqlite => {
            StartError::Setting(format!("the database of {variable} is not SQLite; copy it with pg_dump"))
        }
        CopyError::Exists => {
            StartError::Setting(format!("{place} exists already and is not overwritten; set --to to another directory"))
        }
        CopyError::Foreign => StartError::Setting(format!(
            "the database of {variable} lacks the service's tables; set {variable} or DATA_DIR to the right one"
        )),
        CopyError::Damaged => StartError::Other(format!(
            "the copy of {variable}'s database at {place} failed its integrity check and is removed; check the database \
             with PRAGMA integrity_check, then the disk"
        )),
        CopyError::File(error) => StartError::Other(format!("{place} cannot be written: {error}")),
        CopyError::Database(error) => {
            StartError::Other(format!("the database of {variable} cannot be copied to {place}: {error}"))
        }
    }
}

pub(super) async fn reconcile(settings: &Settings, output: Output) -> Result<(), StartError> {
    let (auth, users) = open_both(settings, MIGRATE).await?;
    let found = store::reconcile(&auth, &users, Clock::default().now()).await;
    let done = found.as_ref().map(|_| None).map_err(|fault| match fault {
        ReconcileError::Unrelated => "databases_strange",
        ReconcileError::Database(_) => "store_failed",
    });
    record_event(&auth, "databases.reconcile", "reconcile", done).await;
    let found = found.map_err(|fault| match fault {
        ReconcileError::Unrelated => StartError::Setting(
            "none of the oldest profiles has an account, so these databases do not belong together, and nothing is \
             changed; set AUTH_DATABASE_URL and USERS_DATABASE_URL, or DATA_DIR, to the restored databases"
                .to_owned(),
        ),
        ReconcileError::Database(error) => StartError::Other(format!("the databases cannot be compared: {error}")),
    })?;
    output.print(
        &format!(
            "{} accounts; the auth service will update {} profiles and delete {} once it runs",
            found.accounts, found.stale, found.orphaned
        ),
        &json!({ "accounts": found.accounts, "stale": found.stale, "orphaned": found.orphaned }),
    )
}
