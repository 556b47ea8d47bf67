//! The boundary to JavaScript: each text is read as it was written, and both sides know the same names.

use portcullis::pipeline::{
    Head,
    wire::{
        AnswerFacts, BodyPlan, DrainPlan, EarlyAnswerPlan, Fault, Forward, HeaderChanges, parse_head, write_headers,
        write_plan, write_request,
    },
};
use serde_json::{Value, json};

use crate::fakes::parse_changes;

const BODY_JS: &str = include_str!("../../src/host/body.js");
const PROXY_JS: &str = include_str!("../../src/host/proxy.js");

#[test]
fn a_failure_is_judged_by_what_the_body_waited_for() {
    for (failure, expected) in [
        ("read_failed\nnothing\n0", Fault::ClientGone),
        ("over_limit\nnothing\n0", Fault::TooLarge),
        ("late\nclient\n1500", Fault::BodySlow),
        ("late\nupstream\n0", Fault::Stalled),
        ("late\nnothing\n0", Fault::TimedOut),
        ("late", Fault::TimedOut),
        ("failed\nclient\n999", Fault::Unreachable),
        ("failed\nclient\n1000", Fault::BrokeOff),
        ("failed\nupstream\n0", Fault::Unreachable),
        ("failed\nnothing\n0", Fault::Unreachable),
        ("failed", Fault::Unreachable),
        ("", Fault::Unreachable),
    ] {
        assert_eq!(Fault::of_forward(failure), expected, "{failure:?}");
        for word in failure.split('\n').take(2).filter(|word| !word.is_empty()) {
            let quoted = format!("\"{word}\"");
            assert!([BODY_JS, PROXY_JS].iter().any(|code| code.contains(&quoted)), "JavaScript writes no {quoted}");
        }
    }
    for (name, expected) in [(Some("TimeoutError"), Fault::TimedOut), (None, Fault::Unreachable)] {
        assert_eq!(Fault::of_rejection(name), expected);
    }
}

#[test]
fn a_plan_has_the_members_that_javascript_knows() {
    for (length, hold_ms, read_ahead_bytes, part_bytes) in [
        (Some(0), 0, 0, 1),
        (Some(100), 0, 0, 100),
        (Some(65_536), 0, 0, 65_536),
        (Some(65_537), 0, 0, 65_536),
        (Some(1024 * 1024), 0, 0, 65_536),
        (Some(1024 * 1024 + 1), 100, 0, 65_536),
        (None, 100, 65_536, 65_536),
    ] {
        let plan = BodyPlan::new(length, 7, 8);
        let written: Value = serde_json::from_str(&write_plan(&plan)).unwrap();
        assert_eq!(
            written,
            json!({
                "length": length, "is_short": length.is_some_and(|bytes| bytes <= 65_536), "max_bytes": 7, "time_ms": 8,
                "hold_ms": hold_ms, "read_ahead_bytes": read_ahead_bytes, "read_ahead_parts": 64,
                "drain": {
                    "part_bytes": part_bytes, "max_bytes": 16 * 1024 * 1024, "time_ms": 2_000, "at_once": 256,
                },
            }),
            "{length:?}"
        );
        for member in written.as_object().unwrap().keys().chain(written["drain"].as_object().unwrap().keys()) {
            assert!(BODY_JS.contains(&format!("}} {member}\n")), "body.js has no @property {member}");
        }
    }
}

#[test]
fn an_early_refusal_is_read_first_unless_it_is_long_or_compressed() {
    let drain = BodyPlan::new(None, 7, 8).drain;
    for (text, is_refused) in
        [("\n399", false), ("\n400", true), ("\n503\ncontent-length", true), ("1\n400", false), ("1\n200", false)]
    {
        assert_eq!(AnswerFacts::parse(text).unwrap().refuses_body(), is_refused, "{text:?}");
    }
    for (names, content_length, is_read) in [
        ("date", None, true),
        ("content-length", Some("65536"), true),
        ("content-length", Some("65537"), false),
        ("content-length", Some("7, 7"), true),
        ("content-encoding", None, false),
    ] {
        let facts = AnswerFacts::parse(&format!("\n413\n{names}")).unwrap();
        let plan = EarlyAnswerPlan::new(&facts, content_length, &drain);
        assert_eq!(plan.is_some(), is_read, "{names} {content_length:?}");
        let Some(plan) = plan else { continue };
        let mut written: Value = serde_json::from_str(&write_plan(&plan)).unwrap();
        assert_eq!(written["drain"].take()["max_bytes"], 16 * 1024 * 1024);
        assert_eq!(written, json!({ "max_bytes": 65_536, "time_ms": 1_000, "drain": null }));
    }
}

#[test]
fn a_body_that_the_runtime_reads_by_itself_is_not_drained() {
    for (headers, expected) in [
        (vec![], false),
        (vec![("content-length", "0")], false),
        (vec![("content-length", "65536")], false),
        (vec![("content-length", "65537")], true),
        (vec![("transfer-encoding", "chunked")], true),
        (vec![("content-length", "5"), ("transfer-encoding", "chunked")], true),
    ] {
        let owned = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let head = Head::new("POST".into(), "https://edge.example/", owned);
        let part_bytes = DrainPlan::for_answer(&head).map(|plan| plan.part_bytes);
        assert_eq!(part_bytes, expected.then_some(65_536), "{headers:?}");
    }
}

#[test]
fn a_head_is_read_as_it_was_written() {
    for headers in [vec![], vec![("accept", "*/*"), ("x-empty", ""), ("cookie", "a=1; b=2")]] {
        let owned: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut text = "PATCH\nhttps://edge.example:8443/a?b".to_owned();
        headers.iter().for_each(|(name, value)| text.push_str(&format!("\n{name}\n{value}")));
        assert_eq!(parse_head(&text), Head::new("PATCH".into(), "https://edge.example:8443/a?b", owned));
    }
    assert_eq!(parse_head(""), Head::new(String::new(), "", vec![]));
}

#[test]
fn facts_are_read_as_they_were_written() {
    for (flag, body_ended) in [("1", true), ("", false)] {
        for names in [vec![], vec!["content-type"], vec!["location", "retry-after"]] {
            for status in [101, 200, 599] {
                let facts = AnswerFacts::parse(&[&[flag, &status.to_string()], &names[..]].concat().join("\n"));
                let facts = facts.unwrap();
                assert_eq!((facts.body_ended, facts.status), (body_ended, status));
                assert_eq!(facts.header_names().collect::<Vec<_>>(), names);
                assert_eq!(facts.has_header("retry-after"), names.contains(&"retry-after"));
            }
        }
    }
    for text in ["", "1", "1\n", "1\nx", "1\n99\ndate", "1\n100", "\n199", "1\n600", "1\n-1"] {
        assert_eq!(AnswerFacts::parse(text), Err(Fault::BadStatus), "{text:?}");
    }
}

#[test]
fn changes_are_read_as_they_were_written() {
    for (removed, appended) in [
        (vec![], vec![]),
        (vec!["server"], vec![]),
        (vec![], vec![("vary", "Origin"), ("x-empty", ""), ("x-request-id", "7")]),
        (vec!["server", "via"], vec![("x-empty", ""), ("x-request-id", "7")]),
    ] {
        let mut changes = HeaderChanges::removing(removed.iter().copied());
        appended.iter().for_each(|(name, value)| changes.append(name, value));
        assert_eq!(parse_changes(&changes), (removed, appended));
    }
}

#[test]
fn each_outgoing_field_is_one_line() {
    let request = Forward {
        is_validated: false,
        url: "https://up.example/x".into(),
        binding: None,
        method: "GET",
        headers: vec![("accept".into(), "*/*".into()), ("x-empty".into(), "".into())],
        timeout_ms: 1,
        is_timed: false,
        body: None,
    };
    assert_eq!(write_request(&request), "https://up.example/x\nGET\naccept\n*/*\nx-empty\n");
    assert_eq!(write_headers(&[("vary", "Origin".into()), ("x-empty", String::new())]), "vary\nOrigin\nx-empty\n");
}
