//! `POST /api/v1/auth/register` with an `Idempotency-Key`.

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{AUTH_ONLY, App, BOTH, PASSWORD, Reply, Service, USERS_ONLY};

const REGISTER: &str = "/api/v1/auth/register";

const ADA: &str = "ada@example.com";

const KEY: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";

fn ada() -> Value {
    json!({ "email": ADA, "password": PASSWORD, "first_name": "Ada", "last_name": "Lovelace" })
}

async fn register(app: &App, key: Option<&str>, body: Value) -> Reply {
    let mut request = app.forwarded(Service::Auth, Method::POST, REGISTER, None, Some(body));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    app.send_raw(request).await
}

#[tokio::test]
async fn a_repeated_registration_gets_the_same_account_for_a_day() {
    let app = App::start().await;
    let first = register(&app, Some(KEY), ada()).await;
    assert_eq!(first.status, 201, "{}", first.text);
    app.clock.pass(limits::IDEMPOTENCY_KEY_MS - 60_000);
    for spelling in [ADA, " ADA@example.com"] {
        let mut body = ada();
        body["email"] = json!(spelling);
        let again = register(&app, Some(KEY), body).await;
        assert_eq!((again.status, again.json()), (201, first.json()));
    }
    app.clock.pass(60_000);
    assert_eq!(register(&app, Some(KEY), ada()).await.code(), "email_taken");
    assert_eq!(app.login(ADA).await.status, 200);
}

#[tokio::test]
async fn a_repetition_without_the_key_or_with_other_fields_is_rejected() {
    let app = App::start().await;
    assert_eq!(register(&app, Some(KEY), ada()).await.status, 201);
    let with = |name: &str, value: &str| {
        let mut body = ada();
        body[name] = json!(value);
        body
    };
    for (key, body, status, code) in [
        (None, ada(), 409, "email_taken"),
        (Some("another key, another client".replace(' ', "-")), ada(), 409, "email_taken"),
        (Some(KEY.to_owned()), with("password", "not her password"), 422, "idempotency_key_reused"),
        (Some(KEY.to_owned()), with("first_name", "Eve"), 422, "idempotency_key_reused"),
        (Some(KEY.to_owned()), with("last_name", ""), 422, "idempotency_key_reused"),
        (Some(KEY.to_owned()), with("email", "ada"), 422, "fields_invalid"),
    ] {
        let reply = register(&app, key.as_deref(), body).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{key:?}");
        assert!(!reply.text.contains("Lovelace"));
    }
    assert_eq!(app.login(ADA).await.status, 200, "her password is hers");
    // No key fits an account that was registered without one.
    app.register("grace@example.com").await;
    let mut grace = ada();
    grace["email"] = json!("grace@example.com");
    assert_eq!(register(&app, Some(KEY), grace).await.status, 409);
}

#[tokio::test]
async fn guesses_with_a_known_key_are_delayed_like_logins() {
    let app = App::start().await;
    register(&app, Some(KEY), ada()).await;
    for index in 0..limits::FAILURES_FREE {
        let mut body = ada();
        body["password"] = json!(format!("guess number {index}"));
        assert_eq!(register(&app, Some(KEY), body).await.status, 422);
    }
    assert_eq!(register(&app, Some(KEY), ada()).await.code(), "login_delayed");
    assert_eq!(app.login(ADA).await.code(), "login_delayed");
}

#[tokio::test]
async fn a_key_is_16_to_128_visible_ascii_characters() {
    let app = App::start().await;
    let (shortest, longest) = ("k".repeat(16), "k".repeat(128));
    for (index, key) in [shortest.as_str(), longest.as_str(), "\"quoted-as-in-the-draft\""].iter().enumerate() {
        let mut body = ada();
        body["email"] = json!(format!("ada{index}@example.com"));
        assert_eq!(register(&app, Some(key), body).await.status, 201, "{key}");
    }
    let longer = "k".repeat(129);
    for key in ["", "k", "fifteen-letters", longer.as_str(), "sixteen letters and blanks", "sixteen-letters-\u{e9}"] {
        let reply = register(&app, Some(key), ada()).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "idempotency_key_invalid"), "{key}");
    }
    let request = app.forwarded(Service::Auth, Method::POST, REGISTER, None, Some(ada()));
    let twice = request.header("idempotency-key", &shortest).header("idempotency-key", &shortest);
    assert_eq!(app.send_raw(twice).await.code(), "idempotency_key_invalid");
    assert_eq!(app.login(ADA).await.status, 401, "nobody was registered by these");
}

#[tokio::test]
async fn concurrent_registrations_with_one_key_get_the_same_account() {
    let app = App::start().await;
    for round in 0..8 {
        let key = format!("{KEY}-{round}");
        let mut body = ada();
        body["email"] = json!(format!("ada{round}@example.com"));
        let (one, two) =
            tokio::join!(register(&app, Some(&key), body.clone()), register(&app, Some(&key), body.clone()));
        assert_eq!((one.status, two.status), (201, 201), "{} {}", one.text, two.text);
        assert_eq!(one.json()["user"]["id"], two.json()["user"]["id"]);
        let person = app.log_in(body["email"].as_str().unwrap()).await;
        let profile = app.get(Service::Users, &format!("/api/v1/users/{}", person.id), &person).await;
        assert_eq!(profile.json()["data"]["last_name"], "Lovelace", "{}", profile.text);
    }
}

#[tokio::test]
async fn of_concurrent_different_registrations_with_one_key_one_is_rejected() {
    let app = App::start().await;
    for round in 0..8 {
        let key = format!("{KEY}-{round}");
        let (mut ada, mut eve) = (ada(), ada());
        ada["email"] = json!(format!("ada{round}@example.com"));
        eve["email"] = ada["email"].clone();
        eve["password"] = json!("not her password");
        let (one, two) = tokio::join!(register(&app, Some(&key), ada.clone()), register(&app, Some(&key), eve.clone()));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 422], "{} {}", one.text, two.text);
        let holds = if one.status == 201 { &ada } else { &eve };
        let login = json!({ "email": holds["email"], "password": holds["password"] });
        assert_eq!(app.post("/api/v1/auth/login", login).await.status, 200, "the one that was told 201");
    }
}

#[tokio::test]
async fn a_half_failed_registration_continues_with_and_without_its_key() {
    let mut app = App::start().await;
    app.restart(AUTH_ONLY).await;
    for email in [ADA, "grace@example.com"] {
        let mut body = ada();
        body["email"] = json!(email);
        assert_eq!(register(&app, Some(KEY), body).await.code(), "user_service_unavailable");
    }
    let users = app.start_additional(USERS_ONLY).await;
    assert_eq!(register(&app, Some(KEY), ada()).await.status, 201);
    let mut grace = ada();
    grace["email"] = json!("grace@example.com");
    assert_eq!(register(&app, None, grace.clone()).await.status, 201, "somebody else took it over");
    assert_eq!(register(&app, Some(KEY), grace).await.status, 409, "and the key is not theirs");
    users.stop().await;
}

#[tokio::test]
async fn the_key_is_not_stored_in_a_database() {
    let mut app = App::start().await;
    register(&app, Some(KEY), ada()).await;
    app.restart(BOTH).await;
    let text = app.databases.dump().await;
    assert!(text.contains(ADA) && !text.contains(KEY));
}
