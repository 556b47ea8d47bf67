//! What a service counts and times, as Prometheus reads it: the layer that counts requests,
//! and the page.
//!
//! Each service has a recorder of its own and never the process's: two services in one
//! process, and many in a test, do not count into each other. Every label has a value from
//! a list that is ours; nothing that a client writes makes a series.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};
use portcullis_client::secret::Secret;

use super::{ApiError, ReportedError, read::credentials};
use crate::{
    secret_hash::SecretHash,
    store::{error_kind, log_error},
};

const REQUESTS: &str = "origin_requests_total";
const DURATION: &str = "origin_request_duration_seconds";
const LOGINS: &str = "origin_logins_total";
const HASHES: &str = "origin_password_hash_seconds";
const OUTBOX: &str = "origin_outbox_waiting";
const STORE_ERRORS: &str = "origin_store_errors_total";
const AUDIT_OMITTED: &str = "origin_audit_events_omitted_total";
const STARTED: &str = "process_start_time_seconds";
const MEMORY: &str = "process_resident_memory_bytes";

/// Seconds. The longest is what a request may take.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];

/// A service's counters. Clones are the same ones.
#[derive(Clone)]
pub struct Metrics {
    service: &'static str,
    recorder: Arc<PrometheusRecorder>,
    /// Of the token that opens the page; without one it is open.
    token: Option<SecretHash>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Metrics").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Counters at nought, and what opens the page.
    ///
    /// # Errors
    /// [`BuildError`] when the buckets are none, which is a mistake here.
    pub fn new(service: &'static str, token: Option<&Secret>) -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(DURATION.to_owned()), &BUCKETS)?
            .set_buckets_for_metric(Matcher::Full(HASHES.to_owned()), &BUCKETS)?
            .build_recorder();
        let metrics =
            Self { service, recorder: Arc::new(recorder), token: token.map(|token| SecretHash::of(token.expose())) };
        metrics.with(|| {
            describe_counter!(REQUESTS, "Requests by template of the route, method and status");
            describe_histogram!(DURATION, "Time until the head of the answer");
            describe_counter!(LOGINS, "Logins by result: success, denied, failure");
            describe_histogram!(HASHES, "Time of one password hash, without the wait for its turn");
            describe_gauge!(OUTBOX, "Revocations that the gateway has yet to be told of");
            describe_counter!(STORE_ERRORS, "Faults of the database by kind");
            describe_counter!(AUDIT_OMITTED, "Refusals without an audit event by reason: unidentified, capped, busy");
            describe_gauge!(STARTED, "When the process's counters began, in seconds since 1970");
            describe_gauge!(MEMORY, "Resident memory");
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            gauge!(STARTED).set(since.as_secs_f64());
        });
        Ok(metrics)
    }

    fn with(&self, record: impl FnOnce()) {
        metrics::with_local_recorder(self.recorder.as_ref(), record);
    }

    fn request(&self, route: String, method: &'static str, status: u16, time: Duration) {
        self.with(|| {
            let status = status.to_string();
            counter!(REQUESTS, "service" => self.service, "route" => route.clone(), "method" => method, "status" => status)
                .increment(1);
            histogram!(DURATION, "service" => self.service, "route" => route).record(time.as_secs_f64());
        });
    }

    /// Counts a login.
    pub fn login(&self, result: &'static str) {
        self.with(|| counter!(LOGINS, "result" => result).increment(1));
    }

    /// Counts a refusal that leaves no audit event.
    pub fn audit_omitted(&self, reason: &'static str) {
        self.with(|| counter!(AUDIT_OMITTED, "reason" => reason).increment(1));
    }

    /// Notes how long a password's hash took.
    pub fn password_hash(&self, time: Duration) {
        self.with(|| histogram!(HASHES).record(time.as_secs_f64()));
    }

    /// Says how many revocations wait; `None` when that cannot be known.
    pub fn outbox_waiting(&self, count: Option<i64>) {
        let count = count.and_then(|count| u32::try_from(count).ok()).map_or(f64::NAN, f64::from);
        self.with(|| gauge!(OUTBOX).set(count));
    }

    /// Logs and counts a fault of the database that no answer tells of.
    pub fn database_error(&self, error: &sqlx::Error) {
        log_error(error);
        self.count_database_error(error_kind(error));
    }

    fn count_database_error(&self, kind: &'static str) {
        self.with(|| counter!(STORE_ERRORS, "kind" => kind).increment(1));
    }

    /// Folds what was timed since the last time. To be called every few seconds: until then
    /// every single time is kept.
    pub fn upkeep(&self) {
        self.recorder.handle().run_upkeep();
    }

    /// Lets in whoever shows the token, if there is one.
    ///
    /// # Errors
    /// 401.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(expected) = &self.token else { return Ok(()) };
        let shown = credentials(headers, "bearer")
            .ok_or(ApiError::unauthorized("credentials_missing", "Authorization header required"))?;
        if expected.is_of(shown) { Ok(()) } else { Err(ApiError::invalid_token()) }
    }

    /// The page (Prometheus' text format 0.0.4).
    pub fn page(&self) -> Response {
        if let Some(bytes) = resident_memory() {
            self.with(|| gauge!(MEMORY).set(bytes));
        }
        let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
        (headers, self.recorder.handle().render()).into_response()
    }
}

/// Bytes, where the system says so (Linux).
fn resident_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kilobytes) * 1024.0)
}

/// The outermost layer: counts and times what the others answer.
pub async fn measure(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    metrics.request(route, method, response.status().as_u16(), begun.elapsed());
    if let Some(kind) = response.extensions().get::<ReportedError>().and_then(|error| error.database_error) {
        metrics.count_database_error(kind);
    }
    response
}

/// A client may make methods up; each would be a series.
fn method(method: &Method) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}
