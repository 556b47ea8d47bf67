//! Routes that require scopes, claims and issuers, and routes that rewrite the path, in the whole gateway.

use portcullis::pipeline::Gateway;
use portcullis_policy::{HeaderValue, Maintenance, TokenCookie, Variants};
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, setting, setup, verdict},
    signer::{Signer, claims_at, with},
};

const POLICY: &str = r#"
[issuers.own]
issuer = "https://own.example"
audience = ["api"]
algorithms = ["EdDSA"]
jwks_url = "https://own.example/jwks"

[issuers.partner]
issuer = "https://partner.example"
audience = ["api"]
algorithms = ["EdDSA"]
jwks_url = "https://partner.example/jwks"

[upstreams.app]
url = "https://app.example"

[[routes]]
path = "/read"
methods = ["GET"]
upstream = "app"
access = { scopes = ["items:read", "items:all"] }
issuers = ["own", "partner"]

[[routes]]
path = "/tenant"
methods = ["GET"]
upstream = "app"
access = { all = [{ claim = ["org", "tenant"], equals = "shop" }, { claim = "verified", equals = true }] }
issuers = ["own", "partner"]

[[routes]]
path = "/mine/{id}"
methods = ["GET"]
upstream = "app"
access = { owner = "id" }
issuers = ["own"]

[[routes]]
path = "/files/{id}/{name}"
methods = ["GET"]
upstream = "app"
access = { owner = "id" }
issuers = ["own"]
encoded_path = "forward"

[[routes]]
path = "/shop/items/{*rest}"
methods = ["GET"]
upstream = "app"
access = "public"
strip_prefix = "/shop"

[[routes]]
path = "/old/{id}"
methods = ["GET"]
upstream = "app"
access = "public"
replace_prefix = { from = "/old", to = "/v2/new" }
"#;

fn signed() -> (Gateway, FakePorts) {
    let (gateway, ports) = setup(POLICY);
    ports.publish(&[&Signer::new(7)]);
    (gateway, ports)
}

fn token(ports: &FakePorts, changes: &Value) -> String {
    let now = ports.now.get().secs();
    let claims = with(claims_at(now), &json!({ "iss": "https://own.example" }));
    Signer::new(7).sign("at+jwt", &with(claims, changes))
}

#[test]
fn each_route_admits_the_callers_of_its_rule() {
    let (gateway, ports) = signed();
    let (ok, no) = ((200, "ok"), (403, "rights_missing"));
    for (path, claims, expected) in [
        ("/read", json!({}), no),
        ("/read", json!({ "scope": "items:write items:read" }), ok),
        ("/read", json!({ "scope": ["items:all"] }), ok),
        ("/read", json!({ "scope": "items:readx" }), no),
        ("/tenant", json!({}), no),
        ("/tenant", json!({ "org": { "tenant": "shop" }, "verified": true }), ok),
        ("/tenant", json!({ "org": { "tenant": "shop" }, "verified": "true" }), no),
        ("/tenant", json!({ "org": { "tenant": "shop" } }), no),
        ("/tenant", json!({ "org": { "tenant": ["shop"] }, "verified": true }), no),
        ("/tenant", json!({ "org.tenant": "shop", "verified": true }), no),
        ("/mine/ada", json!({}), ok),
        ("/mine/eve", json!({}), no),
        ("/mine/ada", json!({ "iss": "https://partner.example" }), no),
        ("/mine/auth0%7C64f", json!({ "sub": "auth0|64f" }), ok),
        ("/mine/zo%C3%AB", json!({ "sub": "zoë" }), ok),
        ("/mine/zo%C3%AB", json!({ "sub": "zo%C3%AB" }), no),
        ("/mine/zo%25C3%25AB", json!({ "sub": "zo%C3%AB" }), ok),
        ("/mine/ada%40example.com", json!({ "sub": "ada@example.com" }), ok),
        ("/mine/ada@example.com", json!({ "sub": "ada@example.com" }), ok),
        ("/mine/ada%40example.com", json!({ "sub": "ada%40example.com" }), no),
        ("/mine/ada%2540example.com", json!({ "sub": "ada%40example.com" }), ok),
        ("/mine/ada%2540example.com", json!({ "sub": "ada@example.com" }), no),
        ("/mine/Ada%20Lovelace", json!({ "sub": "Ada Lovelace" }), ok),
        ("/mine/100%25", json!({ "sub": "100%" }), ok),
        ("/mine/a%2Bb", json!({ "sub": "a+b" }), ok),
        ("/mine/a+b", json!({ "sub": "a b" }), no),
        ("/mine/a%2Fb", json!({ "sub": "a/b" }), (400, "path_ambiguous")),
        ("/files/ada/C%23.pdf", json!({}), ok),
        ("/files/ada/a%2Fb%25.pdf", json!({}), ok),
        ("/files/ada/[slug].js", json!({}), ok),
        ("/files/eve/C%23.pdf", json!({}), no),
        // A service that decodes before it splits would read Ada's file "x".
        ("/files/ada%2Fx/y", json!({ "sub": "ada/x" }), no),
        ("/files/eve%2F..%2Fada/y", json!({ "sub": "eve/../ada" }), (400, "path_ambiguous")),
        ("/files/ada/%252e%252e", json!({}), (400, "path_ambiguous")),
    ] {
        // Twice: a cached token is checked by the same rules.
        let token = token(&ports, &claims);
        for _ in 0..2 {
            assert_eq!(verdict(&ports.send_token(&gateway, "GET", path, &token)), expected, "{path} {claims}");
        }
    }
}

#[test]
fn the_upstream_gets_the_path_that_the_policy_rewrites() {
    let (gateway, ports) = signed();
    for (sent, arrives) in [
        ("/shop/items/7?x=/shop/", "https://app.example/items/7?x=/shop/"),
        ("/shop/items/a/b", "https://app.example/items/a/b"),
        ("/old/7", "https://app.example/v2/new/7"),
        ("/%6fld/7", "https://app.example/v2/new/7"),
        ("/old/jobs%3apurge", "https://app.example/v2/new/jobs:purge"),
        ("/old/a%25%7c%20", "https://app.example/v2/new/a%25%7C%20"),
    ] {
        ports.forwarded.borrow_mut().clear();
        assert_eq!(verdict(&ports.send(&gateway, "GET", sent, &[])), (200, "ok"), "{sent}");
        let forwarded = ports.forwarded.borrow();
        assert_eq!(forwarded[0].url, arrives);
        let assertion = forwarded[0].headers.iter().find(|(name, _)| name == "x-gateway-assertion").unwrap();
        let claims = assertion.1.split('.').nth(1).unwrap();
        let claims: Value = {
            use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
        };
        assert_eq!(
            format!("https://app.example{}", claims["htu"].as_str().unwrap()),
            arrives,
            "the assertion has the same path"
        );
    }
}

#[test]
fn a_pushed_policy_is_validated_like_the_file() {
    let policy = portcullis_policy::check(POLICY).unwrap();
    let fault = |change: &dyn Fn(&mut portcullis_policy::Policy)| {
        let mut changed = policy.clone();
        change(&mut changed);
        Gateway::new(&serde_json::to_string(&changed).unwrap(), setting).err().map(|fault| fault.0)
    };
    assert_eq!(fault(&|_| {}), None);
    let set = |name: &str, value: &str| [(name.to_owned(), HeaderValue::Text(value.to_owned()))].into();
    for (what, text) in [
        ("identity", fault(&|policy| policy.routes[0].request_headers.set = set("x-user-id", "1"))),
        ("identity, in capitals", fault(&|policy| policy.routes[0].request_headers.set = set("X-USER-ID", "1"))),
        ("identity, with _", fault(&|policy| policy.routes[0].request_headers.set = set("x_user_id", "1"))),
        ("identity of another proxy", fault(&|policy| policy.routes[0].request_headers.set = set("remote-user", "1"))),
        ("a family's name alone", fault(&|policy| policy.routes[0].request_headers.remove = vec!["x-user".into()])),
        ("a second line", fault(&|policy| policy.routes[0].request_headers.set = set("x-a", "1\nx-user-id\n1"))),
        ("a secret", fault(&|policy| policy.routes[0].request_headers.set = set("authorization", "x"))),
        ("no assertion", fault(&|policy| policy.routes[0].request_headers.remove = vec!["x-gateway-assertion".into()])),
        ("cors", fault(&|policy| policy.routes[0].response_headers.set = set("access-control-allow-origin", "*"))),
        ("a cookie", fault(&|policy| policy.routes[0].response_headers.set = set("set-cookie", "a=1"))),
        ("a cookie of others", fault(&|policy| policy.token_cookie = Some(TokenCookie { name: "token".into() }))),
        ("a cookie of no name", fault(&|policy| policy.routes[0].token_cookie = true)),
        ("no time at all", fault(&|policy| policy.upstreams[0].idle_timeout_ms = Some(0))),
        ("rights of any issuer", fault(&|policy| policy.routes[0].issuers = None)),
        (
            "a rule that a variant passes",
            fault(&|policy| {
                policy.routes[0].path = "/mine/all".into();
            }),
        ),
        (
            "variants without a reason",
            fault(&|policy| policy.routes[0].variants = Some(Variants::Allow { allow: " ".into() })),
        ),
        (
            "years of maintenance",
            fault(&|policy| policy.upstreams[0].maintenance = Some(Maintenance { retry_after_s: u64::MAX })),
        ),
    ] {
        assert!(text.is_some_and(|text| text.starts_with("the policy cannot be used")), "{what}");
    }
}
