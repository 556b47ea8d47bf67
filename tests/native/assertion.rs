//! The assertion as an origin sees it, opened by hand.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jwt_compact::{
    Algorithm as _, AlgorithmSignature as _,
    alg::{Hs256, Hs256Key},
};
use serde_json::{Value, json};

use portcullis::pipeline::wire::Fault;

use crate::fakes::{SECRET, setup, shipped_setup};

fn open(assertion: &str) -> (Value, Value) {
    let parts: Vec<&str> = assertion.split('.').collect();
    let [header, claims, mac] = parts.as_slice() else { panic!("not three parts") };
    let secret = URL_SAFE_NO_PAD.decode(SECRET.split_once(':').unwrap().1).unwrap();
    let expected = Hs256.sign(&Hs256Key::new(secret), format!("{header}.{claims}").as_bytes());
    assert_eq!(URL_SAFE_NO_PAD.decode(mac).unwrap(), expected.as_bytes().as_ref());
    let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    (json(header), json(claims))
}

#[test]
fn an_assertion_names_its_request() {
    let (vectors, gateway, ports) = shipped_setup();
    let good = vectors.token("a good token");
    ports.send_token(&gateway, "GET", "/api/v1/users/%30190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f?q='a'", good);
    let sent = ports.forwarded.borrow();
    let header = |name: &str| &sent[0].headers.iter().find(|(known, _)| known == name).unwrap().1;
    let (jose, mut claims) = open(header("x-gateway-assertion"));
    let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert!(id.as_str().is_some_and(|id| id.len() == 36 && id != header("x-request-id")), "{id}");
    assert_eq!(jose, json!({ "alg": "HS256", "typ": "gateway+jwt", "kid": "k1" }));
    assert_eq!(
        claims,
        json!({
            "iss": "portcullis", "aud": "users", "iat": vectors.now, "exp": vectors.now + 30,
            "request_id": header("x-request-id"), "htm": "GET",
            "htu": "/api/v1/users/0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f?q=%27a%27",
            "sub": "0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f", "email": "ada@example.com",
            "roles": ["user"], "sid": "0190b5a2-8c4e-7d3a-9f10-000000000002",
        })
    );
    assert!(sent[0].url.ends_with(claims["htu"].as_str().unwrap()));
}

#[test]
fn each_attempt_has_its_own_assertion() {
    let policy = r#"
[upstreams.app]
url = "https://app.example"
retries = 2
breaker = { failures = 100 }

[[routes]]
path = "/app"
methods = ["GET"]
upstream = "app"
access = "public"
"#;
    let (gateway, ports) = setup(policy);
    ports.upstream.set(Err(Fault::Unreachable));
    let id = "0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f";
    ports.send(&gateway, "GET", "/app", &[("x-request-id", id)]);
    ports.send(&gateway, "GET", "/app", &[("x-request-id", id)]);
    let mut ids = Vec::new();
    for sent in ports.forwarded.borrow().iter() {
        let assertions: Vec<_> = sent.headers.iter().filter(|(name, _)| name == "x-gateway-assertion").collect();
        assert_eq!(assertions.len(), 1);
        let (_, claims) = open(&assertions[0].1);
        assert_eq!(claims["request_id"], id);
        ids.push(claims["jti"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 6);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6, "a client that repeats its request's id repeats no assertion's");
}

#[test]
fn an_assertion_of_a_public_route_has_no_user_even_with_a_token() {
    let (vectors, gateway, ports) = shipped_setup();
    ports.send_token(&gateway, "POST", "/api/v1/auth/login", vectors.token("a good token"));
    let sent = ports.forwarded.borrow();
    let assertion = &sent[0].headers.iter().find(|(name, _)| name == "x-gateway-assertion").unwrap().1;
    let (_, claims) = open(assertion);
    for claim in ["sub", "email", "roles", "sid"] {
        assert_eq!(claims.get(claim), None, "{claim}");
    }
    assert!(!sent[0].headers.iter().any(|(name, _)| name == "authorization" || name.starts_with("x-user-")));
}
