//! Pushes API keys to the gateway: those that were made, and those that have ended.
//!
//! A key that the gateway rejects is set apart for a while, so that it does not delay the others. Pushes may be repeated,
//! and several processes may push the same state.

use std::mem;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    Auth,
    gateway_client::{GatewayClient, PushFault},
    worker::{Failed, Job, Schedule, Worker},
};
use crate::{
    limits,
    store::{api_keys::PendingPush, with_timeout},
};

/// Path at the gateway.
const PATH: &str = "/_gateway/api-keys";

/// Pushes API keys to the gateway.
#[derive(Debug)]
pub struct ApiKeyPush {
    gateway: GatewayClient,
    /// Issuer of API keys in the gateway's policy.
    issuer: String,
    worker: Worker,
}

impl ApiKeyPush {
    /// Pushes keys of an issuer to the gateway at a base URL.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(edge_url: &str, issuer: String) -> Result<Self, reqwest::Error> {
        // Changes of another process or of a command are found at the interval.
        let schedule = Schedule { interval: limits::OUTBOX_LOOK, back_off: limits::PUSH_BACK_OFF };
        Ok(Self { gateway: GatewayClient::new(edge_url, PATH)?, issuer, worker: Worker::new(schedule) })
    }

    /// Pushes now instead of at the next interval.
    pub fn wake(&self) {
        self.worker.wake();
    }

    fn body(&self, pushes: &[PendingPush]) -> Value {
        let (mut keys, mut ended) = (Vec::new(), Vec::new());
        for PendingPush { digest, id, key, .. } in pushes {
            match key {
                Some(key) => keys.push(json!({
                    "digest": digest,
                    "id": id,
                    "owner": key.owner,
                    "scope": key.scopes.join(" "),
                    "iat": key.created_at / 1000,
                    "exp": key.expires_at / 1000,
                })),
                None => ended.push(json!({ "digest": digest, "id": id })),
            }
        }
        json!({ "issuer": self.issuer, "keys": keys, "ended": ended })
    }
}

/// Pushes until `stopped` turns true; what is left then waits for the next start.
pub async fn push_api_keys(auth: Auth, stopped: watch::Receiver<bool>) {
    let job = PushJob { auth: &auth, is_failing: false };
    auth.api_key_push.worker.run(job, stopped).await;
}

struct PushJob<'a> {
    auth: &'a Auth,
    /// Whether the last push failed. An outage is logged when it begins and when it ends.
    is_failing: bool,
}

impl Job for PushJob<'_> {
    async fn run(&mut self) -> Result<(), Failed> {
        self.push_due().await.map_err(|error| {
            if let Some(error) = error {
                self.auth.metrics.database_error(&error);
            }
            Failed
        })
    }
}

impl PushJob<'_> {
    /// Pushes all that is due. `Err(None)` if the gateway cannot be reached.
    async fn push_due(&mut self) -> Result<(), Option<sqlx::Error>> {
        let auth = self.auth;
        loop {
            let due = auth.api_keys.due(limits::API_KEY_PUSH_ITEMS, auth.clock.now());
            let due = with_timeout(due).await.map_err(Some)?;
            if due.is_empty() {
                return Ok(());
            }
            let mut parts = vec![due.as_slice()];
            while let Some(part) = parts.pop() {
                match part {
                    [] => {}
                    _ if self.push(part).await? => {}
                    [one] => {
                        tracing::error!(key_id = %one.id, "the gateway rejects an API key, and tries it again in a minute");
                        let due_at = auth.clock.now().saturating_add(limits::API_KEY_REFUSED_MS);
                        with_timeout(auth.api_keys.postpone(one, due_at)).await.map_err(Some)?;
                    }
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                }
            }
        }
    }

    /// Pushes states in one request. Returns false if the gateway rejects them for what they are.
    async fn push(&mut self, pushes: &[PendingPush]) -> Result<bool, Option<sqlx::Error>> {
        let auth = self.auth;
        let push = &auth.api_key_push;
        match push.gateway.post(auth, push.body(pushes).to_string()).await {
            Ok(()) => {}
            Err(fault) if fault.is_rejection() => return Ok(false),
            Err(fault) => {
                self.log_outage(fault);
                return Err(None);
            }
        }
        if mem::take(&mut self.is_failing) {
            tracing::info!("the gateway accepts API keys again");
        }
        // After an error they are pushed again, which changes nothing.
        with_timeout(auth.api_keys.delivered(pushes, &auth.clock)).await.map_err(Some)?;
        Ok(true)
    }

    fn log_outage(&mut self, fault: PushFault) {
        if !mem::replace(&mut self.is_failing, true) {
            tracing::error!(%fault, "API keys wait: the gateway accepts keys that have ended, and refuses new ones");
        }
    }
}
