//! The policy tool decides about requests as the gateway does, with the same status and code.

use portcullis_policy::limits::PATH_BYTES;
use serde_json::{Value, json};

use crate::fakes::{FakePorts, Vectors, shipped_gateway, verdict};

/// Returns the status and code that the tool reports about a test that expects another status.
fn decide(request: &str, caller: &str) -> (u16, String) {
    let tests = json!({ "name": "tests", "text": format!("[[test]]\nrequest = {request:?}\nexpect = 0\n{caller}") });
    let policy = json!({ "name": "policy", "text": include_str!("../../gateway.toml"), "tests": tests });
    let output = portcullis_cli::run(&json!({ "command": "compile", "policy": policy }).to_string());
    let output: Value = serde_json::from_str(&output).unwrap();
    let line = output["errors"][0].as_str().unwrap();
    let (_, decision) = line.split_once("the policy decides ").unwrap_or_else(|| panic!("{line}"));
    let (status, rest) = decision.split_once(" (").unwrap();
    let (code, _) = rest.split_once(')').unwrap();
    (status.parse().unwrap(), code.replace("permitted", "ok"))
}

#[test]
fn the_tool_decides_as_the_gateway_answers() {
    let vectors = Vectors::load();
    let (gateway, ports) = (shipped_gateway(), FakePorts::new(&vectors));
    let long = format!("GET /{}", "a".repeat(PATH_BYTES));
    for (request, expected) in [
        ("GET /health", 200),
        ("POST /health", 405),
        ("GET /health%2F", 400),
        ("GET /_gateway/nothing", 404),
        ("GET /_gateway/revocations", 405),
        ("POST /_gateway/revocations", 401),
        (&long, 414),
        ("GET /a/../b", 400),
        ("GET /api/v1/users/a%2Fb", 400),
        ("GET /nothing", 404),
        ("PUT /api/v1/auth/me", 405),
        ("POST /api/v1/auth/login", 200),
        ("GET /api/v1/auth/me", 401),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let (status, code) = verdict(&ports.send(&gateway, method, path, &[]));
        assert_eq!((status, decide(request, "")), (expected, (status, code.to_owned())), "{request}");
    }
    for (request, caller, expected) in
        [("GET /api/v1/auth/me", "roles = []", 200), ("GET /api/v1/users/another", "roles = []", 403)]
    {
        let (method, path) = request.split_once(' ').unwrap();
        let (status, code) = verdict(&ports.send_token(&gateway, method, path, vectors.token("a good token")));
        assert_eq!((status, decide(request, caller)), (expected, (status, code.to_owned())), "{request}");
    }
}
