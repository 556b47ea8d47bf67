//! Spans of sampled requests for a collector (OTLP/HTTP with JSON; OpenTelemetry protocol 1.x,
//! semantic conventions for HTTP): one of the gateway, and one of its call to the upstream. Sent
//! behind answers, bounded, and discarded rather than waited for. They hold what the log record
//! holds, and nothing more.

use std::cell::RefCell;

use serde_json::Value;

use super::{
    exchange::Exchange,
    limits,
    log::LogRecord,
    permits::Lease,
    ports::SpanCollector,
    settings::{Misconfiguration, Settings},
    trace::Ids,
};
use portcullis_token::{UnixMillis, object};

/// The settings that all OpenTelemetry exporters have: the collector's URL, headers for it, the
/// gateway's name, and the share of traces that is sampled.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const SERVICE: &str = "OTEL_SERVICE_NAME";
const RATIO: &str = "OTEL_TRACES_SAMPLER_ARG";

/// Sends spans to a collector.
pub(super) struct SpanExporter {
    /// The collector's URL for traces.
    url: String,
    /// Headers for it, in the form of the setting; they may hold a secret.
    headers: String,
    /// The gateway's `service.name`.
    service: String,
    /// Share of the traces that is sampled: 0 to 1.
    pub(super) ratio: f64,
    spans: RefCell<Spans>,
}

/// The spans of one isolate that were not sent yet.
#[derive(Default)]
struct Spans {
    waiting: Vec<Value>,
    /// Batches that are being sent: the time of each, and its size.
    in_flight: Vec<(Lease, usize)>,
    /// Spans that were discarded since the last batch.
    dropped: u64,
}

impl Spans {
    fn push(&mut self, span: Value, now: UnixMillis) {
        // A task that sent a batch may have been cut off.
        self.in_flight.retain(|(lease, _)| !lease.is_over(now));
        let held = self.in_flight.iter().fold(self.waiting.len(), |sum, (_, count)| sum.saturating_add(*count));
        if held < limits::SPANS {
            self.waiting.push(span);
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }
}

impl SpanExporter {
    /// Builds the exporter of the settings; `None` when no collector is set.
    pub(super) fn new(settings: &Settings<'_>) -> Result<Option<Self>, Misconfiguration> {
        let Some(endpoint) = settings.non_empty(ENDPOINT) else { return Ok(None) };
        portcullis_policy::check_url(&endpoint).map_err(|fault| Misconfiguration(format!("{ENDPOINT} {fault}")))?;
        settings.check_https(&endpoint, || format!("{ENDPOINT} is a plain http:// URL"), "its https:// URL")?;
        if endpoint.contains(['?', '#']) {
            return Err(Misconfiguration(format!(
                "{ENDPOINT} has a query or a fragment; write scheme, host and path alone, because /v1/traces is appended"
            )));
        }
        let ratio = match settings.non_empty(RATIO) {
            None => 1.0,
            // The parser of JSON is in the Worker anyway; that of the standard library would bring large tables.
            Some(text) => {
                serde_json::from_str(&text).ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(|| {
                    Misconfiguration(format!(
                        "{RATIO} is not a number from 0 to 1, such as 0.25; it is the share of traces to sample"
                    ))
                })?
            }
        };
        Ok(Some(Self {
            url: format!("{}/v1/traces", endpoint.trim_end_matches('/')),
            headers: settings.value(HEADERS).unwrap_or_default(),
            service: settings.non_empty(SERVICE).unwrap_or_else(|| "portcullis".to_owned()),
            ratio,
            spans: RefCell::default(),
        }))
    }

    /// Adds the spans of a request that was answered. Returns whether a batch is full.
    pub(super) fn record(&self, exchange: &Exchange<'_>, record: &LogRecord, now: UnixMillis) -> bool {
        let mut spans = self.spans.borrow_mut();
        spans.push(server_span(record, &exchange.ids, (exchange.begun, now)), now);
        if let (Some(upstream), Some(times)) = (&record.upstream, exchange.upstream_times) {
            spans.push(client_span(record, &exchange.ids, upstream, times), now);
        }
        spans.waiting.len() >= limits::SPANS_BATCH
    }

    /// Sends the spans. Spans that do not arrive are discarded.
    pub(super) async fn send(&self, ports: &impl SpanCollector) {
        let (waiting, dropped, batch) = {
            let mut spans = self.spans.borrow_mut();
            if spans.waiting.is_empty() {
                return;
            }
            let batch = (Lease { since: ports.now(), lasts_ms: 2 * limits::SPANS_SEND_MS }, spans.waiting.len());
            spans.in_flight.push(batch);
            (std::mem::take(&mut spans.waiting), std::mem::take(&mut spans.dropped), batch)
        };
        let body = request(&self.service, &waiting).to_string();
        ports.send_spans(&self.url, &self.headers, &body, dropped).await;
        let mut spans = self.spans.borrow_mut();
        if let Some(index) = spans.in_flight.iter().position(|sent| *sent == batch) {
            spans.in_flight.swap_remove(index);
        }
    }
}

/// An `ExportTraceServiceRequest` in protobuf's JSON, with ids in hex as OTLP has them.
fn request(service: &str, spans: &[Value]) -> Value {
    let list = |item: Value| Value::Array(vec![item]);
    let scope = object([("name", "portcullis".into()), ("version", env!("CARGO_PKG_VERSION").into())]);
    let resource = object([("attributes", list(text("service.name", service)))]);
    let spans = object([("scope", scope), ("spans", Value::Array(spans.to_vec()))]);
    let spans = object([("resource", resource), ("scopeSpans", list(spans))]);
    object([("resourceSpans", list(spans))])
}

/// A span in protobuf's JSON, where 64-bit numbers are texts. `kind` is its `SpanKind`, and `place` what its
/// name says besides the method.
fn span(
    kind: u8,
    record: &LogRecord,
    (span_id, parent_id): (&str, Option<&str>),
    place: Option<&str>,
    (from, to): (UnixMillis, UnixMillis),
    attributes: Vec<Value>,
) -> Value {
    let nanos = |at: UnixMillis| at.0.saturating_mul(1_000_000).to_string();
    let name = place.map_or_else(|| record.method.clone(), |place| [&record.method, " ", place].concat());
    let status = if record.status >= 500 { object([("code", 2.into())]) } else { Value::Null };
    let mut span = object([
        ("traceId", record.trace_id.as_str().into()),
        ("spanId", span_id.into()),
        ("parentSpanId", parent_id.into()),
        ("name", name.into()),
        ("kind", kind.into()),
        ("startTimeUnixNano", nanos(from).into()),
        ("endTimeUnixNano", nanos(to).into()),
        ("attributes", Value::Array(attributes)),
        ("status", status),
    ]);
    if let Value::Object(members) = &mut span {
        members.retain(|_, value| !value.is_null());
    }
    span
}

fn server_span(record: &LogRecord, ids: &Ids, times: (UnixMillis, UnixMillis)) -> Value {
    let attributes = [
        ("http.request.method", Some(record.method.as_str())),
        ("url.path", Some(&record.path)),
        ("portcullis.request_id", Some(&ids.request_id)),
        ("http.route", record.route.as_deref()),
        ("user_agent.original", record.user_agent.as_deref()),
        ("client.address", record.ip.as_deref()),
        ("error.type", record.code),
        ("portcullis.key_source", record.cache),
    ];
    let attributes = attributes.into_iter().filter_map(|(key, value)| Some(text(key, value?)));
    let value = object([("intValue", record.status.to_string().into())]);
    let status = object([("key", "http.response.status_code".into()), ("value", value)]);
    let place_in_trace = (ids.span_id.as_str(), ids.parent_id.as_deref());
    span(2, record, place_in_trace, record.route.as_deref(), times, attributes.chain([status]).collect())
}

/// The call to the upstream.
fn client_span(record: &LogRecord, ids: &Ids, upstream: &str, times: (UnixMillis, UnixMillis)) -> Value {
    let attributes = vec![text("http.request.method", &record.method), text("portcullis.upstream", upstream)];
    span(3, record, (&ids.client_span_id(), Some(&ids.span_id)), Some(upstream), times, attributes)
}

fn text(key: &str, value: &str) -> Value {
    object([("key", key.into()), ("value", object([("stringValue", value.into())]))])
}
