//! Key sets: which keys are used, how a set is stored, and when it is fetched.

use portcullis_token::{
    Algorithm, IssuerMatch, UnixMillis,
    keys::{FetchedKeySet, IssuerKeys, KeyPlan, KeyQuery, KeySet, KeySetError, limits, plan},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fakes::Vectors;

const ALGORITHMS: &[Algorithm] = &[Algorithm::Rs256];

/// The one good key of the vectors' set.
fn good_key() -> Value {
    Vectors::load().jwks["keys"][2].clone()
}

/// A usable key with members that are `null`.
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

pub(crate) fn changed(changes: Value) -> Value {
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
fn an_unusable_key_is_skipped_and_a_usable_one_is_kept() {
    let weak = Vectors::load().jwks["keys"][1].clone();
    let modulus = good_key()["n"].as_str().unwrap().to_owned();
    for (name, key, is_usable) in [
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
        ("e = 3", changed(json!({ "kid": "x", "e": "Aw" })), true),
        ("e = 17", changed(json!({ "kid": "x", "e": "EQ" })), true),
        ("e = 37, with a zero", changed(json!({ "kid": "x", "e": "ACU" })), true),
        ("e = 5, which the runtime cannot import", changed(json!({ "kid": "x", "e": "BQ" })), false),
        ("e = 65539", changed(json!({ "kid": "x", "e": "AQAD" })), false),
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
        assert_eq!(set.keys().len(), 1 + usize::from(is_usable), "{name}");
        assert!(set.select(&wanted(good_key()["kid"].as_str())).is_some(), "{name}: the usable key is lost");
    }
}

#[test]
fn an_invalid_key_set_is_an_error() {
    let many: Vec<Value> = std::iter::repeat_n(json!({ "kty": "XYZ" }), 10_000).collect();
    let text = |value: &Value| value.to_string();
    for (name, body, expected) in [
        ("empty", String::new(), KeySetError::Malformed),
        ("HTML", "<html></html>".into(), KeySetError::Malformed),
        ("an array", "[]".into(), KeySetError::Malformed),
        ("no keys", "{}".into(), KeySetError::Malformed),
        ("keys an object", r#"{"keys":{}}"#.into(), KeySetError::Malformed),
        ("an array of a set's members", format!("[[{}]]", good_key()), KeySetError::Malformed),
        ("text behind", format!(r#"{{"keys":[{}]}} x"#, good_key()), KeySetError::Malformed),
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
fn keys_with_one_kid_are_kept_and_duplicates_are_dropped() {
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
    assert_eq!(parse(&[key]).unwrap().keys()[0].thumbprint, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn a_stored_key_set_is_read_back_and_garbage_is_ignored() {
    let now = UnixMillis::from_secs(1_800_000_000);
    let record = FetchedKeySet { set: parse(&[good_key()]).unwrap(), fetched_at: now, fresh_ms: limits::FRESH_MS };
    let text = record.to_json();
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
fn jitter_spreads_the_next_fetches_of_isolates() {
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

#[test]
fn keys_fetched_while_the_clock_was_ahead_are_fetched_again() {
    let now = UnixMillis::from_secs(1_800_000_000);
    let ahead = now.plus(3 * 24 * 3600 * 1000);
    let record =
        |fetched_at| FetchedKeySet { set: parse(&[good_key()]).unwrap(), fetched_at, fresh_ms: limits::FRESH_MS };
    let key = good_key();
    let known = wanted(key["kid"].as_str());
    let mut holding = IssuerKeys::default();
    holding.adopt(None, ahead);
    holding.succeed(record(ahead));
    assert!(matches!(plan(&holding, &known, now), KeyPlan::UseAndRefresh(_)));
    assert_eq!(plan(&holding, &wanted(Some("new")), now), KeyPlan::ReadCache);
    holding.adopt(None, now);
    assert_eq!(plan(&holding, &wanted(Some("new")), now), KeyPlan::Fetch);
    holding.begin(ahead);
    assert_eq!(plan(&holding, &wanted(Some("new")), now), KeyPlan::Fetch, "the fetch is lost");
    assert!(record(now).should_replace(Some(&record(ahead))));
    holding.adopt(Some(record(now)), now);
    assert_eq!(holding.record, Some(record(now)), "the stored set is newer");
    holding.adopt(Some(record(UnixMillis(now.0 - 1))), now);
    assert_eq!(holding.record, Some(record(now)), "the stored set is older");
    holding.succeed(record(ahead));
    holding.fail("jwks_unreachable", now, 0);
    assert!(holding.usable(now.plus(limits::HARD_MS - 1)).is_some());
    assert_eq!(holding.usable(now.plus(limits::HARD_MS)), None, "the hard limit holds");
}

#[test]
fn an_algorithm_that_is_listed_twice_is_one_choice() {
    let key = changed(json!({ "alg": null }));
    let text = json!({ "keys": [key] }).to_string();
    for (algorithms, expected) in [
        (&[Algorithm::Rs256, Algorithm::Es256, Algorithm::Rs256][..], Ok(1)),
        (&[Algorithm::Rs256, Algorithm::Ps256], Err(KeySetError::NoUsableKey)),
    ] {
        assert_eq!(KeySet::parse(text.as_bytes(), algorithms).map(|set| set.keys().len()), expected);
    }
}

proptest! {
    /// Holds for every state of an issuer's keys.
    #[test]
    fn the_plan_uses_unexpired_keys_only_and_refuses_no_published_one(
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
            attempt: attempt.map(|(running, ok, age)| (ago(age), match (running, ok) {
                (true, _) => KeyFetch::Running,
                (false, true) => KeyFetch::Succeeded,
                (false, false) => KeyFetch::Failed { jitter },
            })),
            failures,
            ..IssuerKeys::default()
        };
        let key = good_key();
        let kid = if known { key["kid"].as_str().unwrap() } else { "unknown" };
        let usable = known && age.is_some_and(|age| age < limits::HARD_MS);
        match plan(&holding, &wanted(Some(kid)), now) {
            KeyPlan::Use(_) | KeyPlan::UseAndRefresh(_) => prop_assert!(usable),
            KeyPlan::Unknown => {
                prop_assert!(!usable, "a token of a published key is refused");
                prop_assert!(matches!(holding.attempt, Some((_, KeyFetch::Succeeded))), "401 without a fetch");
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
