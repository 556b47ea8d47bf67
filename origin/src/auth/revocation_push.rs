//! Pushes revocations to the gateway: empties the outbox as soon as something is in it, and retries
//! while the gateway cannot be reached.
//!
//! A revocation that the gateway rejects is set apart, so that it does not delay the others. Each run
//! tries one of these again, because the gateway may accept it later. Several processes may push the
//! same entry: the gateway applies it once.

use std::{collections::VecDeque, mem, slice};

use reqwest::StatusCode;
use tokio::sync::watch;

use super::{
    Auth,
    gateway_client::{GatewayClient, PushFault},
    worker::{Failed, Job, Schedule, Worker},
};
use crate::{
    limits,
    store::{outbox::OutboxItem, with_timeout},
};

/// Path at the gateway.
const PATH: &str = "/_gateway/revocations";

/// Pushes revocations to the gateway.
#[derive(Debug)]
pub struct RevocationPush {
    gateway: GatewayClient,
    worker: Worker,
}

impl RevocationPush {
    /// Pushes to the gateway at a base URL.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(edge_url: &str) -> Result<Self, reqwest::Error> {
        // Entries that another process wrote and could not push are found at the interval.
        let schedule = Schedule { interval: limits::OUTBOX_LOOK, back_off: limits::PUSH_BACK_OFF };
        Ok(Self { gateway: GatewayClient::new(edge_url, PATH, limits::PUSH_TIME)?, worker: Worker::new(schedule) })
    }

    /// Pushes now instead of at the next interval.
    pub fn wake(&self) {
        self.worker.wake();
    }

    async fn post(&self, auth: &Auth, items: &[OutboxItem]) -> Result<(), PushFault> {
        let items: Vec<&str> = items.iter().map(|item| item.revocation.as_str()).collect();
        self.gateway.post(auth, format!(r#"{{"revocations":[{}]}}"#, items.join(","))).await
    }
}

/// Pushes until `stopped` turns true; what is left then waits for the next start.
pub async fn push_revocations(auth: Auth, stopped: watch::Receiver<bool>) {
    let job = PushJob { auth: &auth, is_failing: false, rejected: VecDeque::new() };
    auth.revocation_push.worker.run(job, stopped).await;
}

struct PushJob<'a> {
    auth: &'a Auth,
    /// Whether the last push failed. An outage is logged when it begins and when it ends.
    is_failing: bool,
    /// Items that the gateway rejected, in the order in which they are tried again.
    rejected: VecDeque<OutboxItem>,
}

impl Job for PushJob<'_> {
    async fn run(&mut self) -> Result<(), Failed> {
        let mut after = 0;
        loop {
            let next = self.auth.outbox.next(after, limits::PUSH_ITEMS, self.auth.clock.now());
            let page = with_timeout(next).await.unwrap_or_else(|error| {
                self.auth.metrics.database_error(&error);
                Vec::new()
            });
            let Some(last) = page.last() else { break };
            after = last.id;
            let is_new = |item: &OutboxItem| self.rejected.iter().all(|rejected| rejected.id != item.id);
            let items: Vec<OutboxItem> = page.into_iter().filter(is_new).collect();
            self.push_all(&items).await?;
        }
        self.push_rejected().await
    }
}

impl PushJob<'_> {
    /// Pushes items, together if the gateway accepts that, and sets apart those that it rejects.
    async fn push_all(&mut self, items: &[OutboxItem]) -> Result<(), Failed> {
        let mut parts = vec![items];
        while let Some(part) = parts.pop() {
            match part {
                [] => {}
                _ if self.push(part).await? => {}
                [item] => self.set_apart(item)?,
                _ => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        Ok(())
    }

    /// Tries the rejected items again, up to the first that is rejected again.
    async fn push_rejected(&mut self) -> Result<(), Failed> {
        let now = self.auth.clock.now();
        self.rejected.retain(|item| now < item.expires_at);
        while let Some(item) = self.rejected.front().cloned() {
            if !self.push(slice::from_ref(&item)).await? {
                self.rejected.rotate_left(1);
                break;
            }
            self.rejected.pop_front();
        }
        Ok(())
    }

    /// Pushes items in one request and deletes them from the outbox. Returns false if the gateway
    /// rejects them for what they are.
    async fn push(&mut self, items: &[OutboxItem]) -> Result<bool, Failed> {
        let auth = self.auth;
        if items.iter().any(OutboxItem::is_of_key) {
            // The gateway fetches the key set when it learns of a revoked key, and must not get
            // the one from before.
            if let Err(fault) = auth.keyring.read(auth.clock.now()).await {
                tracing::error!(%fault, "the signing keys cannot be read");
            }
        }
        match auth.revocation_push.post(auth, items).await {
            Ok(()) => {}
            Err(fault) if fault.is_rejection() => return Ok(false),
            Err(fault) => return Err(self.fail(fault)),
        }
        if mem::take(&mut self.is_failing) {
            tracing::info!("the gateway accepts revocations again");
        }
        if let Err(error) = with_timeout(auth.outbox.delivered(items)).await {
            // The next run pushes them again, which changes nothing.
            auth.metrics.database_error(&error);
        }
        Ok(true)
    }

    fn set_apart(&mut self, item: &OutboxItem) -> Result<(), Failed> {
        if self.rejected.len() >= limits::REJECTED_PUSHES {
            return Err(self.fail(PushFault::Refused(StatusCode::BAD_REQUEST)));
        }
        let outbox_id = item.id;
        tracing::error!(outbox_id, "the gateway rejects a revocation and accepts the revoked tokens until they expire");
        self.rejected.push_back(item.clone());
        Ok(())
    }

    /// Logs the begin of an outage.
    fn fail(&mut self, fault: PushFault) -> Failed {
        if !mem::replace(&mut self.is_failing, true) {
            tracing::error!(%fault, "revocations wait: the gateway accepts the revoked tokens until they expire");
        }
        Failed
    }
}
