//! The client's log contains no secret at any level.
//!
//! A program of its own with a single test: `tracing` caches for all threads whether the first thread
//! that reaches an event has a subscriber for it. Another test without one would suppress the event.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics has failed, which is its purpose"
)]

#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "client/fake.rs"]
mod fake;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "client/service.rs"]
mod service;

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use portcullis_client::{
    account::Credentials,
    secret::Secret,
    session::{AuthenticatedClient, MemoryStore},
};
use uuid::Uuid;

use crate::service::Service;

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_at_any_level_holds_a_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _subscriber = tracing::subscriber::set_default(subscriber);
    let service = Service::start(900).await;
    let credentials = Credentials::new("ada@example.com", secret("hunter2-hunter2"));
    let store = Arc::new(MemoryStore::default());
    let session = AuthenticatedClient::login(Arc::new(service.fake.client()), store, &credentials).await.unwrap();
    session.user(Uuid::nil()).await.unwrap_err();
    service.expire();
    session.me().await.unwrap();
    service.state.lock().unwrap().is_dead = true;
    session.me().await.unwrap_err();
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("/api/v1/auth/refresh") && text.contains("the session has ended"), "{text}");
    for hidden in ["hunter2", "access-1", "access-2", "refresh-1", "refresh-2", &Uuid::nil().to_string()] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
}
