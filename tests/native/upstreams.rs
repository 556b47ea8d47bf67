//! Upstreams that fail: the breaker, retries and their budget, several targets, too many
//! who wait, bodies that are too long.

use std::{
    collections::HashMap,
    future::Future as _,
    task::{Context, Waker},
};

use portcullis::pipeline::{Gateway, Head, wire::Fault};
use serde_json::Value;

use crate::fakes::{Vectors, World, answer, header, setting, verdict};

const POLICY: &str = r#"
[upstreams.app]
targets = [
  { url = "https://one.example", weight = 3 },
  { url = "https://two.example" },
]
retries = 1

[upstreams.single]
url = "https://single.example"
retries = 2

[upstreams.plain]
url = "https://plain.example"

[[routes]]
path = "/app"
methods = ["GET", "POST"]
upstream = "app"
access = "public"

[[routes]]
path = "/single"
methods = ["GET", "POST"]
upstream = "single"
access = "public"

[[routes]]
path = "/plain"
methods = ["GET", "POST"]
upstream = "plain"
access = "public"
max_body_bytes = 100
"#;

fn gate() -> Gateway {
    let policy = portcullis_policy::check(POLICY).unwrap();
    Gateway::new(&serde_json::to_string(&policy).unwrap(), setting).unwrap()
}

fn world() -> World {
    World::new(&Vectors::load())
}

/// How many requests each host has had.
fn hosts(world: &World) -> HashMap<String, usize> {
    let mut count = HashMap::new();
    for forward in world.forwarded.borrow().iter() {
        *count.entry(forward.url.split('/').nth(2).unwrap().to_owned()).or_default() += 1;
    }
    count
}

#[test]
fn five_outages_close_the_way_for_a_second_and_one_probe_opens_it() {
    for fault in [Err(Fault::Unreachable), Err(Fault::TimedOut), Err(Fault::BadStatus), Ok(502), Ok(503), Ok(504)] {
        let (gate, world) = (gate(), world());
        world.upstream.set(fault);
        for _ in 0..5 {
            assert_ne!(world.send(&gate, "POST", "/plain", &[]).record.code, Some("upstream_resting"));
        }
        assert_eq!(world.forwarded.borrow().len(), 5);
        for _ in 0..100 {
            let handled = world.send(&gate, "POST", "/plain", &[]);
            assert_eq!(verdict(&handled), (503, "upstream_resting"), "{fault:?}");
            assert_eq!(header(answer(&handled), "retry-after"), Some("1"));
            assert_eq!(handled.record.duration_ms, 0);
        }
        assert_eq!(world.forwarded.borrow().len(), 5, "nobody asks it");
        world.upstream.set(Ok(200));
        assert_eq!(verdict(&world.send(&gate, "POST", "/single", &[])), (200, "ok"), "others are untouched");
        world.pass(1_000);
        assert_eq!(verdict(&world.send(&gate, "POST", "/plain", &[])), (200, "ok"));
        assert_eq!(verdict(&world.send(&gate, "POST", "/plain", &[])), (200, "ok"));
    }
}

#[test]
fn a_restart_of_two_seconds_costs_three_and_a_long_outage_one_request_a_minute() {
    for (outage_ms, found_after_ms) in [(500, 1_000), (2_000, 3_000), (6_500, 7_000), (14_000, 15_000)] {
        let (gate, world) = (gate(), world());
        world.upstream.set(Err(Fault::Unreachable));
        let mut passed = 0;
        let back = loop {
            if passed >= outage_ms {
                world.upstream.set(Ok(200));
            }
            if world.send(&gate, "POST", "/plain", &[]).record.status == 200 {
                break passed;
            }
            world.pass(10);
            passed += 10;
            // The first five fail at one instant.
            if passed == 10 {
                for _ in 0..4 {
                    world.send(&gate, "POST", "/plain", &[]);
                }
            }
        };
        assert!((found_after_ms..=found_after_ms + 20).contains(&back), "{outage_ms} ms away: found after {back} ms");
    }
    let (gate, world) = (gate(), world());
    world.upstream.set(Err(Fault::Unreachable));
    for _ in 0..3_600 {
        world.send(&gate, "POST", "/plain", &[]);
        world.pass(1_000);
    }
    let asked = world.forwarded.borrow().len();
    assert!((60..=72).contains(&asked), "{asked} in an hour");
}

#[test]
fn a_probe_whose_client_is_slow_to_send_its_body_keeps_the_others_out_for_a_second() {
    for (method, kept_out_ms) in [("POST", 1_000), ("GET", 16_000)] {
        let (gate, world) = (gate(), world());
        world.upstream.set(Err(Fault::Unreachable));
        for _ in 0..5 {
            world.send(&gate, "POST", "/plain", &[]);
        }
        world.upstream.set(Ok(200));
        world.pass(1_000);
        world.is_silent.set(true);
        let head = Head::new(method.to_owned(), "https://edge.example/plain", vec![]);
        let mut slow = Box::pin(gate.handle(&head, &world));
        assert!(slow.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        world.is_silent.set(false);
        world.pass(kept_out_ms - 1);
        assert_eq!(verdict(&world.send(&gate, "GET", "/plain", &[])), (503, "upstream_resting"), "{method}");
        world.pass(1);
        assert_eq!(verdict(&world.send(&gate, "GET", "/plain", &[])), (200, "ok"), "{method}");
    }
}

#[test]
fn an_upstream_that_refuses_the_assertion_is_502_and_no_outage() {
    let (gate, world) = (gate(), world());
    world.upstream.set(Ok(401));
    let challenge = "Gateway-Assertion realm=\"https://edge.example\", error=\"gateway_required\"";
    *world.answer_headers.borrow_mut() = vec![("www-authenticate", challenge)];
    for method in ["GET", "POST"] {
        for _ in 0..20 {
            let handled = world.send(&gate, method, "/single", &[]);
            assert_eq!(verdict(&handled), (502, "upstream_rejected_assertion"));
            assert_eq!(header(answer(&handled), "www-authenticate"), None);
            assert!(header(answer(&handled), "retry-after").is_some());
        }
    }
    assert_eq!(world.forwarded.borrow().len(), 40, "neither tried again nor left alone");
    let status: Value = serde_json::from_str(&answer(&world.ask_as_operator(&gate, "/status")).body).unwrap();
    let single = status["upstreams"].as_array().unwrap().iter().find(|upstream| upstream["name"] == "single").unwrap();
    assert_eq!(single["last_error"], "upstream_rejected_assertion");
    assert_eq!((&single["status"], &single["breakers"]), (&"degraded".into(), &serde_json::json!(["closed"])));
    *world.answer_headers.borrow_mut() = vec![("www-authenticate", "Bearer realm=\"shop\"")];
    assert_eq!(verdict(&world.send(&gate, "GET", "/single", &[])), (401, "ok"), "a service's own 401");
}

#[test]
fn a_scheme_is_found_at_the_beginning_of_a_challenge_alone() {
    let (gate, world) = (gate(), world());
    world.upstream.set(Ok(401));
    for (challenges, is_rejection) in [
        ("gateway-assertion", true),
        ("GATEWAY-ASSERTION realm=x", true),
        ("Bearer realm=\"x\", Gateway-Assertion realm=\"y\"", true),
        ("Bearer,Gateway-Assertion", true),
        ("Bearer realm=\"a, b\",\tGateway-Assertion", true),
        ("Bearer realm=\"x\\\", y\", Gateway-Assertion", true),
        ("Bearer realm=\"x\"", false),
        ("Bearer realm=\"x, Gateway-Assertion realm=y\"", false),
        ("Bearer realm=\"x\\\", Gateway-Assertion realm=y\"", false),
        ("Bearer Gateway-Assertion", false),
        ("Gateway-Assertions", false),
        ("X-Gateway-Assertion", false),
        ("gateway-assertion=x", false),
        ("", false),
    ] {
        *world.answer_headers.borrow_mut() = vec![("www-authenticate", challenges)];
        let expected = if is_rejection { (502, "upstream_rejected_assertion") } else { (401, "ok") };
        assert_eq!(verdict(&world.send(&gate, "POST", "/plain", &[])), expected, "{challenges}");
    }
}

#[test]
fn answers_are_answers_whatever_their_status() {
    let (gate, world) = (gate(), world());
    for status in [401, 403, 404, 409, 429, 500, 501, 505] {
        world.upstream.set(Ok(status));
        for _ in 0..20 {
            assert_eq!(world.send(&gate, "POST", "/plain", &[]).record.status, status);
        }
    }
    assert_eq!(world.forwarded.borrow().len(), 160);
}

#[test]
fn who_says_when_to_come_back_is_alive_and_not_asked_before() {
    let (gate, world) = (gate(), world());
    world.upstream.set(Ok(503));
    *world.answer_headers.borrow_mut() = vec![("retry-after", "7")];
    for count in 1..=50 {
        assert_eq!(world.send(&gate, "GET", "/single", &[]).record.status, 503);
        assert_eq!(world.forwarded.borrow().len(), count, "no retry, and no breaker");
    }
}

#[test]
fn what_the_client_does_is_no_outage() {
    let (gate, world) = (gate(), world());
    for (fault, expected) in [
        (Fault::BodySlow, (408, "body_too_slow")),
        (Fault::TooLarge, (413, "body_too_large")),
        (Fault::ClientGone, (400, "client_gone")),
        (Fault::BrokeOff, (502, "upstream_unreachable")),
        (Fault::Stalled, (504, "upstream_timeout")),
    ] {
        world.upstream.set(Err(fault));
        for _ in 0..20 {
            assert_eq!(verdict(&world.send(&gate, "POST", "/plain", &[])), expected);
        }
    }
    world.upstream.set(Ok(200));
    assert_eq!(verdict(&world.send(&gate, "POST", "/plain", &[])), (200, "ok"));
}

#[test]
fn a_body_that_says_it_is_too_long_is_refused_before_anybody_is_asked() {
    let (gate, world) = (gate(), world());
    for (length, expected) in
        [("100", (200, "ok")), ("101", (413, "body_too_large")), ("99999999999", (413, "body_too_large"))]
    {
        assert_eq!(verdict(&world.send(&gate, "POST", "/plain", &[("content-length", length)])), expected, "{length}");
    }
    assert_eq!(world.forwarded.borrow().len(), 1);
    assert_eq!(world.forwarded.borrow()[0].max_body_bytes, Some(100));
}

#[test]
fn only_what_changes_nothing_is_tried_again() {
    for (method, path, tries) in
        [("GET", "/single", 3), ("HEAD", "/single", 3), ("POST", "/single", 1), ("GET", "/plain", 1)]
    {
        let (gate, world) = (gate(), world());
        world.upstream.set(Err(Fault::Unreachable));
        let handled = world.send(&gate, method, path, &[]);
        assert_eq!(verdict(&handled), (502, "upstream_unreachable"));
        assert_eq!(world.forwarded.borrow().len(), tries, "{method} {path}");
        assert!(handled.record.duration_ms <= 1000, "pauses are short");
    }
}

#[test]
fn retries_stop_when_their_budget_is_spent() {
    let (gate, world) = (gate(), world());
    // Answers that are outages now and then, so that no breaker opens.
    for round in 0..1000 {
        world.upstream.set(if round % 2 == 1 { Ok(200) } else { Ok(502) });
        world.send(&gate, "GET", "/single", &[]);
    }
    let forwarded = world.forwarded.borrow().len();
    assert!((1000..=1110).contains(&forwarded), "{forwarded} for 1000 requests");
}

#[test]
fn targets_share_by_weight_and_one_that_is_down_costs_no_request() {
    let (gate, world) = (gate(), world());
    for _ in 0..4000 {
        assert_eq!(verdict(&world.send(&gate, "POST", "/app", &[])), (200, "ok"));
    }
    let share = hosts(&world);
    assert!((2800..=3200).contains(&share["one.example"]), "{share:?}");
    world.forwarded.borrow_mut().clear();

    world.down.borrow_mut().push("one.example");
    for _ in 0..200 {
        assert_eq!(verdict(&world.send(&gate, "GET", "/app", &[])), (200, "ok"), "the other one answers");
    }
    let share = hosts(&world);
    assert_eq!(share["one.example"], 5, "until its breaker opens: {share:?}");
    assert_eq!(share["two.example"], 200);
    let status: Value = serde_json::from_str(&answer(&world.ask_as_operator(&gate, "/status")).body).unwrap();
    let app = status["upstreams"].as_array().unwrap().iter().find(|upstream| upstream["name"] == "app").unwrap();
    assert_eq!(app["breakers"], serde_json::json!(["open", "closed"]));
    assert_eq!(app["status"], "degraded");

    world.down.borrow_mut().push("two.example");
    for _ in 0..10 {
        world.send(&gate, "POST", "/app", &[]);
    }
    assert_eq!(verdict(&world.send(&gate, "GET", "/app", &[])), (503, "upstream_resting"));
    world.down.borrow_mut().clear();
    world.pass(60_000);
    for _ in 0..50 {
        assert_eq!(verdict(&world.send(&gate, "GET", "/app", &[])), (200, "ok"));
    }
}

#[test]
fn a_variable_gives_several_targets() {
    let policy = portcullis_policy::check(POLICY).unwrap();
    let given = |urls: &'static str| {
        let json = serde_json::to_string(&policy).unwrap();
        Gateway::new(&json, |name| if name == "UPSTREAM_PLAIN_URL" { Some(urls.to_owned()) } else { setting(name) })
    };
    let (gate, world) = (given("https://a.example, https://b.example/").unwrap(), world());
    for _ in 0..100 {
        world.send(&gate, "POST", "/plain", &[]);
    }
    let share = hosts(&world);
    assert!(share["a.example"] > 25 && share["b.example"] > 25, "{share:?}");
    assert!(given("https://a.example,").is_err());
}
