//! Authorizers: policy decision points by AuthZEN. The list of attacks in docs/standards/fine-grained-control.md
//! is `only_a_decision_of_true_lets_a_request_pass` and `a_decision_is_used_for_the_same_question_alone`.

use std::{
    future::Future as _,
    task::{Context, Poll, Waker},
};

use portcullis::pipeline::{Gateway, Head, Misconfiguration, wire::Fault};
use portcullis_policy::check;
use portcullis_token::limits::CLAIM_BYTES;
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, SECRET, Seen, answer, configured, header, setting, setup, verdict},
    signer::{Signer, claims_at, issuer_table, with},
};

const URL: &str = "https://pdp.example/access/v1/evaluation";

fn policy() -> String {
    let route = |path: &str, more: &str| {
        format!("[[routes]]\npath = \"{path}\"\nmethods = [\"GET\", \"POST\"]\nupstream = \"app\"\n{more}\n")
    };
    [
        issuer_table("id", 7, ""),
        "[upstreams.app]\nurl = \"https://app.example\"\n".to_owned(),
        format!("[authorizers.pdp]\nurl = \"{URL}\"\n[authorizers.cached]\nurl = \"{URL}\"\ncache_s = 60\n"),
        "[limits.few]\nby = \"user\"\n".to_owned(),
        route("/items/{id}", "access = { any = [\"user\", { claim = \"tenant\" }] }\nauthorizer = \"pdp\""),
        route("/org", "access = { any = [{ claim = [\"org\", \"id\"] }, { claim = [\"org\", \"units\"] }, { claim = \"org/id\" }] }"),
        route("/cached/{id}", "access = \"user\"\nauthorizer = \"cached\""),
        route("/ruled", "access = { roles = [\"admin\"] }\nauthorizer = \"pdp\""),
        route("/limited", "access = \"user\"\nauthorizer = \"pdp\"\nlimits = [\"few\"]"),
        route("/plain", "access = \"user\""),
    ]
    .join("\n")
}

fn token(ports: &FakePorts, changes: &Value) -> String {
    Signer::new(7).sign("at+jwt", &with(claims_at(ports.now.get().secs()), changes))
}

fn send((gateway, ports): &(Gateway, FakePorts), request: &str, claims: &Value, address: &str) -> Seen {
    let (method, path) = request.split_once(' ').unwrap();
    let bearer = format!("Bearer {}", token(ports, claims));
    ports.send(gateway, method, path, &[("authorization", &bearer), ("cf-connecting-ip", address)])
}

fn answers(ports: &FakePorts, status: u64, body: &str) {
    *ports.decision.borrow_mut() = Ok((status, body.to_owned()));
}

const OK: (u16, &str) = (200, "ok");
const DENIED: (u16, &str) = (403, "authorization_denied");
const UNAVAILABLE: (u16, &str) = (503, "authorization_unavailable");

#[test]
fn a_question_names_caller_method_route_and_client_and_holds_no_token_and_no_query() {
    let world = setup(&policy());
    let claims = json!({
        "roles": ["user", "ops"], "scope": "read", "tenant": "shop", "email": "a@b.example",
        "org": { "id": 7, "units": ["a", "b"], "secret": "x" }, "org/id": true,
    });
    assert_eq!(verdict(&send(&world, "POST /items/a%20b?secret=1", &claims, "::ffff:192.0.2.1")), OK);
    let questions = world.1.questions.borrow();
    let [asked] = questions.as_slice() else { panic!("{questions:?}") };
    let expected = json!({
        "subject": {
            "type": "identity",
            "id": "ada",
            "properties": {
                "issuer": "https://id.example",
                "roles": ["user", "ops"],
                "scopes": ["read"],
                "claims": { "tenant": "shop", "org": { "id": 7, "units": ["a", "b"] }, "org/id": true },
            },
        },
        "action": { "name": "POST" },
        "resource": {
            "type": "route",
            "id": "/items/{id}",
            "properties": { "path": "/items/a%20b", "params": { "id": "a b" } },
        },
        "context": { "ip": "192.0.2.1" },
    });
    assert_eq!((asked.url.as_str(), &asked.authorization, &asked.body), (URL, &None, &expected));
    assert_eq!(asked.request_id.len(), 36);
}

#[test]
fn only_a_decision_of_true_lets_a_request_pass() {
    let world = setup(&policy());
    let ports = &world.1;
    let long = format!("{{\"decision\":true,\"context\":\"{}\"}}", "x".repeat(16 * 1024));
    let deep = format!("{{\"decision\":true,\"context\":{}{}}}", "[".repeat(200), "]".repeat(200));
    for (attack, status, body, expected, fault) in [
        ("true", 200, r#"{"decision":true}"#, OK, ""),
        ("with a context", 200, r#" {"context":{"reason":"x"},"decision":true} "#, OK, ""),
        ("false", 200, r#"{"decision":false,"context":{"reason_user":{"en":"no"}}}"#, DENIED, ""),
        ("a text", 200, r#"{"decision":"true"}"#, UNAVAILABLE, "bad_answer"),
        ("a number", 200, r#"{"decision":1}"#, UNAVAILABLE, "bad_answer"),
        ("null", 200, r#"{"decision":null}"#, UNAVAILABLE, "bad_answer"),
        ("a list", 200, r#"{"decision":[true]}"#, UNAVAILABLE, "bad_answer"),
        ("another case", 200, r#"{"Decision":true}"#, UNAVAILABLE, "bad_answer"),
        ("nothing", 200, "{}", UNAVAILABLE, "bad_answer"),
        ("no object", 200, "true", UNAVAILABLE, "bad_answer"),
        ("a list of decisions", 200, r#"[{"decision":true}]"#, UNAVAILABLE, "bad_answer"),
        ("several decisions", 200, r#"{"evaluations":[{"decision":true}]}"#, UNAVAILABLE, "bad_answer"),
        ("two decisions", 200, r#"{"decision":false,"decision":true}"#, UNAVAILABLE, "bad_answer"),
        ("more behind it", 200, r#"{"decision":true}{"decision":false}"#, UNAVAILABLE, "bad_answer"),
        ("no JSON", 200, "<html>decision: true</html>", UNAVAILABLE, "bad_answer"),
        ("an empty body", 200, "", UNAVAILABLE, "bad_answer"),
        ("too deep", 200, &deep, UNAVAILABLE, "bad_answer"),
        ("too long", 200, &long, UNAVAILABLE, "too_large"),
        ("created", 201, r#"{"decision":true}"#, UNAVAILABLE, "status"),
        ("no content", 204, "", UNAVAILABLE, "status"),
        ("a redirect", 302, r#"{"decision":true}"#, UNAVAILABLE, "redirect"),
        ("a bad question", 400, r#"{"decision":true}"#, UNAVAILABLE, "status"),
        ("a wrong secret", 401, r#"{"decision":true}"#, UNAVAILABLE, "status"),
        ("forbidden", 403, r#"{"decision":false}"#, UNAVAILABLE, "status"),
        ("too many questions", 429, "", UNAVAILABLE, "status"),
        ("a fault", 500, r#"{"decision":true}"#, UNAVAILABLE, "status"),
    ] {
        ports.forwarded.borrow_mut().clear();
        answers(ports, status, body);
        let seen = send(&world, "GET /items/7", &json!({}), "192.0.2.1");
        assert_eq!(verdict(&seen), expected, "{attack}");
        assert_eq!(ports.forwarded.borrow().len(), usize::from(expected == OK), "{attack}");
        assert_eq!(seen.record.detail.as_deref().unwrap_or_default(), fault, "{attack}");
        if expected == UNAVAILABLE {
            let answer = answer(&seen);
            assert_eq!(header(answer, "retry-after"), Some("5"), "{attack}");
            assert!(!answer.body.contains("authorizer"), "{attack}");
        }
    }
    for (fault, detail) in [(Fault::TimedOut, "timeout"), (Fault::Unreachable, "unreachable")] {
        *ports.decision.borrow_mut() = Err(fault);
        let seen = send(&world, "GET /items/7", &json!({}), "192.0.2.1");
        assert_eq!((verdict(&seen), seen.record.detail.as_deref()), (UNAVAILABLE, Some(detail)));
    }
}

#[test]
fn callers_that_the_policy_refuses_are_not_asked_about() {
    let world = setup(&policy());
    let (gateway, ports) = &world;
    assert_eq!(verdict(&send(&world, "GET /ruled", &json!({}), "192.0.2.1")), (403, "rights_missing"));
    assert_eq!(verdict(&send(&world, "GET /plain", &json!({}), "192.0.2.1")), OK);
    assert_eq!(verdict(&ports.send(gateway, "GET", "/items/7", &[])), (401, "credentials_missing"));
    assert_eq!(verdict(&ports.send_token(gateway, "GET", "/items/7", "a.b.c")).0, 401);
    ports.limit.set(0);
    assert_eq!(verdict(&send(&world, "GET /limited", &json!({}), "192.0.2.1")), (429, "rate_limited"));
    assert_eq!(ports.questions.borrow().len(), 0);
}

#[test]
fn a_decision_is_used_for_the_same_question_alone() {
    let world = setup(&policy());
    let ports = &world.1;
    let asks = |request: &str, claims: &Value, address: &str| {
        let before = ports.questions.borrow().len();
        let seen = send(&world, request, claims, address);
        (verdict(&seen), ports.questions.borrow().len() - before)
    };
    let home = "192.0.2.1";
    assert_eq!(asks("GET /cached/7", &json!({}), home), (OK, 1));
    assert_eq!(asks("GET /cached/7", &json!({}), home), (OK, 0));
    // Another token of the same user, and another query, are the same question.
    assert_eq!(asks("GET /cached/7?x=1", &json!({ "jti": "2" }), home), (OK, 0));
    answers(ports, 200, r#"{"decision":false}"#);
    for (attack, request, claims, address) in [
        ("another user", "GET /cached/7", json!({ "sub": "eve" }), home),
        ("another user of a similar name", "GET /cached/7", json!({ "sub": "ada\u{200b}" }), home),
        ("another case", "GET /cached/7", json!({ "sub": "Ada" }), home),
        ("a name that continues the question", "GET /cached/7", json!({ "sub": "ada\",\"type\":\"identity" }), home),
        ("another path", "GET /cached/8", json!({}), home),
        ("an escaped path", "GET /cached/%377", json!({}), home),
        ("another method", "POST /cached/7", json!({}), home),
        ("more roles", "GET /cached/7", json!({ "roles": ["admin"] }), home),
        ("a role that looks like two", "GET /cached/7", json!({ "roles": ["a\",\"b"] }), home),
        ("two roles", "GET /cached/7", json!({ "roles": ["a", "b"] }), home),
        ("another scope", "GET /cached/7", json!({ "scope": "x" }), home),
        ("another tenant", "GET /cached/7", json!({ "tenant": "bank" }), home),
        ("another address", "GET /cached/7", json!({}), "192.0.2.2"),
        ("no address", "GET /cached/7", json!({}), ""),
    ] {
        assert_eq!(asks(request, &claims, address), (DENIED, 1), "{attack}");
        assert_eq!(asks(request, &claims, address), (DENIED, 0), "{attack}");
    }
    assert_eq!(asks("GET /cached/7", &json!({}), home), (OK, 0));
    ports.advance(60_000);
    assert_eq!(asks("GET /cached/7", &json!({}), home), (DENIED, 1));
    // What is no decision is not kept, and neither is a decision without `cache_s`.
    ports.advance(60_000);
    answers(ports, 500, "");
    assert_eq!(asks("GET /cached/7", &json!({}), home), (UNAVAILABLE, 1));
    answers(ports, 200, r#"{"decision":true}"#);
    assert_eq!(asks("GET /cached/7", &json!({}), home), (OK, 1));
    assert_eq!(asks("GET /items/7", &json!({}), home), (OK, 1));
    assert_eq!(asks("GET /items/7", &json!({}), home), (OK, 1));
}

#[test]
fn a_claim_is_stated_exactly_or_the_authorizer_is_not_asked() {
    let world = setup(&policy());
    let ports = &world.1;
    let sends = |claims: &Value| {
        let before = ports.questions.borrow().len();
        let seen = send(&world, "GET /cached/7", claims, "192.0.2.1");
        let asked = ports.questions.borrow().len() - before;
        let detail = seen.record.detail.clone().unwrap_or_default();
        (verdict(&seen), asked, detail)
    };
    let (long, most) = ("x".repeat(CLAIM_BYTES), vec!["x"; 64]);
    // Each is another question, so no decision is used for two.
    for value in [
        json!([]),
        json!(["a"]),
        json!(["a", "b"]),
        json!(["a\",\"b"]),
        json!(""),
        json!("[]"),
        json!(0),
        json!(long),
        json!(most),
    ] {
        assert_eq!(sends(&json!({ "tenant": value })), (OK, 1, String::new()), "{value}");
        assert_eq!(ports.questions.borrow().last().unwrap().body["subject"]["properties"]["claims"]["tenant"], value);
        assert_eq!(sends(&json!({ "tenant": value })), (OK, 0, String::new()), "{value}");
    }
    for (attack, claims) in [
        ("an object", json!({ "tenant": { "a": 1 } })),
        ("an empty object", json!({ "tenant": {} })),
        ("a long text", json!({ "tenant": "x".repeat(CLAIM_BYTES + 1) })),
        ("a long text in a list", json!({ "tenant": ["a", "x".repeat(CLAIM_BYTES + 1)] })),
        ("a long list", json!({ "tenant": vec![""; 65] })),
        ("a list of numbers", json!({ "tenant": [1] })),
        ("a list of lists", json!({ "tenant": [["a"]] })),
        ("a list with null", json!({ "tenant": ["a", null] })),
        ("an object within an object", json!({ "org": { "id": { "a": 1 } } })),
    ] {
        assert_eq!(sends(&claims), (UNAVAILABLE, 0, "claims".to_owned()), "{attack}");
    }
    // Not as if the claim were there, and without an effect on others.
    assert_eq!(sends(&json!({})), (OK, 1, String::new()));
    assert_eq!(sends(&json!({ "tenant": null })), (OK, 0, String::new()));
}

#[test]
fn questions_of_one_network_leave_room_for_those_of_others() {
    let (gateway, ports) = setup(&policy());
    ports.decision_never_comes.set(true);
    let bearer = format!("Bearer {}", token(&ports, &json!({})));
    let head = |address: &str| {
        let headers = [("authorization", bearer.as_str()), ("cf-connecting-ip", address)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Head::new("GET".to_owned(), "https://edge.example/items/7", headers.to_vec())
    };
    let (one, same, other) = (head("2001:db8::1"), head("2001:db8::2:1"), head("2001:db8:0:1::1"));
    let begin = |head| {
        let mut request = Box::pin(gateway.handle(head, &ports));
        match request.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Some(request),
            Poll::Ready(handled) => {
                let seen = Seen::from(handled);
                let found = (verdict(&seen), seen.record.detail.as_deref());
                assert_eq!(found, (UNAVAILABLE, Some("busy")));
                None
            }
        }
    };
    // Of 512, an eighth.
    let mut waiting: Vec<_> = (0..64).map(|_| begin(&one).unwrap()).collect();
    assert!(begin(&one).is_none() && begin(&same).is_none());
    waiting.push(begin(&other).unwrap());
    drop(waiting.remove(0));
    assert!(begin(&same).is_some(), "one that ends makes room");
}

#[test]
fn the_circuit_opens_by_outages_alone_and_closes_again() {
    let world = setup(&policy());
    let ports = &world.1;
    let detail = || send(&world, "GET /items/7", &json!({}), "192.0.2.1").record.detail.unwrap_or_default();
    // A server may answer 500 to one caller's question.
    for status in [302, 400, 401, 429, 500, 501, 505, 599] {
        answers(ports, status, "");
        (0..10).for_each(|_| assert_eq!(detail().replace("redirect", "status"), "status", "{status}"));
    }
    for body in ["{}", r#"{"decision":false}"#] {
        answers(ports, 200, body);
        (0..10).for_each(|_| assert_ne!(detail(), "resting", "{body}"));
    }
    for status in [502, 503, 504] {
        answers(ports, status, "");
        assert_eq!(detail(), "status");
    }
    *ports.decision.borrow_mut() = Err(Fault::TimedOut);
    (0..2).for_each(|_| assert_eq!(detail(), "timeout"));
    ports.questions.borrow_mut().clear();
    let seen = send(&world, "GET /items/7", &json!({}), "192.0.2.1");
    assert_eq!((verdict(&seen), seen.record.detail.as_deref()), (UNAVAILABLE, Some("resting")));
    assert_eq!(header(answer(&seen), "retry-after"), Some("1"));
    assert_eq!(ports.questions.borrow().len(), 0);
    // Other routes and other authorizers are untouched.
    assert_eq!(verdict(&send(&world, "GET /plain", &json!({}), "192.0.2.1")), OK);
    answers(ports, 200, r#"{"decision":true}"#);
    assert_eq!(verdict(&send(&world, "GET /cached/7", &json!({}), "192.0.2.1")), OK);
    ports.advance(1_000);
    assert_eq!(detail(), "");
    assert_eq!(verdict(&send(&world, "GET /items/7", &json!({}), "192.0.2.1")), OK);
}

#[test]
fn a_deployment_sets_the_url_and_the_secret() {
    let with = |name: &'static str, value: &'static str| -> Result<Gateway, Misconfiguration> {
        configured(&policy(), move |key| if key == name { Some(value.to_owned()) } else { setting(key) })
    };
    for (name, value, url, authorization) in [
        ("AUTHORIZER_TOKEN_PDP", "secret-1", URL, Some("Bearer secret-1")),
        ("AUTHORIZER_TOKEN_CACHED", "secret-1", URL, None),
        ("AUTHORIZER_PDP_URL", "http://127.0.0.1:1/x", "http://127.0.0.1:1/x", None),
    ] {
        let world = (with(name, value).unwrap(), FakePorts::new());
        assert_eq!(verdict(&send(&world, "GET /items/7", &json!({}), "192.0.2.1")), OK);
        let questions = world.1.questions.borrow();
        assert_eq!((questions[0].url.as_str(), questions[0].authorization.as_deref()), (url, authorization), "{name}");
    }
    for (name, value, words) in [
        ("AUTHORIZER_TOKEN_PDP", "a b", "AUTHORIZER_TOKEN_PDP has other characters"),
        ("AUTHORIZER_TOKEN_PDP", "a\r\nx: y", "AUTHORIZER_TOKEN_PDP has other characters"),
        ("AUTHORIZER_PDP_URL", "http://pdp.example/", "sends tokens over plain HTTP"),
        ("AUTHORIZER_PDP_URL", "file:///etc", "must begin with https://"),
    ] {
        let fault = with(name, value).err().unwrap().0;
        assert!(fault.contains(words) && !fault.contains(value), "{fault}");
    }
    let deployed = |name: &str| match name {
        "AUTHORIZER_PDP_URL" => Some("http://127.0.0.1:1".to_owned()),
        name => name.starts_with("ASSERTION_KEYS_").then(|| SECRET.to_owned()),
    };
    let fault = configured(&policy(), deployed).err().unwrap().0;
    assert!(fault.contains("authorizer \"pdp\" is at a plain http:// URL"), "{fault}");
}

#[test]
fn each_mistake_of_an_authorizer_is_refused() {
    let swap = |from: &str, to: &str| {
        let text = policy();
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    for (text, words) in [
        (swap("authorizer = \"pdp\"", "authorizer = \"pdf\""), "no authorizer is named \"pdf\""),
        (swap("access = \"user\"\nauthorizer", "access = \"public\"\nauthorizer"), "a public route has none"),
        (swap("https://pdp.example", "http://pdp.example"), "plain HTTP"),
        (swap("https://pdp.example", "https://user:pw@pdp.example"), "no valid"),
        (swap("https://pdp.example", "pdp.example"), "must begin with https://"),
        (swap("cache_s = 60", "cache_s = 301"), "write 0 to 300"),
        (swap("cache_s = 60", "timeout_ms = 0"), "write 1 to 10000"),
        (swap("cache_s = 60", "breaker = { failures = 0 }"), "out of range"),
        (swap("cache_s = 60", "fail_open = true"), "unknown"),
        (swap("cache_s = 60", "token = \"x\""), "unknown"),
    ] {
        let mistakes = check(&text).err().unwrap_or_else(|| panic!("{words}: it is accepted"));
        assert!(mistakes[0].message.contains(words), "{words}: {mistakes:?}");
    }
}

#[test]
fn status_metrics_and_the_policy_tool_know_authorizers() {
    let gateway = configured(&policy(), |name| {
        if name == "METRICS_TOKEN" { Some("operators-token-0".to_owned()) } else { setting(name) }
    })
    .unwrap();
    let world = (gateway, FakePorts::new());
    let (gateway, ports) = &world;
    let operator = [("authorization", "Bearer operators-token-0")];
    let status = || -> Value {
        let seen = ports.send(gateway, "GET", "/status", &operator);
        serde_json::from_str(&answer(&seen).body).unwrap()
    };
    send(&world, "GET /cached/7", &json!({}), "192.0.2.1");
    send(&world, "GET /cached/7", &json!({}), "192.0.2.1");
    answers(ports, 200, r#"{"decision":false}"#);
    send(&world, "GET /items/7", &json!({}), "192.0.2.1");
    assert_eq!(status()["status"], "healthy");
    answers(ports, 500, "");
    send(&world, "GET /items/7", &json!({}), "192.0.2.1");
    let document = status();
    assert_eq!(document["status"], "degraded");
    let part = |name: &str, status: &str, cached: usize, error: Value| {
        json!({ "name": name, "status": status, "breaker": "closed", "cached_decisions": cached,
                "last_error": error })
    };
    let expected = json!([part("cached", "healthy", 1, Value::Null), part("pdp", "degraded", 0, json!("status"))]);
    assert_eq!(document["authorizers"], expected);
    assert!(!document.to_string().contains("pdp.example"));
    let metrics = ports.send(gateway, "GET", "/metrics", &operator);
    for (name, result) in [("cached", "permit"), ("cached", "cached"), ("pdp", "deny"), ("pdp", "status")] {
        let series = format!("gateway_authorizer_total{{authorizer=\"{name}\",result=\"{result}\"}} 1\n");
        assert!(answer(&metrics).body.contains(&series), "{series}");
    }
    let run = |command: Value| -> String {
        let request = json!({ "command": command, "policy": { "name": "policy", "text": policy(), "files": {} } });
        let output: Value = serde_json::from_str(&portcullis_cli::run(&request.to_string())).unwrap();
        output["out"].as_str().unwrap().to_owned()
    };
    assert!(run(json!("table")).contains("1 MiB, authorizer pdp, rate few"));
    let decide = json!({ "decide": { "method": "GET", "path": "/items/7", "caller": { "user": "ada" } } });
    let decided = run(decide);
    assert!(decided.contains("\n(then the authorizer pdp decides: {\"action\":{\"name\":\"GET\"},"), "{decided}");
    assert!(decided.ends_with(")\nyes"), "{decided}");
    let caller = json!({ "user": "ada", "claims": [[["tenant"], { "a": 1 }]] });
    let decided = run(json!({ "decide": { "method": "GET", "path": "/items/7", "caller": caller } }));
    assert!(decided.contains("\n(the authorizer pdp cannot be asked"), "{decided}");
}
