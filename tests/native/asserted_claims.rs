//! Claims of the token that services get: in the assertion, and in headers. Both lists of attacks in
//! docs/standards/assertion-keys.md are `claims_of_the_token_never_replace_those_of_the_assertion` and the tests below
//! it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis::pipeline::Gateway;
use portcullis_policy::check;
use portcullis_token::limits::ASSERTED_BYTES;
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, Seen, Vectors, setup, verdict},
    signer::{Signer, claims_at, issuer_table, with},
};

/// Two upstreams that get different claims, one that gets none, and routes that write claims to headers.
fn policy() -> String {
    let route = |path: &str, upstream: &str, access: &str, set: &str| {
        format!(
            "[[routes]]\npath = \"{path}\"\nmethods = [\"GET\"]\nupstream = \"{upstream}\"\naccess = \"{access}\"\n\
             request_headers = {{ set = {{ {set} }} }}\n"
        )
    };
    [
        issuer_table("id", 1, ""),
        "[upstreams.app]\nurl = \"https://app.example\"\n".to_owned(),
        "assertion = { claims = [\"tenant\", \"https://example.com/org\", \"aud\", \"exp\", \"sub\", \"claims\", \"a\\\"b\"] }\n".to_owned(),
        "[upstreams.iss]\nurl = \"https://iss.example\"\nassertion = { claims = [\"iss\"] }\n".to_owned(),
        "[upstreams.plain]\nurl = \"https://plain.example\"\n".to_owned(),
        route("/app", "app", "user", "x-tenant = { claim = \"tenant\" }, X-Org = { claim = [\"org\", \"id\"] }, x-fixed = \"1\""),
        route("/iss", "iss", "user", ""),
        route("/plain", "plain", "user", ""),
        route("/open", "app", "public", ""),
    ]
    .concat()
}

fn token(claims: &Value) -> String {
    Signer::new(1).sign("JWT", &with(claims_at(Vectors::load().now), claims))
}

fn last_header(ports: &FakePorts, name: &str) -> Option<String> {
    let forwarded = ports.forwarded.borrow();
    let values: Vec<&String> =
        forwarded.last().unwrap().headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value).collect();
    assert!(values.len() < 2, "{values:?}");
    values.first().map(|value| (*value).clone())
}

fn last_assertion(ports: &FakePorts) -> Value {
    let assertion = last_header(ports, "x-gateway-assertion").unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn send(gateway: &Gateway, ports: &FakePorts, path: &str, claims: &Value) -> Seen {
    ports.send_token(gateway, "GET", path, &token(claims))
}

#[test]
fn a_service_gets_the_issuer_and_the_claims_that_its_policy_names() {
    let (gateway, ports) = setup(&policy());
    let org = json!({ "id": 7, "units": ["a", "b"], "is_open": true, "name": "Größe \u{1F600} \"x\"\r\n" });
    for (claims, expected) in [
        (json!({}), json!({})),
        (json!({ "tenant": null }), json!({})),
        (json!({ "tenant": "shop", "other": "no" }), json!({ "tenant": "shop" })),
        (json!({ "tenant": ["a", "b"] }), json!({ "tenant": ["a", "b"] })),
        (json!({ "tenant": -7 }), json!({ "tenant": -7 })),
        (json!({ "tenant": 1.5 }), json!({ "tenant": 1.5 })),
        (json!({ "tenant": false }), json!({ "tenant": false })),
        (json!({ "tenant": "" }), json!({ "tenant": "" })),
        (json!({ "https://example.com/org": org }), json!({ "https://example.com/org": org })),
        (json!({ "a\"b": "quoted" }), json!({ "a\"b": "quoted" })),
    ] {
        // From the cache of tokens, too.
        for _ in 0..2 {
            assert_eq!(verdict(&send(&gateway, &ports, "/app", &claims)), (200, "ok"), "{claims}");
            let usual =
                json!({ "iss": "https://id.example", "aud": "api", "sub": "ada", "exp": Vectors::load().now + 900 });
            assert_eq!(last_assertion(&ports)["claims"], with(usual, &expected), "{claims}");
        }
        send(&gateway, &ports, "/iss", &claims);
        assert_eq!(last_assertion(&ports)["claims"], json!({ "iss": "https://id.example" }));
        send(&gateway, &ports, "/plain", &claims);
        assert_eq!(last_assertion(&ports).get("claims"), None);
        // A public route verifies no token.
        send(&gateway, &ports, "/open", &claims);
        assert_eq!(last_assertion(&ports).get("claims"), None);
    }
}

#[test]
fn claims_of_the_token_never_replace_those_of_the_assertion() {
    let (gateway, ports) = setup(&policy());
    let evil = json!({
        "aud": ["api", "plain"], "claims": { "iss": "portcullis", "sub": "root" }, "tenant": "\",\"sub\":\"root",
        "a\"b": "}}", "jti": "chosen", "htm": "DELETE", "htu": "/", "request_id": "chosen", "roles": ["user"],
    });
    assert_eq!(verdict(&send(&gateway, &ports, "/app", &evil)), (200, "ok"));
    let now = Vectors::load().now;
    let claims = last_assertion(&ports);
    for (name, expected) in [
        ("iss", json!("portcullis")),
        ("aud", json!("app")),
        ("sub", json!("ada")),
        ("exp", json!(now + 30)),
        ("iat", json!(now)),
        ("htm", json!("GET")),
        ("htu", json!("/app")),
        ("roles", json!(["user"])),
    ] {
        assert_eq!(claims[name], expected, "{name}");
    }
    assert_ne!(claims["jti"], "chosen");
    assert_ne!(claims["request_id"], "chosen");
    assert_eq!(claims["claims"]["claims"], evil["claims"]);
    assert_eq!(claims["claims"]["tenant"], evil["tenant"]);
    assert_eq!(claims["claims"]["iss"], "https://id.example");
}

#[test]
fn claims_that_are_too_long_are_refused_and_never_cut() {
    let (gateway, ports) = setup(&policy());
    let now = Vectors::load().now;
    let usual = json!({ "iss": "https://id.example", "tenant": "", "aud": "api", "exp": now + 900, "sub": "ada" });
    let room = ASSERTED_BYTES - format!(",\"claims\":{usual}").len();
    for (bytes, expected) in [
        (room, (200, "ok")),
        (room + 1, (403, "claims_too_large")),
        (ASSERTED_BYTES, (403, "claims_too_large")),
        (8_000, (403, "claims_too_large")),
    ] {
        let claims = json!({ "tenant": "t".repeat(bytes) });
        for _ in 0..2 {
            assert_eq!(verdict(&send(&gateway, &ports, "/app", &claims)), expected, "{bytes}");
        }
        // Other services do not need them.
        assert_eq!(verdict(&send(&gateway, &ports, "/plain", &claims)), (200, "ok"), "{bytes}");
    }
    // Many values take little text.
    let many = json!({ "tenant": vec![0; 4_000] });
    assert_eq!(verdict(&send(&gateway, &ports, "/app", &many)), (403, "claims_too_large"));
}

#[test]
fn a_header_has_the_value_of_a_claim_or_is_removed() {
    let (gateway, ports) = setup(&policy());
    let long = "t".repeat(512);
    for (tenant, expected) in [
        (json!("shop"), Some("shop")),
        (json!("two words"), Some("two words")),
        (json!("a\r\nx-user-id: root"), Some("a%0D%0Ax-user-id: root")),
        (json!("a\nb"), Some("a%0Ab")),
        (json!("a\0b"), Some("a%00b")),
        (json!("a\u{7f}b"), Some("a%7Fb")),
        (json!("Größe"), Some("Gr%C3%B6%C3%9Fe")),
        (json!("100%"), Some("100%25")),
        (json!(" shop "), Some("%20shop%20")),
        (json!("shop\u{a0}"), Some("shop%C2%A0")),
        (json!(long), Some(long.as_str())),
        (json!("t".repeat(513)), None),
        (json!(42), Some("42")),
        (json!(-1), Some("-1")),
        (json!(18_446_744_073_709_551_615_u64), Some("18446744073709551615")),
        (json!(1.5), None),
        (json!(1e300), None),
        (json!(true), Some("true")),
        (json!(""), None),
        (json!(null), None),
        (json!(["shop"]), None),
        (json!([]), None),
        (json!({ "id": "shop" }), None),
    ] {
        // A client's own header of that name never passes, in any spelling.
        let bearer = format!("Bearer {}", token(&json!({ "tenant": tenant, "claims": null, "aud": "api" })));
        for spelling in ["x-tenant", "x_tenant", "x.tenant", "X-TENANT"] {
            let name = spelling.to_ascii_lowercase();
            let seen = ports.send(&gateway, "GET", "/app", &[(&name, "forged"), ("authorization", &bearer)]);
            assert_eq!(verdict(&seen), (200, "ok"));
            assert_eq!(last_header(&ports, "x-tenant").as_deref(), expected, "{tenant}");
            let forwarded = ports.forwarded.borrow();
            let headers = &forwarded.last().unwrap().headers;
            assert!(!headers.iter().any(|(_, value)| value.contains("forged") || value.contains(['\r', '\n'])));
        }
        assert_eq!(last_header(&ports, "x-fixed").as_deref(), Some("1"));
    }
    send(&gateway, &ports, "/app", &json!({ "org": { "id": "inner" } }));
    assert_eq!(last_header(&ports, "x-org").as_deref(), Some("inner"));
    // What the claim is in, and a claim whose name has the path's text, are others.
    send(&gateway, &ports, "/app", &json!({ "org": "outer", "org.id": "x", "id": "x" }));
    assert_eq!(last_header(&ports, "x-org"), None);
}

#[test]
fn no_route_lets_a_client_choose_a_header_that_another_gets_from_a_claim() {
    let text = policy()
        + "[[routes]]\npath = \"/{*rest}\"\nmethods = [\"GET\"]\nupstream = \"app\"\naccess = \"user\"\n\
           [[routes]]\npath = \"/text\"\nmethods = [\"GET\"]\nupstream = \"app\"\naccess = \"user\"\n\
           request_headers = { set = { x-tenant = \"fixed\" } }\n";
    let (gateway, ports) = setup(&text);
    let bearer = format!("Bearer {}", token(&json!({ "tenant": "shop" })));
    for (path, expected) in
        [("/open", None), ("/any/thing", None), ("/plain", None), ("/iss", None), ("/text", Some("fixed"))]
    {
        for name in ["x-tenant", "x_tenant", "x.tenant", "x-org", "x_org"] {
            let headers = [(name, "forged"), ("x-other", "kept"), ("authorization", bearer.as_str())];
            // A public route looks at no token.
            let headers = if path == "/open" { &headers[..2] } else { &headers[..] };
            assert_eq!(verdict(&ports.send(&gateway, "GET", path, headers)), (200, "ok"), "{path}");
            assert_eq!(last_header(&ports, "x-tenant").as_deref(), expected, "{path}");
            assert_eq!(last_header(&ports, "x-other").as_deref(), Some("kept"), "{path}");
            let forwarded = ports.forwarded.borrow();
            let headers = &forwarded.last().unwrap().headers;
            assert!(!headers.iter().any(|(_, value)| value == "forged"), "{path}: {name}");
        }
    }
}

#[test]
fn a_header_from_a_claim_needs_the_issuers_that_choose_it() {
    let of_issuers = |second: &str, route: &str| {
        policy()
            .replace("[upstreams.plain]", &format!("{second}[upstreams.plain]"))
            .replace("request_headers = { set = { x-tenant", &format!("{route}request_headers = {{ set = {{ x-tenant"))
    };
    let second = issuer_table("eve", 2, "");
    assert_eq!(check(&of_issuers("", "")).err(), None);
    assert_eq!(check(&of_issuers(&second, "issuers = [\"id\"]\n")).err(), None);
    let mistakes = check(&of_issuers(&second, "")).unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    let expected =
        "route \"/app\": it takes tokens of every issuer and tenant (eve, id), so each of them chooses these claims";
    assert!(mistakes[0].message.starts_with(expected), "{mistakes:?}");
}

#[test]
fn a_bounded_number_of_headers_gets_claims() {
    let with_headers = |count: usize| {
        let routes = (0..count).map(|number| {
            format!(
                "[[routes]]\npath = \"/h{number}\"\nmethods = [\"GET\"]\nupstream = \"app\"\naccess = \"user\"\n\
                 request_headers = {{ set = {{ x-h{number} = {{ claim = \"a\" }}, x-shared = {{ claim = \"b\" }} }} }}\n"
            )
        });
        check(&[policy(), routes.collect()].concat())
    };
    // With `x-tenant`, `X-Org` and `x-shared`.
    assert_eq!(with_headers(97).err(), None);
    let mistakes = with_headers(98).unwrap_err();
    assert!(mistakes[0].message.contains("more than 100 different headers"), "{mistakes:?}");
}

#[test]
fn each_mistake_is_refused() {
    let with_option = |upstream: &str, route: &str| {
        format!(
            "{}[upstreams.app]\nurl = \"https://app.example\"\n{upstream}\n[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\n\
             upstream = \"app\"\naccess = \"user\"\n{route}\n",
            issuer_table("id", 1, "")
        )
    };
    let many: Vec<String> = (0..17).map(|number| format!("c{number}")).collect();
    for (upstream, route, expected) in [
        ("assertion = { claims = [\"a\", \"a\"] }".to_owned(), "", "claims has a name twice"),
        ("assertion = { claims = [\"\"] }".to_owned(), "", "claims has an empty name"),
        (format!("assertion = {{ claims = {many:?} }}"), "", "claims has a list of 17; write at most 16"),
        (format!("assertion = {{ claims = [\"{}\"] }}", "c".repeat(1025)), "", "a text of 1025 bytes"),
        ("assertion = { claims = [[\"a\", \"b\"]] }".to_owned(), "", "invalid type: sequence"),
        ("assertion = { algorithm = \"none\" }".to_owned(), "", "unknown variant `none`"),
        ("assertion = { algorithm = \"RS256\" }".to_owned(), "", "unknown variant `RS256`"),
        ("assertion = { alg = \"ES256\" }".to_owned(), "", "unknown field `alg`"),
        (String::new(), "request_headers = { set = { x-t = { claim = [] } } }", "a claim is a name of 1 to"),
        (String::new(), "request_headers = { set = { x-t = { claim = \"\" } } }", "a claim is a name of 1 to"),
        (
            String::new(),
            "request_headers = { set = { x-t = { value = \"a\" } } }",
            "write a text, or in request_headers",
        ),
        (String::new(), "request_headers = { set = { x-t = { claim = \"a\", as = \"b\" } } }", "write a text, or in"),
        (String::new(), "request_headers = { set = { x-t = 7 } }", "write a text, or in request_headers"),
        (String::new(), "request_headers = { set = { X-User-Id = { claim = \"a\" } } }", "cannot touch \"X-User-Id\""),
        (String::new(), "request_headers = { set = { authorization = { claim = \"a\" } } }", "cannot touch"),
        (String::new(), "request_headers = { set = { X-T = { claim = \"a\" }, x-t = \"b\" } }", "sets \"x-t\" twice"),
        (
            String::new(),
            "response_headers = { set = { x-t = { claim = \"a\" } } }",
            "from a claim, which only requests",
        ),
    ] {
        let mistakes = check(&with_option(&upstream, route)).unwrap_err();
        assert!(mistakes.iter().any(|mistake| mistake.message.contains(expected)), "{expected}: {mistakes:?}");
    }
    let public =
        with_option("", "request_headers = { set = { x-t = { claim = \"a\" } } }").replace("\"user\"", "\"public\"");
    let mistakes = check(&public).unwrap_err();
    assert!(mistakes[0].message.contains("from a claim, which only requests with a token have"), "{mistakes:?}");
    assert_eq!((mistakes[0].line, mistakes[0].column > 1), (15, true), "{mistakes:?}");
}
