//! The change of a password, and hashes of former times.

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version, password_hash::SaltString};
use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, PASSWORD, Person, Reply, Service};

const CHANGE: &str = "/api/v1/auth/password";
const ME: &str = "/api/v1/auth/me";
const ADA: &str = "ada@example.com";
const NEW: &str = "battery horse correct";

async fn change(app: &App, who: &Person, current: &str, new: &str) -> Reply {
    let body = json!({ "current_password": current, "new_password": new });
    app.send(Service::Auth, Method::POST, CHANGE, Some(who), Some(body)).await
}

async fn login(app: &App, password: &str) -> Reply {
    app.post("/api/v1/auth/login", json!({ "email": ADA, "password": password })).await
}

/// What waits for the gateway, which is out of reach.
async fn outbox(app: &App) -> Vec<Value> {
    let pool = app.databases.open(Service::Auth).await;
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT revocation FROM outbox ORDER BY id").fetch_all(&pool).await.unwrap();
    pool.close().await;
    rows.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

#[tokio::test]
async fn a_changed_password_is_the_one_and_ends_every_other_session() {
    let app = App::start().await;
    let ada = app.person(ADA).await;
    let others = [app.person_again(ADA).await, app.person_again(ADA).await];
    let grace = app.person("grace@example.com").await;
    let reply = change(&app, &ada, PASSWORD, NEW).await;
    assert_eq!((reply.status, reply.json()), (200, json!({ "message": "Password changed" })));
    assert_eq!(login(&app, PASSWORD).await.code(), "invalid_credentials");
    assert_eq!(login(&app, NEW).await.status, 200);
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/validate-token", &ada).await.status, 200, "its token stays good");
    assert_eq!(app.refresh(&ada.refresh).await.status, 200, "and is renewed");
    for other in &others {
        assert_eq!(app.get(Service::Auth, ME, other).await.code(), "token_revoked");
        assert_eq!(app.refresh(&other.refresh).await.status, 401);
    }
    assert_eq!(app.get(Service::Auth, ME, &grace).await.status, 200, "another account is not touched");
    let mut told: Vec<String> =
        outbox(&app).await.iter().map(|item| item["session"].as_str().unwrap().to_owned()).collect();
    told.sort_unstable();
    let mut expected = others.map(|other| other.session);
    expected.sort_unstable();
    assert_eq!(told, expected, "the gateway is told of these and no more");
}

#[tokio::test]
async fn who_does_not_know_the_password_guesses_it_no_faster_here() {
    let app = App::start().await;
    let thief = app.person(ADA).await;
    for _ in 0..limits::FAILURES_FREE {
        let reply = change(&app, &thief, "not her password", NEW).await;
        assert_eq!((reply.status, reply.code().as_str()), (401, "invalid_credentials"));
    }
    for reply in [change(&app, &thief, PASSWORD, NEW).await, login(&app, PASSWORD).await] {
        assert_eq!((reply.status, reply.code().as_str()), (429, "login_delayed"));
    }
    app.clock.pass(limits::FAILURE_DELAY_MS);
    assert_eq!(change(&app, &thief, PASSWORD, NEW).await.status, 200);
}

#[tokio::test]
async fn both_passwords_are_checked_and_nothing_is_told_of_them() {
    let app = App::start().await;
    let ada = app.person(ADA).await;
    for (body, fields) in [
        (json!({}), &["current_password", "new_password"][..]),
        (json!({ "current_password": PASSWORD }), &["new_password"]),
        (json!({ "new_password": NEW }), &["current_password"]),
        (json!({ "current_password": PASSWORD, "new_password": "short" }), &["new_password"]),
        (json!({ "current_password": PASSWORD, "new_password": "x".repeat(129) }), &["new_password"]),
        (json!({ "current_password": PASSWORD, "new_password": PASSWORD }), &["new_password"]),
    ] {
        let reply = app.send(Service::Auth, Method::POST, CHANGE, Some(&ada), Some(body.clone())).await;
        assert_eq!(reply.status, 422, "{body}");
        let document = reply.json();
        let told: Vec<&str> =
            document["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
        assert_eq!(told, fields, "{body}");
        assert!(!reply.text.contains(PASSWORD) && !reply.text.contains(NEW));
    }
    assert_eq!(app.login(ADA).await.status, 200, "nothing has changed");
}

#[tokio::test]
async fn only_a_live_session_changes_a_password() {
    let app = App::start().await;
    let ada = app.person(ADA).await;
    let body = json!({ "current_password": PASSWORD, "new_password": NEW });
    assert_eq!(app.send(Service::Auth, Method::POST, CHANGE, None, Some(body)).await.status, 401);
    app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&ada), None).await;
    assert_eq!(change(&app, &ada, PASSWORD, NEW).await.code(), "token_revoked");
    assert_eq!(app.login(ADA).await.status, 200);
}

#[tokio::test]
async fn of_two_changes_at_one_instant_exactly_one_holds() {
    let app = App::start().await;
    let (ada, thief) = (app.person(ADA).await, app.person_again(ADA).await);
    let (one, two) =
        tokio::join!(change(&app, &ada, PASSWORD, NEW), change(&app, &thief, PASSWORD, "a third password"));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401], "{} {}", one.text, two.text);
    let (holds, dead) = if one.status == 200 { (NEW, &thief) } else { ("a third password", &ada) };
    assert_eq!(login(&app, holds).await.status, 200);
    assert_eq!(app.get(Service::Auth, ME, dead).await.status, 401);
}

#[tokio::test]
async fn a_login_on_its_way_with_the_old_password_does_not_outlive_the_change() {
    let app = App::start().await;
    let ada = app.person(ADA).await;
    let logins = (0..8).map(|_| {
        let body = json!({ "email": ADA, "password": PASSWORD });
        let request = app.forwarded(Service::Auth, Method::POST, "/api/v1/auth/login", None, Some(body));
        tokio::spawn(async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    });
    let logins: Vec<_> = logins.collect();
    let changed = change(&app, &ada, PASSWORD, NEW).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    for login in logins {
        let (status, text) = login.await.unwrap();
        if status == 200 {
            let body: Value = serde_json::from_str(&text).unwrap();
            let refresh = body["refresh_token"].as_str().unwrap();
            assert_eq!(app.refresh(refresh).await.status, 401, "a session of the old password lives");
        }
    }
}

/// Ada's password at other figures, written behind the service's back.
async fn store_hash(app: &App, memory_kib: u32, passes: u32) -> String {
    let params = Params::new(memory_kib, passes, 1, None).unwrap();
    let salt = SaltString::encode_b64(&[9; 16]).unwrap();
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = hasher.hash_password(PASSWORD.as_bytes(), &salt).unwrap().to_string();
    write_hash(app, &hash).await;
    hash
}

async fn write_hash(app: &App, hash: &str) {
    let pool = app.databases.open(Service::Auth).await;
    sqlx::query("UPDATE accounts SET password_hash = $1").bind(hash).execute(&pool).await.unwrap();
    pool.close().await;
}

async fn stored_hash(app: &App) -> String {
    let pool = app.databases.open(Service::Auth).await;
    let hash = sqlx::query_scalar("SELECT password_hash FROM accounts").fetch_one(&pool).await.unwrap();
    pool.close().await;
    hash
}

const TODAY: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

#[tokio::test]
async fn a_hash_of_former_times_is_renewed_by_the_next_login() {
    let app = App::start().await;
    app.register(ADA).await;
    for (memory_kib, passes) in [(8 * 1024, 2), (19 * 1024, 1)] {
        let old = store_hash(&app, memory_kib, passes).await;
        assert_eq!(login(&app, "not her password").await.status, 401);
        assert_eq!(stored_hash(&app).await, old, "a wrong password renews nothing");
        assert_eq!(login(&app, PASSWORD).await.status, 200);
        let new = stored_hash(&app).await;
        assert!(new.starts_with(TODAY), "{new}");
        assert_eq!(login(&app, PASSWORD).await.status, 200);
        assert_eq!(stored_hash(&app).await, new, "once is enough");
    }
    let stronger = store_hash(&app, 32 * 1024, 3).await;
    assert_eq!(login(&app, PASSWORD).await.status, 200);
    assert_eq!(stored_hash(&app).await, stronger);
}

#[tokio::test]
async fn many_logins_that_meet_a_hash_of_former_times_all_succeed() {
    let app = App::start().await;
    app.register(ADA).await;
    store_hash(&app, 8 * 1024, 1).await;
    let replies =
        tokio::join!(login(&app, PASSWORD), login(&app, PASSWORD), login(&app, PASSWORD), login(&app, PASSWORD));
    for reply in [replies.0, replies.1, replies.2, replies.3] {
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    assert!(stored_hash(&app).await.starts_with(TODAY));
}

#[tokio::test]
async fn a_hash_that_would_cost_too_much_is_nobodys() {
    let app = App::start().await;
    app.register(ADA).await;
    let good = stored_hash(&app).await;
    for bad in [
        good.replace("m=19456", "m=4000000"),
        good.replace("t=2", "t=1000000"),
        good.replace("$argon2id", "$argon3"),
        "no hash at all".to_owned(),
        String::new(),
    ] {
        write_hash(&app, &bad).await;
        assert_eq!(login(&app, PASSWORD).await.code(), "invalid_credentials", "{bad}");
        write_hash(&app, &good).await;
        assert_eq!(login(&app, PASSWORD).await.status, 200);
    }
}
