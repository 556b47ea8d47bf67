//! Spans of sampled requests, for a collector (OTLP/HTTP with JSON; OpenTelemetry protocol
//! 1.x, semantic conventions for HTTP): one of the gateway, and one of its call to the
//! upstream. Kept until they are sent, behind answers; bounded, and given up rather than
//! ever waited for. Holds what the log line holds, and nothing more.

use std::fmt;

use serde_json::{Value, json};

use super::{Chore, Gate, LogLine, limits, ports::Ports, trace::Ids};
use crate::token::UnixMillis;

/// Where spans go, and of how many traces.
#[derive(Clone, PartialEq)]
pub(super) struct Exporter {
    /// The collector's URL for traces.
    pub(super) url: String,
    /// Headers for it as `OTEL_EXPORTER_OTLP_HEADERS` has them; may hold a secret.
    pub(super) headers: String,
    /// What the gateway calls itself.
    pub(super) service: String,
    /// Share of the traces that are sampled: 0 to 1.
    pub(super) ratio: f64,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exporter").field("ratio", &self.ratio).finish_non_exhaustive()
    }
}

impl Exporter {
    /// Whether a trace is sampled, by an id that no client chose: the trace's where it
    /// begins here, so that all who see it with the same ratio decide alike
    /// (`TraceIdRatioBased`); our own span's where the trace is a client's, who could
    /// choose one that is always among them.
    pub(super) fn samples(&self, ids: &Ids) -> bool {
        self.takes(if ids.parent_id.is_some() { &ids.span_id } else { &ids.trace_id })
    }

    fn takes(&self, id: &str) -> bool {
        let end = id.len().checked_sub(8).and_then(|at| id.get(at..));
        let number = end.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        number.is_some_and(|number| f64::from(number) < self.ratio * (f64::from(u32::MAX) + 1.0))
    }
}

/// What this isolate has yet to send.
#[derive(Debug, Default)]
pub(super) struct Spans {
    waiting: Vec<Value>,
    /// How many are on their way, each lot until a time by which its sending is over.
    flying: Vec<(UnixMillis, usize)>,
    /// Spans that found no place, since the last that were sent.
    dropped: u64,
    /// Since when somebody is about to send them.
    sending_since: Option<UnixMillis>,
}

impl Spans {
    fn push(&mut self, span: Value, now: UnixMillis) {
        // Whoever sent a lot may never come back to say so.
        self.flying.retain(|(until, _)| now < *until);
        let held = self.flying.iter().fold(self.waiting.len(), |sum, (_, count)| sum.saturating_add(*count));
        if held < limits::SPANS {
            self.waiting.push(span);
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }
}

impl Gate {
    /// Notes a request that has its answer, if its trace is sampled.
    pub(super) fn note_spans<P: Ports>(
        &self,
        line: &LogLine,
        ids: &Ids,
        begun: UnixMillis,
        ports: &P,
        chores: &mut Vec<Chore>,
    ) {
        if self.exporter.is_none() || !ids.is_sampled() {
            return;
        }
        let now = ports.now();
        let mut spans = self.spans.borrow_mut();
        spans.push(server_span(line, ids, begun, now), now);
        if let (Some(upstream), Some((from, to))) = (&line.upstream, line.upstream_times) {
            spans.push(client_span(line, ids, upstream, from, to), now);
        }
        let is_on_its_way = spans.sending_since.is_some_and(|since| now.since(since) < limits::FLUSH_LOST_MS);
        if spans.waiting.len() >= limits::SPANS_BATCH {
            chores.push(Chore::SendSpans);
        } else if !is_on_its_way {
            spans.sending_since = Some(now);
            chores.push(Chore::SendSpansLater);
        }
    }

    /// Lets some seconds pass and sends what there is.
    pub(super) async fn send_spans_later<P: Ports>(&self, ports: &P) {
        ports.sleep(limits::FLUSH_MS).await;
        self.spans.borrow_mut().sending_since = None;
        self.send_spans(ports).await;
    }

    /// Sends what there is. What does not arrive is given up: a trace is no account.
    pub(super) async fn send_spans<P: Ports>(&self, ports: &P) {
        let Some(exporter) = &self.exporter else { return };
        let (waiting, dropped, lot) = {
            let mut spans = self.spans.borrow_mut();
            if spans.waiting.is_empty() {
                return;
            }
            let lot = (ports.now().plus(2 * limits::SPANS_SEND_MS), spans.waiting.len());
            spans.flying.push(lot);
            (std::mem::take(&mut spans.waiting), std::mem::take(&mut spans.dropped), lot)
        };
        let body = request(&exporter.service, waiting).to_string();
        ports.send_spans(&exporter.url, &exporter.headers, &body, dropped).await;
        let mut spans = self.spans.borrow_mut();
        if let Some(index) = spans.flying.iter().position(|flying| *flying == lot) {
            spans.flying.swap_remove(index);
        }
    }
}

/// An `ExportTraceServiceRequest` in protobuf's JSON, with ids in hex as OTLP has them.
fn request(service: &str, spans: Vec<Value>) -> Value {
    let scope = json!({ "name": "portcullis", "version": env!("CARGO_PKG_VERSION") });
    json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", service)] },
        "scopeSpans": [{ "scope": scope, "spans": spans }],
    }] })
}

fn server_span(line: &LogLine, ids: &Ids, begun: UnixMillis, ended: UnixMillis) -> Value {
    let mut attributes = vec![
        text("http.request.method", &line.method),
        text("url.path", &line.path),
        number("http.response.status_code", u64::from(line.status)),
        text("portcullis.request_id", &ids.request_id),
    ];
    let optional = [
        ("http.route", line.route.as_deref()),
        ("user_agent.original", line.user_agent.as_deref()),
        ("client.address", line.ip.as_deref()),
        ("error.type", line.code),
        ("portcullis.key_source", line.cache),
    ];
    attributes.extend(optional.into_iter().filter_map(|(key, value)| value.map(|value| text(key, value))));
    let name = match &line.route {
        Some(route) => format!("{} {route}", line.method),
        None => line.method.clone(),
    };
    span(&ids.span_id, ids.parent_id.as_deref(), ids, &name, SERVER, (begun, ended), attributes, line.status >= 500)
}

fn client_span(line: &LogLine, ids: &Ids, upstream: &str, from: UnixMillis, to: UnixMillis) -> Value {
    let attributes = vec![text("http.request.method", &line.method), text("portcullis.upstream", upstream)];
    let failed = line.status >= 500;
    let name = format!("{} {upstream}", line.method);
    span(&ids.client_span_id, Some(&ids.span_id), ids, &name, CLIENT, (from, to), attributes, failed)
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
        let exporter = |ratio| Exporter { url: String::new(), headers: String::new(), service: String::new(), ratio };
        let id = |end: &str| format!("{}{end}", "a".repeat(24));
        for (ratio, end, expected) in [
            (1.0, "ffffffff", true),
            (0.0, "00000000", false),
            (0.5, "7fffffff", true),
            (0.5, "80000000", false),
            (0.25, "3fffffff", true),
            (0.25, "40000000", false),
        ] {
            assert_eq!(exporter(ratio).takes(&id(end)), expected, "{ratio} of {end}");
        }
        assert!(!exporter(1.0).takes("short"));
    }
}
