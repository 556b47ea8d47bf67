//! Key sets with several keys of one `kid`, keys without `kid`, many, large and invalid keys. A published
//! key that fits verifies; a set too large to examine causes a 503, never a 401.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::ecdsa::signature::Signer as _;
use portcullis::pipeline::wire::Fault;
use portcullis_token::{
    Algorithm, UnixMillis,
    keys::{FetchedKeySet, KeySet, KeySetError, limits},
};
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, Issuer, ME_POLICY, Vectors, gateway_of, setup, verdict},
    signer::{Signer, claims_at, with},
};

fn claims() -> Value {
    claims_at(Vectors::load().now)
}

fn header(alg: &str, kid: Option<&str>) -> Value {
    with(json!({ "alg": alg }), &kid.map_or(json!({}), |kid| json!({ "kid": kid })))
}

/// A token by an Ed25519 key, with or without a `kid`.
fn ed(seed: u8, kid: Option<&str>) -> String {
    Signer::new(seed).sign_as(&header("EdDSA", kid), &claims())
}

/// A token by a P-256 key.
fn es(seed: u8, kid: Option<&str>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!("{}.{}", part(&header("ES256", kid)), part(&claims()));
    let signature: p256::ecdsa::Signature = es_key(seed).sign(input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn es_key(seed: u8) -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn ed_jwk(seed: u8, changes: Value) -> Value {
    with(Signer::new(seed).jwk(), &changes)
}

fn es_jwk(seed: u8, changes: Value) -> Value {
    let point = es_key(seed).verifying_key().to_encoded_point(false);
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "kid": seed.to_string(), "x": part(point.x().unwrap()), "y": part(point.y().unwrap()),
    });
    with(jwk, &changes)
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// Returns the verdict of the gateway on a token, and the number of signature checks.
fn verify(jwks: String, token: &str) -> ((u16, &'static str), usize) {
    let ports = FakePorts::new();
    *ports.issuer.borrow_mut() = Issuer::Serves(jwks);
    let verdict = verdict(&ports.send_token(&gateway_of(ME_POLICY), "GET", "/me", token));
    (verdict, ports.checks.get())
}

const OK: (u16, &str) = (200, "ok");
const BAD_SIGNATURE: (u16, &str) = (401, "token_signature_invalid");
const UNKNOWN: (u16, &str) = (401, "token_key_unknown");
const UNAVAILABLE: (u16, &str) = (503, "keys_unavailable");

#[test]
fn at_most_four_fitting_keys_are_tried_for_a_token() {
    let k = json!({ "kid": "k" });
    let nameless = json!({ "kid": null });
    let same_name: Vec<Value> = (1..=5).map(|seed| ed_jwk(seed, k.clone())).collect();
    let no_name: Vec<Value> = (1..=5).map(|seed| ed_jwk(seed, nameless.clone())).collect();
    let named: Vec<Value> = (1..=3).map(|seed| ed_jwk(seed, json!({}))).collect();
    for (name, keys, token, expected, checks) in [
        (
            "two kinds under one kid, the first",
            vec![ed_jwk(1, k.clone()), es_jwk(2, k.clone())],
            ed(1, Some("k")),
            OK,
            1,
        ),
        (
            "two kinds under one kid, the second",
            vec![ed_jwk(1, k.clone()), es_jwk(2, k.clone())],
            es(2, Some("k")),
            OK,
            1,
        ),
        ("three of one kind under one kid, the last", same_name[..3].to_vec(), ed(3, Some("k")), OK, 3),
        ("four of one kind under one kid, the last", same_name[..4].to_vec(), ed(4, Some("k")), OK, 4),
        ("five of one kind under one kid, the last", same_name.clone(), ed(5, Some("k")), BAD_SIGNATURE, 4),
        ("one kid, and signed by none of its keys", same_name[..2].to_vec(), ed(9, Some("k")), BAD_SIGNATURE, 2),
        ("the same key twice", vec![ed_jwk(1, k.clone()), ed_jwk(1, k.clone())], ed(9, Some("k")), BAD_SIGNATURE, 1),
        (
            "keys without kid, the first kind",
            vec![ed_jwk(1, nameless.clone()), es_jwk(2, nameless.clone())],
            ed(1, None),
            OK,
            1,
        ),
        (
            "keys without kid, the second kind",
            vec![ed_jwk(1, nameless.clone()), es_jwk(2, nameless.clone())],
            es(2, None),
            OK,
            1,
        ),
        ("keys without kid of one kind, the last", no_name[..4].to_vec(), ed(4, None), OK, 4),
        ("five keys without kid", no_name, ed(5, None), BAD_SIGNATURE, 4),
        (
            "a token without kid, where one key fits",
            vec![ed_jwk(1, json!({})), es_jwk(2, json!({}))],
            es(2, None),
            OK,
            1,
        ),
        ("a token without kid, where three fit", named.clone(), ed(3, None), OK, 3),
        ("a token without kid, where none fits", named.clone(), es(1, None), UNKNOWN, 0),
        ("a token without kid, signed by none", named.clone(), ed(9, None), BAD_SIGNATURE, 3),
        (
            "a token without kid goes to a key without one first",
            vec![ed_jwk(1, json!({})), ed_jwk(2, nameless.clone())],
            ed(2, None),
            OK,
            1,
        ),
        ("any kid, where one key has none", vec![ed_jwk(1, nameless.clone())], ed(1, Some("anything")), OK, 1),
        (
            "any kid, signed by another key",
            vec![ed_jwk(1, nameless.clone())],
            ed(9, Some("anything")),
            BAD_SIGNATURE,
            1,
        ),
        (
            "a kid that is there goes before a key without one",
            vec![ed_jwk(1, nameless), ed_jwk(2, k.clone())],
            ed(1, Some("k")),
            BAD_SIGNATURE,
            1,
        ),
        ("the kid of no key", named, ed(1, Some("other")), UNKNOWN, 0),
        ("an algorithm that the kid's key does not have", vec![ed_jwk(1, k)], es(1, Some("k")), UNKNOWN, 0),
    ] {
        assert_eq!(verify(set(&keys), &token), (expected, checks), "{name}");
    }
}

#[test]
fn other_keys_of_a_set_do_not_affect_a_usable_key() {
    let numbered = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|number| es_jwk(u8::try_from(number % 200 + 1).unwrap(), json!({ "kid": format!("key {number}") })))
            .collect()
    };
    let certificate = "A".repeat(2000);
    let x5c = json!([certificate, certificate, certificate]);
    let good = ed_jwk(1, json!({})).to_string();
    let next_to = |bad: &str| format!(r#"{{"keys":[{bad},{good}],"more":{{"a":[1]}}}}"#);
    let deep = |depth: usize| format!(r#"{{"kty":"OKP","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let too_large = format!(r#"{{"keys":[{good}],"padding":"{}"}}"#, "x".repeat(limits::JWKS_BYTES));
    for (name, jwks, token, expected) in [
        ("the last of 100", set(&numbered(100)), es(100, Some("key 99")), OK),
        ("the last that is looked at", set(&numbered(limits::KEYS)), es(56, Some("key 255")), OK),
        ("one beyond", set(&numbered(limits::KEYS + 1)), es(57, Some("key 256")), UNAVAILABLE),
        ("the first of too many", set(&numbered(limits::KEYS + 1)), es(1, Some("key 0")), OK),
        (
            "behind 1,000 keys that are not for us",
            set(&[vec![json!({ "kty": "RSA", "alg": "RSA-OAEP" }); 1000], vec![ed_jwk(1, json!({}))]].concat()),
            ed(1, Some("1")),
            OK,
        ),
        (
            "12 with certificates",
            set(&(1..=12).map(|seed| ed_jwk(seed, json!({ "x5c": x5c }))).collect::<Vec<_>>()),
            ed(12, Some("12")),
            OK,
        ),
        ("next to null", next_to("null"), ed(1, Some("1")), OK),
        ("next to a number", next_to("7"), ed(1, Some("1")), OK),
        ("next to a text", next_to("\"key\""), ed(1, Some("1")), OK),
        ("next to a list", next_to("[[]]"), ed(1, Some("1")), OK),
        ("next to a member twice", next_to(r#"{"kty":"OKP","kty":"EC"}"#), ed(1, Some("1")), OK),
        ("next to a member twice, inside", next_to(r#"{"x5c":[{"a":1,"a":2}]}"#), ed(1, Some("1")), OK),
        ("next to deep nesting", next_to(&deep(100)), ed(1, Some("1")), OK),
        ("next to very deep nesting", next_to(&deep(100_000)), ed(1, Some("1")), OK),
        ("next to invalid JSON", next_to("{]"), ed(1, Some("1")), UNAVAILABLE),
        ("a set that is too large", too_large, ed(1, Some("1")), UNAVAILABLE),
        ("no set at all", "<html>".to_owned(), ed(1, Some("1")), UNAVAILABLE),
        ("an empty set", set(&[]), ed(1, Some("1")), UNAVAILABLE),
    ] {
        assert_eq!(verify(jwks, &token).0, expected, "{name}");
    }
}

#[test]
fn a_truncated_key_set_is_marked_in_the_store() {
    let keys: Vec<Value> = (0..=limits::KEYS).map(|number| es_jwk(1, json!({ "kid": number.to_string() }))).collect();
    let parsed = KeySet::parse(set(&keys).as_bytes(), &[Algorithm::Es256]).unwrap();
    assert_eq!((parsed.keys().len(), parsed.is_whole), (limits::KEYS, false));
    let now = UnixMillis::from_secs(1_800_000_000);
    let record = FetchedKeySet { set: parsed, fetched_at: now, fresh_ms: limits::FRESH_MS };
    let read = FetchedKeySet::from_json(&record.to_json(), &[Algorithm::Es256], now).unwrap();
    assert!(!read.set.is_whole);
}

#[test]
fn a_new_key_without_kid_is_fetched_like_one_with_a_new_kid() {
    let (gateway, ports) = setup(ME_POLICY);
    let nameless = |seed: u8| set(&[ed_jwk(seed, json!({ "kid": null }))]);
    let ask = |token: &str| verdict(&ports.send_token(&gateway, "GET", "/me", token));
    *ports.issuer.borrow_mut() = Issuer::Serves(nameless(1));
    assert_eq!(ask(&ed(1, None)), OK);
    assert_eq!(ask(&ed(2, None)), BAD_SIGNATURE, "no fetch within the cool-down");
    assert_eq!(ports.fetches.get(), 1);

    ports.advance(limits::COOL_DOWN_MS);
    *ports.issuer.borrow_mut() = Issuer::Fails(Fault::Unreachable);
    assert_eq!(ask(&ed(2, None)), UNAVAILABLE, "its key may have been published just now");
    assert_eq!(ask(&ed(1, None)), OK);

    ports.advance(limits::BACKOFF.longest_ms);
    *ports.issuer.borrow_mut() = Issuer::Serves(nameless(2));
    assert_eq!(ask(&ed(2, None)), OK);
    assert_eq!(ask(&ed(1, None)), BAD_SIGNATURE, "the old key is gone, cached or not");
    assert_eq!(ports.fetches.get(), 3);
    for _ in 0..100 {
        assert_eq!(ask(&ed(9, None)), BAD_SIGNATURE);
    }
    assert_eq!(ports.fetches.get(), 3);
}

#[test]
fn a_cached_token_is_accepted_while_its_key_is_published() {
    let (gateway, ports) = setup(ME_POLICY);
    let token = ed(2, Some("k"));
    let ask = || verdict(&ports.send_token(&gateway, "GET", "/me", &token));
    let publish = |seeds: &[u8]| {
        let keys: Vec<Value> = seeds.iter().map(|seed| ed_jwk(*seed, json!({ "kid": "k" }))).collect();
        *ports.issuer.borrow_mut() = Issuer::Serves(set(&keys));
        futures_executor::block_on(gateway.run_scheduled(&ports));
    };
    publish(&[1, 2]);
    assert_eq!(ask(), OK);
    assert_eq!(ask(), OK);
    assert_eq!(ports.checks.get(), 2, "the second one was cached");
    publish(&[3, 2]);
    assert_eq!(ask(), OK);
    assert_eq!(ports.checks.get(), 2, "it is still cached");
    publish(&[1, 3]);
    assert_eq!(ask(), BAD_SIGNATURE);
    publish(&[1, 2]);
    assert_eq!(ask(), OK);
}

#[test]
fn a_key_that_names_another_issuer_checks_no_token_of_this_one() {
    let unknown = (401, "token_key_unknown");
    for (issuer, expected) in [
        ("https://id.example", OK),
        ("https://{tenantid}", OK),
        ("https://id.example/", unknown),
        ("https://other.example", unknown),
        ("https://{tenantid}/v2.0", unknown),
        ("", unknown),
    ] {
        let jwks = set(&[ed_jwk(1, json!({ "kid": "k", "issuer": issuer }))]);
        assert_eq!(verify(jwks, &ed(1, Some("k"))).0, expected, "{issuer}");
    }
}

#[test]
fn a_key_whose_issuer_is_not_a_string_is_skipped() {
    for (issuer, expected) in [
        (json!("https://id.example/{tenantid}"), Ok(1)),
        (json!("i".repeat(limits::URL_BYTES)), Ok(1)),
        (json!("i".repeat(limits::URL_BYTES + 1)), Err(KeySetError::NoUsableKey)),
        (json!(["https://id.example/t1"]), Err(KeySetError::NoUsableKey)),
        (json!(7), Err(KeySetError::NoUsableKey)),
        (json!({}), Err(KeySetError::NoUsableKey)),
    ] {
        let text = set(&[ed_jwk(1, json!({ "kid": "k", "issuer": issuer }))]);
        let read = KeySet::parse(text.as_bytes(), Algorithm::ALL).map(|set| set.keys().len());
        assert_eq!(read, expected, "{issuer}");
    }
}
