//! Tells the gateway which tokens stopped being good: empties the outbox, as soon as
//! something is in it, and again and again while the gateway is out of reach.
//!
//! Several processes may push the same entry; the gateway's log takes it once.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use reqwest::StatusCode;
use tokio::sync::{Notify, watch};

use super::{Auth, token};
use crate::{
    limits,
    store::{outbox::OutboxItem, with_timeout},
};

/// Path at the gateway.
const PATH: &str = "/_gateway/revocations";

/// The way to the gateway.
#[derive(Debug)]
pub struct Pusher {
    http: reqwest::Client,
    url: String,
    wakes: Notify,
}

/// Why the gateway did not take a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PushFault {
    /// No answer.
    Unreachable,
    /// This one, and not 200.
    Refused(StatusCode),
    /// No token for it can be made.
    Token,
}

impl std::fmt::Display for PushFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable => formatter.write_str("the gateway does not answer; EDGE_URL says where it is"),
            Self::Refused(StatusCode::NOT_FOUND) => {
                formatter.write_str("the gateway takes no pushes; its policy needs revocations_from for this issuer")
            }
            Self::Refused(status) => write!(formatter, "the gateway answered {}", status.as_u16()),
            Self::Token => formatter.write_str("no token for the gateway can be signed"),
        }
    }
}

impl Pusher {
    /// To the gateway at a base URL.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(edge_url: &str) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(limits::PUSH_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { http, url: format!("{edge_url}{PATH}"), wakes: Notify::new() })
    }

    /// Something is in the outbox.
    pub fn wake(&self) {
        self.wakes.notify_one();
    }

    /// Pushes until `stopped` turns true; what is left then waits for the next start.
    pub async fn run(&self, auth: &Auth, mut stopped: watch::Receiver<bool>) {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(limits::PUSH_BACK_OFF)
            .with_max_delay(limits::PUSH_BACK_OFF_MAX)
            .without_max_times()
            .with_jitter();
        let mut failing: Option<backon::ExponentialBackoff> = None;
        loop {
            let pause: Duration = match self.empty(auth).await {
                Ok(count) => {
                    if failing.take().is_some() {
                        tracing::info!(count, "the gateway takes revocations again");
                    }
                    // For what another process wrote and could not push.
                    limits::OUTBOX_LOOK
                }
                Err(fault) => {
                    // Once, and not every few seconds for hours.
                    if failing.is_none() {
                        tracing::error!(%fault, "revocations wait: tokens stay good at the gateway until they expire");
                    }
                    failing.get_or_insert_with(|| pauses.build()).next().unwrap_or(limits::PUSH_BACK_OFF_MAX)
                }
            };
            // A failing gateway is not asked more often because more waits for it.
            let is_well = failing.is_none();
            let woken = async {
                if is_well {
                    self.wakes.notified().await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Pushes all that waits; how many that were.
    async fn empty(&self, auth: &Auth) -> Result<usize, PushFault> {
        let mut count = 0_usize;
        loop {
            let waiting = with_timeout(auth.outbox.next(limits::PUSH_ITEMS, auth.clock.now())).await;
            let waiting = waiting.unwrap_or_else(|error| {
                auth.metrics.database_error(&error);
                Vec::new()
            });
            if waiting.is_empty() {
                return Ok(count);
            }
            if waiting.iter().any(OutboxItem::is_of_key) {
                // The gateway asks for the keys when it hears of it, and must not be given
                // what we held until now.
                if let Err(fault) = auth.keyring.read(auth.clock.now()).await {
                    tracing::error!(%fault, "the signing keys cannot be read");
                }
            }
            let delivered = self.push_all(auth, &waiting).await;
            count = count.saturating_add(delivered.0.len());
            if let Err(error) = with_timeout(auth.outbox.delivered(&delivered.0)).await {
                // They are pushed again, which harms nobody; but not at once.
                auth.metrics.database_error(&error);
                return Ok(count);
            }
            delivered.1?;
        }
    }

    /// Pushes as many as it can: what was taken, and what stopped the rest.
    async fn push_all(&self, auth: &Auth, waiting: &[OutboxItem]) -> (Vec<OutboxItem>, Result<(), PushFault>) {
        match self.push(auth, waiting).await {
            Ok(()) => return (waiting.to_vec(), Ok(())),
            // One that the gateway cannot take must not hold up the others.
            Err(PushFault::Refused(StatusCode::BAD_REQUEST)) if waiting.len() > 1 => {}
            Err(fault) => return (Vec::new(), Err(fault)),
        }
        let (mut taken, mut outcome) = (Vec::new(), Ok(()));
        for one in waiting {
            match self.push(auth, std::slice::from_ref(one)).await {
                Ok(()) => taken.push(one.clone()),
                Err(fault @ PushFault::Refused(StatusCode::BAD_REQUEST)) => outcome = Err(fault),
                Err(fault) => return (taken, Err(fault)),
            }
        }
        (taken, outcome)
    }

    async fn push(&self, auth: &Auth, waiting: &[OutboxItem]) -> Result<(), PushFault> {
        let token = token::service(auth, super::SERVICE, super::GATEWAY).map_err(|_| PushFault::Token)?;
        let items: Vec<&str> = waiting.iter().map(|one| one.revocation.as_str()).collect();
        let request = self
            .http
            .post(&self.url)
            .bearer_auth(token)
            .header("content-type", "application/json")
            .body(format!(r#"{{"revocations":[{}]}}"#, items.join(",")));
        let answer = request.send().await.map_err(|_| PushFault::Unreachable)?;
        match answer.status() {
            StatusCode::OK => Ok(()),
            status => Err(PushFault::Refused(status)),
        }
    }
}
