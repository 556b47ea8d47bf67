//! The policy tool: it decides about requests as the gateway does, and its output.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_policy::{Policy, limits::PATH_BYTES};
use serde_json::{Value, json};

use crate::fakes::{FakePorts, SHIPPED, answer, gateway_of, shipped_setup, verdict};

const POLICY: &str = r#"
[issuers.id]
issuer = "https://id.example"
audience = ["api"]
algorithms = ["RS256"]
discovery = true

[upstreams.shop]
url = "http://127.0.0.1:1"

[[routes]]
path = "/open"
methods = ["GET"]
upstream = "shop"
access = "public"

[[routes]]
path = "/any"
methods = ["GET"]
upstream = "shop"
access = "user"

[[routes]]
path = "/orders/{id}"
methods = ["GET"]
upstream = "shop"
access = { any = [{ owner = "id" }, { claim = ["org", "tenant"], equals = "shop" }, { scopes = ["orders"] }] }
"#;

fn run(request: &Value) -> Value {
    serde_json::from_str(&portcullis_cli::run(&request.to_string())).unwrap()
}

/// Runs a command with a policy and a file `t` of expected decisions.
fn run_with_tests(command: &str, policy: &str, tests: &str) -> Value {
    let tests = json!({ "name": "t", "text": tests });
    run(&json!({ "command": command, "policy": { "name": "policy", "text": policy, "tests": tests } }))
}

/// Returns the status and code that the tool reports about a test that expects another status.
fn decide(request: &str, caller: &str) -> (u16, String) {
    let tests = format!("[[test]]\nrequest = {request:?}\nexpect = 0\n{caller}");
    let output = run_with_tests("compile", SHIPPED, &tests);
    let line = output["errors"][0].as_str().unwrap();
    let (_, decision) = line.split_once("the policy decides ").unwrap_or_else(|| panic!("{line}"));
    let (status, rest) = decision.split_once(" (").unwrap();
    let (code, _) = rest.split_once(')').unwrap();
    (status.parse().unwrap(), code.replace("permitted", "ok"))
}

#[test]
fn the_tool_decides_as_the_gateway_answers() {
    let (vectors, gateway, ports) = shipped_setup();
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

#[test]
fn a_row_passes_if_the_policy_decides_as_expected() {
    for (row, expected) in [
        (r#"request = "GET /open", expect = 200"#, Ok(())),
        (r#"request = "GET /health", expect = 200"#, Ok(())),
        (r#"request = "GET /any", expect = 401"#, Ok(())),
        (r#"request = "GET /any", expect = 200, roles = []"#, Ok(())),
        (r#"request = "GET /nothing", expect = 404"#, Ok(())),
        (r#"request = "POST /open", expect = 405"#, Ok(())),
        (r#"request = "GET /a/../b", expect = 400"#, Ok(())),
        (r#"request = "GET /orders/7", expect = 200, user = "7""#, Ok(())),
        (r#"request = "GET /orders/7", expect = 403, user = "8", roles = ["admin"]"#, Ok(())),
        (r#"request = "GET /orders/7", expect = 200, scopes = ["orders"]"#, Ok(())),
        (r#"request = "GET /orders/7", expect = 200, claims = { org = { tenant = "shop" } }"#, Ok(())),
        (r#"request = "GET /orders/7", expect = 403, claims = { org = { tenant = "bank" } }"#, Ok(())),
        (r#"request = "GET /orders/7", expect = 403, issuer = "id""#, Ok(())),
        (
            r#"request = "GET /orders/7", expect = 403, user = "7""#,
            Err("t:1:21: GET /orders/7: expected 403, but the policy decides 200 (permitted): GET /orders/7 is \
                 /orders/{id} at shop; may enter: the user {id}, or claim org/tenant = \"shop\", or scope orders"),
        ),
        (
            r#"request = "GET /nothing", expect = 200"#,
            Err(
                "t:1:21: GET /nothing: expected 200, but the policy decides 404 (route_unknown): no route names /nothing",
            ),
        ),
        (r#"request = "/open", expect = 200"#, Err("t:1:21: \"/open\" is not a method and a path")),
        (r#"request = "GET /any", expect = 200, issuer = "di""#, Err("t:1:21: there is no issuer \"di\"")),
        (r#"request = "GET /any", expect = 200, role = "x""#, Err("t:1:47: unknown field `role`")),
        (r#"request = "GET /any""#, Err("t:1:9: missing field `expect`")),
    ] {
        let output = run_with_tests("table", POLICY, &format!("test = [{{ {row} }}]"));
        match expected {
            Ok(()) => {
                let out = output["out"].as_str().unwrap();
                assert!(out.ends_with("\n\nt: 1 decisions are as expected."), "{row}: {output}");
                assert_eq!((&output["errors"], &output["code"]), (&json!([]), &json!(0)), "{row}");
            }
            Err(begins) => {
                let lines = output["errors"].as_array().unwrap();
                assert!(lines.len() == 1 && lines[0].as_str().unwrap().starts_with(begins), "{row}: {output}");
                assert_eq!(output["code"], 1, "{row}");
            }
        }
    }
}

#[test]
fn a_malformed_request_is_a_usage_error() {
    for request in [json!(null), json!({}), json!({ "command": "fly" }), json!({ "command": "table" })] {
        assert_eq!(run(&request)["code"], 2, "{request}");
    }
}

#[test]
fn a_compiled_policy_is_the_one_that_was_checked() {
    let output = run(&json!({ "command": "compile", "policy": { "name": "gateway.toml", "text": SHIPPED } }));
    let compiled = Policy::read(output["out"].as_str().unwrap());
    assert_eq!(compiled, portcullis_policy::check(SHIPPED).map_err(|_| String::new()));
}

/// Returns what `check` says about a policy with these routes.
fn table_of(paths: &[&str]) -> String {
    let route =
        |path| format!("[[routes]]\npath = {path:?}\nmethods = [\"GET\"]\nupstream = \"a\"\naccess = \"public\"\n");
    let routes: String = paths.iter().map(route).collect();
    let policy = format!("[upstreams.a]\nurl = \"https://a.example\"\n{routes}");
    let output = run(&json!({ "command": "table", "policy": { "name": "p", "text": policy } }));
    assert_eq!(output["errors"], json!([]), "{paths:?}");
    output["out"].as_str().unwrap().to_owned()
}

#[test]
fn a_fixed_segment_wins_where_two_paths_first_differ() {
    for (one, other, expected) in [
        ("/users/me", "/users/{id}", true),
        ("/users/{id}", "/users/me", false),
        ("/app/admin", "/app/{*rest}", true),
        ("/app/admin/{*rest}", "/app/{*rest}", true),
        ("/app/{*rest}", "/app/admin/{*rest}", false),
        ("/app/{*rest}", "/{*rest}", true),
        ("/app", "/app/{*rest}", false),
        ("/", "/{*rest}", false),
        ("/{a}/x", "/b/{c}", false),
        ("/b/{c}", "/{a}/x", true),
        ("/b/{c}", "/{a}/{*rest}", true),
        ("/b/{*rest}", "/{a}/x", true),
        ("/b/{*rest}", "/{a}/x/y", true),
        ("/b/{*rest}", "/{a}/{*rest}", true),
        ("/b/y", "/{a}/x", false),
        ("/users/me", "/users/{id}/posts", false),
        ("/a", "/b", false),
        ("/{x}/a", "/{x}/{y}", true),
        ("/users/{id}/settings", "/users/{uid}/{tab}", true),
        ("/users/{uid}/{tab}", "/users/{id}/settings", false),
    ] {
        let table = table_of(&[one, other]);
        assert_eq!(table.contains(&format!("\n  {one} wins over {other}")), expected, "{one} {other}\n{table}");
    }
}

#[test]
fn each_path_is_listed_with_all_that_it_wins_over() {
    let table = table_of(&["/{*rest}", "/a/{id}", "/a/{id}/{*rest}", "/a/me", "/a/me/{*rest}", "/b"]);
    let (_, overlaps) = table.split_once("\n\nPaths that overlap").unwrap();
    let lines: Vec<&str> = overlaps.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "  /a/me wins over /a/{id}, /{*rest}",
            "  /a/me/{*rest} wins over /a/{id}/{*rest}, /{*rest}",
            "  /a/{id} wins over /{*rest}",
            "  /a/{id}/{*rest} wins over /{*rest}",
            "  /b wins over /{*rest}",
        ]
    );
}

#[test]
fn the_table_lists_variants_also_where_no_paths_overlap() {
    for (variants, expected) in [
        ("\"refuse\"", "note: /any: variants in case, trailing slash or escapes are 400"),
        ("{ allow = \"a reason\" }", "note: /any: its variants are allowed: a reason"),
    ] {
        let policy = POLICY.replace("access = \"user\"", &format!("access = \"user\"\nvariants = {variants}"));
        let output = run(&json!({ "command": "table", "policy": { "name": "p", "text": policy } }));
        let out = output["out"].as_str().unwrap();
        assert!(out.ends_with(&format!("\n{expected}")) && !out.contains("overlap"), "{output}");
    }
}

/// Returns what `explain` says without keys, 100 s after 1970, about a token with changed claims. The token's
/// issuer has the tenants `t1` and `t2`.
fn explain(changes: &Value) -> String {
    let (policy, _) = POLICY.rsplit_once("[[routes]]").unwrap();
    let policy = policy.replace("https://id.example\"", "https://id.example/{tenantid}\"\ntenants = [\"t1\", \"t2\"]");
    let mut claims = json!({ "iss": "https://id.example/t1", "sub": "7", "aud": "api", "iat": 90, "exp": 200 });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let [header, payload] = [json!({ "alg": "RS256" }), claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let subject = json!({ "token": format!("{header}.{payload}.c2ln"), "now_ms": 100_000, "keys_fault": "it is down" });
    let output = run(&json!({ "command": { "explain": subject }, "policy": { "name": "p", "text": policy } }));
    assert_eq!((&output["errors"], &output["code"]), (&json!([]), &json!(1)), "{changes}");
    output["out"].as_str().unwrap().to_owned()
}

#[test]
fn explain_says_which_claim_fails_and_what_is_accepted() {
    for (changes, expected) in [
        (json!({}), "pass  start           iat 10 s ago; leeway 30 s"),
        (json!({ "nbf": 80 }), "pass  start           iat 10 s ago; leeway 30 s"),
        (json!({ "nbf": 160 }), "FAIL  start           nbf in 60 s; leeway 30 s  [token_not_yet_valid]"),
        (json!({}), "pass  requirements    tid (absent); required: that of iss, or none"),
        (
            json!({ "tid": "t2" }),
            "FAIL  requirements    tid \"t2\"; required: that of iss, or none  [token_requirement_unmet]",
        ),
        (
            json!({ "iss": "https://id.example/t3" }),
            "FAIL  issuer          iss \"https://id.example/t3\" matches none of: https://id.example/t1, \
             https://id.example/t2  [token_issuer_unknown]",
        ),
    ] {
        let out = explain(&changes);
        assert!(out.lines().any(|line| line.trim_start() == expected), "{expected}\n{out}");
    }
}

#[test]
fn explain_gives_the_answer_of_the_first_check_that_did_not_pass() {
    for (changes, expected) in [
        (json!({}), "The signature could not be checked: it is down."),
        (json!({ "iat": 1, "exp": 2 }), "The signature could not be checked: it is down."),
        (json!({ "iss": "other" }), "The token is refused: 401 token_issuer_unknown"),
    ] {
        let out = explain(&changes);
        assert_eq!(out.lines().last(), Some(expected), "{changes}");
    }
}

#[test]
fn a_catch_all_answers_no_preflight_for_the_gateways_own_paths() {
    let gateway = gateway_of(
        r#"
[upstreams.shop]
url = "http://127.0.0.1:1"

[cors.pages]
origins = ["https://app.example"]

[[routes]]
path = "/{*rest}"
methods = ["GET"]
upstream = "shop"
access = "public"
cors = "pages"
"#,
    );
    let ports = FakePorts::new();
    let preflight = [("origin", "https://app.example"), ("access-control-request-method", "GET")];
    for (path, expected) in [
        ("/page", (204, "ok")),
        ("/health", (405, "method_not_allowed")),
        ("/health%2F", (400, "path_ambiguous")),
        ("/_gateway/revocations", (404, "route_unknown")),
    ] {
        let handled = ports.send(&gateway, "OPTIONS", path, &preflight);
        assert_eq!(verdict(&handled), expected, "{path}");
        let headers = &answer(&handled).headers;
        let is_open = headers.iter().any(|(name, _)| *name == "access-control-allow-origin");
        assert_eq!(is_open, path == "/page", "{path}");
    }
}
