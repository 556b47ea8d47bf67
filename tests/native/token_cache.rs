//! Cached tokens: one signature check serves many requests, and each request is still checked for access,
//! expiry and the key.

use portcullis::pipeline::wire::Fault;
use portcullis_token::keys::limits;
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, Issuer, Vectors, shipped_gateway, verdict},
    signer::with,
};

const ME: &str = "/api/v1/auth/me";

fn cache_of(gateway: &portcullis::pipeline::Gateway, ports: &FakePorts) -> Value {
    let status = ports.send_as_operator(gateway, "/status");
    serde_json::from_str::<Value>(&crate::fakes::answer(&status).body).unwrap()["token_cache"].clone()
}

#[test]
fn the_signature_of_a_repeated_token_is_checked_once() {
    let vectors = Vectors::load();
    let (gateway, ports) = (shipped_gateway(), FakePorts::new(&vectors));
    let good = vectors.token("a good token");
    for _ in 0..10 {
        assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, good)), (200, "ok"));
    }
    assert_eq!(ports.checks.get(), 1);
    assert_eq!(ports.send_token(&gateway, "GET", ME, good).record.cache, Some("token"));
    let cache = cache_of(&gateway, &ports);
    assert_eq!((&cache["tokens"], &cache["hits"], &cache["misses"]), (&json!(1), &json!(10), &json!(1)));
}

#[test]
fn access_is_decided_again_on_each_route() {
    let vectors = Vectors::load();
    let (gateway, ports) = (shipped_gateway(), FakePorts::new(&vectors));
    let good = vectors.token("a good token");
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, good)), (200, "ok"));
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/api/v1/users", good)), (403, "rights_missing"));
    assert_eq!(ports.checks.get(), 1);
}

#[test]
fn a_refused_token_is_not_cached() {
    let vectors = Vectors::load();
    let (gateway, ports) = (shipped_gateway(), FakePorts::new(&vectors));
    for case in vectors.cases.iter().filter(|case| case.expected != "ok") {
        ports.send_token(&gateway, "GET", ME, &case.token);
        ports.send_token(&gateway, "GET", ME, &case.token);
    }
    assert_eq!(cache_of(&gateway, &ports)["tokens"], 0);
}

#[test]
fn a_cached_token_is_refused_once_its_key_is_removed_or_replaced() {
    let vectors = Vectors::load();
    let good = vectors.token("a good token");
    let key = &vectors.jwks["keys"][2];
    let other_modulus = format!("z{}", &key["n"].as_str().unwrap()[1..]);
    for (changes, expected) in [
        (json!({ "kid": "another" }), (401, "token_key_unknown")),
        (json!({ "n": other_modulus }), (401, "token_signature_invalid")),
    ] {
        let (gateway, ports) = (shipped_gateway(), FakePorts::new(&vectors));
        assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, good)), (200, "ok"));
        *ports.issuer.borrow_mut() = Issuer::Serves(json!({ "keys": [with(key.clone(), &changes)] }).to_string());
        ports.advance(limits::FRESH_MS);
        // The set at hand is used during the fetch.
        assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, good)), (200, "ok"));
        assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, good)), expected);
    }
}

#[test]
fn keys_past_their_hard_limit_verify_no_cached_token() {
    let vectors = Vectors::load();
    let (gateway, ports) = (shipped_gateway(), FakePorts::new(&vectors));
    let good = vectors.token("a good token");
    ports.send_token(&gateway, "GET", ME, good);
    *ports.issuer.borrow_mut() = Issuer::Fails(Fault::Unreachable);
    ports.advance(limits::HARD_MS);
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, good)), (503, "keys_unavailable"));
}
