//! Counts of requests, and the page that shows them (Prometheus text format, version 0.0.4).
//!
//! An isolate counts in memory and sends its counts to one store that adds them up for all
//! isolates: behind answers, a few seconds after the first count. The page reads those sums.
//! Gauges are of the isolate that answers. Labels come from the policy and from constants, the status
//! from the upstream and a known method from the request, so their number is bounded.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
};

use serde_json::{Map, Value};

use super::ports::MetricsStore;
use portcullis_policy::{METHODS, Policy, sorted};

/// Upper bounds of the buckets of times, in milliseconds.
const BUCKETS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// Families in the order of the page: name, kind, meaning.
const FAMILIES: [(&str, &str, &str); 14] = [
    ("gateway_requests_total", "counter", "Requests, by the pattern of their route."),
    ("gateway_request_duration_seconds", "histogram", "Time from a request's arrival to its answer's headers."),
    ("gateway_denials_total", "counter", "Requests that the gateway refused, by the code of the answer."),
    ("gateway_upstream_duration_seconds", "histogram", "Time from a request to an upstream to its answer's headers."),
    ("gateway_rate_limited_total", "counter", "Requests that a rate limit refused."),
    ("gateway_token_cache_total", "counter", "Tokens that were in the token cache (hit) or had to be verified (miss)."),
    ("gateway_key_refresh_total", "counter", "Times that an issuer was asked for its keys, by result."),
    ("gateway_security_events_total", "counter", "Logout tokens and security events of issuers, by result."),
    ("gateway_authorizer_total", "counter", "Decisions that an authorizer was asked for, by result."),
    (
        "gateway_introspection_total",
        "counter",
        "Tokens that an issuer's introspection endpoint was asked about, by result.",
    ),
    ("gateway_api_keys_total", "counter", "API keys that were not in the token cache, and pushes of them, by result."),
    ("gateway_breaker_state", "gauge", "An upstream's worst breaker in this isolate: 0 closed, 1 half open, 2 open."),
    ("gateway_keys_age_seconds", "gauge", "Age of an issuer's keys in this isolate."),
    ("gateway_revocation_age_seconds", "gauge", "Age of the copy of the revocation log in this isolate."),
];

/// Numbers by series, as the store has them. No map of floats: another type of map would make the Worker larger.
pub(super) type Sums = Map<String, Value>;

/// The metrics of one isolate.
#[derive(Default)]
pub(super) struct Metrics {
    /// Whether anyone can read the metrics. Otherwise requests are not counted.
    pub(super) is_enabled: bool,
    counts: RefCell<Counts>,
    /// Sums that did not arrive at the store, by series.
    unsent: RefCell<Sums>,
}

/// What is counted of a request that was answered.
#[derive(Clone, Copy)]
pub(super) struct CountedRequest<'a> {
    pub(super) method: &'a str,
    /// Index of the route.
    pub(super) route: Option<usize>,
    /// Index of the upstream.
    pub(super) upstream: Option<usize>,
    pub(super) status: u16,
    /// Code of the denial.
    pub(super) code: Option<&'static str>,
    pub(super) took_ms: u64,
    /// Milliseconds of the calls to the upstream, if there was one.
    pub(super) upstream_ms: Option<u64>,
    /// Where the token or its key came from.
    pub(super) key_source: Option<&'static str>,
}

impl Metrics {
    pub(super) fn new(is_enabled: bool) -> Self {
        Self { is_enabled, ..Self::default() }
    }

    /// Counts a request that was answered, of the route and the upstream with these indexes.
    pub(super) fn count_request(&self, request: CountedRequest<'_>) {
        if !self.is_enabled {
            return;
        }
        let CountedRequest { route, upstream, status, .. } = request;
        let mut counts = self.counts.borrow_mut();
        // Others could be as many as a client likes to make up.
        let method = METHODS.iter().find(|known| **known == request.method).copied().unwrap_or("OTHER");
        counts.add(Series::Request { route, method, status });
        counts.add_time(Timer::Request { route }, request.took_ms);
        if let Some(code) = request.code {
            counts.add(Series::Denial(code));
        }
        if let (Some(upstream), Some(took_ms)) = (upstream, request.upstream_ms) {
            counts.add_time(Timer::Upstream(upstream), took_ms);
        }
        if let Some(source) = request.key_source {
            counts.add(Series::TokenCache(if source == "token" { "hit" } else { "miss" }));
        }
    }

    /// Counts an event of a series.
    pub(super) fn count(&self, series: fmt::Arguments<'_>) {
        if self.is_enabled {
            self.counts.borrow_mut().add(Series::Event(series.to_string()));
        }
    }

    /// Sends the counts to the store. Counts that do not arrive are kept for the next time.
    pub(super) async fn flush(&self, policy: &Policy, store: &impl MetricsStore) {
        let mut sums = self.unsent.take();
        self.counts.take().add_to(&mut sums, policy);
        if sums.is_empty() {
            return;
        }
        let text = serde_json::to_string(&sums).unwrap_or_default();
        if !store.add_metrics(&text).await {
            let mut unsent = self.unsent.borrow_mut();
            sums.into_iter().for_each(|(series, sum)| add_sum(&mut unsent, series, number_in(&sum)));
        }
    }

    /// Reads the sums of all isolates; `None` when the store fails.
    pub(super) async fn read(&self, store: &impl MetricsStore) -> Option<Sums> {
        let text = store.read_metrics().await.ok()?;
        let Ok(Value::Object(sums)) = serde_json::from_slice(text.as_bytes()) else { return None };
        Some(sums)
    }
}

/// Counts that were not sent yet, in the order of their keys.
#[derive(Default)]
struct Counts {
    counters: Vec<(Series, u64)>,
    timers: Vec<(Timer, Histogram)>,
}

/// A series of a counter. Its text is written when it is sent, because each request is counted.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Series {
    Request { route: Option<usize>, method: &'static str, status: u16 },
    Denial(&'static str),
    TokenCache(&'static str),
    Event(String),
}

/// A histogram of times.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Request { route: Option<usize> },
    Upstream(usize),
}

#[derive(Clone, Copy, Default)]
struct Histogram {
    /// Of each bucket alone, and of all above the last.
    counts: [u64; BUCKETS_MS.len() + 1],
    sum_ms: u64,
}

impl Counts {
    fn add(&mut self, series: Series) {
        if let Some(count) = sorted::entry(&mut self.counters, series) {
            *count = count.saturating_add(1);
        }
    }

    fn add_time(&mut self, timer: Timer, took_ms: u64) {
        let Some(histogram) = sorted::entry(&mut self.timers, timer) else { return };
        let index = BUCKETS_MS.iter().position(|bound| took_ms <= *bound).unwrap_or(BUCKETS_MS.len());
        if let Some(count) = histogram.counts.get_mut(index) {
            *count = count.saturating_add(1);
        }
        histogram.sum_ms = histogram.sum_ms.saturating_add(took_ms);
    }

    /// Adds the counts to sums by the text of their series. No name in a policy has a quote, a backslash or a line
    /// break, which labels would have to escape.
    fn add_to(self, sums: &mut Sums, policy: &Policy) {
        // Requests that no route took are the gateway's own.
        let path = |route: Option<usize>| {
            route.and_then(|route| policy.routes.get(route)).map_or("gateway", |route| route.path.as_str())
        };
        for (series, count) in self.counters {
            let series = match series {
                Series::Request { route, method, status } => {
                    let route = path(route);
                    format!("gateway_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}")
                }
                Series::Denial(code) => format!("gateway_denials_total{{code=\"{code}\"}}"),
                Series::TokenCache(result) => format!("gateway_token_cache_total{{result=\"{result}\"}}"),
                Series::Event(series) => series,
            };
            add_sum(sums, series, number(count));
        }
        for (timer, histogram) in self.timers {
            let (family, label) = match timer {
                Timer::Request { route } => ("gateway_request_duration_seconds", format!("route=\"{}\"", path(route))),
                Timer::Upstream(upstream) => {
                    let name = policy.upstreams.get(upstream).map_or("", |upstream| upstream.name.as_str());
                    ("gateway_upstream_duration_seconds", format!("upstream=\"{name}\""))
                }
            };
            let bounds = BUCKETS_MS.iter().map(|bound| text_of(seconds(*bound)));
            let mut count: u64 = 0;
            for (bound, more) in bounds.chain(["+Inf".to_owned()]).zip(histogram.counts) {
                count = count.saturating_add(more);
                add_sum(sums, format!("{family}_bucket{{{label},le=\"{bound}\"}}"), number(count));
            }
            add_sum(sums, format!("{family}_sum{{{label}}}"), seconds(histogram.sum_ms));
            add_sum(sums, format!("{family}_count{{{label}}}"), number(count));
        }
    }
}

fn add_sum(sums: &mut Sums, series: String, sum: f64) {
    let sum = sums.get(&series).map_or(sum, |known| number_in(known) + sum);
    sums.insert(series, sum.into());
}

fn number_in(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// Counts and milliseconds as what Prometheus has: far below where a double would round.
fn number(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

pub(super) fn seconds(millis: u64) -> f64 {
    number(millis) / 1000.0
}

/// Writes a number as JSON does, without the `.0` of a whole one. The formatter of the standard library would make the
/// Worker larger.
fn text_of(number: f64) -> String {
    let text = Value::from(number).to_string();
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// The page: sums and gauges by series, each family with its kind and meaning. A series
/// of no known family is left out.
pub(super) fn page(series: &Sums) -> String {
    let mut text = String::new();
    for (family, kind, meaning) in FAMILIES {
        let is_member = |series: &str| {
            let end = series.split('{').next().and_then(|name| name.strip_prefix(family));
            end.is_some_and(|end| matches!(end, "" | "_bucket" | "_sum" | "_count"))
        };
        let mut members: Vec<_> = series.iter().filter(|(name, _)| is_member(name)).collect();
        if members.is_empty() {
            continue;
        }
        members.sort_by_key(|&(name, _)| order(name));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {family} {meaning}\n# TYPE {family} {kind}");
        for (name, value) in members {
            let _ = writeln!(text, "{name} {}", text_of(number_in(value)));
        }
    }
    text
}

/// By labels without `le`, then by bound, then by name: each series' buckets together, in the order of
/// their bounds. A bound is not negative, so its bits have its order.
fn order(series: &str) -> (&str, u64, &str) {
    let (bare, labels) = series.split_once('{').unwrap_or((series, ""));
    let (labels, bound) = labels.split_once(",le=\"").unwrap_or((labels.trim_end_matches('}'), ""));
    let bound: f64 = serde_json::from_slice(bound.trim_end_matches("\"}").as_bytes()).unwrap_or(f64::INFINITY);
    (labels, bound.to_bits(), bare)
}
