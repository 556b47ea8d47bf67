//! `POST /api/v1/auth/keys/rotate`, and the lifetime of signing keys.

use portcullis_origin::{
    auth::{Keyring, KeyringFault},
    clock::Clock,
    limits,
    signing::MasterKey,
    store::{Database, Schema, SigningKeys},
};
use reqwest::Method;
use serde_json::Value;

use crate::support::{App, BOTH, Databases, Person, ROTATE, Service, jwks, kids, make_admin};

#[tokio::test]
async fn keys_and_sessions_survive_a_restart() {
    let mut app = App::start().await;
    let person = app.person("ada@example.com").await;
    let (before, _) = jwks(&app).await;
    app.restart(BOTH).await;
    assert_eq!(jwks(&app).await.0, before);
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/validate-token", &person).await.status, 200);
    assert_eq!(app.refresh(&person.refresh).await.status, 200);
}

/// Waits for the periodic reload of the keys.
async fn until_kids(app: &App, what: &str, is_so: impl Fn(&[String]) -> bool) {
    for _ in 0..400 {
        if is_so(&kids(app).await) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("waited in vain: {what}");
}

fn kid_of(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let header: Value = serde_json::from_slice(&base64::Engine::decode(&engine, header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_new_key_is_published_before_it_signs_and_an_old_one_until_its_tokens_expire() {
    let app = App::start().await;
    let person = app.person("ada@example.com").await;
    let admin = make_admin(&app, &person).await;
    let first = kids(&app).await;
    let reply = app.send(Service::Auth, Method::POST, ROTATE, Some(&admin), None).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let (kid, previous) = (reply.json()["kid"].clone(), reply.json()["previous_kid"].clone());
    assert_eq!(previous, first[0].as_str());
    assert_eq!(kids(&app).await.len(), 2, "both are published at once");
    let again = app.send(Service::Auth, Method::POST, ROTATE, Some(&admin), None).await;
    assert_eq!((&again.json()["kid"], kids(&app).await.len()), (&kid, 2), "a key that waits stays the next");

    let before = app.log_in("ada@example.com").await;
    assert_eq!(kid_of(&before.access), first[0], "and does not sign yet");
    app.clock.pass(limits::KEY_LEAD_S * 1000);
    let after = app.log_in("ada@example.com").await;
    assert_eq!(kid_of(&after.access), kid.as_str().unwrap());
    let validate = "/api/v1/auth/validate-token";
    assert_eq!(app.get(Service::Auth, validate, &after).await.status, 200);
    assert_eq!(kids(&app).await.len(), 2, "the old one is published still");
    app.clock.pass(limits::ACCESS_TOKEN_MS + limits::LEEWAY_MS);
    until_kids(&app, "the old key is gone", |kids| kids == [kid.as_str().unwrap()]).await;
    // The user service fetched the new key.
    let changed = app
        .send(
            Service::Users,
            Method::PATCH,
            &format!("/api/v1/users/{}", after.id),
            Some(&after),
            Some(serde_json::json!({ "first_name": "A." })),
        )
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text);
}

#[tokio::test]
async fn keys_rotate_by_their_age() {
    let app = App::start().await;
    let [first] = kids(&app).await.try_into().unwrap();
    app.clock.pass(limits::SIGNING_KEY_MS - limits::KEY_LEAD_S * 1000);
    until_kids(&app, "the next key is published", |kids| kids.len() == 2 && kids.contains(&first)).await;
    app.clock.pass(limits::KEY_LEAD_S * 1000);
    let person = app.person("ada@example.com").await;
    assert_ne!(kid_of(&person.access), first);
}

#[tokio::test]
async fn only_an_administrator_with_a_live_session_rotates_keys() {
    let app = App::start().await;
    let person = app.person("ada@example.com").await;
    let claimed = Person { roles: vec!["admin".to_owned()], ..person.clone() };
    assert_eq!(app.send(Service::Auth, Method::POST, ROTATE, Some(&person), None).await.status, 403);
    assert_eq!(app.send(Service::Auth, Method::POST, ROTATE, Some(&claimed), None).await.status, 403);
    let admin = make_admin(&app, &person).await;
    app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&admin), None).await;
    assert_eq!(app.send(Service::Auth, Method::POST, ROTATE, Some(&admin), None).await.status, 401);
    assert_eq!(kids(&app).await.len(), 1);
}

#[tokio::test]
async fn two_processes_that_rotate_at_once_rotate_once() {
    let databases = Databases::make().await;
    let clock = Clock::default();
    clock.stop();
    let now = clock.now();
    let mut keyrings = Vec::new();
    for _ in 0..2 {
        let database = Database::open(&databases.url(Service::Auth), Schema::Auth).await.unwrap();
        let master = MasterKey::new(&[1; 32]).unwrap();
        keyrings.push(Keyring::open(SigningKeys(database), master, 60_000, now).await.unwrap());
    }
    let [one, two] = keyrings.try_into().unwrap();
    let (first, second) = tokio::join!(one.rotate(&clock), two.rotate(&clock));
    assert_eq!(first.unwrap(), second.unwrap());
    for keyring in [&one, &two] {
        keyring.maintain(&clock, Some(now)).await.unwrap();
        assert_eq!(keyring.jwks().keys.len(), 2);
    }
    assert_eq!(one.signer(now).unwrap().kid(), two.signer(now).unwrap().kid());
    assert_eq!(one.signer(now + 60_000).unwrap().kid(), two.signer(now + 60_000).unwrap().kid());
    assert_ne!(one.signer(now).unwrap().kid(), one.signer(now + 60_000).unwrap().kid());
}

/// Opens the keys with a lead of a minute and a clock that stands still.
async fn open(databases: &Databases) -> (Keyring, Clock) {
    let clock = Clock::default();
    clock.stop();
    let database = Database::open(&databases.url(Service::Auth), Schema::Auth).await.unwrap();
    let master = MasterKey::new(&[1; 32]).unwrap();
    (Keyring::open(SigningKeys(database), master, LEAD_MS, clock.now()).await.unwrap(), clock)
}

const LEAD_MS: i64 = 60_000;

#[tokio::test]
async fn a_clock_that_jumps_a_year_ahead_costs_no_key_and_stops_no_rotation() {
    let databases = Databases::make().await;
    let (keyring, clock) = open(&databases).await;
    let year = 365 * 24 * 3_600_000;
    let next = keyring.rotate(&clock).await.unwrap();
    let published = keyring.jwks();
    clock.pass(year);
    keyring.maintain(&clock, None).await.unwrap();
    assert_eq!(keyring.jwks().keys.len(), 2, "while the clock is ahead");
    clock.pass(-year);
    keyring.maintain(&clock, Some(clock.now())).await.unwrap();
    assert_eq!(keyring.jwks(), published);
    assert_eq!(keyring.signer(clock.now()).unwrap().kid(), next.previous_kid);
    // A rotation by a clock that was ahead.
    clock.pass(limits::SIGNING_KEY_MS + year);
    let ahead = keyring.rotate(&clock).await.unwrap();
    clock.pass(-year);
    let now = clock.now();
    keyring.maintain(&clock, Some(now)).await.unwrap();
    assert_eq!(keyring.signer(now).unwrap().kid(), next.kid);
    assert_eq!(keyring.signer(now + LEAD_MS).unwrap().kid(), ahead.kid, "the waiting key signs after the lead");
    clock.pass(LEAD_MS + limits::ACCESS_TOKEN_MS + limits::LEEWAY_MS);
    keyring.maintain(&clock, Some(clock.now())).await.unwrap();
    assert_eq!(keyring.jwks().keys.len(), 1, "the keys before it are no longer published");
}

#[tokio::test]
async fn a_host_whose_clock_is_wrong_neither_rotates_nor_deletes_keys() {
    let hour = 3_600_000;
    for (age, wrong_ms) in [(0, -hour), (hour, -hour / 2), (0, 3 * hour), (limits::SIGNING_KEY_MS, -hour)] {
        let databases = Databases::make().await;
        let (keyring, clock) = open(&databases).await;
        let first = keyring.rotate(&clock).await.unwrap();
        clock.pass(age);
        let published = keyring.jwks();
        let other = clock.apart(wrong_ms);
        let what = format!("{age} {wrong_ms}");
        for _ in 0..2 {
            let fault = keyring.maintain(&other, Some(other.now())).await.unwrap_err();
            assert!(matches!(fault, KeyringFault::ClocksApart), "{what}: {fault}");
            assert_eq!(keyring.jwks().keys.len(), 2, "{what}: all keys stay published");
            let fault = keyring.rotate(&other).await.unwrap_err();
            assert!(matches!(fault, KeyringFault::ClocksApart), "{what}: {fault}");
        }
        if age == 0 {
            clock.pass(LEAD_MS + limits::ACCESS_TOKEN_MS + limits::LEEWAY_MS - 1);
            keyring.maintain(&clock, Some(clock.now())).await.unwrap();
            assert_eq!(keyring.jwks().keys.len(), published.keys.len(), "{what}: tokens of both are live");
            assert_eq!(keyring.signer(clock.now()).unwrap().kid(), first.kid, "{what}");
        }
    }
}
