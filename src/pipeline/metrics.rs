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
    limits,
    log::LogRecord,
    ports::{Background, BackgroundTask, Clock, MetricsStore},
};
use portcullis_policy::METHODS;
use portcullis_token::UnixMillis;

/// Upper bounds of the buckets of times, in milliseconds.
const BUCKETS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// Families in the order of the page: name, kind, meaning.
const FAMILIES: [(&str, &str, &str); 10] = [
    ("gateway_requests_total", "counter", "Requests, by the pattern of their route."),
    ("gateway_request_duration_seconds", "histogram", "Time from a request's arrival to its answer's headers."),
    ("gateway_denials_total", "counter", "Requests that the gateway refused, by the code of the answer."),
    (
        "gateway_upstream_duration_seconds",
        "histogram",
        "Time from sending a request to an upstream to its answer's headers.",
    ),
    ("gateway_rate_limited_total", "counter", "Requests that a rate limit refused."),
    ("gateway_token_cache_total", "counter", "Tokens that were remembered (hit) or had to be checked (miss)."),
    ("gateway_key_refresh_total", "counter", "Times that an issuer was asked for its keys, by what came of it."),
    (
        "gateway_breaker_state",
        "gauge",
        "An upstream's worst breaker in the isolate that answers: 0 closed, 1 half open, 2 open.",
    ),
    ("gateway_keys_age_seconds", "gauge", "Age of an issuer's keys in the isolate that answers."),
    ("gateway_revocation_age_seconds", "gauge", "Age of the copy of the revocation log in the isolate that answers."),
];

/// The metrics of one isolate.
#[derive(Debug)]
pub(super) struct Metrics {
    /// Whether anyone can read the metrics. Otherwise requests are not counted.
    is_enabled: bool,
    counts: RefCell<Counts>,
    /// When the next flush was scheduled, until it begins.
    flushing_since: Cell<Option<UnixMillis>>,
}

impl Metrics {
    pub(super) fn new(is_enabled: bool) -> Self {
        Self { is_enabled, counts: RefCell::default(), flushing_since: Cell::new(None) }
    }

    /// Counts a request that was answered, and schedules a flush.
    pub(super) fn count_request(&self, record: &LogRecord, ports: &(impl Clock + Background)) {
        if !self.is_enabled {
            return;
        }
        self.counts.borrow_mut().add_request(record);
        let now = ports.now();
        let is_scheduled = self.flushing_since.get().is_some_and(|since| now.since(since) < limits::FLUSH_LOST_MS);
        if !is_scheduled {
            self.flushing_since.set(Some(now));
            ports.defer(BackgroundTask::FlushMetrics);
        }
    }

    /// Counts a fetch of an issuer's keys.
    pub(super) fn count_key_refresh(&self, issuer: &str, result: &str) {
        if self.is_enabled {
            let series = format!("gateway_key_refresh_total{{issuer=\"{issuer}\",result=\"{result}\"}}");
            self.counts.borrow_mut().add(series);
        }
    }

    /// Counts a request that a rate limit refused.
    pub(super) fn count_limited(&self, limit: &str) {
        if self.is_enabled {
            self.counts.borrow_mut().add(format!("gateway_rate_limited_total{{limit=\"{limit}\"}}"));
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
        let taken = self.counts.take();
        if taken.counters.is_empty() {
            return;
        }
        let text = serde_json::to_string(&taken.series()).unwrap_or_default();
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
    /// By series.
    counters: HashMap<String, u64>,
    /// By family and label.
    timers: HashMap<(&'static str, String), Histogram>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Histogram {
    /// Of each bucket alone, and of all above the last.
    counts: [u64; BUCKETS_MS.len() + 1],
    sum_ms: u64,
}

impl Counts {
    fn add(&mut self, series: String) {
        let count = self.counters.entry(series).or_default();
        *count = count.saturating_add(1);
    }

    fn add_time(&mut self, family: &'static str, label: String, took_ms: u64) {
        let histogram = self.timers.entry((family, label)).or_default();
        let index = BUCKETS_MS.iter().position(|bound| took_ms <= *bound).unwrap_or(BUCKETS_MS.len());
        if let Some(count) = histogram.counts.get_mut(index) {
            *count = count.saturating_add(1);
        }
        histogram.sum_ms = histogram.sum_ms.saturating_add(took_ms);
    }

    fn add_request(&mut self, record: &LogRecord) {
        // Requests that no route took are the gateway's own.
        let route = record.route.as_deref().unwrap_or("gateway");
        // Others could be as many as a client likes to make up.
        let method = METHODS.iter().find(|known| **known == record.method).copied().unwrap_or("OTHER");
        let status = record.status;
        // `{:?}` escapes what Prometheus does: quotes, backslashes and line breaks.
        self.add(format!("gateway_requests_total{{route={route:?},method=\"{method}\",status=\"{status}\"}}"));
        self.add_time("gateway_request_duration_seconds", format!("route={route:?}"), record.duration_ms);
        if let Some(code) = record.code {
            self.add(format!("gateway_denials_total{{code=\"{code}\"}}"));
        }
        if let (Some(upstream), Some(took_ms)) = (&record.upstream, record.upstream_ms) {
            self.add_time("gateway_upstream_duration_seconds", format!("upstream=\"{upstream}\""), took_ms);
        }
        if let Some(cache) = record.cache {
            let result = if cache == "token" { "hit" } else { "miss" };
            self.add(format!("gateway_token_cache_total{{result=\"{result}\"}}"));
        }
    }

    /// Returns the counts by series.
    fn series(&self) -> BTreeMap<String, f64> {
        let counters = self.counters.iter().map(|(series, count)| (series.clone(), number(*count)));
        let mut series: BTreeMap<_, _> = counters.collect();
        for ((family, label), histogram) in &self.timers {
            let bounds = BUCKETS_MS.iter().map(|bound| (number(*bound) / 1000.0).to_string());
            let mut sum: u64 = 0;
            for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(histogram.counts) {
                sum = sum.saturating_add(count);
                series.insert(format!("{family}_bucket{{{label},le=\"{bound}\"}}"), number(sum));
            }
            series.insert(format!("{family}_sum{{{label}}}"), number(histogram.sum_ms) / 1000.0);
            series.insert(format!("{family}_count{{{label}}}"), number(sum));
        }
        series
    }

    /// Adds counts that could not be sent.
    fn merge(&mut self, other: Self) {
        for (series, count) in other.counters {
            let held = self.counters.entry(series).or_default();
            *held = held.saturating_add(count);
        }
        for (key, histogram) in other.timers {
            let held = self.timers.entry(key).or_default();
            for (count, more) in held.counts.iter_mut().zip(histogram.counts) {
                *count = count.saturating_add(more);
            }
            held.sum_ms = held.sum_ms.saturating_add(histogram.sum_ms);
        }
    }
}

/// Counts and milliseconds as what Prometheus has: far below where a double would round.
fn number(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

/// The page: sums and gauges by series, each family with its kind and meaning. A series
/// of no known family is left out.
pub(super) fn page(series: &BTreeMap<String, f64>) -> String {
    let mut text = String::new();
    for (family, kind, meaning) in FAMILIES {
        let mut members: Vec<_> = series.iter().filter(|(name, _)| is_of(name, family)).collect();
        if members.is_empty() {
            continue;
        }
        members.sort_by_key(|&(name, _)| order(name));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {family} {meaning}\n# TYPE {family} {kind}");
        for (name, value) in members {
            let _ = writeln!(text, "{name} {value}");
        }
    }
    text
}

fn is_of(series: &str, family: &str) -> bool {
    let end = series.split('{').next().and_then(|name| name.strip_prefix(family));
    end.is_some_and(|end| matches!(end, "" | "_bucket" | "_sum" | "_count"))
}

/// By labels without `le`, then by bound, then by name: each series' buckets together, in the order of
/// their bounds. A bound is not negative, so its bits have its order.
fn order(series: &str) -> (&str, u64, &str) {
    let (bare, labels) = series.split_once('{').unwrap_or((series, ""));
    let (labels, bound) = labels.split_once(",le=\"").unwrap_or((labels.trim_end_matches('}'), ""));
    let bound: f64 = serde_json::from_slice(bound.trim_end_matches("\"}").as_bytes()).unwrap_or(f64::INFINITY);
    (labels, bound.to_bits(), bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(route: Option<&str>, status: u16, duration_ms: u64) -> LogRecord {
        let route = route.map(str::to_owned);
        LogRecord { method: "GET".into(), route, status, duration_ms, ..LogRecord::default() }
    }

    #[test]
    fn the_page_is_in_prometheus_form() {
        let mut unsent = Counts::default();
        unsent.add_request(&record(Some("/users/{id}"), 200, 5));
        let mut counts = Counts::default();
        let upstream = Some("auth".to_owned());
        let hit =
            LogRecord { upstream, upstream_ms: Some(30), cache: Some("token"), ..record(Some("/users/{id}"), 200, 31) };
        counts.add_request(&hit);
        let unknown = LogRecord { method: "BREW".into(), code: Some("route_unknown"), ..record(None, 404, 20_000) };
        counts.add_request(&unknown);
        counts.add_request(&record(Some("/a\"b"), 500, 0));
        counts.merge(unsent);
        let mut series = counts.series();
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
            "gateway_keys_age_seconds{issuer=\"id\"} 12.5\n",
        ] {
            assert!(page.contains(expected), "{expected} is not in\n{page}");
        }
        assert!(!page.contains("another_family"));
    }
}
