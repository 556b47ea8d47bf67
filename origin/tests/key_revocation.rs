//! Revocation of signing keys, and trust in keys during an outage of the auth service.

use std::time::{Duration, Instant};

use portcullis_origin::{
    auth::{Keyring, KeyringFault},
    clock::Clock,
    limits,
    signing::MasterKey,
    store::{Database, Schema, SigningKeys},
};
use reqwest::Method;
use serde_json::Value;

use crate::support::{AUTH_ONLY, App, PushReceiver, Service, USERS_ONLY, run};

const VALIDATE: &str = "/api/v1/auth/validate-token";

async fn kids(app: &App) -> Vec<String> {
    let set = app.send_raw(app.http.get(app.url(Service::Auth, "/.well-known/jwks.json"))).await.json();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Returns the user service's answer to a service token.
async fn asked(app: &App, token: &str, id: &str) -> u16 {
    let url = app.url(Service::Users, &format!("/api/v1/internal/users/{id}"));
    app.send_raw(app.internal(Service::Users, Method::GET, &url, token)).await.status
}

#[tokio::test]
async fn a_revoked_key_is_rejected_everywhere_within_seconds() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let ada = app.person("ada@example.com").await;
    let token = app.service_token(Service::Users).await;
    assert_eq!(asked(&app, &token, &ada.id).await, 200);
    let leaked = kids(&app).await.remove(0);
    let result = run(&app.databases, &["keys", "revoke", &leaked, "--json"], "").await.document();
    assert_eq!((&result["kid"], &result["revoked"]), (&Value::from(leaked.as_str()), &Value::from(true)));
    let signer = result["signing_kid"].as_str().unwrap().to_owned();
    assert_ne!(signer, leaked);

    let begun = Instant::now();
    while asked(&app, &token, &ada.id).await != 401 || kids(&app).await != [signer.clone()] {
        assert!(begun.elapsed() < Duration::from_secs(20), "a leaked key is believed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(app.get(Service::Auth, VALIDATE, &ada).await.status, 401);
    let told = gateway.until_received(1).await;
    assert_eq!(told[0]["key"], leaked.as_str(), "{told:?}");
    let day = app.clock.now() / 1000 + 24 * 3600;
    assert!(told[0]["expires_at"].as_i64().unwrap() > day, "for as long as a gateway may hold the set");

    // The other key is in use everywhere.
    let token = app.service_token(Service::Users).await;
    assert_eq!(asked(&app, &token, &ada.id).await, 200);
    let again = app.log_in("ada@example.com").await;
    assert_eq!(app.get(Service::Auth, VALIDATE, &again).await.status, 200);
    assert_eq!(app.refresh(&ada.refresh).await.status, 200, "the session goes on");

    let result = run(&app.databases, &["keys", "revoke", &leaked], "").await;
    assert_eq!((result.code, result.err.contains("no such signing key")), (1, true), "{result:?}");
}

#[tokio::test]
async fn after_a_revocation_the_next_key_signs() {
    let app = App::start().await;
    let database = Database::open(&app.databases.url(Service::Auth), Schema::Auth).await.unwrap();
    let lead_ms = 60_000;
    let clock = Clock::default();
    clock.stop();
    let mut now = clock.now();
    let open = async |now| {
        let master = MasterKey::new(&[1; 32]).unwrap();
        Keyring::open(SigningKeys(database.clone()), master, lead_ms, now).await.unwrap()
    };
    let keyring = open(now).await;
    let first = keyring.signer(now).unwrap().kid().to_owned();
    // A waiting key: the active one continues to sign and is not retired.
    let waiting = keyring.rotate(&clock).await.unwrap().kid;
    let done = keyring.revoke(&waiting, now).await.unwrap();
    assert_eq!((done.signer.as_str(), done.signed), (first.as_str(), false));
    clock.pass(2 * lead_ms + limits::ACCESS_TOKEN_MS + limits::LEEWAY_MS);
    now = clock.now();
    keyring.read(now).await.unwrap();
    assert_eq!(keyring.signer(now).unwrap().kid(), first);
    // The active key while another waits: the waiting one signs at once.
    let waiting = keyring.rotate(&clock).await.unwrap().kid;
    let done = keyring.revoke(&first, now).await.unwrap();
    assert_eq!((done.signer.as_str(), done.signed), (waiting.as_str(), true));
    assert_eq!(keyring.signer(now).unwrap().kid(), waiting);
    // A retired key that is still published.
    let next = keyring.rotate(&clock).await.unwrap().kid;
    clock.pass(lead_ms);
    now = clock.now();
    keyring.read(now).await.unwrap();
    let done = keyring.revoke(&waiting, now).await.unwrap();
    assert_eq!((done.signer.as_str(), done.signed), (next.as_str(), false));
    // The only key.
    let done = keyring.revoke(&next, now).await.unwrap();
    assert!(done.signed && done.signer != next);
    assert_eq!(open(now).await.signer(now).unwrap().kid(), done.signer);
    assert!(matches!(keyring.revoke("x", now).await, Err(KeyringFault::Unknown)));
    database.close().await;
}

#[tokio::test]
async fn a_process_whose_clock_is_ahead_keeps_the_keys_of_live_tokens() {
    let app = App::start().await;
    let database = Database::open(&app.databases.url(Service::Auth), Schema::Auth).await.unwrap();
    let clock = Clock::default();
    clock.stop();
    let open = async |now| {
        let master = MasterKey::new(&[1; 32]).unwrap();
        Keyring::open(SigningKeys(database.clone()), master, 0, now).await.unwrap()
    };
    let keyring = open(clock.now()).await;
    let retired = keyring.signer(clock.now()).unwrap().kid().to_owned();
    keyring.rotate(&clock).await.unwrap();
    let ahead = clock.now() + 2 * limits::KEYS_AHEAD_MS + limits::ACCESS_TOKEN_MS + limits::LEEWAY_MS;
    let started = open(ahead).await;
    keyring.read(ahead).await.unwrap();
    for set in [started.jwks(), keyring.jwks()] {
        assert!(set.keys.iter().any(|key| key["kid"] == retired.as_str()), "{retired} is in the set");
    }
    database.close().await;
}

#[tokio::test]
async fn without_the_auth_service_its_keys_are_trusted_for_a_day() {
    let mut app = App::start().await;
    let ada = app.person("ada@example.com").await;
    app.restart(USERS_ONLY).await;
    let auth = app.start_additional(AUTH_ONLY).await;
    let token = app.service_token(Service::Users).await;
    assert_eq!(asked(&app, &token, &ada.id).await, 200);
    auth.stop().await;
    app.clock.pass(limits::SERVICE_TOKEN_MS - 60_000);
    assert_eq!(asked(&app, &token, &ada.id).await, 200, "the auth service is away");
    app.clock.pass(limits::JWKS_KEPT_MS);
    assert_eq!(asked(&app, &token, &ada.id).await, 503, "nobody knows what was revoked in a day");
    app.stop().await;
}
