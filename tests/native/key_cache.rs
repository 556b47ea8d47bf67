//! Issuers' key sets in the gateway: when they are fetched and stored, and which requests wait.

use std::{
    future::Future as _,
    task::{Context, Poll, Waker},
};

use portcullis::pipeline::{
    Head,
    limits::{KEY_WAIT_MS, KV_MS, READY_CHECKS, READY_LOST_MS},
    wire::Fault,
};
use portcullis_token::keys::limits;
use serde_json::{Value, json};

use crate::{
    fakes::{
        FakePorts, Issuer, ME_POLICY, SECRET, SHIPPED, Vectors, answer, configured, gateway_of, setup, shipped_setup,
        verdict,
    },
    keys::changed,
    signer::{Signer, claims_at, jwks},
};

const ME: &str = "/api/v1/auth/me";
/// Requests of an isolate that may wait for what another one fetches.
const WAITERS: usize = 1_024;

/// Milliseconds after which a waiting request that is not resumed has lost its place.
const LOST_MS: u64 = 6_000;

#[test]
fn a_bounded_number_of_requests_waits_for_a_key_and_lost_ones_expire() {
    let (vectors, gateway, ports) = shipped_setup();
    ports.issuer_never_answers.set(true);
    let authorization = format!("Bearer {}", vectors.token("a good token"));
    let headers = vec![("authorization".to_owned(), authorization)];
    let head = Head::new("GET".to_owned(), &format!("https://edge.example{ME}"), headers);
    let begin = || {
        let mut request = Box::pin(gateway.handle(&head, &ports));
        let answer = request.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        (request, answer)
    };
    let mut waiting = Vec::new();
    // One request fetches, the others wait.
    for count in 0..=WAITERS {
        let (request, answer) = begin();
        assert!(answer.is_pending(), "{count}");
        waiting.push(request);
    }
    assert_eq!(ports.fetches.get(), 1);
    let Poll::Ready(handled) = begin().1 else { panic!("one request too many waits") };
    assert_eq!(verdict(&handled.into()), (503, "keys_unavailable"));
    // The runtime may never resume a request after its client disconnects.
    ports.advance(LOST_MS);
    assert!(begin().1.is_pending());
}

#[test]
fn readiness_checks_without_keys_ask_the_store_and_the_issuer_rarely() {
    let (vectors, gateway, ports) = shipped_setup();
    *ports.issuer.borrow_mut() = Issuer::Fails(Fault::Unreachable);
    for round in 1..=3 {
        for _ in 0..100 {
            assert_eq!(ports.send(&gateway, "GET", "/ready", &[]).record.status, 503);
        }
        assert_eq!((ports.store_reads.get(), ports.fetches.get()), (round, round));
        ports.advance(limits::CACHE_LOOK_MS);
    }
    *ports.issuer.borrow_mut() = Issuer::Serves(vectors.jwks.to_string());
    assert_eq!(ports.send(&gateway, "GET", "/ready", &[]).record.status, 200);
}

#[test]
fn a_readiness_check_of_many_slow_issuers_is_bounded_in_time() {
    let issuer = |number: usize| {
        format!(
            "[issuers.i{number}]\nissuer = \"https://{number}.example\"\naudience = [\"api\"]\nalgorithms = [\"EdDSA\"]\njwks_url = \"https://{number}.example/jwks\"\n"
        )
    };
    let (gateway, ports) = setup(&(0..10).map(issuer).chain([PROVIDER.to_owned()]).collect::<String>());
    ports.store_takes_ms.set(KV_MS);
    *ports.issuer.borrow_mut() = Issuer::Slow("<html>".to_owned(), limits::FETCH_MS);
    let record = ports.send(&gateway, "GET", "/ready", &[]).record;
    assert_eq!(record.status, 503);
    assert!(record.duration_ms <= KEY_WAIT_MS + KV_MS, "{} ms", record.duration_ms);
}

#[test]
fn a_bounded_number_of_readiness_checks_waits_and_lost_ones_expire() {
    let (_, gateway, ports) = shipped_setup();
    ports.issuer_never_answers.set(true);
    let head = Head::new("GET".to_owned(), "https://edge.example/ready", vec![]);
    let begin = || {
        let mut request = Box::pin(gateway.handle(&head, &ports));
        let answer = request.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        (request, answer)
    };
    let waiting: Vec<_> = (0..READY_CHECKS).map(|_| begin()).collect();
    assert!(waiting.iter().all(|(_, answer)| answer.is_pending()));
    let Poll::Ready(handled) = begin().1 else { panic!("one check too many waits") };
    assert_eq!(verdict(&handled.into()), (503, "gateway_busy"));
    ports.advance(READY_LOST_MS);
    assert!(begin().1.is_pending());
}

#[test]
fn a_good_key_set_stays_in_use_while_the_issuer_fails() {
    let (vectors, gateway, ports) = shipped_setup();
    let good = vectors.token("a good token").to_owned();
    let ask = || verdict(&ports.send_token(&gateway, "GET", ME, &good));
    let mut fetches = 0;
    let mut expect = |fetched: usize, what: &str| {
        fetches += fetched;
        assert_eq!(ports.fetches.get(), fetches, "{what}");
    };

    assert_eq!(ask(), (200, "ok"));
    expect(1, "the first token fetches the set");
    assert_eq!(ports.store_writes.get(), 1, "and stores it");
    for _ in 0..100 {
        assert_eq!(ask(), (200, "ok"));
    }
    expect(0, "a fresh set is used without a fetch");

    ports.advance(limits::FRESH_MS);
    *ports.issuer.borrow_mut() = Issuer::Fails(Fault::TimedOut);
    assert_eq!(ask(), (200, "ok"));
    expect(1, "a stale set is used during the fetch");
    assert_eq!(ask(), (200, "ok"));
    expect(0, "a failed fetch is not repeated at once");
    ports.advance(1000);
    assert_eq!(ask(), (200, "ok"));
    expect(1, "it is repeated after a second");
    ports.advance(1000);
    assert_eq!(ask(), (200, "ok"));
    expect(0, "the pause doubles");
    ports.advance(1000);
    assert_eq!(ask(), (200, "ok"));
    expect(1, "to two seconds");

    for body in ["<html>", r#"{"keys":[]}"#, "", r#"{"keys":[{"kty":"RSA"}]}"#] {
        *ports.issuer.borrow_mut() = Issuer::Serves(body.to_owned());
        ports.advance(limits::BACKOFF.longest_ms);
        assert_eq!(ask(), (200, "ok"), "an invalid set replaced a valid one");
        expect(1, "the invalid set was fetched");
    }
    assert_eq!(ports.store_writes.get(), 1, "no invalid set was stored");

    *ports.issuer.borrow_mut() = Issuer::Serves(vectors.jwks.to_string());
    ports.advance(limits::BACKOFF.longest_ms);
    assert_eq!(ask(), (200, "ok"));
    expect(1, "the issuer answers again");
    assert_eq!(ports.store_writes.get(), 1, "an unchanged young set is not written again");
    assert_eq!(ask(), (200, "ok"));
    expect(0, "the set is fresh again");

    let without: Vec<Value> = vec![changed(json!({ "kid": "new" }))];
    *ports.issuer.borrow_mut() = Issuer::Serves(json!({ "keys": without }).to_string());
    ports.advance(limits::FRESH_MS);
    // The token has expired by now, which is checked after its key.
    assert_eq!(ask().1, "token_expired");
    expect(1, "the refresh removes the key");
    assert_eq!(ask(), (401, "token_key_unknown"), "a removed key verifies nothing");
    expect(0, "no fetch within the cool-down");
}

#[test]
fn each_second_of_an_hour_is_served_while_the_issuer_changes() {
    let (gateway, ports) = setup(ME_POLICY);
    let (first, second) = (Signer::new(1), Signer::new(2));
    let (old, both, new) = (jwks(&[&first]), jwks(&[&first, &second]), jwks(&[&second]));
    let begin = ports.now.get();
    // First second, state of the issuer, its answer, the key that signs, and the fetches until the next row
    // (at least, at most).
    let states = [
        (0, "answering", Issuer::Serves(old.clone()), &first, (1, 1)),
        (600, "slow", Issuer::Slow(old, 4000), &first, (1, 1)),
        (1200, "failing", Issuer::Fails(Fault::Unreachable), &first, (20, 45)),
        (1800, "serving an empty set", Issuer::Serves(r#"{"keys":[]}"#.to_owned()), &first, (10, 22)),
        (2100, "answering again", Issuer::Serves(jwks(&[&first])), &first, (1, 1)),
        (2400, "publishing the next key", Issuer::Serves(both.clone()), &first, (0, 1)),
        (2700, "signing with it", Issuer::Serves(both), &second, (0, 2)),
        (3000, "without the old key", Issuer::Serves(new), &second, (1, 1)),
    ];
    let mut fetched = 0;
    for (index, (from, state, issuer, signer, (least, most))) in states.iter().enumerate() {
        *ports.issuer.borrow_mut() = issuer.clone();
        let until = states.get(index + 1).map_or(3600, |next| next.0);
        for second in *from..until {
            ports.now.set(begin.plus(second * 1000));
            let now = ports.now.get().secs();
            let claims = claims_at(now);
            let handled = ports.send_token(&gateway, "GET", "/me", &signer.sign("at+jwt", &claims));
            assert_eq!(verdict(&handled), (200, "ok"), "{state}, second {second}");
            let may_wait = second == 0 || (*state == "signing with it" && second == *from);
            assert!(may_wait || handled.record.duration_ms == 0, "{state}: waited at second {second}");
        }
        let count = ports.fetches.get() - fetched;
        fetched = ports.fetches.get();
        assert!((*least..=*most).contains(&count), "{state}: {count} fetches");
    }
    let now = ports.now.get().secs();
    let claims = claims_at(now);
    let removed = ports.send_token(&gateway, "GET", "/me", &first.sign("at+jwt", &claims));
    assert_eq!(verdict(&removed), (401, "token_key_unknown"), "a removed key verifies nothing");
    println!("{fetched} fetches in an hour of 3,600 requests");
}

#[test]
fn a_thousand_unknown_kids_cause_one_fetch_per_cool_down() {
    let (vectors, gateway, ports) = shipped_setup();
    let (good, unknown) = (vectors.token("a good token"), vectors.token("kid unknown"));
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, good)), (200, "ok"));
    for round in 0..3 {
        for _ in 0..1000 {
            assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, unknown)), (401, "token_key_unknown"));
        }
        assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, good)), (200, "ok"));
        assert_eq!(ports.fetches.get(), 1 + round);
        ports.advance(limits::COOL_DOWN_MS);
    }
}

#[test]
fn an_unknown_kid_while_the_issuer_is_down_is_503() {
    let (vectors, gateway, ports) = shipped_setup();
    ports.send_token(&gateway, "GET", ME, vectors.token("a good token"));
    *ports.issuer.borrow_mut() = Issuer::Fails(Fault::Unreachable);
    ports.advance(limits::COOL_DOWN_MS);
    for _ in 0..10 {
        let handled = ports.send_token(&gateway, "GET", ME, vectors.token("kid unknown"));
        assert_eq!(verdict(&handled), (503, "keys_unavailable"), "the key may have been published just now");
    }
    assert_eq!(ports.fetches.get(), 2, "a failed fetch starts a back-off, too");
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, vectors.token("a good token"))), (200, "ok"));
}

#[test]
fn a_new_isolate_uses_the_stored_keys_while_the_issuer_is_down() {
    let (vectors, gateway, ports) = shipped_setup();
    ports.send_token(&gateway, "GET", ME, vectors.token("a good token"));
    *ports.issuer.borrow_mut() = Issuer::Fails(Fault::Unreachable);
    let cold = gateway_of(SHIPPED);
    assert_eq!(verdict(&ports.send_token(&cold, "GET", ME, vectors.token("a good token"))), (200, "ok"));
    assert_eq!(ports.fetches.get(), 1);
}

#[test]
fn a_store_that_takes_its_whole_time_and_a_slow_issuer_still_give_a_key() {
    let (vectors, gateway, ports) = shipped_setup();
    ports.store_takes_ms.set(KV_MS);
    *ports.issuer.borrow_mut() = Issuer::Slow(vectors.jwks.to_string(), limits::FETCH_MS);
    let handled = ports.send_token(&gateway, "GET", ME, vectors.token("a good token"));
    assert_eq!(verdict(&handled), (200, "ok"));
    assert_eq!(handled.record.duration_ms, KV_MS + limits::FETCH_MS);
}

#[test]
fn a_key_set_is_stored_after_the_next_fetch_if_a_write_fails() {
    let (vectors, gateway, ports) = shipped_setup();
    ports.store_fails.set(true);
    ports.send_token(&gateway, "GET", ME, vectors.token("a good token"));
    assert_eq!((ports.store_writes.get(), ports.store.borrow().len()), (1, 0));
    ports.store_fails.set(false);
    ports.advance(limits::FRESH_MS);
    ports.send_token(&gateway, "GET", ME, vectors.token("a good token"));
    assert_eq!((ports.store_writes.get(), ports.store.borrow().len()), (2, 1));
}

#[test]
fn cache_control_sets_the_time_of_the_next_fetch() {
    let vectors = Vectors::load();
    for (cache_control, seconds) in [("max-age=120", 120), ("no-store", 60), ("max-age=86400", 3600)] {
        let (gateway, ports) = setup(SHIPPED);
        *ports.issuer.borrow_mut() = Issuer::ServesFor(vectors.jwks.to_string(), cache_control);
        let ask = || ports.send_token(&gateway, "GET", ME, vectors.token("a good token"));
        ask();
        ports.advance(seconds * 1000 - 1);
        ask();
        assert_eq!(ports.fetches.get(), 1, "{cache_control}");
        ports.advance(1);
        ask();
        assert_eq!(ports.fetches.get(), 2, "{cache_control}");
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
fn a_discovery_document_leads_to_the_keys_of_its_issuer_only() {
    const DOCUMENT: &str = "https://id.example/realms/shop/.well-known/openid-configuration";
    const KEYS: &str = "https://keys.example/jwks";
    let vectors = Vectors::load();
    let document = |issuer: &str, url: &str| json!({ "issuer": issuer, "jwks_uri": url }).to_string();
    let own = "https://id.example/realms/shop";
    for (name, places, ready, error) in [
        ("answering", vec![(DOCUMENT, document(own, KEYS)), (KEYS, vectors.jwks.to_string())], true, Value::Null),
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
        let ports = FakePorts::new();
        let gateway = configured(PROVIDER, |name| match name {
            "METRICS_TOKEN" => Some("a-token-for-operators".to_owned()),
            "LOG_SUCCESSES" => Some("100".to_owned()),
            name => name.starts_with("ASSERTION_").then(|| SECRET.to_owned()),
        })
        .unwrap();
        *ports.issuer.borrow_mut() = Issuer::ServesAt(places);
        let ask = |path| ports.send_token(&gateway, "GET", path, "a-token-for-operators");
        assert_eq!(ask("/ready").record.status == 200, ready, "{name}");
        let status = ask("/status");
        let body: Value = serde_json::from_str(&answer(&status).body).unwrap();
        assert_eq!(body["issuers"][0]["last_error"], error, "{name}");
    }
}

#[test]
fn the_scheduled_refresh_writes_an_unchanged_set_once_an_hour() {
    let (gateway, ports) = setup(SHIPPED);
    for _ in 0..288 {
        futures_executor::block_on(gateway.run_scheduled(&ports));
        ports.advance(5 * 60 * 1000);
    }
    assert_eq!(ports.fetches.get(), 288);
    assert_eq!(ports.store_writes.get(), 24, "one an hour in a day without change");
}
