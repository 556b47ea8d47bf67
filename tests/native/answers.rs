//! How upstreams' answers are passed on: which headers are removed, replaced and added.

use portcullis::pipeline::{AnswerPlan, Handled, Outcome};

use crate::fakes::{FakePorts, Vectors, gateway_of, parse_changes};

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

fn plan(handled: &Handled<()>) -> &AnswerPlan {
    match &handled.outcome {
        Outcome::Forwarded { plan, .. } => plan,
        Outcome::Answered(answer) => panic!("{answer:?}"),
    }
}

#[test]
fn the_plan_removes_replaces_and_adds_headers_of_an_answer() {
    let gateway = gateway_of(POLICY);
    let ports = FakePorts::new(&Vectors::load());
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
