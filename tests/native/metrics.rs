//! `/metrics`: who may read it, and that every request is counted once, over isolates and
//! failures.

use portcullis::pipeline::{Gateway, Head};

use crate::fakes::{Vectors, World, answer, header, setting, verdict};

const TOKEN: &str = "a-token-for-the-scraper";
const ME: &str = "/api/v1/auth/me";

fn gate(token: Option<&'static str>) -> Result<Gateway, String> {
    let policy = portcullis_policy::check(include_str!("../../gateway.toml")).unwrap();
    let json = serde_json::to_string(&policy).unwrap();
    let known = |name: &str| if name == "METRICS_TOKEN" { token.map(str::to_owned) } else { setting(name) };
    Gateway::new(&json, known).map_err(|fault| fault.0)
}

fn page(gate: &Gateway, world: &World) -> String {
    let handled = world.send_token(gate, "GET", "/metrics", TOKEN);
    assert_eq!(verdict(&handled), (200, "ok"));
    answer(&handled).body.clone()
}

/// The value of a series.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in\n{page}")).parse().unwrap()
}

#[test]
fn the_page_is_for_whoever_has_the_token_and_nobody_where_none_is_set() {
    let world = World::new(&Vectors::load());
    for (set, shown, expected) in [
        (None, Some(TOKEN), (404, "route_unknown")),
        (None, None, (404, "route_unknown")),
        (Some(TOKEN), None, (401, "credentials_missing")),
        (Some(TOKEN), Some("another"), (401, "metrics_token_wrong")),
        (Some(TOKEN), Some(TOKEN), (200, "ok")),
    ] {
        let gate = gate(set).unwrap();
        let said = match shown {
            Some(token) => verdict(&world.send_token(&gate, "GET", "/metrics", token)),
            None => verdict(&world.send(&gate, "GET", "/metrics", &[])),
        };
        assert_eq!(said, expected, "{set:?} {shown:?}");
    }
    assert!(gate(Some("short")).unwrap_err().starts_with("METRICS_TOKEN is shorter than 16"));
}

#[test]
fn requests_of_all_isolates_are_counted_once_and_in_the_end() {
    let vectors = Vectors::load();
    let world = World::new(&vectors);
    let isolates = [gate(Some(TOKEN)).unwrap(), gate(Some(TOKEN)).unwrap()];
    let good = vectors.token("a good token");
    for gate in &isolates {
        for _ in 0..7 {
            assert_eq!(verdict(&world.send_token(gate, "GET", ME, good)), (200, "ok"));
        }
        world.send(gate, "GET", ME, &[]);
        world.send(gate, "GET", "/nowhere", &[]);
        world.send(gate, "PURGE", ME, &[]);
    }
    let page = page(&isolates[0], &world);
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
    assert!(value(&page, r#"gateway_keys_age_seconds{issuer="auth-service"}"#) >= 0.0);
    assert!(value(&page, "gateway_revocation_age_seconds") >= 0.0);
    let handled = world.send_token(&isolates[0], "GET", "/metrics", TOKEN);
    assert_eq!(header(answer(&handled), "content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
}

#[test]
fn what_cannot_be_handed_on_is_kept_and_the_page_says_so() {
    let vectors = Vectors::load();
    let (gate, world) = (gate(Some(TOKEN)).unwrap(), World::new(&vectors));
    world.sums_fail.set(true);
    for _ in 0..5 {
        world.send(&gate, "GET", "/nowhere", &[]);
    }
    let handled = world.send_token(&gate, "GET", "/metrics", TOKEN);
    assert_eq!(verdict(&handled), (503, "metrics_unavailable"));
    world.sums_fail.set(false);
    let page = page(&gate, &world);
    assert!((value(&page, r#"gateway_denials_total{code="route_unknown"}"#) - 5.0).abs() < f64::EPSILON);
}

#[test]
fn where_nobody_may_read_them_nothing_is_handed_on() {
    let (gate, world) = (gate(None).unwrap(), World::new(&Vectors::load()));
    for _ in 0..5 {
        let head = Head::new("GET".to_owned(), "https://edge.example/nowhere", vec![]);
        futures_executor::block_on(gate.handle(&head, &world));
        assert!(world.tasks.borrow().is_empty());
    }
    assert!(world.sums.borrow().is_empty());
}
