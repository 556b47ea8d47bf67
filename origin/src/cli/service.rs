//! `service`: adds, lists and removes services that may request service tokens.

use clap::Subcommand;
use portcullis_origin::{
    auth::{ServiceFault, add_service, remove_service},
    boot::StartError,
    clock::{Clock, rfc3339},
    settings::Settings,
    store::{Database, Services},
};
use serde_json::{Value, json};

use super::{
    open_auth,
    output::{Output, table},
    record_event,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a service and print its secret, which is shown only once.
    #[command(after_help = "\
The service sends name and secret as HTTP Basic credentials to POST /api/v1/auth/token, with
grant_type=client_credentials and audience. The called service decides whether it admits the
caller; the user service admits those in INTERNAL_READERS.

Examples:
  portcullis-origin service add billing --audience user-service
  portcullis-origin service add billing --audience user-service --json | jq -r .secret")]
    Add {
        /// Name: lower-case letters, digits and hyphens.
        name: String,
        /// A service that it may call; may be repeated.
        #[arg(long = "audience", required = true, value_name = "NAME")]
        audiences: Vec<String>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// List the added services. The built-in auth-service and user-service, whose secrets are
    /// in the environment, are not listed.
    List {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Remove a service: it gets no more tokens. Its current tokens are valid for at most
    /// five minutes.
    #[command(after_help = "\
To change the secret of a service, remove it and add it again.

Example:
  portcullis-origin service remove billing")]
    Remove {
        /// Name.
        name: String,
        #[command(flatten)]
        settings: Box<Settings>,
    },
}

pub(super) async fn run(command: Command, output: Output) -> Result<(), StartError> {
    match command {
        Command::Add { name, audiences, settings } => add(&name, &audiences, &settings, output).await,
        Command::List { settings } => list(&settings, output).await,
        Command::Remove { name, settings } => remove(&name, &settings, output).await,
    }
}

async fn add(name: &str, audiences: &[String], settings: &Settings, output: Output) -> Result<(), StartError> {
    let database = open_auth(settings).await?;
    let added = add_service(&Services(database.clone()), name, audiences, &Clock::default()).await;
    record_service_event(&database, "service.add", "service add", name, added.as_ref().err()).await;
    let secret = added.map_err(fault)?;
    output.print(
        &format!("added {name}; its secret, shown only once:\n{}", secret.expose()),
        &json!({ "name": name, "audiences": audiences, "secret": secret.expose() }),
    )
}

async fn list(settings: &Settings, output: Output) -> Result<(), StartError> {
    let services = Services(open_auth(settings).await?).list().await;
    let services = services.map_err(|error| fault(ServiceFault::Store(error)))?;
    let rows: Vec<Vec<String>> = services
        .iter()
        .map(|service| vec![service.name.clone(), service.audiences.join(","), rfc3339(service.created_at)])
        .collect();
    let documents: Vec<Value> = services
        .iter()
        .map(|service| {
            json!({
                "name": service.name,
                "audiences": service.audiences,
                "created_at": rfc3339(service.created_at),
            })
        })
        .collect();
    output.print(&table(&["name", "may call", "added"], &rows), &json!({ "services": documents }))
}

async fn remove(name: &str, settings: &Settings, output: Output) -> Result<(), StartError> {
    let database = open_auth(settings).await?;
    let removed = remove_service(&Services(database.clone()), name).await;
    record_service_event(&database, "service.remove", "service remove", name, removed.as_ref().err()).await;
    removed.map_err(fault)?;
    output.print(&format!("removed {name}"), &json!({ "name": name, "removed": true }))
}

async fn record_service_event(
    database: &Database,
    event_type: &str,
    operation: &str,
    name: &str,
    fault: Option<&ServiceFault>,
) {
    let done = fault.map_or_else(|| Ok(Some(name.to_owned())), |fault| Err(fault.code()));
    record_event(database, event_type, operation, done).await;
}

fn fault(fault: ServiceFault) -> StartError {
    match fault {
        ServiceFault::Name | ServiceFault::Reserved | ServiceFault::Audience => StartError::Setting(fault.to_string()),
        ServiceFault::Taken
        | ServiceFault::TooMany
        | ServiceFault::Unknown
        | ServiceFault::Random
        | ServiceFault::Store(_) => StartError::Other(fault.to_string()),
    }
}
