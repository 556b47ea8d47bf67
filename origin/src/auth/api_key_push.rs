//! Pushes API keys to the gateway: those that were made, and those that have ended.
//!
//! Ends come first, in requests of their own: neither many new keys nor one that the gateway cannot store delay an end. A key
//! that the gateway rejects is postponed, so that it does not delay the others. Pushes may be repeated, and several processes
//! may push the same state.

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
    store::{
        api_keys::{KeyState, PendingPush},
        with_timeout,
    },
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
        Ok(Self {
            gateway: GatewayClient::new(edge_url, PATH, limits::API_KEY_PUSH_TIME)?,
            issuer,
            worker: Worker::new(schedule),
        })
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
    let job = PushJob { auth: &auth, is_failing: false, size: limits::API_KEY_PUSH_ITEMS, rejections: 0 };
    auth.api_key_push.worker.run(job, stopped).await;
}

struct PushJob<'a> {
    auth: &'a Auth,
    /// Whether the last run failed. An outage is logged when it begins and when it ends.
    is_failing: bool,
    /// Keys of the next push: half as many after a push that failed, and one more after each that did not.
    size: i64,
    /// Single keys that the gateway has rejected since it accepted one.
    rejections: usize,
}

/// Why a run ends early.
enum Fault {
    Push(PushFault),
    Store(sqlx::Error),
}

impl Job for PushJob<'_> {
    async fn run(&mut self) -> Result<(), Failed> {
        match self.push_due().await {
            Ok(0) => {}
            Ok(_) => {
                if mem::take(&mut self.is_failing) {
                    tracing::info!("the gateway accepts API keys again");
                }
            }
            Err(Fault::Push(fault)) => {
                if !mem::replace(&mut self.is_failing, true) {
                    tracing::error!(%fault, "API keys wait: the gateway accepts keys that have ended, and refuses new ones");
                }
                return Err(Failed);
            }
            Err(Fault::Store(error)) => {
                self.auth.metrics.database_error(&error);
                return Err(Failed);
            }
        }
        Ok(())
    }
}

impl PushJob<'_> {
    /// Pushes all that is due, and ends before each push of live keys. Returns the number of keys that the gateway accepted.
    async fn push_due(&mut self) -> Result<usize, Fault> {
        let mut accepted = 0_usize;
        loop {
            let ended = self.push_ended().await;
            // An end that always fails does not delay live keys.
            let due = self.due(KeyState::Live).await?;
            if !due.is_empty() {
                accepted = accepted.saturating_add(self.push(&due).await?);
            }
            accepted = accepted.saturating_add(ended?);
            if due.is_empty() {
                return Ok(accepted);
            }
        }
    }

    async fn push_ended(&mut self) -> Result<usize, Fault> {
        let mut accepted = 0_usize;
        loop {
            let due = self.due(KeyState::Ended).await?;
            if due.is_empty() {
                return Ok(accepted);
            }
            accepted = accepted.saturating_add(self.push(&due).await?);
        }
    }

    async fn due(&self, state: KeyState) -> Result<Vec<PendingPush>, Fault> {
        let due = self.auth.api_keys.due(state, self.size, self.auth.clock.now());
        with_timeout(due).await.map_err(Fault::Store)
    }

    /// Pushes states in one request. Returns how many the gateway accepted: all, or none if they are to be pushed in
    /// smaller requests or later.
    async fn push(&mut self, pushes: &[PendingPush]) -> Result<usize, Fault> {
        let auth = self.auth;
        let push = &auth.api_key_push;
        let Err(fault) = push.gateway.post(auth, push.body(pushes).to_string()).await else {
            self.size = self.size.saturating_add(1).min(limits::API_KEY_PUSH_ITEMS);
            self.rejections = 0;
            // After an error they are pushed again, which changes nothing.
            with_timeout(auth.api_keys.delivered(pushes, &auth.clock)).await.map_err(Fault::Store)?;
            return Ok(pushes.len());
        };
        let is_rejection = fault.is_rejection();
        if !is_rejection && !fault.is_overload() {
            return Err(Fault::Push(fault));
        }
        let count = i64::try_from(pushes.len()).unwrap_or(i64::MAX);
        self.size = (count / 2).max(1);
        let [one] = pushes else { return Ok(0) };
        if is_rejection && self.rejections < limits::API_KEY_REJECTIONS {
            self.rejections = self.rejections.saturating_add(1);
            tracing::error!(key_id = %one.id, "the gateway rejects an API key, and tries it again in a minute");
            self.postpone(one, limits::API_KEY_REFUSED_MS).await?;
            return Ok(0);
        }
        // The others come first in the next run, also in one of a process whose clock is behind.
        self.postpone(one, -limits::CLOCKS_APART_S * 1000).await?;
        Err(Fault::Push(fault))
    }

    async fn postpone(&self, push: &PendingPush, by_ms: i64) -> Result<(), Fault> {
        let due_at = self.auth.clock.now().saturating_add(by_ms);
        with_timeout(self.auth.api_keys.postpone(push, due_at)).await.map_err(Fault::Store)
    }
}
