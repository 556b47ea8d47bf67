//! Requests that are checked against an OpenAPI document: when, and what a refusal says.

use portcullis::pipeline::wire::Fault;
use serde_json::{Value, json};

use crate::fakes::{FakePorts, answer, gateway_of, setup};

const POLICY: &str = r#"
[issuers.id]
issuer = "https://id.example"
audience = ["api"]
algorithms = ["EdDSA", "ES256"]
jwks_url = "https://id.example/jwks"

[upstreams.shop]
url = "https://shop.example"
openapi = "shop.yaml"

[[routes]]
path = "/shop/open"
methods = ["GET", "POST"]
upstream = "shop"
access = "public"
strip_prefix = "/shop"
validate = true

[[routes]]
path = "/shop/mine"
methods = ["GET"]
upstream = "shop"
access = "user"
validate = true

[[routes]]
path = "/shop/unchecked"
methods = ["GET"]
upstream = "shop"
access = "public"
"#;

fn refusal(ports: &FakePorts, method: &str) -> (u16, Value) {
    let seen = ports.send(&gateway_of(POLICY), method, "/shop/open?limit=x", &[("content-length", "5")]);
    assert!(seen.is_logged);
    let answer = answer(&seen);
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

#[test]
fn only_permitted_requests_of_routes_with_validation_are_checked_as_they_are_forwarded() {
    let (gateway, ports) = setup(POLICY);
    assert_eq!(ports.send(&gateway, "GET", "/shop/unchecked", &[]).record.status, 200);
    assert_eq!(ports.send(&gateway, "GET", "/shop/mine", &[]).record.status, 401);
    assert!(ports.validated.borrow().is_empty());
    assert_eq!(ports.send(&gateway, "POST", "/shop/open?limit=1", &[("content-length", "5")]).record.status, 200);
    let asked = ("shop".to_owned(), "POST".to_owned(), "/open?limit=1".to_owned(), 64 * 1024);
    assert_eq!(*ports.validated.borrow(), [asked]);
    assert_eq!(ports.forwarded.borrow().len(), 2);
}

#[test]
fn a_refusal_lists_what_is_wrong() {
    let ports = FakePorts::new();
    let text = "400\nquery\nlimit\nmust be integer\nbody\n/items/0\nmust be object\npath\n\nis no operation";
    *ports.validator.borrow_mut() = Ok(text.to_owned());
    let (status, problem) = refusal(&ports, "POST");
    assert_eq!((status, &problem["code"], &problem["title"]), (400, &json!("request_invalid"), &json!("Bad Request")));
    let errors = json!([
        { "in": "query", "name": "limit", "message": "must be integer" },
        { "in": "body", "pointer": "/items/0", "message": "must be object" },
        { "in": "path", "message": "is no operation" },
    ]);
    assert_eq!(problem["errors"], errors);
    assert!(ports.forwarded.borrow().is_empty());
    *ports.validator.borrow_mut() = Ok("415\nheader\ncontent-type\nis missing".to_owned());
    let (status, problem) = refusal(&ports, "POST");
    assert_eq!((status, &problem["code"]), (415, &json!("request_invalid")));
    assert_eq!(problem["title"], "Unsupported Media Type");
}

#[test]
fn the_list_and_its_texts_are_bounded() {
    let ports = FakePorts::new();
    let finding = format!("\nbody\n/{}\n{}", "é".repeat(1_000), "m".repeat(1_000));
    *ports.validator.borrow_mut() = Ok(format!("400{}", finding.repeat(100)));
    let (_, problem) = refusal(&ports, "POST");
    let errors = problem["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 20);
    assert!(errors.iter().all(|error| error["pointer"].as_str().unwrap().len() <= 300));
    assert!(errors.iter().all(|error| error["message"].as_str().unwrap().len() == 300));
}

#[test]
fn a_validator_that_fails_lets_nothing_through_and_a_body_that_cannot_be_read_has_its_own_refusal() {
    let ports = FakePorts::new();
    for (result, status, code) in [
        (Ok("over_limit"), 413, "body_too_large"),
        (Ok("late"), 408, "body_too_slow"),
        (Ok("read_failed"), 400, "client_gone"),
        (Ok("valid"), 503, "gateway_misconfigured"),
        (Err(Fault::Unreachable), 503, "gateway_misconfigured"),
    ] {
        *ports.validator.borrow_mut() = result.map(str::to_owned);
        let (found, problem) = refusal(&ports, "POST");
        assert_eq!((found, &problem["code"]), (status, &json!(code)));
        assert!(problem.get("errors").is_none());
    }
    assert!(ports.forwarded.borrow().is_empty());
}

#[test]
fn a_policy_that_was_made_with_another_document_is_refused() {
    let policy = POLICY.replace("openapi = \"shop.yaml\"", "openapi_digest = \"d1\"");
    let gateway = gateway_of(&policy);
    assert!(gateway.check_validators(|name| (name == "shop").then(|| "d1".to_owned())).is_ok());
    for built in [None, Some("d2".to_owned())] {
        let fault = gateway.check_validators(|_| built.clone()).unwrap_err();
        assert!(fault.0.contains("has another OpenAPI document"), "{}", fault.0);
    }
    assert!(gateway_of(POLICY).check_validators(|_| None).is_ok());
}
