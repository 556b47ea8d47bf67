//! What is counted of requests, and the page that shows it (Prometheus text format,
//! version 0.0.4).
//!
//! An isolate counts in memory and hands what it has counted to one place that adds up
//! over all isolates, in the background and every few seconds; the page reads that sum.
//! Gauges (ages) are of the isolate that answers. Labels come from the policy and from
//! our own constants, never from a request, so their number is bounded.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use super::LogLine;
use crate::token::UnixMillis;

/// Upper bounds of the buckets of times, in milliseconds.
const BUCKETS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// Methods that are a label of their own; others are `OTHER`, or a client could make up
/// as many as it likes.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

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

/// The names of the labels' values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) routes: &'a [String],
    pub(super) upstreams: &'a [String],
    pub(super) issuers: &'a [String],
}

/// What one isolate has counted and not yet handed on.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    counters: HashMap<Counter, u64>,
    timers: HashMap<Timer, Histogram>,
    /// When the next handing on was set off, until it is done.
    pub(super) flushing_since: Option<UnixMillis>,
}

impl Metrics {
    fn add(&mut self, counter: Counter) {
        let count = self.counters.entry(counter).or_default();
        *count = count.saturating_add(1);
    }

    /// Counts a request that was answered.
    pub(super) fn note(&mut self, line: &LogLine) {
        let method = METHODS.iter().find(|known| **known == line.method).copied().unwrap_or("OTHER");
        self.add(Counter::Request { route: line.route_index, method, status: line.status });
        self.timers.entry(Timer::Request(line.route_index)).or_default().note(line.duration_ms);
        if let Some(code) = line.code {
            self.add(Counter::Denial(code));
        }
        if let (Some(upstream), Some(took_ms)) = (line.upstream_index, line.upstream_ms) {
            self.timers.entry(Timer::Upstream(upstream)).or_default().note(took_ms);
        }
        if let Some(cache) = line.cache {
            self.add(Counter::TokenCache { hit: cache == "token" });
        }
    }

    /// Counts a question to an issuer. (Codes are few: this stays small where nobody reads.)
    pub(super) fn note_refresh(&mut self, issuer: usize, result: &'static str) {
        self.add(Counter::KeyRefresh { issuer, result });
    }

    /// Counts a request that a limit refused.
    pub(super) fn note_limited(&mut self, limit: &str) {
        self.add(Counter::RateLimited(limit.to_owned()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// Takes what was counted, by series.
    pub(super) fn take(&mut self, names: Names<'_>) -> BTreeMap<String, f64> {
        let mut series = BTreeMap::new();
        for (counter, count) in self.counters.drain() {
            add(&mut series, counter_name(&counter, names), number(count));
        }
        for (timer, histogram) in self.timers.drain() {
            let (family, label) = match timer {
                Timer::Request(route) => (REQUEST_TIME, format!("route=\"{}\"", route_name(route, names))),
                Timer::Upstream(upstream) => {
                    (UPSTREAM_TIME, format!("upstream=\"{}\"", name(names.upstreams, upstream)))
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

    /// Puts back what could not be handed on.
    pub(super) fn put_back(&mut self, other: Self) {
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

    /// What was counted, for [`Metrics::take`] or [`Metrics::put_back`].
    pub(super) fn split(&mut self) -> Self {
        Self {
            counters: std::mem::take(&mut self.counters),
            timers: std::mem::take(&mut self.timers),
            flushing_since: None,
        }
    }

    /// A copy, for a sum that may fail to arrive.
    pub(super) fn duplicate(&self) -> Self {
        Self { counters: self.counters.clone(), timers: self.timers.clone(), flushing_since: None }
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
fn route_name(route: Option<usize>, names: Names<'_>) -> String {
    route.map_or_else(|| "gateway".to_owned(), |route| name(names.routes, route))
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn counter_name(counter: &Counter, names: Names<'_>) -> String {
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
            format!("{KEY_REFRESH}{{issuer=\"{}\",result=\"{result}\"}}", name(names.issuers, *issuer))
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

    fn line(route: Option<usize>, status: u16, duration_ms: u64) -> LogLine {
        LogLine { method: "GET".into(), route_index: route, status, duration_ms, ..LogLine::default() }
    }

    #[test]
    fn the_page_is_in_prometheus_form() {
        let (routes, upstreams, issuers) =
            (vec!["/users/{id}".to_owned(), "/a\"b".to_owned()], vec!["auth".to_owned()], vec!["id".to_owned()]);
        let names = Names { routes: &routes, upstreams: &upstreams, issuers: &issuers };
        let mut metrics = Metrics::default();
        metrics.note(&line(Some(0), 200, 5));
        metrics.note(&LogLine {
            upstream_index: Some(0),
            upstream_ms: Some(30),
            cache: Some("token"),
            ..line(Some(0), 200, 31)
        });
        metrics.note(&LogLine { method: "BREW".into(), code: Some("route_unknown"), ..line(None, 404, 20_000) });
        metrics.note(&line(Some(1), 500, 0));
        metrics.note_refresh(0, "ok");
        let mut series = metrics.take(names);
        assert!(metrics.is_empty());
        series.insert("gateway_keys_age_seconds{issuer=\"id\"}".to_owned(), 12.5);
        series.insert("somebody_elses{x=\"y\"}".to_owned(), 1.0);
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
        assert!(!page.contains("somebody_elses"));
    }

    #[test]
    fn routes_of_one_path_are_one_series() {
        let routes = vec!["/x".to_owned(), "/x".to_owned()];
        let mut metrics = Metrics::default();
        metrics.note(&line(Some(0), 200, 5));
        metrics.note(&line(Some(1), 200, 5));
        let series = metrics.take(Names { routes: &routes, upstreams: &[], issuers: &[] });
        assert_eq!(series.get("gateway_requests_total{route=\"/x\",method=\"GET\",status=\"200\"}"), Some(&2.0));
        assert_eq!(series.get("gateway_request_duration_seconds_count{route=\"/x\"}"), Some(&2.0));
    }

    #[test]
    fn what_could_not_be_handed_on_is_counted_with_the_next() {
        let mut metrics = Metrics::default();
        metrics.note(&line(Some(0), 200, 5));
        let taken = metrics.split();
        metrics.note(&line(Some(0), 200, 7));
        metrics.put_back(taken);
        let routes = vec!["/x".to_owned()];
        let series = metrics.take(Names { routes: &routes, upstreams: &[], issuers: &[] });
        assert_eq!(series.get("gateway_requests_total{route=\"/x\",method=\"GET\",status=\"200\"}"), Some(&2.0));
        assert_eq!(series.get("gateway_request_duration_seconds_sum{route=\"/x\"}"), Some(&0.012));
    }
}
