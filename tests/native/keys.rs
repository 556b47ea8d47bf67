//! Key sets and the plan: what is passed over, what is fetched when, and what a
//! client is told meanwhile.

use std::{
    future::Future as _,
    task::{Context, Poll, Waker},
};

use portcullis::pipeline::{Head, wire::Fault};
use portcullis_token::{
    Algorithm, IssuerMatch, UnixMillis,
    keys::{FetchedKeySet, IssuerKeys, KeyPlan, KeyQuery, KeySet, KeySetError, limits, plan},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    fakes::{Issuer, Vectors, World, setting, shipped_gate, verdict},
    signer::{Signer, jwks},
};

const ME: &str = "/api/v1/auth/me";
/// Requests of an isolate that may wait for what another one fetches.
const WAITERS: usize = 1_024;

/// Milliseconds after which a waiting request that is not resumed has lost its place.
const LOST_MS: u64 = 6_000;

const ALGORITHMS: &[Algorithm] = &[Algorithm::Rs256];

/// The one good key of the vectors' set.
fn good_key() -> Value {
    Vectors::load().jwks["keys"][2].clone()
}

/// Members that a generator of JSON wrote down although it had nothing to say.
fn null_members() -> Value {
    let mut key = changed(json!({ "kid": "x" }));
    for name in ["use", "key_ops", "x5c"] {
        key[name] = Value::Null;
    }
    key
}

fn wanted(kid: Option<&str>) -> KeyQuery<'_> {
    KeyQuery { kid, algorithm: Algorithm::Rs256, issuer: IssuerMatch::default(), tried: &[] }
}

fn changed(changes: Value) -> Value {
    let mut key = good_key();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => key.as_object_mut().unwrap().remove(name),
            _ => key.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    key
}

fn parse(keys: &[Value]) -> Result<KeySet, KeySetError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), ALGORITHMS)
}

#[test]
fn unfit_keys_are_passed_over_and_the_good_one_kept() {
    let weak = Vectors::load().jwks["keys"][1].clone();
    let modulus = good_key()["n"].as_str().unwrap().to_owned();
    for (name, key, taken) in [
        ("plain", changed(json!({ "kid": "x" })), true),
        ("no alg, where the issuer leaves no choice", changed(json!({ "kid": "x", "alg": null })), true),
        ("no use", changed(json!({ "kid": "x", "use": null })), true),
        ("key_ops verify", changed(json!({ "kid": "x", "key_ops": ["verify"] })), true),
        ("no kid", changed(json!({ "kid": null })), true),
        ("kid empty", changed(json!({ "kid": "" })), true),
        ("use and key_ops null", null_members(), true),
        ("use enc", changed(json!({ "kid": "x", "use": "enc" })), false),
        ("key_ops sign", changed(json!({ "kid": "x", "key_ops": ["sign"] })), false),
        ("key_ops no array", changed(json!({ "kid": "x", "key_ops": "verify" })), false),
        ("another alg", changed(json!({ "kid": "x", "alg": "RS512" })), false),
        ("alg none", changed(json!({ "kid": "x", "alg": "none" })), false),
        ("alg no string", changed(json!({ "kid": "x", "alg": 7 })), false),
        ("unknown kty", changed(json!({ "kid": "x", "kty": "XYZ" })), false),
        ("a secret", json!({ "kid": "x", "kty": "oct", "k": "AAAA" }), false),
        ("a private key", changed(json!({ "kid": "x", "d": "AQAB" })), false),
        ("RSA 1024", weak, false),
        ("e = 1", changed(json!({ "kid": "x", "e": "AQ" })), false),
        ("e even", changed(json!({ "kid": "x", "e": "AQAA" })), false),
        ("e of 9 bytes", changed(json!({ "kid": "x", "e": "AQAAAAAAAAAB" })), false),
        ("n even", changed(json!({ "kid": "x", "n": format!("{}A", &modulus[..341]) })), false),
        ("n empty", changed(json!({ "kid": "x", "n": "" })), false),
        ("n of 16,384 bits", changed(json!({ "kid": "x", "n": "_".repeat(2731) })), false),
        ("n padded", changed(json!({ "kid": "x", "n": format!("{modulus}==") })), false),
        ("n a number", changed(json!({ "kid": "x", "n": 7 })), false),
        ("kid of 300 bytes", changed(json!({ "kid": "k".repeat(300) })), false),
        ("kid a number", changed(json!({ "kid": 7 })), false),
        ("no object", json!("key"), false),
    ] {
        let set = parse(&[key, good_key()]).unwrap();
        assert_eq!(set.keys().len(), 1 + usize::from(taken), "{name}");
        assert!(set.select(&wanted(good_key()["kid"].as_str())).is_some(), "{name}: the good key is lost");
    }
}

#[test]
fn only_so_many_requests_wait_for_a_key_and_lost_ones_make_room() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    world.is_stuck.set(true);
    let authorization = format!("Bearer {}", vectors.token("a good token"));
    let headers = vec![("authorization".to_owned(), authorization)];
    let head = Head::new("GET".to_owned(), &format!("https://edge.example{ME}"), headers);
    let begin = || {
        let mut request = Box::pin(gate.handle(&head, &world));
        let answer = request.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        (request, answer)
    };
    let mut waiting = Vec::new();
    // One asks the issuer, the others wait for it.
    for count in 0..=WAITERS {
        let (request, answer) = begin();
        assert!(answer.is_pending(), "{count}");
        waiting.push(request);
    }
    assert_eq!(world.fetches.get(), 1);
    let Poll::Ready(handled) = begin().1 else { panic!("one more waits") };
    assert_eq!(verdict(&handled), (503, "keys_unavailable"));
    // The runtime may never resume a request after its client disconnects.
    world.pass(LOST_MS);
    assert!(begin().1.is_pending());
}

#[test]
fn bodies_that_are_no_key_set_are_errors() {
    let many: Vec<Value> = std::iter::repeat_n(json!({ "kty": "XYZ" }), 10_000).collect();
    let text = |value: &Value| value.to_string();
    for (name, body, expected) in [
        ("empty", String::new(), KeySetError::Malformed),
        ("HTML", "<html></html>".into(), KeySetError::Malformed),
        ("an array", "[]".into(), KeySetError::Malformed),
        ("no keys", "{}".into(), KeySetError::Malformed),
        ("keys an object", r#"{"keys":{}}"#.into(), KeySetError::Malformed),
        ("keys twice", r#"{"keys":[],"keys":[]}"#.into(), KeySetError::Malformed),
        ("no key", r#"{"keys":[]}"#.into(), KeySetError::NoUsableKey),
        ("no usable key", text(&json!({ "keys": [{ "kty": "XYZ" }] })), KeySetError::NoUsableKey),
        ("10,000 keys, none of them usable", text(&json!({ "keys": many })), KeySetError::NoUsableKey),
        ("512 KB and a byte", " ".repeat(512 * 1024 + 1), KeySetError::TooLarge),
    ] {
        assert_eq!(KeySet::parse(body.as_bytes(), ALGORITHMS), Err(expected), "{name}");
    }
}

#[test]
fn keys_of_one_kid_are_all_kept_and_the_same_one_once() {
    let other = changed(json!({ "n": format!("z{}", &good_key()["n"].as_str().unwrap()[1..]) }));
    let third = changed(json!({ "kid": "third" }));
    assert_eq!(parse(&[good_key(), good_key()]).unwrap().keys().len(), 1, "the same key twice is one");
    assert_eq!(parse(&[good_key(), other, third]).unwrap().keys().len(), 3);
}

#[test]
fn the_thumbprint_is_that_of_rfc_7638() {
    // Section 3.1.
    let key = json!({
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
    });
    assert_eq!(parse(&[key]).unwrap().keys()[0].thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn a_record_survives_the_store_and_garbage_does_not() {
    let now = UnixMillis::from_secs(1_800_000_000);
    let record = FetchedKeySet { set: parse(&[good_key()]).unwrap(), fetched_at: now, fresh_ms: limits::FRESH_MS };
    let text = record.to_json().unwrap();
    assert_eq!(FetchedKeySet::from_json(&text, ALGORITHMS, now), Some(record));
    assert_eq!(FetchedKeySet::from_json(&text, ALGORITHMS, UnixMillis(0)), None, "from the future");
    for garbage in [
        "",
        "{}",
        "null",
        "<html>",
        r#"{"fetched_at":0,"fresh_ms":1,"jwks":"{\"keys\":[]}"}"#,
        r#"{"fetched_at":-1,"fresh_ms":1,"jwks":""}"#,
    ] {
        assert_eq!(FetchedKeySet::from_json(garbage, ALGORITHMS, now), None, "{garbage}");
    }
}

#[test]
fn an_hour_of_an_issuer_in_all_its_moods() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    // Tokens are good for 15 minutes; the hour is told in steps of which each
    // asks with one that is good for another reason than its age.
    let good = vectors.token("a good token").to_owned();
    let ask = || verdict(&world.send_token(&gate, "GET", ME, &good));
    let mut fetches = 0;
    let mut expect = |fetched: usize, what: &str| {
        fetches += fetched;
        assert_eq!(world.fetches.get(), fetches, "{what}");
    };

    assert_eq!(ask(), (200, "ok"));
    expect(1, "the first token fetches the set");
    assert_eq!(world.store_writes.get(), 1, "and stores it");
    for _ in 0..100 {
        assert_eq!(ask(), (200, "ok"));
    }
    expect(0, "fresh sets are used without a thought");

    world.pass(limits::FRESH_MS);
    *world.issuer.borrow_mut() = Issuer::Fails(Fault::TimedOut);
    assert_eq!(ask(), (200, "ok"));
    expect(1, "past freshness the set is used while the issuer is asked");
    assert_eq!(ask(), (200, "ok"));
    expect(0, "a failure is not tried again at once");
    world.pass(1000);
    assert_eq!(ask(), (200, "ok"));
    expect(1, "but after a second");
    world.pass(1000);
    assert_eq!(ask(), (200, "ok"));
    expect(0, "the pause doubles");
    world.pass(1000);
    assert_eq!(ask(), (200, "ok"));
    expect(1, "to two seconds");

    for lie in ["<html>", r#"{"keys":[]}"#, "", r#"{"keys":[{"kty":"RSA"}]}"#] {
        *world.issuer.borrow_mut() = Issuer::Serves(lie.to_owned());
        world.pass(limits::BACKOFF.longest_ms);
        assert_eq!(ask(), (200, "ok"), "a lie replaced a good set");
        expect(1, "the issuer was asked and lied");
    }
    assert_eq!(world.store_writes.get(), 1, "no lie was stored");

    *world.issuer.borrow_mut() = Issuer::Serves(vectors.jwks.to_string());
    world.pass(limits::BACKOFF.longest_ms);
    assert_eq!(ask(), (200, "ok"));
    expect(1, "the issuer is back");
    assert_eq!(world.store_writes.get(), 1, "an unchanged young set is not written again");
    assert_eq!(ask(), (200, "ok"));
    expect(0, "and the set is fresh again");

    let without: Vec<Value> = vec![changed(json!({ "kid": "new" }))];
    *world.issuer.borrow_mut() = Issuer::Serves(json!({ "keys": without }).to_string());
    world.pass(limits::FRESH_MS);
    // The token itself is past its expiry by now: what is asked is its key.
    assert_eq!(ask().1, "token_expired");
    expect(1, "the removal is seen by the refresh");
    assert_eq!(ask(), (401, "token_key_unknown"), "a removed key is dead");
    expect(0, "within the cool-down");
}

#[test]
fn an_hour_second_by_second() {
    const POLICY: &str = r#"
[issuers.id]
issuer = "https://id.example"
audience = ["api"]
algorithms = ["EdDSA"]
jwks_url = "https://id.example/jwks"

[upstreams.app]
url = "https://app.example"

[[routes]]
path = "/me"
methods = ["GET"]
upstream = "app"
access = "user"
"#;
    let policy = portcullis_policy::check(POLICY).unwrap();
    let gate = portcullis::pipeline::Gateway::new(&serde_json::to_string(&policy).unwrap(), setting).unwrap();
    let world = World::new(&Vectors::load());
    let (first, second) = (Signer::new(1), Signer::new(2));
    let (old, both, new) = (jwks(&[&first]), jwks(&[&first, &second]), jwks(&[&second]));
    let begin = world.now.get();
    // From which second on: what the issuer is like, which key signs, and how often it may
    // be asked until the next line (at least, at most).
    let moods = [
        (0, "fine", Issuer::Serves(old.clone()), &first, (1, 1)),
        (600, "slow", Issuer::Slow(old, 4000), &first, (1, 1)),
        (1200, "failing", Issuer::Fails(Fault::Unreachable), &first, (20, 45)),
        (1800, "lying", Issuer::Serves(r#"{"keys":[]}"#.to_owned()), &first, (10, 22)),
        (2100, "coming back", Issuer::Serves(jwks(&[&first])), &first, (1, 1)),
        (2400, "publishing the next key", Issuer::Serves(both.clone()), &first, (0, 1)),
        (2700, "signing with it", Issuer::Serves(both), &second, (0, 2)),
        (3000, "without the old key", Issuer::Serves(new), &second, (1, 1)),
    ];
    let mut asked = 0;
    for (index, (from, mood, issuer, signer, (least, most))) in moods.iter().enumerate() {
        *world.issuer.borrow_mut() = issuer.clone();
        let until = moods.get(index + 1).map_or(3600, |next| next.0);
        for second in *from..until {
            world.now.set(begin.plus(second * 1000));
            let now = world.now.get().secs();
            let claims =
                json!({ "iss": "https://id.example", "aud": "api", "sub": "ada", "iat": now, "exp": now + 900 });
            let handled = world.send_token(&gate, "GET", "/me", &signer.sign("at+jwt", &claims));
            assert_eq!(verdict(&handled), (200, "ok"), "{mood}, second {second}");
            let may_wait = second == 0 || (*mood == "signing with it" && second == *from);
            assert!(may_wait || handled.record.duration_ms == 0, "{mood}: waited at second {second}");
        }
        let count = world.fetches.get() - asked;
        asked = world.fetches.get();
        assert!((*least..=*most).contains(&count), "{mood}: asked {count} times");
    }
    let now = world.now.get().secs();
    let claims = json!({ "iss": "https://id.example", "aud": "api", "sub": "ada", "iat": now, "exp": now + 900 });
    let dead = world.send_token(&gate, "GET", "/me", &first.sign("at+jwt", &claims));
    assert_eq!(verdict(&dead), (401, "token_key_unknown"), "a removed key is dead");
    println!("asked {asked} times in an hour of 3,600 requests");
}

#[test]
fn a_thousand_random_kids_cost_one_fetch_a_cool_down() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    let (good, unknown) = (vectors.token("a good token"), vectors.token("kid unknown"));
    assert_eq!(verdict(&world.send_token(&gate, "GET", ME, good)), (200, "ok"));
    for round in 0..3 {
        for _ in 0..1000 {
            assert_eq!(verdict(&world.send_token(&gate, "GET", ME, unknown)), (401, "token_key_unknown"));
        }
        assert_eq!(verdict(&world.send_token(&gate, "GET", ME, good)), (200, "ok"));
        assert_eq!(world.fetches.get(), 1 + round);
        world.pass(limits::COOL_DOWN_MS);
    }
}

#[test]
fn an_unknown_kid_while_the_issuer_is_down_is_503() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    world.send_token(&gate, "GET", ME, vectors.token("a good token"));
    *world.issuer.borrow_mut() = Issuer::Fails(Fault::Unreachable);
    world.pass(limits::COOL_DOWN_MS);
    for _ in 0..10 {
        let handled = world.send_token(&gate, "GET", ME, vectors.token("kid unknown"));
        assert_eq!(verdict(&handled), (503, "keys_unavailable"), "it may be a key that was published just now");
    }
    assert_eq!(world.fetches.get(), 2, "and a failure starts a pause too");
    assert_eq!(verdict(&world.send_token(&gate, "GET", ME, vectors.token("a good token"))), (200, "ok"));
}

#[test]
fn another_isolate_starts_from_the_store_with_the_issuer_down() {
    let vectors = Vectors::load();
    let world = World::new(&vectors);
    world.send_token(&shipped_gate(), "GET", ME, vectors.token("a good token"));
    *world.issuer.borrow_mut() = Issuer::Fails(Fault::Unreachable);
    let cold = shipped_gate();
    assert_eq!(verdict(&world.send_token(&cold, "GET", ME, vectors.token("a good token"))), (200, "ok"));
    assert_eq!(world.fetches.get(), 1);
}

#[test]
fn a_set_that_could_not_be_stored_is_stored_the_next_time() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    world.store_fails.set(true);
    world.send_token(&gate, "GET", ME, vectors.token("a good token"));
    assert_eq!((world.store_writes.get(), world.store.borrow().len()), (1, 0));
    world.store_fails.set(false);
    world.pass(limits::FRESH_MS);
    world.send_token(&gate, "GET", ME, vectors.token("a good token"));
    assert_eq!((world.store_writes.get(), world.store.borrow().len()), (2, 1));
}

#[test]
fn an_issuers_cache_control_says_when_it_is_asked_again() {
    let vectors = Vectors::load();
    for (cache_control, seconds) in [("max-age=120", 120), ("no-store", 60), ("max-age=86400", 3600)] {
        let (gate, world) = (shipped_gate(), World::new(&vectors));
        *world.issuer.borrow_mut() = Issuer::ServesFor(vectors.jwks.to_string(), cache_control);
        let ask = || world.send_token(&gate, "GET", ME, vectors.token("a good token"));
        ask();
        world.pass(seconds * 1000 - 1);
        ask();
        assert_eq!(world.fetches.get(), 1, "{cache_control}");
        world.pass(1);
        ask();
        assert_eq!(world.fetches.get(), 2, "{cache_control}");
    }
}

#[test]
fn isolates_that_failed_together_do_not_come_back_together() {
    let now = UnixMillis::from_secs(1_800_000_000);
    let pause = |failures: u32, jitter: u8| {
        let mut holding = IssuerKeys::default();
        for _ in 0..failures {
            holding.fail("jwks_unreachable", now, jitter);
        }
        (0..).find(|millis| holding.may_ask(now.plus(*millis))).unwrap()
    };
    for (failures, least, most) in [(1, 500, 1000), (2, 1000, 2000), (3, 2000, 4000), (30, 15_000, 30_000)] {
        assert_eq!((pause(failures, 255), pause(failures, 0)), (least, most), "{failures} failures");
        let between = pause(failures, 128);
        assert!(least < between && between < most);
    }
}

const PROVIDER: &str = r#"
[issuers.provider]
issuer = "https://id.example/realms/shop"
audience = ["api"]
algorithms = ["RS256"]
discovery = true
[upstreams.shop]
url = "https://shop.example"
[[routes]]
path = "/x"
methods = ["GET"]
upstream = "shop"
access = "user"
"#;

#[test]
fn a_providers_document_leads_to_its_keys_and_to_nothing_else() {
    const DOCUMENT: &str = "https://id.example/realms/shop/.well-known/openid-configuration";
    const KEYS: &str = "https://keys.example/jwks";
    let vectors = Vectors::load();
    let policy = portcullis_policy::check(PROVIDER).unwrap();
    let document = |issuer: &str, url: &str| json!({ "issuer": issuer, "jwks_uri": url }).to_string();
    let own = "https://id.example/realms/shop";
    for (name, places, ready, error) in [
        ("fine", vec![(DOCUMENT, document(own, KEYS)), (KEYS, vectors.jwks.to_string())], true, Value::Null),
        (
            "another issuer's",
            vec![(DOCUMENT, document("https://evil.example", KEYS))],
            false,
            json!("discovery_issuer_mismatch"),
        ),
        (
            "plain HTTP on loopback",
            vec![(DOCUMENT, document(own, "http://127.0.0.1/jwks"))],
            false,
            json!("discovery_url_refused"),
        ),
        (
            "plain HTTP",
            vec![(DOCUMENT, document(own, "http://keys.example/jwks"))],
            false,
            json!("discovery_url_refused"),
        ),
        ("a file", vec![(DOCUMENT, document(own, "file:///etc/passwd"))], false, json!("discovery_url_refused")),
        ("HTML", vec![(DOCUMENT, "<html>".to_owned())], false, json!("discovery_malformed")),
        ("no document", vec![], false, json!("jwks_status")),
        ("no keys", vec![(DOCUMENT, document(own, KEYS))], false, json!("jwks_status")),
        (
            "empty keys",
            vec![(DOCUMENT, document(own, KEYS)), (KEYS, r#"{"keys":[]}"#.to_owned())],
            false,
            json!("jwks_no_usable_key"),
        ),
    ] {
        let world = World::new(&vectors);
        let gate = portcullis::pipeline::Gateway::new(&serde_json::to_string(&policy).unwrap(), |name| match name {
            "METRICS_TOKEN" => Some("a-token-for-operators".to_owned()),
            name => name.starts_with("ASSERTION_").then(|| crate::fakes::SECRET.to_owned()),
        })
        .unwrap();
        *world.issuer.borrow_mut() = Issuer::ServesAt(places);
        let ask = |path| world.send_token(&gate, "GET", path, "a-token-for-operators");
        assert_eq!(ask("/ready").record.status == 200, ready, "{name}");
        let status = ask("/status");
        let body: Value = serde_json::from_str(&crate::fakes::answer(&status).body).unwrap();
        assert_eq!(body["issuers"][0]["last_error"], error, "{name}");
    }
}

#[test]
fn past_the_hard_limit_nothing_is_trusted() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    world.send_token(&gate, "GET", ME, vectors.token("a good token"));
    *world.issuer.borrow_mut() = Issuer::Fails(Fault::Unreachable);
    world.pass(limits::HARD_MS);
    assert_eq!(verdict(&world.send_token(&gate, "GET", ME, vectors.token("a good token"))), (503, "keys_unavailable"));
}

#[test]
fn the_cron_keeps_the_store_warm_and_writes_little() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    for _ in 0..288 {
        futures_executor::block_on(gate.run_scheduled(&world));
        world.pass(5 * 60 * 1000);
    }
    assert_eq!(world.fetches.get(), 288);
    assert_eq!(world.store_writes.get(), 24, "one an hour in a day without change");
}

proptest! {
    /// Whatever the past was, the plan keeps its promises.
    #[test]
    fn the_plan_never_breaks_its_promises(
        age in prop::option::of(0_u64..2 * limits::HARD_MS),
        cache_age in prop::option::of(0_u64..60_000),
        attempt in prop::option::of((any::<bool>(), any::<bool>(), 0_u64..60_000)),
        failures in 0_u32..100,
        fresh_ms in limits::FRESH_MIN_MS..limits::FRESH_MAX_MS,
        jitter in any::<u8>(),
        known in any::<bool>(),
    ) {
        use portcullis_token::keys::KeyFetch;
        let now = UnixMillis::from_secs(1_800_000_000);
        let ago = |millis: u64| UnixMillis(now.0 - millis);
        let holding = IssuerKeys {
            record: age.map(|age| FetchedKeySet { set: parse(&[good_key()]).unwrap(), fetched_at: ago(age), fresh_ms }),
            cache_read_at: cache_age.map(ago),
            attempt: attempt.map(|(running, ok, age)| if running {
                KeyFetch::Running(ago(age))
            } else {
                KeyFetch::Done { at: ago(age), ok, jitter }
            }),
            failures,
            last_error: None,
        };
        let key = good_key();
        let kid = if known { key["kid"].as_str().unwrap() } else { "unknown" };
        let usable = known && age.is_some_and(|age| age < limits::HARD_MS);
        match plan(&holding, &wanted(Some(kid)), now) {
            KeyPlan::Use(_) | KeyPlan::UseAndRefresh(_) => prop_assert!(usable),
            KeyPlan::Unknown => {
                prop_assert!(!usable, "an honest token refused");
                prop_assert!(matches!(holding.attempt, Some(KeyFetch::Done { ok: true, .. })), "401 without having asked");
            }
            KeyPlan::Unavailable { retry_ms } => {
                prop_assert!(!usable);
                prop_assert!(retry_ms > 0 && retry_ms <= limits::COOL_DOWN_MS);
            }
            KeyPlan::Fetch => prop_assert!(!usable && holding.may_ask(now)),
            KeyPlan::ReadCache | KeyPlan::Wait => prop_assert!(!usable),
        }
    }
}
