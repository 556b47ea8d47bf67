//! A gateway that records or rejects pushed revocations and API keys.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;

/// A gateway that records pushed revocations and API keys, or rejects them.
#[derive(Clone, Default)]
pub(crate) struct PushReceiver {
    pub(crate) received: Arc<Mutex<Vec<Value>>>,
    /// Pushes of API keys.
    pub(crate) key_pushes: Arc<Mutex<Vec<Value>>>,
    pub(crate) tokens: Arc<Mutex<Vec<String>>>,
    pub(crate) refuses: Arc<Mutex<Option<StatusCode>>>,
    /// The answer to pushes of live API keys.
    pub(crate) refuses_live: Arc<Mutex<Option<StatusCode>>>,
    /// A text that makes a push 400, or the next answer.
    pub(crate) poison: Arc<Mutex<Option<String>>>,
    pub(crate) poisoned: Arc<Mutex<Option<StatusCode>>>,
    /// Greatest number of API keys of a push; 503 for more.
    pub(crate) key_capacity: Arc<Mutex<Option<usize>>>,
    /// Time for a push of live API keys.
    pub(crate) key_delay: Arc<Mutex<Duration>>,
    pub(crate) asked: Arc<Mutex<usize>>,
    pub(crate) url: String,
}

impl PushReceiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self { url: format!("http://{}", listener.local_addr().unwrap()), ..Self::default() };
        let app = Router::new()
            .route("/_gateway/revocations", post(receive))
            .route("/_gateway/api-keys", post(receive))
            .with_state(gateway.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        gateway
    }

    pub(crate) fn refuse(&self, status: Option<StatusCode>) {
        *self.refuses.lock().unwrap() = status;
    }

    pub(crate) fn received(&self) -> Vec<Value> {
        self.received.lock().unwrap().clone()
    }

    /// Returns the ids of the API keys that are live or ended by the pushes so far, in their order.
    pub(crate) fn key_states(&self) -> Vec<(&'static str, String)> {
        let pushes = self.key_pushes.lock().unwrap();
        let of = |push: &Value, name: &'static str| -> Vec<(&'static str, String)> {
            let items = push[name].as_array().unwrap().iter();
            items.map(|item| (name, item["id"].as_str().unwrap().to_owned())).collect()
        };
        pushes.iter().flat_map(|push| of(push, "keys").into_iter().chain(of(push, "ended"))).collect()
    }

    /// Waits for a number of states of API keys.
    pub(crate) async fn until_key_states(&self, count: usize) -> Vec<(&'static str, String)> {
        self.until(|| self.key_states().len() >= count).await;
        self.key_states()
    }

    /// Waits for a number of revocations.
    pub(crate) async fn until_received(&self, count: usize) -> Vec<Value> {
        self.until(|| self.received().len() >= count).await;
        self.received()
    }

    pub(crate) async fn until(&self, holds: impl Fn() -> bool) {
        for _ in 0..2000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("told only {:?}", self.received());
    }
}

async fn receive(State(gateway): State<PushReceiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    *gateway.asked.lock().unwrap() += 1;
    if let Some(status) = *gateway.refuses.lock().unwrap() {
        return status;
    }
    let token = headers["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
    gateway.tokens.lock().unwrap().push(token);
    let push: Value = serde_json::from_slice(&body).unwrap();
    if gateway.poison.lock().unwrap().as_ref().is_some_and(|id| push.to_string().contains(id)) {
        return gateway.poisoned.lock().unwrap().unwrap_or(StatusCode::BAD_REQUEST);
    }
    let Some(revocations) = push.get("revocations") else {
        let count = |name: &str| push[name].as_array().unwrap().len();
        if gateway.key_capacity.lock().unwrap().is_some_and(|capacity| count("keys") + count("ended") > capacity) {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        if count("keys") > 0 {
            if let Some(status) = *gateway.refuses_live.lock().unwrap() {
                return status;
            }
            let delay = *gateway.key_delay.lock().unwrap();
            tokio::time::sleep(delay).await;
        }
        gateway.key_pushes.lock().unwrap().push(push);
        return StatusCode::NO_CONTENT;
    };
    gateway.received.lock().unwrap().extend(revocations.as_array().unwrap().iter().cloned());
    StatusCode::OK
}
