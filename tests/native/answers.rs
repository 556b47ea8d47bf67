//! How upstreams' answers are passed on: which headers are removed, replaced and added.

use portcullis::pipeline::{AnswerPlan, Gateway, Outcome};

use crate::fakes::{FakePorts, Seen, gateway_of, parse_changes, setup};

const POLICY: &str = r#"
[upstreams.app]
url = "https://up.example"
idle_timeout_ms = 7000

[cors.pages]
origins = ["https://app.example"]
credentials = true
expose = ["x-total"]

[[routes]]
path = "/app"
methods = ["GET"]
upstream = "app"
access = "public"
cors = "pages"
strip_prefix = "/app"
response_headers = { set = { "x-frame-options" = "DENY" }, remove = ["x-powered-by"] }
nosniff = true
"#;

/// Headers of an upstream's answer that are the gateway's own, or that the rules name.
const PRIVATE: [&str; 5] =
    ["x-powered-by", "x_frame_options", "x-user-id", "access-control-allow-origin", "x-request-id"];

fn plan(handled: &Seen) -> &AnswerPlan {
    match &handled.outcome {
        Outcome::Forwarded { plan, .. } => plan,
        Outcome::Answered(answer) => panic!("{answer:?}"),
    }
}

#[test]
fn the_plan_removes_replaces_and_adds_headers_of_an_answer() {
    let (gateway, ports) = setup(POLICY);
    let frame = ("x-frame-options", "DENY");
    let guard = ("x-content-type-options", "nosniff");
    for (name, answer, origin, removed, added) in [
        ("nothing to remove", vec![("date", "")], None, vec![], vec![("vary", "Origin"), frame, guard]),
        (
            "what is the gateway's own, and what the rules name",
            [&PRIVATE[..], &["date"]].concat().iter().map(|name| (*name, "")).collect(),
            None,
            PRIVATE.to_vec(),
            vec![("vary", "Origin"), frame, guard],
        ),
        ("nosniff of its own", vec![("x-content-type-options", "")], None, vec![], vec![("vary", "Origin"), frame]),
        (
            "a page of a listed origin",
            vec![("date", "")],
            Some("https://app.example"),
            vec![],
            vec![
                ("vary", "Origin"),
                ("access-control-allow-origin", "https://app.example"),
                ("access-control-allow-credentials", "true"),
                ("access-control-expose-headers", "x-total"),
                frame,
                guard,
            ],
        ),
        (
            "references to the upstream",
            vec![("location", "https://up.example/y"), ("link", "<https://id.example/z>")],
            None,
            vec!["location"],
            vec![("vary", "Origin"), frame, ("location", "https://edge.example/app/y"), guard],
        ),
    ] {
        *ports.answer_headers.borrow_mut() = answer;
        let headers: Vec<_> = origin.iter().map(|origin| ("origin", *origin)).collect();
        let handled = ports.send(&gateway, "GET", "/app", &headers);
        let plan = plan(&handled);
        let mut added = added;
        added.push(("x-request-id", &handled.record.request_id));
        assert_eq!(parse_changes(&plan.changes), (removed, added), "{name}");
        assert_eq!((handled.record.status, plan.idle_timeout_ms), (200, Some(7000)));
    }
}

#[test]
fn a_body_with_an_idle_time_keeps_its_length_if_the_upstream_states_one() {
    let ports = FakePorts::new();
    let length = |policy: &str, headers: &[(&'static str, &'static str)]| {
        *ports.answer_headers.borrow_mut() = headers.to_vec();
        plan(&ports.send(&gateway_of(policy), "GET", "/app", &[])).body_bytes
    };
    for (stated, expected) in [
        ("0", Some(0)),
        ("9007199254740991", Some(9_007_199_254_740_991)),
        ("9007199254740992", None),
        ("99999999999999999999", None),
        ("", None),
        ("7, 7", None),
        ("+7", None),
        ("-7", None),
        ("7.0", None),
    ] {
        assert_eq!(length(POLICY, &[("content-length", stated)]), expected, "{stated:?}");
    }
    assert_eq!(length(POLICY, &[("date", "")]), None);
    assert_eq!(length(POLICY, &[("content-length", "7"), ("transfer-encoding", "chunked")]), None);
    assert_eq!(length(&POLICY.replace("idle_timeout_ms = 7000", ""), &[("content-length", "7")]), None);
}

const REFERENCES: &str = r#"
[upstreams.app]
targets = [{ url = "https://Two.example:443" }, { url = "http://[::1]:9000" }]

[[routes]]
path = "/api/x"
methods = ["GET"]
upstream = "app"
access = "public"

[[routes]]
path = "/shop/api/x"
methods = ["GET"]
upstream = "app"
access = "public"
strip_prefix = "/shop"

[[routes]]
path = "/old/api"
methods = ["GET"]
upstream = "app"
access = "public"
replace_prefix = { from = "/old", to = "/x" }
"#;

/// Returns what a client receives instead of headers of an answer; `None` if a header is unchanged.
fn published(
    (gateway, ports): &(Gateway, FakePorts),
    path: &str,
    sent: &[(&'static str, String)],
) -> Vec<Option<String>> {
    let leaked = |(name, value): &(&'static str, String)| (*name, &*value.clone().leak());
    *ports.answer_headers.borrow_mut() = sent.iter().map(leaked).collect();
    let handled = ports.send(gateway, "GET", path, &[]);
    let (removed, appended) = parse_changes(&plan(&handled).changes);
    let value = |name: &str| appended.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let values: Vec<_> = sent.iter().map(|(name, _)| value(name)).collect();
    for ((name, _), value) in sent.iter().zip(&values) {
        assert_eq!(removed.contains(name), value.is_some(), "{name} arrives once");
    }
    values
}

#[test]
fn each_spelling_of_the_upstreams_authority_is_replaced() {
    let world = setup(REFERENCES);
    for (location, expected) in [
        ("https://two.example/x", Some("https://edge.example/x")),
        ("https://Ada:secret@Two.example.:443?a", Some("https://edge.example/?a")),
        ("http://two.example:80", Some("https://edge.example/")),
        ("http://two.example:443/", None),
        ("//two.example/x", Some("https://edge.example/x")),
        ("http://[::1]:9000/x", Some("https://edge.example/x")),
        ("http://[::1]/x", None),
        ("/x", None),
        ("mailto:ada@example.com", None),
    ] {
        let actual = published(&world, "/api/x", &[("location", location.to_owned())]);
        assert_eq!(actual, [expected.map(str::to_owned)], "{location}");
    }
}

#[test]
fn references_in_refresh_and_link_are_found_as_browsers_find_them() {
    let world = setup(REFERENCES);
    for (name, value, expected) in [
        ("refresh", "0;URL='https://two.example/x'", Some("0; url=https://edge.example/x")),
        ("refresh", "0; url=\"https://two.example/x\" y", Some("0; url=https://edge.example/x")),
        ("refresh", " 1.5 url = https://two.example/x;y", Some("1.5; url=https://edge.example/x;y")),
        ("refresh", "1 https://two.example/x", Some("1; url=https://edge.example/x")),
        ("refresh", "1,https://two.example/x", Some("1; url=https://edge.example/x")),
        ("refresh", "1x;https://two.example/x", None),
        ("refresh", "1", None),
        ("refresh", "", None),
        ("link", "<https://two.example/x>", Some("<https://edge.example/x>")),
        ("link", r#"</x>; title="<https://two.example/x>""#, None),
        (
            "link",
            r#"</x>; title="a \" b", <https://two.example/y>"#,
            Some(r#"</x>; title="a \" b", <https://edge.example/y>"#),
        ),
        (
            "link",
            r#"</x>; title="a \\", <https://two.example/y>"#,
            Some(r#"</x>; title="a \\", <https://edge.example/y>"#),
        ),
        ("link", r#"</x>; title="a \"#, None),
        ("link", r#"</x>; title="\é", <https://two.example/y>"#, Some(r#"</x>; title="\é", <https://edge.example/y>"#)),
        ("link", "<https://two.example/x", None),
    ] {
        let actual = published(&world, "/api/x", &[(name, value.to_owned())]);
        assert_eq!(actual, [expected.map(str::to_owned)], "{name}: {value}");
    }
}

#[test]
fn no_reference_becomes_one_to_another_host() {
    let world = setup(REFERENCES);
    let parts = ["http:", "//", "/", "\\", "\t", "[::1]:9000", "evil.example", "@", "?", "x", ".", ":"];
    let mut state = 7_u64;
    let mut count = 0;
    for _ in 0..1_500 {
        let mut reference = String::new();
        for _ in 0..(state % 7 + 1) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            reference.push_str(parts[usize::try_from(state >> 33).unwrap() % parts.len()]);
        }
        for path in ["/api/x", "/shop/api/x", "/old/api"] {
            let sent = [
                ("location", reference.clone()),
                ("content-location", reference.clone()),
                ("refresh", format!("0; url={reference}")),
                ("link", format!("<{reference}>")),
            ];
            for public in published(&world, path, &sent).into_iter().flatten() {
                let bare = public.strip_prefix("0; url=").unwrap_or(&public).trim_matches(['<', '>']);
                let led = url::Url::parse("https://edge.example/api/x").unwrap().join(bare).unwrap();
                assert_eq!(led.host_str(), Some("edge.example"), "{reference:?} became {public:?}");
                count += 1;
            }
        }
    }
    assert!(count > 1_000, "{count} were rewritten");
}
