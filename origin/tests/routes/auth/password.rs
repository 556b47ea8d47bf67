//! `POST /api/v1/auth/password`.

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{App, PASSWORD, Person, Reply, Service};

const CHANGE: &str = "/api/v1/auth/password";

const ME: &str = "/api/v1/auth/me";

pub(crate) const ADA: &str = "ada@example.com";

const NEW: &str = "battery horse correct";

async fn change(app: &App, who: &Person, current: &str, new: &str) -> Reply {
    let body = json!({ "current_password": current, "new_password": new });
    app.send(Service::Auth, Method::POST, CHANGE, Some(who), Some(body)).await
}

pub(crate) async fn login(app: &App, password: &str) -> Reply {
    app.post("/api/v1/auth/login", json!({ "email": ADA, "password": password })).await
}

/// Returns the outbox; the gateway is not reachable.
async fn outbox(app: &App) -> Vec<Value> {
    let pool = app.databases.open(Service::Auth).await;
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT revocation FROM outbox ORDER BY id").fetch_all(&pool).await.unwrap();
    pool.close().await;
    rows.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

#[tokio::test]
async fn a_change_of_the_password_ends_every_other_session() {
    let app = App::start().await;
    let ada = app.person(ADA).await;
    let others = [app.log_in(ADA).await, app.log_in(ADA).await];
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
async fn guesses_of_the_current_password_are_delayed_like_logins() {
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
async fn both_passwords_are_validated_and_not_in_the_answer() {
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
async fn of_two_concurrent_changes_one_takes_effect() {
    let app = App::start().await;
    let (ada, thief) = (app.person(ADA).await, app.log_in(ADA).await);
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
async fn a_concurrent_login_with_the_old_password_does_not_outlive_the_change() {
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
