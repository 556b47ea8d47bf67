//! Upstreams that fail: the breaker, retries and their budget, several targets, bodies that are too long.

use std::{
    collections::HashMap,
    future::Future as _,
    task::{Context, Poll, Waker},
};

use portcullis::pipeline::{Head, wire::Fault};
use portcullis_token::UnixMillis;
use serde_json::Value;

use crate::fakes::{FakePorts, answer, configured, header, setting, setup, verdict};

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

[upstreams.narrow]
url = "https://narrow.example"
max_concurrent = 4
timeout_ms = 1000
body_timeout_ms = 1000

[upstreams.wide]
url = "https://wide.example"
max_concurrent = 32
timeout_ms = 1000
body_timeout_ms = 1000

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

[[routes]]
path = "/narrow"
methods = ["GET", "POST"]
upstream = "narrow"
access = "public"

[[routes]]
path = "/wide"
methods = ["GET", "POST"]
upstream = "wide"
access = "public"
"#;

/// How many requests each host has had.
fn hosts(ports: &FakePorts) -> HashMap<String, usize> {
    let mut count = HashMap::new();
    for forward in ports.forwarded.borrow().iter() {
        *count.entry(forward.url.split('/').nth(2).unwrap().to_owned()).or_default() += 1;
    }
    count
}

#[test]
fn five_failures_open_the_circuit_for_a_second_and_one_probe_closes_it() {
    for fault in [Err(Fault::Unreachable), Err(Fault::TimedOut), Err(Fault::BadStatus), Ok(502), Ok(503), Ok(504)] {
        let (gateway, ports) = setup(POLICY);
        ports.upstream.set(fault);
        for _ in 0..5 {
            assert_ne!(ports.send(&gateway, "POST", "/plain", &[]).record.code, Some("upstream_resting"));
        }
        assert_eq!(ports.forwarded.borrow().len(), 5);
        for _ in 0..100 {
            let handled = ports.send(&gateway, "POST", "/plain", &[]);
            assert_eq!(verdict(&handled), (503, "upstream_resting"), "{fault:?}");
            assert_eq!(header(answer(&handled), "retry-after"), Some("1"));
            assert_eq!(handled.record.duration_ms, 0);
        }
        assert_eq!(ports.forwarded.borrow().len(), 5, "no request is sent");
        ports.upstream.set(Ok(200));
        assert_eq!(
            verdict(&ports.send(&gateway, "POST", "/single", &[])),
            (200, "ok"),
            "other upstreams are not affected"
        );
        ports.advance(1_000);
        assert_eq!(verdict(&ports.send(&gateway, "POST", "/plain", &[])), (200, "ok"));
        assert_eq!(verdict(&ports.send(&gateway, "POST", "/plain", &[])), (200, "ok"));
    }
}

#[test]
fn an_upstream_is_used_again_soon_after_a_restart_and_probed_once_a_minute_in_a_long_outage() {
    for (outage_ms, found_after_ms) in [(500, 1_000), (2_000, 3_000), (6_500, 7_000), (14_000, 15_000)] {
        let (gateway, ports) = setup(POLICY);
        ports.upstream.set(Err(Fault::Unreachable));
        let mut passed = 0;
        let back = loop {
            if passed >= outage_ms {
                ports.upstream.set(Ok(200));
            }
            if ports.send(&gateway, "POST", "/plain", &[]).record.status == 200 {
                break passed;
            }
            ports.advance(10);
            passed += 10;
            // The first five fail at one instant.
            if passed == 10 {
                for _ in 0..4 {
                    ports.send(&gateway, "POST", "/plain", &[]);
                }
            }
        };
        assert!(
            (found_after_ms..=found_after_ms + 20).contains(&back),
            "{outage_ms} ms of outage: used again after {back} ms"
        );
    }
    let (gateway, ports) = setup(POLICY);
    ports.upstream.set(Err(Fault::Unreachable));
    for _ in 0..3_600 {
        ports.send(&gateway, "POST", "/plain", &[]);
        ports.advance(1_000);
    }
    let sent = ports.forwarded.borrow().len();
    assert!((60..=72).contains(&sent), "{sent} in an hour");
}

#[test]
fn a_probe_with_a_body_blocks_other_requests_for_one_second() {
    for (method, kept_out_ms) in [("POST", 1_000), ("GET", 16_000)] {
        let (gateway, ports) = setup(POLICY);
        ports.upstream.set(Err(Fault::Unreachable));
        for _ in 0..5 {
            ports.send(&gateway, "POST", "/plain", &[]);
        }
        ports.upstream.set(Ok(200));
        ports.advance(1_000);
        ports.upstream_never_answers.set(true);
        let head = Head::new(method.to_owned(), "https://edge.example/plain", vec![]);
        let mut slow = Box::pin(gateway.handle(&head, &ports));
        assert!(slow.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        ports.upstream_never_answers.set(false);
        ports.advance(kept_out_ms - 1);
        assert_eq!(verdict(&ports.send(&gateway, "GET", "/plain", &[])), (503, "upstream_resting"), "{method}");
        ports.advance(1);
        assert_eq!(verdict(&ports.send(&gateway, "GET", "/plain", &[])), (200, "ok"), "{method}");
    }
}

#[test]
fn waiting_requests_are_bounded_those_with_a_body_get_half_and_lost_ones_expire() {
    let (gateway, ports) = setup(POLICY);
    ports.upstream_never_answers.set(true);
    let heads = ["GET", "POST"].map(|method| Head::new(method.to_owned(), "https://edge.example/narrow", vec![]));
    let begin = |head| {
        let mut request = Box::pin(gateway.handle(head, &ports));
        match request.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Ok(request),
            Poll::Ready(handled) => Err(verdict(&handled.into())),
        }
    };
    let [get, post] = &heads;
    let empty = vec![("content-length".to_owned(), "0".to_owned())];
    let empty = Head::new("POST".to_owned(), "https://edge.example/narrow", empty);
    let is_busy = |head| begin(head).is_err_and(|verdict| verdict == (503, "upstream_busy"));
    let mut waiting = vec![begin(post).unwrap(), begin(post).unwrap()];
    assert!(is_busy(post), "half are for requests without a body");
    waiting.extend([begin(get).unwrap(), begin(&empty).unwrap()]);
    assert!(is_busy(get));
    drop(waiting.remove(0));
    assert!(begin(post).is_ok(), "one that ends makes room");
    waiting.push(begin(get).unwrap());
    assert!(is_busy(get) && is_busy(post));
    // Both bodies and answers may take a second; the runtime may never resume a request.
    ports.advance(2_000);
    waiting.extend([begin(post).unwrap(), begin(post).unwrap(), begin(get).unwrap(), begin(get).unwrap()]);
    assert!(is_busy(get) && is_busy(post));
    ports.now.set(UnixMillis(ports.now.get().0 - 3 * 24 * 60 * 60 * 1000));
    assert!(begin(post).is_ok() && begin(get).is_ok(), "the clock was days ahead");
}

#[test]
fn bodies_of_one_network_leave_room_for_those_of_others() {
    let (gateway, ports) = setup(POLICY);
    ports.upstream_never_answers.set(true);
    let head = |method: &str, address: Option<&str>| {
        let address = address.map(|address| ("cf-connecting-ip".to_owned(), address.to_owned()));
        Head::new(method.to_owned(), "https://edge.example/wide", address.into_iter().collect())
    };
    // Of 16 permits, an eighth.
    for (first, same, other) in
        [("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1")]
    {
        let (one, same, get) = (head("POST", Some(first)), head("POST", Some(same)), head("GET", Some(first)));
        let (other, own, local) = (head("POST", Some(other)), head("POST", Some("::1")), head("POST", None));
        let begin = |head| {
            let mut request = Box::pin(gateway.handle(head, &ports));
            match request.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => Some(request),
                Poll::Ready(handled) => {
                    assert_eq!(verdict(&handled.into()), (503, "upstream_busy"));
                    None
                }
            }
        };
        let mut waiting = vec![begin(&one).unwrap(), begin(&same).unwrap()];
        assert!(begin(&one).is_none() && begin(&same).is_none(), "{first}");
        waiting.extend([&get, &get, &other, &other].map(|head| begin(head).unwrap()));
        assert!(begin(&other).is_none());
        waiting.extend([&local, &own].repeat(6).into_iter().map(|head| begin(head).unwrap()));
        assert!(begin(&local).is_none(), "all are taken");
        waiting.truncate(1);
        waiting.push(begin(&one).unwrap());
        assert!(begin(&one).is_none());
        ports.advance(2_000);
        assert!(begin(&one).is_some(), "lost ones expire");
    }
}

#[test]
fn an_upstream_that_rejects_the_assertion_is_502_and_its_circuit_stays_closed() {
    let (gateway, ports) = setup(POLICY);
    ports.upstream.set(Ok(401));
    let challenge = "Gateway-Assertion realm=\"https://edge.example\", error=\"gateway_required\"";
    *ports.answer_headers.borrow_mut() = vec![("www-authenticate", challenge)];
    for method in ["GET", "POST"] {
        for _ in 0..20 {
            let handled = ports.send(&gateway, method, "/single", &[]);
            assert_eq!(verdict(&handled), (502, "upstream_rejected_assertion"));
            assert_eq!(header(answer(&handled), "www-authenticate"), None);
            assert!(header(answer(&handled), "retry-after").is_some());
        }
    }
    assert_eq!(ports.forwarded.borrow().len(), 40, "neither retried nor stopped by the breaker");
    let status: Value = serde_json::from_str(&answer(&ports.send_as_operator(&gateway, "/status")).body).unwrap();
    let single = status["upstreams"].as_array().unwrap().iter().find(|upstream| upstream["name"] == "single").unwrap();
    assert_eq!(single["last_error"], "upstream_rejected_assertion");
    assert_eq!((&single["status"], &single["breakers"]), (&"degraded".into(), &serde_json::json!(["closed"])));
    *ports.answer_headers.borrow_mut() = vec![("www-authenticate", "Bearer realm=\"shop\"")];
    assert_eq!(verdict(&ports.send(&gateway, "GET", "/single", &[])), (401, "ok"), "a 401 of the service itself");
}

#[test]
fn a_scheme_is_found_at_the_beginning_of_a_challenge_alone() {
    let (gateway, ports) = setup(POLICY);
    ports.upstream.set(Ok(401));
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
        *ports.answer_headers.borrow_mut() = vec![("www-authenticate", challenges)];
        let expected = if is_rejection { (502, "upstream_rejected_assertion") } else { (401, "ok") };
        assert_eq!(verdict(&ports.send(&gateway, "POST", "/plain", &[])), expected, "{challenges}");
    }
}

#[test]
fn an_answer_without_a_gateway_status_is_no_failure() {
    let (gateway, ports) = setup(POLICY);
    for status in [401, 403, 404, 409, 429, 500, 501, 505] {
        ports.upstream.set(Ok(status));
        for _ in 0..20 {
            assert_eq!(ports.send(&gateway, "POST", "/plain", &[]).record.status, status);
        }
    }
    assert_eq!(ports.forwarded.borrow().len(), 160);
}

#[test]
fn an_outage_with_retry_after_or_before_the_end_of_the_body_is_no_failure_and_is_not_retried() {
    for (answers_early, headers) in [(false, vec![("retry-after", "7")]), (true, vec![])] {
        for status in [502, 503, 504] {
            let (gateway, ports) = setup(POLICY);
            ports.upstream.set(Ok(status));
            ports.upstream_answers_early.set(answers_early);
            ports.answer_headers.borrow_mut().clone_from(&headers);
            for count in 1..=50 {
                assert_eq!(verdict(&ports.send(&gateway, "GET", "/single", &[])), (status, "ok"));
                assert_eq!(ports.forwarded.borrow().len(), count, "no retry, and no breaker");
            }
        }
    }
}

#[test]
fn a_fault_of_the_client_is_no_failure_of_the_upstream() {
    let (gateway, ports) = setup(POLICY);
    for (fault, expected) in [
        (Fault::BodySlow, (408, "body_too_slow")),
        (Fault::TooLarge, (413, "body_too_large")),
        (Fault::ClientGone, (400, "client_gone")),
        (Fault::BrokeOff, (502, "upstream_unreachable")),
        (Fault::Stalled, (504, "upstream_timeout")),
    ] {
        ports.upstream.set(Err(fault));
        for _ in 0..20 {
            assert_eq!(verdict(&ports.send(&gateway, "POST", "/plain", &[])), expected);
        }
    }
    ports.upstream.set(Ok(200));
    assert_eq!(verdict(&ports.send(&gateway, "POST", "/plain", &[])), (200, "ok"));
}

#[test]
fn a_content_length_above_the_limit_is_refused_before_the_upstream_is_called() {
    let (gateway, ports) = setup(POLICY);
    for (length, expected) in
        [("100", (200, "ok")), ("101", (413, "body_too_large")), ("99999999999", (413, "body_too_large"))]
    {
        assert_eq!(
            verdict(&ports.send(&gateway, "POST", "/plain", &[("content-length", length)])),
            expected,
            "{length}"
        );
    }
    assert_eq!(ports.forwarded.borrow().len(), 1);
    assert_eq!(ports.forwarded.borrow()[0].max_body_bytes, Some(100));
}

#[test]
fn only_safe_methods_are_retried() {
    for (method, path, tries) in
        [("GET", "/single", 3), ("HEAD", "/single", 3), ("POST", "/single", 1), ("GET", "/plain", 1)]
    {
        let (gateway, ports) = setup(POLICY);
        ports.upstream.set(Err(Fault::Unreachable));
        let handled = ports.send(&gateway, method, path, &[("content-length", "0")]);
        assert_eq!(verdict(&handled), (502, "upstream_unreachable"));
        assert_eq!(ports.forwarded.borrow().len(), tries, "{method} {path}");
        assert!(handled.record.duration_ms <= 1000, "pauses are short");
    }
}

#[test]
fn retries_stop_when_their_budget_is_spent() {
    let (gateway, ports) = setup(POLICY);
    // Answers that are outages now and then, so that no breaker opens.
    for round in 0..1000 {
        ports.upstream.set(if round % 2 == 1 { Ok(200) } else { Ok(502) });
        ports.send(&gateway, "GET", "/single", &[]);
    }
    let forwarded = ports.forwarded.borrow().len();
    assert!((1000..=1110).contains(&forwarded), "{forwarded} for 1000 requests");
}

#[test]
fn targets_share_requests_by_weight_and_an_unreachable_one_fails_none() {
    let (gateway, ports) = setup(POLICY);
    for _ in 0..4000 {
        assert_eq!(verdict(&ports.send(&gateway, "POST", "/app", &[])), (200, "ok"));
    }
    let share = hosts(&ports);
    assert!((2800..=3200).contains(&share["one.example"]), "{share:?}");
    ports.forwarded.borrow_mut().clear();

    ports.down.borrow_mut().push("one.example");
    for _ in 0..200 {
        assert_eq!(verdict(&ports.send(&gateway, "GET", "/app", &[])), (200, "ok"), "the other target answers");
    }
    let share = hosts(&ports);
    assert_eq!(share["one.example"], 5, "until its breaker opens: {share:?}");
    assert_eq!(share["two.example"], 200);
    let status: Value = serde_json::from_str(&answer(&ports.send_as_operator(&gateway, "/status")).body).unwrap();
    let app = status["upstreams"].as_array().unwrap().iter().find(|upstream| upstream["name"] == "app").unwrap();
    assert_eq!(app["breakers"], serde_json::json!(["open", "closed"]));
    assert_eq!(app["status"], "degraded");

    ports.down.borrow_mut().push("two.example");
    for _ in 0..10 {
        ports.send(&gateway, "POST", "/app", &[]);
    }
    assert_eq!(verdict(&ports.send(&gateway, "GET", "/app", &[])), (503, "upstream_resting"));
    ports.down.borrow_mut().clear();
    ports.advance(60_000);
    for _ in 0..50 {
        assert_eq!(verdict(&ports.send(&gateway, "GET", "/app", &[])), (200, "ok"));
    }
}

#[test]
fn a_variable_sets_several_targets() {
    let given = |urls: &'static str| {
        configured(POLICY, |name| if name == "UPSTREAM_PLAIN_URL" { Some(urls.to_owned()) } else { setting(name) })
    };
    let (gateway, ports) = (given("https://a.example, https://b.example/").unwrap(), FakePorts::new());
    for _ in 0..100 {
        ports.send(&gateway, "POST", "/plain", &[]);
    }
    let share = hosts(&ports);
    assert!(share["a.example"] > 25 && share["b.example"] > 25, "{share:?}");
    assert!(given("https://a.example,").is_err());
}
