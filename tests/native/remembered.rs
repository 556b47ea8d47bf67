//! Remembered tokens: one signature check serves many requests, and nothing that is
//! decided anew for every request is skipped.

use portcullis::pipeline::wire::Fault;
use portcullis_token::keys::limits;
use serde_json::{Value, json};

use crate::fakes::{Issuer, Vectors, World, shipped_gate, verdict};

const ME: &str = "/api/v1/auth/me";

fn cache_of(gate: &portcullis::pipeline::Gateway, world: &World) -> Value {
    let status = world.ask_as_operator(gate, "/status");
    serde_json::from_str::<Value>(&crate::fakes::answer(&status).body).unwrap()["token_cache"].clone()
}

#[test]
fn a_signature_is_checked_once() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    let good = vectors.token("a good token");
    for _ in 0..10 {
        assert_eq!(verdict(&world.send_token(&gate, "GET", ME, good)), (200, "ok"));
    }
    assert_eq!(world.checks.get(), 1);
    assert_eq!(world.send_token(&gate, "GET", ME, good).record.cache, Some("token"));
    let cache = cache_of(&gate, &world);
    assert_eq!((&cache["tokens"], &cache["hits"], &cache["misses"]), (&json!(1), &json!(10), &json!(1)));
}

#[test]
fn rights_are_judged_anew_on_every_route() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    let good = vectors.token("a good token");
    assert_eq!(verdict(&world.send_token(&gate, "GET", ME, good)), (200, "ok"));
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/api/v1/users", good)), (403, "rights_missing"));
    assert_eq!(world.checks.get(), 1);
}

#[test]
fn a_remembered_token_expires_to_the_second() {
    let vectors = Vectors::load();
    let good = vectors.token("a good token");
    for (after_exp, expected) in [(0, (200, "ok")), (29, (200, "ok")), (30, (401, "token_expired"))] {
        let (gate, world) = (shipped_gate(), World::new(&vectors));
        // Remembered shortly before, so that the memory's own bound is not what ends it.
        world.pass(800 * 1000);
        assert_eq!(verdict(&world.send_token(&gate, "GET", ME, good)), (200, "ok"));
        world.pass((100 + after_exp) * 1000);
        assert_eq!(verdict(&world.send_token(&gate, "GET", ME, good)), expected, "{after_exp} s after exp");
    }
}

#[test]
fn a_refused_token_is_never_remembered() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    for case in vectors.cases.iter().filter(|case| case.expected != "ok") {
        world.send_token(&gate, "GET", ME, &case.token);
        world.send_token(&gate, "GET", ME, &case.token);
    }
    assert_eq!(cache_of(&gate, &world)["tokens"], 0);
}

#[test]
fn a_removed_keys_token_dies_with_it_though_remembered_a_second_ago() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    let good = vectors.token("a good token");
    assert_eq!(verdict(&world.send_token(&gate, "GET", ME, good)), (200, "ok"));
    let mut other = vectors.jwks["keys"][2].clone();
    other["kid"] = json!("another");
    *world.issuer.borrow_mut() = Issuer::Serves(json!({ "keys": [other] }).to_string());
    world.pass(limits::FRESH_MS);
    // This one is answered from the set at hand while the issuer is asked.
    assert_eq!(verdict(&world.send_token(&gate, "GET", ME, good)), (200, "ok"));
    assert_eq!(verdict(&world.send_token(&gate, "GET", ME, good)), (401, "token_key_unknown"));
}

#[test]
fn a_kid_that_names_another_key_now_serves_no_remembered_token() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    let good = vectors.token("a good token");
    assert_eq!(verdict(&world.send_token(&gate, "GET", ME, good)), (200, "ok"));
    let mut swapped = vectors.jwks["keys"][2].clone();
    let modulus = swapped["n"].as_str().unwrap();
    swapped["n"] = json!(format!("z{}", &modulus[1..]));
    *world.issuer.borrow_mut() = Issuer::Serves(json!({ "keys": [swapped] }).to_string());
    world.pass(limits::FRESH_MS);
    world.send_token(&gate, "GET", ME, good);
    assert_eq!(verdict(&world.send_token(&gate, "GET", ME, good)), (401, "token_signature_invalid"));
}

#[test]
fn keys_past_their_hard_limit_vouch_for_nothing() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    let good = vectors.token("a good token");
    world.send_token(&gate, "GET", ME, good);
    *world.issuer.borrow_mut() = Issuer::Fails(Fault::Unreachable);
    world.pass(limits::HARD_MS);
    assert_eq!(verdict(&world.send_token(&gate, "GET", ME, good)), (503, "keys_unavailable"));
}
