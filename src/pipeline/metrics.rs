//! Counts of requests, and the page that shows them (Prometheus text format, version 0.0.4).
//!
//! An isolate counts in memory and sends its counts to one store that adds them up for all
//! isolates: behind answers, a few seconds after the first count. The page reads those sums.
//! Gauges are of the isolate that answers. Labels come from the policy and from constants, never
//! from a request, so their number is bounded.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use super::{
    background::BackgroundTask,
    limits,
    log::LogRecord,
    ports::{Background, Clock, MetricsStore},
};
use portcullis_policy::{METHODS, Policy};
use portcullis_token::UnixMillis;

/// Upper bounds of the buckets of times, in milliseconds.
const BUCKETS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

const REQUESTS: &str = "gateway_requests_total";
const DENIALS: &str = "gateway_denials_total";
const TOKEN_CACHE: &str = "gateway_token_cache_total";
const KEY_REFRESH: &str = "gateway_key_refresh_total";
const RATE_LIMITED: &str = "gateway_rate_limited_total";
const REQUEST_TIME: &str = "gateway_request_duration_seconds";
const UPSTREAM_TIME: &str = "gateway_upstream_duration_seconds";

/// Families in the order of the page: name, kind, meaning.
const FAMILIES: [(&str, &str, &str); 10] = [
    (REQUESTS, "counter", "Requests, by the pattern of their route."),
    (REQUEST_TIME, "histogram", "Time from a request's arrival to its answer's headers."),
    (DENIALS, "counter", "Requests that the gateway refused, by the code of the answer."),
    (UPSTREAM_TIME, "histogram", "Time from sending a request to an upstream to its answer's headers."),
    (RATE_LIMITED, "counter", "Requests that a rate limit refused."),
    (TOKEN_CACHE, "counter", "Tokens that were remembered (hit) or had to be checked (miss)."),
    (KEY_REFRESH, "counter", "Times that an issuer was asked for its keys, by what came of it."),
    (
        "gateway_breaker_state",
        "gauge",
        "An upstream's worst breaker in the isolate that answers: 0 closed, 1 half open, 2 open.",
    ),
    ("gateway_keys_age_seconds", "gauge", "Age of an issuer's keys in the isolate that answers."),
    ("gateway_revocation_age_seconds", "gauge", "Age of the copy of the revocation log in the isolate that answers."),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Counter {
    Request {
        route: Option<usize>,
        method: &'static str,
        status: u16,
    },
    Denial(&'static str),
    TokenCache {
        hit: bool,
    },
    KeyRefresh {
        issuer: usize,
        result: &'static str,
    },
    /// By the limit's name.
    RateLimited(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Timer {
    /// By route.
    Request(Option<usize>),
    /// By upstream.
    Upstream(usize),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Histogram {
    /// Of each bucket alone, and of all above the last.
    counts: [u64; BUCKETS_MS.len() + 1],
    sum_ms: u64,
}

impl Histogram {
    fn note(&mut self, took_ms: u64) {
        let index = BUCKETS_MS.iter().position(|bound| took_ms <= *bound).unwrap_or(BUCKETS_MS.len());
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.saturating_add(1);
        }
        self.sum_ms = self.sum_ms.saturating_add(took_ms);
    }
}

/// Label values by index.
#[derive(Debug, Default)]
struct Names {
    routes: Vec<String>,
    upstreams: Vec<String>,
    issuers: Vec<String>,
}

/// The metrics of one isolate.
#[derive(Debug)]
pub(super) struct Metrics {
    names: Names,
    /// Whether anyone can read the metrics. Otherwise requests are not counted.
    is_enabled: bool,
    counts: RefCell<Counts>,
    /// When the next flush was scheduled, until it begins.
    flushing_since: Cell<Option<UnixMillis>>,
}

impl Metrics {
    pub(super) fn new(policy: &Policy, is_enabled: bool) -> Self {
        let names = Names {
            routes: policy.routes.iter().map(|route| route.path.clone()).collect(),
            upstreams: policy.upstreams.iter().map(|upstream| upstream.name.clone()).collect(),
            issuers: policy.issuers.iter().map(|issuer| issuer.name.clone()).collect(),
        };
        Self { names, is_enabled, counts: RefCell::default(), flushing_since: Cell::new(None) }
    }

    /// Counts a request that was answered, and schedules a flush.
    pub(super) fn count_request(
        &self,
        route: Option<usize>,
        upstream: Option<usize>,
        record: &LogRecord,
        ports: &(impl Clock + Background),
    ) {
        if !self.is_enabled {
            return;
        }
        self.counts.borrow_mut().note(route, upstream, record);
        let now = ports.now();
        let is_scheduled = self.flushing_since.get().is_some_and(|since| now.since(since) < limits::FLUSH_LOST_MS);
        if !is_scheduled {
            self.flushing_since.set(Some(now));
            ports.defer(BackgroundTask::FlushMetrics);
        }
    }

    /// Counts a fetch of an issuer's keys.
    pub(super) fn count_key_refresh(&self, issuer: usize, result: &'static str) {
        if self.is_enabled {
            self.counts.borrow_mut().add(Counter::KeyRefresh { issuer, result });
        }
    }

    /// Counts a request that a rate limit refused.
    pub(super) fn count_limited(&self, limit: &str) {
        if self.is_enabled {
            self.counts.borrow_mut().add(Counter::RateLimited(limit.to_owned()));
        }
    }

    /// Waits some seconds and flushes.
    pub(super) async fn flush_later(&self, ports: &(impl Clock + MetricsStore)) {
        ports.sleep(limits::FLUSH_MS).await;
        self.flushing_since.set(None);
        self.flush(ports).await;
    }

    /// Sends the counts to the store. Counts that do not arrive are kept for the next time.
    pub(super) async fn flush(&self, store: &impl MetricsStore) {
        let taken = std::mem::take(&mut *self.counts.borrow_mut());
        if taken.counters.is_empty() {
            return;
        }
        let text = serde_json::to_string(&taken.series(&self.names)).unwrap_or_default();
        if !store.add_metrics(&text).await {
            self.counts.borrow_mut().merge(taken);
        }
    }

    /// Reads the sums of all isolates; `None` when the store fails.
    pub(super) async fn read(&self, store: &impl MetricsStore) -> Option<BTreeMap<String, f64>> {
        let text = store.read_metrics().await.ok()?;
        serde_json::from_slice(text.as_bytes()).ok()
    }
}

/// Counts that were not sent yet.
#[derive(Debug, Default)]
struct Counts {
    counters: HashMap<Counter, u64>,
    timers: HashMap<Timer, Histogram>,
}

impl Counts {
    fn add(&mut self, counter: Counter) {
        let count = self.counters.entry(counter).or_default();
        *count = count.saturating_add(1);
    }

    fn note(&mut self, route: Option<usize>, upstream: Option<usize>, record: &LogRecord) {
        // Others could be as many as a client likes to make up.
        let method = METHODS.iter().find(|known| **known == record.method).copied().unwrap_or("OTHER");
        self.add(Counter::Request { route, method, status: record.status });
        self.timers.entry(Timer::Request(route)).or_default().note(record.duration_ms);
        if let Some(code) = record.code {
            self.add(Counter::Denial(code));
        }
        if let (Some(upstream), Some(took_ms)) = (upstream, record.upstream_ms) {
            self.timers.entry(Timer::Upstream(upstream)).or_default().note(took_ms);
        }
        if let Some(cache) = record.cache {
            self.add(Counter::TokenCache { hit: cache == "token" });
        }
    }

    /// Returns the counts by series.
    fn series(&self, names: &Names) -> BTreeMap<String, f64> {
        let mut series = BTreeMap::new();
        for (counter, count) in &self.counters {
            add(&mut series, counter_name(counter, names), number(*count));
        }
        for (timer, histogram) in &self.timers {
            let (family, label) = match timer {
                Timer::Request(route) => (REQUEST_TIME, format!("route=\"{}\"", route_name(*route, names))),
                Timer::Upstream(upstream) => {
                    (UPSTREAM_TIME, format!("upstream=\"{}\"", name(&names.upstreams, *upstream)))
                }
            };
            let bounds = BUCKETS_MS.iter().map(|bound| (number(*bound) / 1000.0).to_string());
            let mut sum: u64 = 0;
            for (bound, count) in bounds.chain(std::iter::once("+Inf".to_owned())).zip(histogram.counts) {
                sum = sum.saturating_add(count);
                add(&mut series, format!("{family}_bucket{{{label},le=\"{bound}\"}}"), number(sum));
            }
            add(&mut series, format!("{family}_sum{{{label}}}"), number(histogram.sum_ms) / 1000.0);
            add(&mut series, format!("{family}_count{{{label}}}"), number(sum));
        }
        series
    }

    /// Adds counts that could not be sent.
    fn merge(&mut self, other: Self) {
        for (counter, count) in other.counters {
            let held = self.counters.entry(counter).or_default();
            *held = held.saturating_add(count);
        }
        for (timer, histogram) in other.timers {
            let held = self.timers.entry(timer).or_default();
            for (count, more) in held.counts.iter_mut().zip(histogram.counts) {
                *count = count.saturating_add(more);
            }
            held.sum_ms = held.sum_ms.saturating_add(histogram.sum_ms);
        }
    }
}

/// Two routes may share a path, and then they share a series.
fn add(series: &mut BTreeMap<String, f64>, name: String, value: f64) {
    *series.entry(name).or_default() += value;
}

/// Counts and milliseconds as what Prometheus has: far below where a double would round.
fn number(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

fn name(names: &[String], index: usize) -> String {
    escape(names.get(index).map(String::as_str).unwrap_or_default())
}

/// Requests that no route took are the gateway's own.
fn route_name(route: Option<usize>, names: &Names) -> String {
    route.map_or_else(|| "gateway".to_owned(), |route| name(&names.routes, route))
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn counter_name(counter: &Counter, names: &Names) -> String {
    match counter {
        Counter::Request { route, method, status } => {
            let route = route_name(*route, names);
            format!("{REQUESTS}{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}")
        }
        Counter::Denial(code) => format!("{DENIALS}{{code=\"{code}\"}}"),
        Counter::RateLimited(limit) => format!("{RATE_LIMITED}{{limit=\"{limit}\"}}"),
        Counter::TokenCache { hit } => {
            format!("{TOKEN_CACHE}{{result=\"{}\"}}", if *hit { "hit" } else { "miss" })
        }
        Counter::KeyRefresh { issuer, result } => {
            format!("{KEY_REFRESH}{{issuer=\"{}\",result=\"{result}\"}}", name(&names.issuers, *issuer))
        }
    }
}

/// The page: sums and gauges by series, each family with its kind and meaning. A series
/// of no known family is left out.
pub(super) fn page(series: &BTreeMap<String, f64>) -> String {
    let mut text = String::new();
    for (family, kind, meaning) in FAMILIES {
        // Buckets in the order of their bounds, each series' together.
        let mut members = BTreeMap::new();
        members.extend(
            series
                .iter()
                .filter(|(name, _)| family_of(name) == Some(family))
                .map(|(name, value)| (order(name), (name, value))),
        );
        if members.is_empty() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {family} {meaning}\n# TYPE {family} {kind}");
        for (name, value) in members.values() {
            let _ = writeln!(text, "{name} {value}");
        }
    }
    text
}

fn family_of(series: &str) -> Option<&'static str> {
    let bare = series.split('{').next().unwrap_or_default();
    let family =
        |end: &str| FAMILIES.iter().map(|(family, ..)| *family).find(|family| bare.strip_prefix(family) == Some(end));
    ["", "_bucket", "_sum", "_count"].into_iter().find_map(family)
}

/// By labels without `le`, then by bound, then by name. A bound is not negative, so its bits
/// have its order.
fn order(series: &str) -> (&str, u64, &str) {
    let (bare, labels) = series.split_once('{').unwrap_or((series, ""));
    let (labels, bound) = labels.split_once(",le=\"").unwrap_or((labels.trim_end_matches('}'), ""));
    let bound: f64 = serde_json::from_slice(bound.trim_end_matches("\"}").as_bytes()).unwrap_or(f64::INFINITY);
    (labels, bound.to_bits(), bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: u16, duration_ms: u64) -> LogRecord {
        LogRecord { method: "GET".into(), status, duration_ms, ..LogRecord::default() }
    }

    fn names(routes: &[&str]) -> Names {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Names { routes: owned(routes), upstreams: owned(&["auth"]), issuers: owned(&["id"]) }
    }

    #[test]
    fn the_page_is_in_prometheus_form() {
        let mut counts = Counts::default();
        counts.note(Some(0), None, &record(200, 5));
        let hit = LogRecord { upstream_ms: Some(30), cache: Some("token"), ..record(200, 31) };
        counts.note(Some(0), Some(0), &hit);
        let unknown = LogRecord { method: "BREW".into(), code: Some("route_unknown"), ..record(404, 20_000) };
        counts.note(None, None, &unknown);
        counts.note(Some(1), None, &record(500, 0));
        counts.add(Counter::KeyRefresh { issuer: 0, result: "ok" });
        let mut series = counts.series(&names(&["/users/{id}", "/a\"b"]));
        series.insert("gateway_keys_age_seconds{issuer=\"id\"}".to_owned(), 12.5);
        series.insert("another_family{x=\"y\"}".to_owned(), 1.0);
        let page = page(&series);
        for expected in [
            "# TYPE gateway_requests_total counter\n",
            "gateway_requests_total{route=\"/users/{id}\",method=\"GET\",status=\"200\"} 2\n",
            "gateway_requests_total{route=\"gateway\",method=\"OTHER\",status=\"404\"} 1\n",
            "gateway_requests_total{route=\"/a\\\"b\",method=\"GET\",status=\"500\"} 1\n",
            "# TYPE gateway_request_duration_seconds histogram\n",
            "gateway_request_duration_seconds_bucket{route=\"/users/{id}\",le=\"0.005\"} 1\n\
             gateway_request_duration_seconds_bucket{route=\"/users/{id}\",le=\"0.01\"} 1\n\
             gateway_request_duration_seconds_bucket{route=\"/users/{id}\",le=\"0.025\"} 1\n\
             gateway_request_duration_seconds_bucket{route=\"/users/{id}\",le=\"0.05\"} 2\n",
            "gateway_request_duration_seconds_bucket{route=\"gateway\",le=\"10\"} 0\n\
             gateway_request_duration_seconds_bucket{route=\"gateway\",le=\"+Inf\"} 1\n",
            "gateway_request_duration_seconds_sum{route=\"/users/{id}\"} 0.036\n",
            "gateway_request_duration_seconds_count{route=\"/users/{id}\"} 2\n",
            "gateway_denials_total{code=\"route_unknown\"} 1\n",
            "gateway_upstream_duration_seconds_sum{upstream=\"auth\"} 0.03\n",
            "gateway_token_cache_total{result=\"hit\"} 1\n",
            "gateway_key_refresh_total{issuer=\"id\",result=\"ok\"} 1\n",
            "gateway_keys_age_seconds{issuer=\"id\"} 12.5\n",
        ] {
            assert!(page.contains(expected), "{expected} is not in\n{page}");
        }
        assert!(!page.contains("another_family"));
    }

    #[test]
    fn routes_of_one_path_share_a_series_and_merged_counts_add_up() {
        let mut counts = Counts::default();
        counts.note(Some(0), None, &record(200, 5));
        let unsent = std::mem::take(&mut counts);
        counts.note(Some(1), None, &record(200, 7));
        counts.merge(unsent);
        let series = counts.series(&names(&["/x", "/x"]));
        let value = |name: &str| series.get(name).copied();
        assert_eq!(value("gateway_requests_total{route=\"/x\",method=\"GET\",status=\"200\"}"), Some(2.0));
        assert_eq!(value("gateway_request_duration_seconds_count{route=\"/x\"}"), Some(2.0));
        assert_eq!(value("gateway_request_duration_seconds_sum{route=\"/x\"}"), Some(0.012));
    }
}
