//! The assertion as an origin sees it, opened by hand.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jwt_compact::{
    Algorithm as _, AlgorithmSignature as _,
    alg::{Hs256, Hs256Key},
};
use serde_json::{Value, json};

use crate::fakes::{SECRET, Vectors, World, shipped_gate};

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
fn an_assertion_names_the_one_request_it_is_for() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    let good = vectors.token("a good token");
    world.send_token(&gate, "GET", "/api/v1/users/%30190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f?q='a'", good);
    let sent = world.forwarded.borrow();
    let header = |name: &str| &sent[0].headers.iter().find(|(known, _)| known == name).unwrap().1;
    let (jose, claims) = open(header("x-gateway-assertion"));
    assert_eq!(jose, json!({ "alg": "HS256", "typ": "gateway+jwt", "kid": "k1" }));
    assert_eq!(
        claims,
        json!({
            "iss": "portcullis", "aud": "users", "iat": vectors.now, "exp": vectors.now + 30,
            "jti": header("x-request-id"), "htm": "GET",
            "htu": "/api/v1/users/0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f?q=%27a%27",
            "sub": "0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f", "email": "ada@example.com",
            "roles": ["user"], "sid": "0190b5a2-8c4e-7d3a-9f10-000000000002",
        })
    );
    assert!(sent[0].url.ends_with(claims["htu"].as_str().unwrap()));
}

#[test]
fn on_a_public_route_an_assertion_speaks_for_nobody_even_with_a_token() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    world.send_token(&gate, "POST", "/api/v1/auth/login", vectors.token("a good token"));
    let sent = world.forwarded.borrow();
    let assertion = &sent[0].headers.iter().find(|(name, _)| name == "x-gateway-assertion").unwrap().1;
    let (_, claims) = open(assertion);
    for claim in ["sub", "email", "roles", "sid"] {
        assert_eq!(claims.get(claim), None, "{claim}");
    }
    assert!(!sent[0].headers.iter().any(|(name, _)| name == "authorization" || name.starts_with("x-user-")));
}
