//! Spans for a collector: which requests have them, how they are related, and their bounds.

use portcullis::pipeline::Gateway;
use serde_json::Value;

use crate::fakes::{FakePorts, SHIPPED, Vectors, configured, setting, verdict};

const ME: &str = "/api/v1/auth/me";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn gateway(settings: &[(&str, &str)]) -> Result<Gateway, String> {
    let known = |name: &str| {
        settings
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
            .or_else(|| setting(name))
    };
    configured(SHIPPED, known).map_err(|fault| fault.0)
}

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example/");

fn spans_of(message: &Value) -> Vec<Value> {
    message["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

fn attribute(span: &Value, key: &str) -> Option<String> {
    let found = span["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == key)?;
    let value = &found["value"];
    Some(value["stringValue"].as_str().or(value["intValue"].as_str()).unwrap().to_owned())
}

#[test]
fn a_client_cannot_choose_a_trace_that_is_always_sampled() {
    let vectors = Vectors::load();
    let ports = FakePorts::new();
    let gateway = gateway(&[ENDPOINT, ("OTEL_TRACES_SAMPLER_ARG", "0.0001")]).unwrap();
    let bearer = format!("Bearer {}", vectors.token("a good token"));
    for number in 1..50 {
        let traceparent = format!("00-4bf92f3577b34da6{number:08x}00000000-00f067aa0ba902b7-01");
        ports.send(&gateway, "GET", ME, &[("authorization", &bearer), ("traceparent", &traceparent)]);
    }
    assert!(ports.spans.borrow().len() < 5, "{} of 49", ports.spans.borrow().len());
}

#[test]
fn a_share_of_the_traces_is_sampled_by_their_ids() {
    for ratio in [0.5, 0.25] {
        let ports = FakePorts::new();
        let gateway = gateway(&[ENDPOINT, ("OTEL_TRACES_SAMPLER_ARG", &ratio.to_string())]).unwrap();
        for _ in 0..200 {
            let trace_id = ports.send(&gateway, "GET", "/nowhere", &[]).record.trace_id;
            let fraction = f64::from(u32::from_str_radix(&trace_id[24..], 16).unwrap()) / 2_f64.powi(32);
            let sent = ports.spans.take();
            assert_eq!(sent.len(), usize::from(fraction < ratio), "{ratio} of {trace_id}");
        }
    }
}

#[test]
fn a_request_has_a_server_and_a_client_span_in_the_trace_of_its_client() {
    let vectors = Vectors::load();
    let ports = FakePorts::new();
    let gateway =
        gateway(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_HEADERS", "a=b"), ("OTEL_SERVICE_NAME", "shop-edge")]).unwrap();
    let bearer = format!("Bearer {}", vectors.token("a good token"));
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let sent = [("authorization", bearer.as_str()), ("traceparent", &traceparent)];
    assert_eq!(verdict(&ports.send(&gateway, "GET", &format!("{ME}?secret=1"), &sent)), (200, "ok"));
    let sent = ports.spans.borrow();
    assert_eq!(sent.len(), 1);
    let (place, message) = &sent[0];
    assert_eq!(place, "https://collector.example/v1/traces a=b 0");
    let resource = &message["resourceSpans"][0]["resource"]["attributes"][0];
    assert_eq!(
        (resource["key"].as_str(), resource["value"]["stringValue"].as_str()),
        (Some("service.name"), Some("shop-edge"))
    );
    let spans = spans_of(message);
    let [server, client] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((server["kind"].as_u64(), client["kind"].as_u64()), (Some(2), Some(3)));
    assert_eq!(server["name"], format!("GET {ME}"));
    assert_eq!(client["name"], "GET auth");
    assert_eq!(server["traceId"], TRACE);
    assert_eq!(client["traceId"], TRACE);
    assert_eq!(server["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(client["parentSpanId"], server["spanId"]);
    assert_eq!(attribute(server, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(attribute(server, "http.route").as_deref(), Some(ME));
    assert!(!message.to_string().contains("secret"), "no query");
    let forwarded = ports.forwarded.borrow();
    let passed = forwarded[0].headers.iter().find(|(name, _)| name == "traceparent").unwrap();
    assert_eq!(passed.1, format!("00-{TRACE}-{}-01", client["spanId"].as_str().unwrap()));
}

#[test]
fn a_refusal_is_one_span_with_its_code_and_without_the_token() {
    let vectors = Vectors::load();
    let ports = FakePorts::new();
    let gateway = gateway(&[ENDPOINT]).unwrap();
    let token = vectors.token("a good token");
    let broken = format!("{}AAAA", &token[..token.len() - 4]);
    assert_eq!(ports.send_token(&gateway, "GET", ME, &broken).record.status, 401);
    let sent = ports.spans.borrow();
    let spans = spans_of(&sent[0].1);
    assert_eq!(spans.len(), 1);
    assert_eq!(attribute(&spans[0], "error.type").as_deref(), Some("token_signature_invalid"));
    assert_eq!(spans[0].get("status"), None, "a fault of the client is no error of the gateway");
    assert!(!sent[0].1.to_string().contains(&token[..20]));
    drop(sent);
    ports.upstream.set(Err(portcullis::pipeline::wire::Fault::TimedOut));
    assert_eq!(ports.send_token(&gateway, "GET", ME, token).record.status, 504);
    let sent = ports.spans.borrow();
    let spans = spans_of(&sent[1].1);
    assert!(spans.len() == 2 && spans.iter().all(|span| span["status"]["code"] == 2), "{spans:?}");
}

#[test]
fn a_request_that_the_circuit_breaker_refuses_is_no_call_of_the_upstream() {
    let ports = FakePorts::new();
    let gateway = gateway(&[ENDPOINT, ("METRICS_TOKEN", "a-token-for-the-scraper")]).unwrap();
    ports.upstream.set(Err(portcullis::pipeline::wire::Fault::Unreachable));
    for _ in 0..16 {
        let record = ports.send(&gateway, "POST", "/api/v1/auth/login", &[]).record;
        let is_sent = record.code != Some("upstream_resting");
        assert_eq!(record.upstream_ms.is_some(), is_sent);
        assert_eq!(spans_of(&ports.spans.borrow_mut().pop().unwrap().1).len(), 1 + usize::from(is_sent));
    }
    let sent = ports.forwarded.borrow().len();
    assert!((5..16).contains(&sent), "{sent}");
    let counted = ports.metrics.borrow()[r#"gateway_upstream_duration_seconds_count{upstream="auth"}"#];
    assert!((counted - f64::from(u32::try_from(sent).unwrap())).abs() < f64::EPSILON, "{counted} of {sent}");
}

#[test]
fn an_unsampled_request_exports_no_span_and_is_forwarded_as_unsampled() {
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-00");
    for (settings, headers, expected) in [
        (vec![], vec![], None),
        (vec![ENDPOINT], vec![("traceparent", traceparent.as_str())], Some("00")),
        (vec![ENDPOINT, ("OTEL_TRACES_SAMPLER_ARG", "0")], vec![], Some("00")),
    ] {
        let ports = FakePorts::new();
        let gateway = gateway(&settings).unwrap();
        ports.send(&gateway, "POST", "/api/v1/auth/login", &headers);
        assert!(ports.spans.borrow().is_empty());
        let forwarded = ports.forwarded.borrow();
        let passed = forwarded[0].headers.iter().find(|(name, _)| name == "traceparent").unwrap();
        assert!(passed.1.ends_with(expected.unwrap_or("01")), "{}", passed.1);
    }
}

#[test]
fn a_client_can_lower_the_sampled_share_and_not_raise_it() {
    for (flags, ratio, passed_on) in
        [("01", "1", "01"), ("03", "1", "01"), ("00", "1", "00"), ("02", "1", "00"), ("01", "0", "00")]
    {
        let ports = FakePorts::new();
        let gateway = gateway(&[ENDPOINT, ("OTEL_TRACES_SAMPLER_ARG", ratio)]).unwrap();
        let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
        ports.send(&gateway, "POST", "/api/v1/auth/login", &[("traceparent", &traceparent)]);
        let forwarded = ports.forwarded.borrow();
        let passed = forwarded[0].headers.iter().find(|(name, _)| name == "traceparent").unwrap();
        assert!(passed.1.ends_with(passed_on), "{flags} {ratio}: {}", passed.1);
        assert_eq!(ports.spans.borrow().is_empty(), passed_on == "00", "{flags} {ratio}");
    }
}

#[test]
fn the_queue_of_spans_is_bounded_and_a_full_batch_is_sent() {
    let ports = FakePorts::new();
    let gateway = gateway(&[ENDPOINT]).unwrap();
    let head = portcullis::pipeline::Head::new("GET".into(), "https://edge.example/nowhere", vec![]);
    let mut tasks = Vec::new();
    for _ in 0..2_000 {
        futures_executor::block_on(gateway.handle(&head, &ports));
        tasks.push(ports.tasks.take());
    }
    // One is on its way from the first; from the 256th on each request may send them.
    assert!(tasks[1..255].iter().all(Vec::is_empty));
    assert!(!tasks[255].is_empty());
    for task in tasks.iter().flatten() {
        futures_executor::block_on(gateway.run(task.clone(), &ports));
    }
    let sent = ports.spans.borrow();
    assert_eq!(sent.len(), 1);
    assert!(sent[0].0.ends_with(" 976"), "{} dropped", sent[0].0);
    assert_eq!(spans_of(&sent[0].1).len(), 1_024);
}

#[test]
fn settings_of_traces_are_validated() {
    assert!(gateway(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).is_ok(), "an empty variable counts as unset");
    for ratio in ["", "0", "1", "0.25", "0.0", "1e-3", "0e5"] {
        assert!(gateway(&[ENDPOINT, ("OTEL_TRACES_SAMPLER_ARG", ratio)]).is_ok(), "{ratio}");
    }
    for ratio in [
        ".", "+", ".5", "1.", "01", "+0.1", "-0.5", "e5", "1,0", "0 1", "0x1", "1.1", "inf", "0.5.5", "2", "NaN",
        "always",
    ] {
        let fault = gateway(&[ENDPOINT, ("OTEL_TRACES_SAMPLER_ARG", ratio)]).unwrap_err();
        assert!(fault.contains("not a number from 0 to 1"), "{ratio}: {fault}");
    }
    let deployed = [
        ("DEVELOPMENT", "false"),
        ("UPSTREAM_AUTH_URL", "https://auth.example"),
        ("UPSTREAM_USERS_URL", "https://users.example"),
    ];
    for (endpoint, words) in [
        ("collector:4318", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_ENDPOINT is a plain http://"),
        ("https://collector.example/?key=1", "query"),
        ("https://collector.example/#x", "query"),
    ] {
        let settings = [&deployed[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]].concat();
        let fault = gateway(&settings).unwrap_err();
        assert!(fault.contains(words), "{endpoint}: {fault}");
    }
}
