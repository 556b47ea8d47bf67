//! Pushes revocations to the gateway: empties the outbox as soon as something is in it, and retries
//! while the gateway cannot be reached.
//!
//! Several processes may push the same entry: the gateway applies it once.

use reqwest::StatusCode;
use tokio::sync::watch;

use super::{
    Auth, tokens,
    worker::{Job, Schedule, Worker},
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
    http: reqwest::Client,
    url: String,
    worker: Worker,
}

/// Why a push failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PushFault {
    /// The gateway did not answer.
    Unreachable,
    /// It answered this status instead of 200.
    Refused(StatusCode),
    /// No token for it can be issued.
    Token,
}

impl std::fmt::Display for PushFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable => formatter.write_str("the gateway does not answer; EDGE_URL says where it is"),
            Self::Refused(StatusCode::NOT_FOUND) => {
                formatter.write_str("the gateway accepts no pushes; its policy needs revocations_from for this issuer")
            }
            Self::Refused(status) => write!(formatter, "the gateway answered {}", status.as_u16()),
            Self::Token => formatter.write_str("no token for the gateway can be signed"),
        }
    }
}

impl RevocationPush {
    /// Pushes to the gateway at a base URL.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(edge_url: &str) -> Result<Self, reqwest::Error> {
        // Entries that another process wrote and could not push are found at the interval.
        let schedule = Schedule {
            interval: limits::OUTBOX_LOOK,
            back_off: limits::PUSH_BACK_OFF,
            back_off_max: limits::PUSH_BACK_OFF_MAX,
        };
        let http = reqwest::Client::builder()
            .timeout(limits::PUSH_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { http, url: format!("{edge_url}{PATH}"), worker: Worker::new(schedule) })
    }

    /// Pushes now instead of at the next interval.
    pub fn wake(&self) {
        self.worker.wake();
    }

    /// Pushes as many as possible. Returns those that the gateway took, and the fault that stopped
    /// the rest.
    async fn push_all(&self, auth: &Auth, waiting: &[OutboxItem]) -> (Vec<OutboxItem>, Result<(), PushFault>) {
        match self.push(auth, waiting).await {
            Ok(()) => return (waiting.to_vec(), Ok(())),
            // An entry that the gateway refuses must not hold up the others.
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
        let token = tokens::service(auth, super::SERVICE, super::GATEWAY).map_err(|_| PushFault::Token)?;
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

/// Pushes until `stopped` turns true; what is left then waits for the next start.
pub async fn push_revocations(auth: Auth, stopped: watch::Receiver<bool>) {
    auth.revocation_push.worker.run(&PushJob(&auth), stopped).await;
}

struct PushJob<'a>(&'a Auth);

impl Job for PushJob<'_> {
    /// The number of revocations.
    type Done = usize;
    type Fault = PushFault;

    /// Pushes all that waits.
    async fn run(&self) -> Result<usize, PushFault> {
        let auth = self.0;
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
                // The gateway fetches the key set when it learns of a revoked key, and must not get
                // the one from before.
                if let Err(fault) = auth.keyring.read(auth.clock.now()).await {
                    tracing::error!(%fault, "the signing keys cannot be read");
                }
            }
            let delivered = auth.revocation_push.push_all(auth, &waiting).await;
            count = count.saturating_add(delivered.0.len());
            if let Err(error) = with_timeout(auth.outbox.delivered(&delivered.0)).await {
                // They are pushed again, which changes nothing; but not at once.
                auth.metrics.database_error(&error);
                return Ok(count);
            }
            delivered.1?;
        }
    }

    fn log_failure(&self, fault: PushFault, is_first: bool) {
        if is_first {
            tracing::error!(%fault, "revocations wait: the gateway accepts the revoked tokens until they expire");
        }
    }

    fn log_recovery(&self, count: usize) {
        tracing::info!(count, "the gateway accepts revocations again");
    }
}
