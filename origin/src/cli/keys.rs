//! `keys`: the signing keys, listed, rotated and revoked.

use clap::Subcommand;
use portcullis_origin::{
    auth::{Keyring, KeyringFault},
    boot::StartError,
    clock::{Clock, rfc3339},
    settings::{Secrets, Settings},
    signing::MasterKey,
    store::{Database, SigningKeys, keys::Rotated},
};
use serde_json::{Value, json};

use super::{
    leave_event, open_auth,
    output::{Output, table},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the keys that are published, with the instants of their lives.
    #[command(after_help = "\
Example:
  portcullis-origin keys list --json")]
    List {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Publish a new key, which signs once everybody has had time to see it. RunningServices
    /// services take it up within seconds. Needs MASTER_KEY or MASTER_KEY_FILE.
    #[command(after_help = "\
Keys are rotated every 30 days anyway. While a key waits for its turn, another rotation
changes nothing and names that one.

Example:
  MASTER_KEY_FILE=master.key portcullis-origin keys rotate")]
    Rotate {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Distrust a key that leaked, at once and everywhere: no token that it signed is good
    /// any more. Needs MASTER_KEY or MASTER_KEY_FILE.
    #[command(after_help = "\
Another key signs at once. Sessions go on: clients get a new access token by their next
refresh. The services know within 10 seconds, the gateway as soon as the auth service tells
it (the outbox in /metrics is empty then), every one of its places within 4 seconds more.
For up to 30 seconds a place may refuse tokens of the new key, which it has yet to fetch.

Example:
  portcullis-origin keys revoke $(portcullis-origin keys list --json | jq -r '.keys[0].kid')")]
    Revoke {
        /// The key's id.
        kid: String,
        #[command(flatten)]
        settings: Box<Settings>,
    },
}

pub(super) async fn run(command: Command, output: Output) -> Result<(), StartError> {
    match command {
        Command::List { settings } => list(&settings, output).await,
        Command::Rotate { settings } => rotate(&with_master_key(*settings)?, output).await,
        Command::Revoke { kid, settings } => revoke(&kid, &with_master_key(*settings)?, output).await,
    }
}

fn with_master_key(settings: Settings) -> Result<Settings, StartError> {
    Ok(settings.with_secrets(Secrets::from_env()).with_local_master_key()?)
}

async fn list(settings: &Settings, output: Output) -> Result<(), StartError> {
    let now = Clock::default().now();
    let keys = SigningKeys(open_auth(settings).await?).published(now).await;
    let keys = keys.map_err(|error| StartError::Other(format!("the keys cannot be read: {error}")))?;
    let until = |until: Option<i64>| until.map(rfc3339);
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            let until = until(key.published_until).unwrap_or_else(|| "-".to_owned());
            vec![key.kid.clone(), rfc3339(key.signs_from), until]
        })
        .collect();
    let documents: Vec<Value> = keys
        .iter()
        .map(|key| {
            json!({
                "kid": key.kid,
                "published_at": rfc3339(key.published_at),
                "signs_from": rfc3339(key.signs_from),
                "published_until": until(key.published_until),
            })
        })
        .collect();
    output.say(&table(&["kid", "signs from", "published until"], &rows), &json!({ "keys": documents }));
    Ok(())
}

async fn rotate(settings: &Settings, output: Output) -> Result<(), StartError> {
    let master = settings.master_key()?;
    let lead_ms = settings.key_lead_ms()?;
    let database = open_auth(settings).await?;
    let rotated = rotate_in(&database, master, lead_ms).await;
    let done = rotated.as_ref().map(|rotated| Some(rotated.kid.clone())).map_err(|_| "keys_unavailable");
    leave_event(&database, "keys.rotate", "keys rotate", done).await;
    let rotated = rotated.map_err(|fault| StartError::Other(fault.to_string()))?;
    let signs_from = rfc3339(rotated.signs_from);
    output.say(
        &format!("{} signs from {signs_from}; until then {} does", rotated.kid, rotated.previous_kid),
        &json!({ "kid": rotated.kid, "previous_kid": rotated.previous_kid, "signs_from": signs_from }),
    );
    Ok(())
}

async fn revoke(kid: &str, settings: &Settings, output: Output) -> Result<(), StartError> {
    let master = settings.master_key()?;
    let lead_ms = settings.key_lead_ms()?;
    let database = open_auth(settings).await?;
    let now = Clock::default().now();
    let revoked =
        async { Keyring::open(SigningKeys(database.clone()), master, lead_ms, now).await?.revoke(kid, now).await }
            .await;
    let done = revoked
        .as_ref()
        .map(|_| Some(kid.to_owned()))
        .map_err(|fault| if matches!(fault, KeyringFault::Unknown) { "not_found" } else { "keys_unavailable" });
    leave_event(&database, "keys.revoke", "keys revoke", done).await;
    let revoked = revoked.map_err(|fault| StartError::Other(fault.to_string()))?;
    let signs = if revoked.signed { "signs now" } else { "signs as before" };
    output.say(
        &format!("{kid} is revoked; {} {signs}", revoked.signer),
        &json!({ "kid": kid, "revoked": true, "signing_kid": revoked.signer }),
    );
    Ok(())
}

async fn rotate_in(database: &Database, master: MasterKey, lead_ms: i64) -> Result<Rotated, KeyringFault> {
    let now = Clock::default().now();
    Keyring::open(SigningKeys(database.clone()), master, lead_ms, now).await?.rotate(now).await
}
