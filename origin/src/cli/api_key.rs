//! `api-key`: creates, lists and ends API keys.

use clap::Subcommand;
use portcullis_origin::{
    auth::{ApiKeyFault, KeyRequest, create_api_key, end_api_key},
    boot::StartError,
    clock::{Clock, rfc3339},
    limits,
    settings::Settings,
    store::{ApiKeys, api_keys::ApiKey},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    open_auth,
    output::{Output, table},
    record_event,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create an API key and print it, which is shown only once.
    #[command(after_help = "\
Programs send the key in place of a token. A running auth service gives it to the gateway
within seconds; the gateway's policy needs an issuer with api_keys.

Examples:
  portcullis-origin api-key create \"Nightly report\" --owner 0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f --scope invoices:read
  portcullis-origin api-key create ci --owner $ID --scope deploy --expires-in-days 30 --json | jq -r .key")]
    Create {
        /// Name.
        name: String,
        /// Id of the account that the key belongs to.
        #[arg(long, value_name = "ID")]
        owner: String,
        /// A scope; may be repeated.
        #[arg(long = "scope", required = true, value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Days for which the key is valid.
        #[arg(long, value_name = "DAYS", default_value_t = limits::API_KEY_DAYS_DEFAULT)]
        expires_in_days: i64,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// List live API keys.
    List {
        /// Only the keys of this account.
        #[arg(long, value_name = "ID")]
        owner: Option<Uuid>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// End an API key: the gateway refuses it within seconds.
    #[command(after_help = "\
Example:
  portcullis-origin api-key end 0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f")]
    End {
        /// Id of the key.
        id: Uuid,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Give all live API keys to the gateway again, whose storage is new.
    #[command(after_help = "\
A running auth service pushes them. Repeating the command is harmless.

Example:
  portcullis-origin api-key push")]
    Push {
        #[command(flatten)]
        settings: Box<Settings>,
    },
}

pub(super) async fn run(command: Command, output: Output) -> Result<(), StartError> {
    match command {
        Command::Create { name, owner, scopes, expires_in_days, settings } => {
            let request = KeyRequest {
                name: Some(name),
                owner: Some(owner),
                scopes: Some(scopes),
                expires_in_days: Some(expires_in_days),
            };
            create(request, &settings, output).await
        }
        Command::List { owner, settings } => list(owner, &settings, output).await,
        Command::End { id, settings } => end(id, &settings, output).await,
        Command::Push { settings } => push(&settings, output).await,
    }
}

async fn create(request: KeyRequest, settings: &Settings, output: Output) -> Result<(), StartError> {
    let prefix = settings.api_key_prefix()?;
    let database = open_auth(settings).await?;
    let created = create_api_key(&ApiKeys(database.clone()), request, &prefix, &Clock::default()).await;
    let done = created.as_ref().map(|created| Some(created.key.id.to_string())).map_err(ApiKeyFault::code);
    record_event(&database, "api_key.create", "api-key create", done).await;
    let created = created.map_err(fault)?;
    let mut document = described(&created.key);
    if let Some(members) = document.as_object_mut() {
        members.insert("key".to_owned(), json!(created.text.expose()));
    }
    output
        .print(&format!("created {}; its key, shown only once:\n{}", created.key.id, created.text.expose()), &document)
}

async fn list(owner: Option<Uuid>, settings: &Settings, output: Output) -> Result<(), StartError> {
    let store = ApiKeys(open_auth(settings).await?);
    let now = Clock::default().now();
    let mut keys: Vec<ApiKey> = Vec::new();
    loop {
        let before = keys.last().map(|last| last.id);
        let page = store.list(owner, before, *limits::PAGE.end(), now).await;
        let page = page.map_err(|error| fault(ApiKeyFault::Store(error)))?;
        if page.is_empty() {
            break;
        }
        keys.extend(page);
    }
    let row = |key: &ApiKey| {
        vec![key.id.to_string(), key.name.clone(), key.owner.to_string(), key.scopes.join(" "), rfc3339(key.expires_at)]
    };
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    let documents: Vec<Value> = keys.iter().map(described).collect();
    output.print(&table(&["id", "name", "owner", "scopes", "expires"], &rows), &json!({ "api_keys": documents }))
}

async fn end(id: Uuid, settings: &Settings, output: Output) -> Result<(), StartError> {
    let database = open_auth(settings).await?;
    let ended = end_api_key(&ApiKeys(database.clone()), id, &Clock::default()).await;
    let done = ended.as_ref().map(|()| Some(id.to_string())).map_err(ApiKeyFault::code);
    record_event(&database, "api_key.end", "api-key end", done).await;
    ended.map_err(fault)?;
    output.print(&format!("ended {id}"), &json!({ "id": id, "ended": true }))
}

async fn push(settings: &Settings, output: Output) -> Result<(), StartError> {
    let database = open_auth(settings).await?;
    let scheduled = ApiKeys(database.clone()).schedule_all(&Clock::default()).await.map_err(ApiKeyFault::Store);
    let done = scheduled.as_ref().map(|_| None).map_err(ApiKeyFault::code);
    record_event(&database, "api_key.push", "api-key push", done).await;
    let count = scheduled.map_err(fault)?;
    output.print(&format!("the auth service pushes {count} API keys to the gateway"), &json!({ "api_keys": count }))
}

fn described(key: &ApiKey) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "scopes": key.scopes,
        "created_at": rfc3339(key.created_at),
        "expires_at": rfc3339(key.expires_at),
    })
}

fn fault(fault: ApiKeyFault) -> StartError {
    match fault {
        ApiKeyFault::Invalid(_) => StartError::Setting(fault.to_string()),
        ApiKeyFault::UnknownOwner
        | ApiKeyFault::TooMany
        | ApiKeyFault::Unknown
        | ApiKeyFault::Random
        | ApiKeyFault::Store(_) => StartError::Other(fault.to_string()),
    }
}
