//! Spans of sampled requests for a collector (OTLP/HTTP with JSON; OpenTelemetry protocol 1.x,
//! semantic conventions for HTTP): one of the gateway, and one of its call to the upstream. Sent
//! behind answers, bounded, and discarded rather than waited for. They hold what the log record
//! holds, and nothing more.

use std::{cell::RefCell, fmt};

use serde_json::{Value, json};

use super::{
    background::BackgroundTask,
    exchange::Exchange,
    limits,
    log::LogRecord,
    ports::{Background, Clock, SpanCollector},
    settings::{Misconfiguration, Settings},
    trace::Ids,
};
use portcullis_token::UnixMillis;

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
    ratio: f64,
    spans: RefCell<Spans>,
}

impl fmt::Debug for SpanExporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SpanExporter").field("ratio", &self.ratio).finish_non_exhaustive()
    }
}

/// The spans of one isolate that were not sent yet.
#[derive(Debug, Default)]
struct Spans {
    waiting: Vec<Value>,
    /// Batches that are being sent: the time by which each has ended, and its size.
    in_flight: Vec<(UnixMillis, usize)>,
    /// Spans that were discarded since the last batch.
    dropped: u64,
    /// When the next batch was scheduled, until it is sent.
    scheduled_since: Option<UnixMillis>,
}

impl Spans {
    fn push(&mut self, span: Value, now: UnixMillis) {
        // A task that sent a batch may have been cut off.
        self.in_flight.retain(|(until, _)| now < *until);
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
    ///
    /// # Errors
    /// [`Misconfiguration`].
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
            Some(text) => parse_ratio(&text).filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(|| {
                Misconfiguration(format!("{RATIO} is not a number from 0 to 1; it is the share of traces to sample"))
            })?,
        };
        Ok(Some(Self {
            url: format!("{}/v1/traces", endpoint.trim_end_matches('/')),
            headers: settings.value(HEADERS).unwrap_or_default(),
            service: settings.non_empty(SERVICE).unwrap_or_else(|| "portcullis".to_owned()),
            ratio,
            spans: RefCell::default(),
        }))
    }

    /// Returns whether a trace is within the sampled share, by an id that no client chose: the
    /// trace's where it begins here, so that all exporters with the same ratio decide alike
    /// (`TraceIdRatioBased`); the gateway's own span's where the trace is a client's, who could
    /// choose an id that is always sampled.
    pub(super) fn samples(&self, ids: &Ids) -> bool {
        is_in_ratio(if ids.parent_id.is_some() { &ids.span_id } else { &ids.trace_id }, self.ratio)
    }

    /// Adds the spans of a request that was answered, if its trace is sampled, and schedules a
    /// batch.
    pub(super) fn record(&self, exchange: &Exchange<'_>, record: &LogRecord, ports: &(impl Clock + Background)) {
        if !exchange.ids.is_sampled() {
            return;
        }
        let now = ports.now();
        let mut spans = self.spans.borrow_mut();
        spans.push(server_span(record, &exchange.ids, exchange.begun, now), now);
        if let (Some(upstream), Some(times)) = (&record.upstream, exchange.upstream_times) {
            spans.push(client_span(record, &exchange.ids, upstream, times), now);
        }
        let is_scheduled = spans.scheduled_since.is_some_and(|since| now.since(since) < limits::FLUSH_LOST_MS);
        if spans.waiting.len() >= limits::SPANS_BATCH {
            ports.defer(BackgroundTask::SendSpans);
        } else if !is_scheduled {
            spans.scheduled_since = Some(now);
            ports.defer(BackgroundTask::SendSpansLater);
        }
    }

    /// Waits some seconds and sends the spans.
    pub(super) async fn send_later(&self, ports: &(impl Clock + SpanCollector)) {
        ports.sleep(limits::FLUSH_MS).await;
        self.spans.borrow_mut().scheduled_since = None;
        self.send(ports).await;
    }

    /// Sends the spans. Spans that do not arrive are discarded.
    pub(super) async fn send(&self, ports: &(impl Clock + SpanCollector)) {
        let (waiting, dropped, batch) = {
            let mut spans = self.spans.borrow_mut();
            if spans.waiting.is_empty() {
                return;
            }
            let batch = (ports.now().plus(2 * limits::SPANS_SEND_MS), spans.waiting.len());
            spans.in_flight.push(batch);
            (std::mem::take(&mut spans.waiting), std::mem::take(&mut spans.dropped), batch)
        };
        let body = request(&self.service, waiting).to_string();
        ports.send_spans(&self.url, &self.headers, &body, dropped).await;
        let mut spans = self.spans.borrow_mut();
        if let Some(index) = spans.in_flight.iter().position(|sent| *sent == batch) {
            spans.in_flight.swap_remove(index);
        }
    }
}

fn is_in_ratio(id: &str, ratio: f64) -> bool {
    let end = id.len().checked_sub(8).and_then(|at| id.get(at..));
    let number = end.and_then(|hex| u32::from_str_radix(hex, 16).ok());
    number.is_some_and(|number| f64::from(number) < ratio * (f64::from(u32::MAX) + 1.0))
}

/// Parses a decimal number: besides JSON's forms also `.5`, `1.`, `+0.1` and `01`.
fn parse_ratio(text: &str) -> Option<f64> {
    let begins = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let text = text.strip_prefix('+').unwrap_or(text);
    if !begins(text.strip_prefix('.').unwrap_or(text)) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    let before = if begins(digits) { "" } else { "0" };
    let behind = if digits.ends_with('.') { "0" } else { "" };
    serde_json::from_slice([before, digits, behind].concat().as_bytes()).ok()
}

/// An `ExportTraceServiceRequest` in protobuf's JSON, with ids in hex as OTLP has them.
fn request(service: &str, spans: Vec<Value>) -> Value {
    let scope = json!({ "name": "portcullis", "version": env!("CARGO_PKG_VERSION") });
    json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", service)] },
        "scopeSpans": [{ "scope": scope, "spans": spans }],
    }] })
}

fn server_span(record: &LogRecord, ids: &Ids, begun: UnixMillis, ended: UnixMillis) -> Value {
    let mut attributes = vec![
        text("http.request.method", &record.method),
        text("url.path", &record.path),
        number("http.response.status_code", u64::from(record.status)),
        text("portcullis.request_id", &ids.request_id),
    ];
    let optional = [
        ("http.route", record.route.as_deref()),
        ("user_agent.original", record.user_agent.as_deref()),
        ("client.address", record.ip.as_deref()),
        ("error.type", record.code),
        ("portcullis.key_source", record.cache),
    ];
    attributes.extend(optional.into_iter().filter_map(|(key, value)| value.map(|value| text(key, value))));
    let name = match &record.route {
        Some(route) => format!("{} {route}", record.method),
        None => record.method.clone(),
    };
    span(&ids.span_id, ids.parent_id.as_deref(), ids, &name, SERVER, (begun, ended), attributes, record.status >= 500)
}

fn client_span(record: &LogRecord, ids: &Ids, upstream: &str, times: (UnixMillis, UnixMillis)) -> Value {
    let attributes = vec![text("http.request.method", &record.method), text("portcullis.upstream", upstream)];
    let failed = record.status >= 500;
    let name = format!("{} {upstream}", record.method);
    span(&ids.client_span_id, Some(&ids.span_id), ids, &name, CLIENT, times, attributes, failed)
}

/// `SpanKind`.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

#[allow(clippy::too_many_arguments, reason = "the members of one message")]
fn span(
    id: &str,
    parent: Option<&str>,
    ids: &Ids,
    name: &str,
    kind: u64,
    (from, to): (UnixMillis, UnixMillis),
    attributes: Vec<Value>,
    failed: bool,
) -> Value {
    // 64-bit numbers are texts in protobuf's JSON.
    let nanos = |at: UnixMillis| at.0.saturating_mul(1_000_000).to_string();
    let mut span = json!({
        "traceId": ids.trace_id,
        "spanId": id,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": nanos(from),
        "endTimeUnixNano": nanos(to),
        "attributes": attributes,
    });
    if let Some(members) = span.as_object_mut() {
        if let Some(parent) = parent {
            members.insert("parentSpanId".to_owned(), parent.into());
        }
        if failed {
            members.insert("status".to_owned(), json!({ "code": 2 }));
        }
    }
    span
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_traces_is_sampled_by_their_ids() {
        let id = |end: &str| format!("{}{end}", "a".repeat(24));
        for (ratio, end, expected) in [
            (1.0, "ffffffff", true),
            (0.0, "00000000", false),
            (0.5, "7fffffff", true),
            (0.5, "80000000", false),
            (0.25, "3fffffff", true),
            (0.25, "40000000", false),
        ] {
            assert_eq!(is_in_ratio(&id(end), ratio), expected, "{ratio} of {end}");
        }
        assert!(!is_in_ratio("short", 1.0));
    }

    #[test]
    fn a_ratio_is_any_decimal_number() {
        for (text, expected) in [
            ("0.25", Some(0.25)),
            (".5", Some(0.5)),
            ("1.", Some(1.0)),
            ("+0.1", Some(0.1)),
            ("01", Some(1.0)),
            ("-1", None),
            ("NaN", None),
            ("", None),
        ] {
            assert_eq!(parse_ratio(text), expected, "{text}");
        }
    }
}
