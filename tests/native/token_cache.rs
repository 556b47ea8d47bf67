//! Cached tokens: one signature check serves many requests, and each request is still checked for access,
//! expiry and the key.

use portcullis::pipeline::{
    limits::{TOKEN_CACHE_BYTES, TOKEN_CACHE_ENTRY_BYTES, TOKEN_CACHE_MS, TOKEN_CACHE_NAME_BYTES},
    wire::Fault,
};
use portcullis_token::keys::limits;
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, Issuer, ME_POLICY, SHIPPED, Vectors, gateway_of, setup, shipped_setup, verdict},
    signer::{Signer, claims_at, with},
};

const ME: &str = "/api/v1/auth/me";

pub(crate) fn cache_of(gateway: &portcullis::pipeline::Gateway, ports: &FakePorts) -> Value {
    let status = ports.send_as_operator(gateway, "/status");
    serde_json::from_str::<Value>(&crate::fakes::answer(&status).body).unwrap()["token_cache"].clone()
}

#[test]
fn the_signature_of_a_repeated_token_is_checked_once() {
    let (vectors, gateway, ports) = shipped_setup();
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
    let (vectors, gateway, ports) = shipped_setup();
    let good = vectors.token("a good token");
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, good)), (200, "ok"));
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/api/v1/users", good)), (403, "rights_missing"));
    assert_eq!(ports.checks.get(), 1);
}

#[test]
fn a_refused_token_is_not_cached() {
    let (vectors, gateway, ports) = shipped_setup();
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
        let (gateway, ports) = setup(SHIPPED);
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
    let (vectors, gateway, ports) = shipped_setup();
    let good = vectors.token("a good token");
    ports.send_token(&gateway, "GET", ME, good);
    *ports.issuer.borrow_mut() = Issuer::Fails(Fault::Unreachable);
    ports.advance(limits::HARD_MS);
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, good)), (503, "keys_unavailable"));
}

/// Returns ports, and a signer of tokens of the policy's issuer that adds claims.
fn signed() -> (FakePorts, impl Fn(Value) -> String) {
    let (ports, signer) = (FakePorts::new(), Signer::new(7));
    ports.publish(&[&signer]);
    let now = ports.now.get().secs();
    let base = claims_at(now);
    (ports, move |claims| signer.sign("at+jwt", &with(base.clone(), &claims)))
}

#[test]
fn a_cached_token_expires_with_its_claims_and_after_five_minutes_at_most() {
    let (ports, sign) = signed();
    let begin = ports.now.get();
    // Seconds until `exp`, milliseconds for which the token is cached, and the verdict after that.
    for (expires_in, cached_ms, expected) in
        [(900, TOKEN_CACHE_MS, (200, "ok")), (100, 130_000, (401, "token_expired"))]
    {
        let gateway = gateway_of(ME_POLICY);
        ports.now.set(begin);
        ports.checks.set(0);
        let token = sign(json!({ "exp": begin.secs() + expires_in }));
        let send = || verdict(&ports.send_token(&gateway, "GET", "/me", &token));
        assert_eq!(send(), (200, "ok"));
        ports.now.set(begin.plus(cached_ms - 1));
        assert_eq!((send(), ports.checks.get()), ((200, "ok"), 1), "{expires_in}");
        ports.now.set(begin.plus(cached_ms));
        assert_eq!((send(), ports.checks.get()), (expected, 2), "{expires_in}");
    }
}

#[test]
fn the_cache_is_bounded_in_bytes_and_the_oldest_tokens_go_first() {
    let (ports, sign) = signed();
    let gateway = gateway_of(ME_POLICY);
    let send = |number: usize| {
        let token = sign(json!({ "sub": format!("user-{number:04}"), "pad": "x".repeat(5_000) }));
        assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), (200, "ok"));
        TOKEN_CACHE_ENTRY_BYTES + 3 * token.len()
    };
    let bytes = send(0);
    let most = TOKEN_CACHE_BYTES / bytes;
    for number in 1..most + 10 {
        send(number);
    }
    let cache = cache_of(&gateway, &ports);
    assert_eq!((&cache["tokens"], &cache["bytes"]), (&json!(most), &json!(most * bytes)));
    let checks = ports.checks.get();
    send(most + 9);
    send(10);
    assert_eq!(ports.checks.get(), checks);
    send(9);
    assert_eq!(ports.checks.get(), checks + 1, "it was removed");
}

#[test]
fn the_size_of_a_cached_token_counts_the_claims_of_rules() {
    let (ports, sign) = signed();
    let rule = r#"access = { any = [{ claim = "plan" }, { claim = ["org", "id"], equals = 7 }] }"#;
    for (plan, bytes, values) in [(json!("x".repeat(500)), 500, 1), (json!(vec!["xx"; 60]), 120, 60)] {
        let gateway = gateway_of(&ME_POLICY.replace("access = \"user\"", rule));
        let token = sign(json!({ "plan": plan, "org": { "id": 7 } }));
        assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), (200, "ok"));
        let names = "plan".len() + bytes + "org".len() + "id".len();
        // Names and values, and twice as much for each pair of both.
        let expected = TOKEN_CACHE_ENTRY_BYTES + 3 * token.len() + names + (8 + values) * TOKEN_CACHE_NAME_BYTES;
        assert_eq!(cache_of(&gateway, &ports)["bytes"], expected);
    }
}

#[test]
fn the_size_of_a_cached_token_counts_its_roles() {
    let (ports, sign) = signed();
    let gateway = gateway_of(ME_POLICY);
    let token = sign(json!({ "roles": vec!["r"; 500], "scope": "a b c" }));
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), (200, "ok"));
    let expected = TOKEN_CACHE_ENTRY_BYTES + 3 * token.len() + 503 * TOKEN_CACHE_NAME_BYTES;
    assert_eq!(cache_of(&gateway, &ports)["bytes"], expected);
}
