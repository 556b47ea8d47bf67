//! `backup` and `reconcile`: copies of the SQLite databases, and what makes two copies of
//! different moments agree after they were put back.

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

use super::{MIGRATE, leave_event, open_both, output::Output, serve::Service};

pub(super) async fn backup(service: Service, to: &Path, settings: &Settings, output: Output) -> Result<(), StartError> {
    settings.check_databases()?;
    // The user service's first. Of what is done meanwhile the later copy of the auth service
    // has all that the earlier one of the other has: no profile is newer than its account.
    let copies = [
        (Service::Users, Schema::Users, settings.users_database(), "USERS_DATABASE_URL", "users.db"),
        (Service::Auth, Schema::Auth, settings.auth_database(), "AUTH_DATABASE_URL", "auth.db"),
    ];
    let cannot = |error: std::io::Error| {
        StartError::Setting(format!("the folder {} cannot be made: {error}; set --to to another", to.display()))
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
            // One without the other is no back-up of both.
            for file in made {
                let _ = std::fs::remove_file(file);
            }
            return Err(told(fault, variable, &place));
        }
        made.push(place);
    }
    let files: Vec<String> = made.iter().map(|file| file.display().to_string()).collect();
    output.say(&files.join("\n"), &json!({ "files": files }));
    Ok(())
}

fn told(fault: CopyError, variable: &str, place: &Path) -> StartError {
    let place = place.display();
    match fault {
        CopyError::NotSqlite => {
            StartError::Setting(format!("the database of {variable} is not SQLite's; copy it with pg_dump"))
        }
        CopyError::Exists => {
            StartError::Setting(format!("{place} is there already and is not overwritten; set --to to another folder"))
        }
        CopyError::Foreign => StartError::Setting(format!(
            "the database of {variable} has not the service's tables; set {variable} or DATA_DIR to where it is"
        )),
        CopyError::Damaged => StartError::Other(format!(
            "the copy of {variable}'s database at {place} was not sound when it was read again, and is not kept; \
             PRAGMA integrity_check says whether the database is, else look to the disk"
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
    leave_event(&auth, "databases.reconcile", "reconcile", done).await;
    let found = found.map_err(|fault| match fault {
        ReconcileError::Unrelated => StartError::Setting(
            "none of the oldest profiles has an account, so these databases do not belong together, and nothing was \
             marked; set AUTH_DATABASE_URL and USERS_DATABASE_URL, or DATA_DIR, to where the restored ones are"
                .to_owned(),
        ),
        ReconcileError::Database(error) => StartError::Other(format!("the databases cannot be compared: {error}")),
    })?;
    output.say(
        &format!(
            "{} accounts; {} profiles are to be made equal and {} to be deleted, which the auth service does while it \
             runs",
            found.accounts, found.stale, found.orphaned
        ),
        &json!({ "accounts": found.accounts, "stale": found.stale, "orphaned": found.orphaned }),
    );
    Ok(())
}
