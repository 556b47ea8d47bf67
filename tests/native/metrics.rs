//! `/metrics`: the token that it requires, and that each request is counted once, across isolates and
//! failures.

use futures_executor::block_on;
use portcullis::pipeline::{BackgroundTask, Gateway, Head};
use portcullis_token::UnixMillis;

use crate::fakes::{FakePorts, Issuer, SHIPPED, Vectors, answer, configured, header, setting, verdict};

const TOKEN: &str = "a-token-for-the-scraper";
const ME: &str = "/api/v1/auth/me";

fn gateway(token: Option<&'static str>) -> Result<Gateway, String> {
    let known = |name: &str| if name == "METRICS_TOKEN" { token.map(str::to_owned) } else { setting(name) };
    configured(SHIPPED, known).map_err(|fault| fault.0)
}

fn page(gateway: &Gateway, ports: &FakePorts) -> String {
    let handled = ports.send_token(gateway, "GET", "/metrics", TOKEN);
    assert_eq!(verdict(&handled), (200, "ok"));
    answer(&handled).body.clone()
}

/// The value of a series.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in\n{page}")).parse().unwrap()
}

#[test]
fn the_metrics_page_requires_the_metrics_token() {
    let ports = FakePorts::new();
    for (set, shown, expected) in [
        (None, Some(TOKEN), (404, "route_unknown")),
        (None, None, (404, "route_unknown")),
        (Some(TOKEN), None, (401, "credentials_missing")),
        (Some(TOKEN), Some("another"), (401, "metrics_token_wrong")),
        (Some(TOKEN), Some(TOKEN), (200, "ok")),
    ] {
        let gateway = gateway(set).unwrap();
        let actual = match shown {
            Some(token) => verdict(&ports.send_token(&gateway, "GET", "/metrics", token)),
            None => verdict(&ports.send(&gateway, "GET", "/metrics", &[])),
        };
        assert_eq!(actual, expected, "{set:?} {shown:?}");
    }
}

#[test]
fn each_request_of_each_isolate_is_counted_once() {
    let vectors = Vectors::load();
    let ports = FakePorts::new();
    let isolates = [gateway(Some(TOKEN)).unwrap(), gateway(Some(TOKEN)).unwrap()];
    let good = vectors.token("a good token");
    for gateway in &isolates {
        for _ in 0..7 {
            assert_eq!(verdict(&ports.send_token(gateway, "GET", ME, good)), (200, "ok"));
        }
        ports.send(gateway, "GET", ME, &[]);
        ports.send(gateway, "GET", "/nowhere", &[]);
        ports.send(gateway, "PURGE", ME, &[]);
    }
    let page = page(&isolates[0], &ports);
    for (series, expected) in [
        (r#"gateway_requests_total{route="/api/v1/auth/me",method="GET",status="200"}"#, 14.0),
        (r#"gateway_requests_total{route="/api/v1/auth/me",method="GET",status="401"}"#, 2.0),
        (r#"gateway_requests_total{route="/api/v1/auth/me",method="OTHER",status="405"}"#, 2.0),
        (r#"gateway_requests_total{route="gateway",method="GET",status="404"}"#, 2.0),
        (r#"gateway_request_duration_seconds_count{route="/api/v1/auth/me"}"#, 18.0),
        (r#"gateway_upstream_duration_seconds_count{upstream="auth"}"#, 14.0),
        (r#"gateway_denials_total{code="credentials_missing"}"#, 2.0),
        (r#"gateway_token_cache_total{result="hit"}"#, 12.0),
        (r#"gateway_token_cache_total{result="miss"}"#, 2.0),
        (r#"gateway_key_refresh_total{issuer="auth-service",result="ok"}"#, 1.0),
    ] {
        assert!((value(&page, series) - expected).abs() < f64::EPSILON, "{series}: {}", value(&page, series));
    }
    let handled = ports.send_token(&isolates[0], "GET", "/metrics", TOKEN);
    assert_eq!(header(answer(&handled), "content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
}

#[test]
fn ages_are_those_of_the_copies_in_the_isolate_that_answers() {
    let ports = FakePorts::new();
    let (gateway, other) = (gateway(Some(TOKEN)).unwrap(), gateway(Some(TOKEN)).unwrap());
    let fetched_at = ports.now.get();
    ports.send_token(&gateway, "GET", ME, Vectors::load().token("a good token"));
    ports.advance(2_000);
    let expected = f64::from(u32::try_from(ports.now.get().since(fetched_at)).unwrap()) / 1_000.0;
    let page_of_gateway = page(&gateway, &ports);
    for series in [r#"gateway_keys_age_seconds{issuer="auth-service"}"#, "gateway_revocation_age_seconds"] {
        let age = value(&page_of_gateway, series);
        assert!((age - expected).abs() < f64::EPSILON, "{series}: {age}, expected {expected}");
    }
    assert!(!page(&other, &ports).contains("_age_seconds"));
}

#[test]
fn a_flush_that_was_lost_while_the_clock_was_days_ahead_is_scheduled_again() {
    let (gateway, ports) = (gateway(Some(TOKEN)).unwrap(), FakePorts::new());
    let head = Head::new("GET".to_owned(), "https://edge.example/nowhere", vec![]);
    let schedules = || {
        block_on(gateway.handle(&head, &ports));
        ports.tasks.take().contains(&BackgroundTask::Flush)
    };
    assert!(schedules() && !schedules());
    ports.now.set(UnixMillis(ports.now.get().0 - 3 * 24 * 60 * 60 * 1000));
    assert!(schedules());
}

#[test]
fn the_page_is_in_prometheus_form() {
    let vectors = Vectors::load();
    let ports = FakePorts::new();
    let good = vectors.token("a good token");
    for took_ms in [20_000, 30, 0] {
        *ports.issuer.borrow_mut() = Issuer::Slow(vectors.jwks.to_string(), took_ms);
        ports.store.borrow_mut().clear();
        assert_eq!(verdict(&ports.send_token(&gateway(Some(TOKEN)).unwrap(), "GET", ME, good)), (200, "ok"));
    }
    ports.metrics.borrow_mut().insert("another_family{x=\"y\"}".to_owned(), 1.0);
    let page = page(&gateway(Some(TOKEN)).unwrap(), &ports);
    for expected in [
        "# TYPE gateway_requests_total counter\n\
         gateway_requests_total{route=\"/api/v1/auth/me\",method=\"GET\",status=\"200\"} 3\n",
        "# TYPE gateway_request_duration_seconds histogram\n\
         gateway_request_duration_seconds_bucket{route=\"/api/v1/auth/me\",le=\"0.005\"} 1\n\
         gateway_request_duration_seconds_bucket{route=\"/api/v1/auth/me\",le=\"0.01\"} 1\n\
         gateway_request_duration_seconds_bucket{route=\"/api/v1/auth/me\",le=\"0.025\"} 1\n\
         gateway_request_duration_seconds_bucket{route=\"/api/v1/auth/me\",le=\"0.05\"} 2\n",
        "gateway_request_duration_seconds_bucket{route=\"/api/v1/auth/me\",le=\"10\"} 2\n\
         gateway_request_duration_seconds_bucket{route=\"/api/v1/auth/me\",le=\"+Inf\"} 3\n\
         gateway_request_duration_seconds_count{route=\"/api/v1/auth/me\"} 3\n\
         gateway_request_duration_seconds_sum{route=\"/api/v1/auth/me\"} 20.03\n",
    ] {
        assert!(page.contains(expected), "{expected} is not in\n{page}");
    }
    assert!(!page.contains("another_family"));
}

#[test]
fn counts_that_cannot_be_stored_are_kept_and_the_page_is_503() {
    let (gateway, ports) = (gateway(Some(TOKEN)).unwrap(), FakePorts::new());
    ports.metrics_fail.set(true);
    for _ in 0..5 {
        ports.send(&gateway, "GET", "/nowhere", &[]);
    }
    let handled = ports.send_token(&gateway, "GET", "/metrics", TOKEN);
    assert_eq!(verdict(&handled), (503, "metrics_unavailable"));
    ports.send(&gateway, "GET", "/nowhere", &[]);
    ports.metrics_fail.set(false);
    ports.send(&gateway, "GET", "/nowhere", &[]);
    let page = page(&gateway, &ports);
    assert!((value(&page, r#"gateway_denials_total{code="route_unknown"}"#) - 7.0).abs() < f64::EPSILON);
}

#[test]
fn no_count_is_stored_without_a_metrics_token() {
    let (gateway, ports) = (gateway(None).unwrap(), FakePorts::new());
    for _ in 0..5 {
        let head = Head::new("GET".to_owned(), "https://edge.example/nowhere", vec![]);
        block_on(gateway.handle(&head, &ports));
        assert!(ports.tasks.borrow().is_empty());
    }
    assert!(ports.metrics.borrow().is_empty());
}
