//! `keys`: lists, rotates and revokes signing keys.

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
    open_auth,
    output::{Output, table},
    record_event,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the published keys, with the times at which they sign and expire.
    #[command(after_help = "\
Example:
  portcullis-origin keys list --json")]
    List {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Publish a new key, which signs after KEY_LEAD_S. Running services load it within
    /// seconds. Requires MASTER_KEY or MASTER_KEY_FILE.
    #[command(after_help = "\
Keys rotate every 30 days automatically. If a next key is published already, the command
changes nothing and names that key.

Example:
  MASTER_KEY_FILE=master.key portcullis-origin keys rotate")]
    Rotate {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Revoke a leaked key and all tokens that it signed. Requires MASTER_KEY or
    /// MASTER_KEY_FILE.
    #[command(after_help = "\
Another key signs at once. Sessions continue: clients get a new access token at their next
refresh. The services stop trusting the key within 10 seconds, the gateway once the auth
service has pushed the revocation (origin_outbox_waiting in /metrics is 0), and all of its
locations within 4 more seconds. For up to 30 seconds a location may reject tokens of the
new key, until it has fetched that key.

Example:
  portcullis-origin keys revoke $(portcullis-origin keys list --json | jq -r '.keys[0].kid')")]
    Revoke {
        /// Key id.
        #[arg(allow_hyphen_values = true)]
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
    Ok(settings.with_secrets(Secrets::from_env()?).with_local_master_key()?)
}

async fn list(settings: &Settings, output: Output) -> Result<(), StartError> {
    let now = Clock::default().now();
    let keys = SigningKeys(open_auth(settings).await?).published(now, now).await;
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
    output.print(&table(&["kid", "signs from", "published until"], &rows), &json!({ "keys": documents }))
}

async fn rotate(settings: &Settings, output: Output) -> Result<(), StartError> {
    let master = settings.master_key()?;
    let lead_ms = settings.key_lead_ms()?;
    let database = open_auth(settings).await?;
    let rotated = rotate_in(&database, master, lead_ms).await;
    let done = rotated.as_ref().map(|rotated| Some(rotated.kid.clone())).map_err(|_| "keys_unavailable");
    record_event(&database, "keys.rotate", "keys rotate", done).await;
    let rotated = rotated.map_err(|fault| StartError::Other(fault.to_string()))?;
    let signs_from = rfc3339(rotated.signs_from);
    output.print(
        &format!("{} signs from {signs_from}; until then {} does", rotated.kid, rotated.previous_kid),
        &json!({ "kid": rotated.kid, "previous_kid": rotated.previous_kid, "signs_from": signs_from }),
    )
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
    record_event(&database, "keys.revoke", "keys revoke", done).await;
    let revoked = revoked.map_err(|fault| StartError::Other(fault.to_string()))?;
    let signs = if revoked.signed { "signs now" } else { "signs as before" };
    output.print(
        &format!("{kid} is revoked; {} {signs}", revoked.signer),
        &json!({ "kid": kid, "revoked": true, "signing_kid": revoked.signer }),
    )
}

async fn rotate_in(database: &Database, master: MasterKey, lead_ms: i64) -> Result<Rotated, KeyringFault> {
    let clock = Clock::default();
    Keyring::open(SigningKeys(database.clone()), master, lead_ms, clock.now()).await?.rotate(&clock).await
}
