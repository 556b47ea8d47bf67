//! The ids of a request and its place in a trace, and which log records and audit events it leaves.

use portcullis::pipeline::{LogRecord, limits::LOGGED_SUCCESSES};
use serde_json::Value;

use crate::fakes::{FakePorts, ME_POLICY, SHIPPED, configured, setup};

#[test]
fn a_well_formed_request_id_is_kept_and_any_other_replaced() {
    let (gateway, ports) = setup(SHIPPED);
    for (sent, kept) in [
        ("0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f", Some("0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f")),
        ("0190B5A2-8C4E-7D3A-9F10-1C2B3A4D5E6F", Some("0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f")),
        ("0190b5a28c4e7d3a9f101c2b3a4d5e6f", None),
        ("{0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f}", None),
        ("eyJhbGciOiJSUzI1NiJ9.e30.c2ln", None),
        ("", None),
    ] {
        let id = ports.send(&gateway, "GET", "/health", &[("x-request-id", sent)]).record.request_id;
        let is_own = id.len() == 36 && id.as_bytes()[14] == b'7' && !id.starts_with("0190b5a2");
        assert!(kept.map_or(is_own, |kept| id == kept), "{sent}: {id}");
    }
}

#[test]
fn a_valid_trace_is_continued_and_an_invalid_one_replaced() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (sent, flags) in [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", Some("00")),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", Some("03")),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-brings", Some("01")),
        ("", None),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", None),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", None),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01", None),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
        ("00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01", None),
    ] {
        let (gateway, ports) = setup(SHIPPED);
        let headers = [("traceparent", sent), ("tracestate", "a=1")];
        let record = ports.send(&gateway, "POST", "/api/v1/auth/login", &headers).record;
        let forwarded = ports.forwarded.borrow();
        let header = |name: &str| forwarded[0].headers.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let expected = format!("00-{}-{}-{}", record.trace_id, record.span_id, flags.unwrap_or("01"));
        assert_eq!(header("traceparent"), Some(&expected), "{sent}");
        assert_eq!((record.trace_id.len(), record.span_id.len()), (32, 16), "{sent}");
        assert_eq!(record.trace_id == TRACE, flags.is_some(), "{sent}");
        assert_eq!(header("tracestate").is_some(), flags.is_some(), "a state belongs to its trace: {sent}");
    }
}

#[test]
fn a_share_of_the_successes_is_logged_and_each_denial_and_failure() {
    for (development, set, expected) in [
        ("true", None, 1.0),
        ("false", None, f64::from(LOGGED_SUCCESSES) / 100.0),
        ("false", Some("0"), 0.0),
        ("false", Some("25"), 0.25),
        ("true", Some("50"), 0.5),
        ("false", Some("100"), 1.0),
    ] {
        let settings = |name: &str| match name {
            "DEVELOPMENT" => Some(development.to_owned()),
            "LOG_SUCCESSES" => set.map(str::to_owned),
            _ => None,
        };
        let (gateway, ports) = (configured(ME_POLICY, settings).unwrap(), FakePorts::new());
        let logged = |target: &str, headers: &[(&str, &str)]| {
            (0..400).filter(|_| ports.send(&gateway, "GET", target, headers).is_logged).count()
        };
        let trace = [("traceparent", "00-4bf92f3577b34da6a3ce929d00000000-00f067aa0ba902b7-01")];
        for (headers, chosen_by) in [(&[][..], "gateway"), (&trace[..], "client")] {
            let share = f64::from(u32::try_from(logged("/health", headers)).unwrap()) / 400.0;
            assert!((share - expected).abs() < 0.1, "{share} of {expected}, {set:?}, trace of the {chosen_by}");
        }
        assert_eq!((logged("/nowhere", &[]), logged("/me", &[])), (400, 400), "denials");
    }
}

#[test]
fn a_refusal_is_an_audit_event_and_a_failure_is_not() {
    for (status, code, expected) in [
        (401, Some("token_expired"), true),
        (403, Some("rights_missing"), true),
        (429, Some("rate_limited"), true),
        (404, Some("route_unknown"), false),
        (503, Some("keys_unavailable"), false),
        (401, None, false),
        (200, None, false),
    ] {
        let (method, path, route) = ("GET".into(), "/x/7".into(), Some("/x/{id}".into()));
        let record = LogRecord { status, code, method, path, route, ..LogRecord::default() };
        let event = record.audit_event();
        assert_eq!(event.is_some(), expected, "{status} {code:?}");
        if let Some(event) = event {
            let event: Value = serde_json::from_str(&event).unwrap();
            let actual = ["operation", "entity_id", "detail"].map(|member| event[member].as_str());
            assert_eq!(actual, [Some("GET /x/{id}"), Some("/x/7"), code]);
        }
    }
}
