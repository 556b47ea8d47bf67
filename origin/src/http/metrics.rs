//! Prometheus metrics: the middleware that counts requests, and the page.
//!
//! Each service has its own recorder instead of the process's, so that two services in one process
//! have separate counts. The values of labels come from fixed lists, so that clients cannot create
//! series.

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

/// Bounds of the buckets in seconds. The greatest is above the time limit of a request.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];

/// A service's metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    service: &'static str,
    recorder: Arc<PrometheusRecorder>,
    /// Hash of the token that the page requires; `None` if it is public.
    token: Option<SecretHash>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Metrics").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Makes the metrics of a service, and the page's token.
    ///
    /// # Errors
    /// [`BuildError`] if there are no buckets.
    pub fn new(service: &'static str, token: Option<&Secret>) -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(DURATION.to_owned()), &BUCKETS)?
            .set_buckets_for_metric(Matcher::Full(HASHES.to_owned()), &BUCKETS)?
            .build_recorder();
        let metrics =
            Self { service, recorder: Arc::new(recorder), token: token.map(|token| SecretHash::of(token.expose())) };
        metrics.with(|| {
            describe_counter!(REQUESTS, "Requests by route template, method and status");
            describe_histogram!(DURATION, "Seconds until the response headers");
            describe_counter!(LOGINS, "Logins by result: success, denied, failure");
            describe_histogram!(HASHES, "Seconds of one password hash, without the wait in the queue");
            describe_gauge!(OUTBOX, "Revocations that are not yet pushed to the gateway");
            describe_counter!(STORE_ERRORS, "Database errors by kind");
            describe_counter!(
                AUDIT_OMITTED,
                "Rejected requests without an audit event by reason: unidentified, capped, busy"
            );
            describe_gauge!(STARTED, "Start of the process, in seconds since 1970");
            describe_gauge!(MEMORY, "Resident memory in bytes");
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

    /// Counts a rejected request without an audit event.
    pub fn audit_omitted(&self, reason: &'static str) {
        self.with(|| counter!(AUDIT_OMITTED, "reason" => reason).increment(1));
    }

    /// Records the time of a password hash.
    pub fn password_hash(&self, time: Duration) {
        self.with(|| histogram!(HASHES).record(time.as_secs_f64()));
    }

    /// Sets the number of revocations in the outbox; `None` if it is unknown.
    pub fn outbox_waiting(&self, count: Option<i64>) {
        let count = count.and_then(|count| u32::try_from(count).ok()).map_or(f64::NAN, f64::from);
        self.with(|| gauge!(OUTBOX).set(count));
    }

    /// Logs and counts a database error that is not part of an answer.
    pub fn database_error(&self, error: &sqlx::Error) {
        log_error(error);
        self.count_database_error(error_kind(error));
    }

    fn count_database_error(&self, kind: &'static str) {
        self.with(|| counter!(STORE_ERRORS, "kind" => kind).increment(1));
    }

    /// Aggregates the times that were measured since the last call. Must be called every few seconds,
    /// because the recorder keeps each time until then.
    pub fn upkeep(&self) {
        self.recorder.handle().run_upkeep();
    }

    /// Checks the token of the page, if there is one.
    ///
    /// # Errors
    /// 401 for a missing or wrong token.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(expected) = &self.token else { return Ok(()) };
        let token = credentials(headers, "bearer")
            .ok_or(ApiError::unauthorized("credentials_missing", "Authorization header required"))?;
        if expected.is_of(token) { Ok(()) } else { Err(ApiError::invalid_token()) }
    }

    /// Renders the page (Prometheus text format 0.0.4).
    pub fn page(&self) -> Response {
        if let Some(bytes) = resident_memory() {
            self.with(|| gauge!(MEMORY).set(bytes));
        }
        let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
        (headers, self.recorder.handle().render()).into_response()
    }
}

/// Returns the resident memory in bytes, on Linux.
fn resident_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kilobytes) * 1024.0)
}

/// Middleware outside `observe`: counts and times requests.
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

/// Maps a method to a label. Unknown methods share one, because a client can invent methods.
fn method(method: &Method) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}
