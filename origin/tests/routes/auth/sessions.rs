//! `GET /api/v1/auth/sessions`, `DELETE /api/v1/auth/sessions/{id}`.

use portcullis_origin::{
    limits,
    store::{Database, Schema, Sessions},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{App, PASSWORD, Person, Service};

const SESSIONS: &str = "/api/v1/auth/sessions";

const ME: &str = "/api/v1/auth/me";

const ADA: &str = "ada@example.com";

async fn list(app: &App, who: &Person) -> Vec<Value> {
    let reply = app.get(Service::Auth, SESSIONS, who).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["sessions"].as_array().unwrap().clone()
}

fn ids(sessions: &[Value]) -> Vec<&str> {
    sessions.iter().map(|session| session["id"].as_str().unwrap()).collect()
}

async fn end(app: &App, who: Option<&Person>, session: &str) -> u16 {
    app.send(Service::Auth, Method::DELETE, &format!("{SESSIONS}/{session}"), who, None).await.status
}

async fn outbox(app: &App) -> Vec<String> {
    let pool = app.databases.open(Service::Auth).await;
    let rows = sqlx::query_scalar("SELECT revocation FROM outbox ORDER BY id").fetch_all(&pool).await.unwrap();
    pool.close().await;
    rows
}

/// Logs in with a user agent.
async fn log_in(app: &App, user_agent: &str) {
    let body = json!({ "email": ADA, "password": PASSWORD });
    let request = app.forwarded(Service::Auth, Method::POST, "/api/v1/auth/login", None, Some(body));
    assert_eq!(app.send_raw(request.header("user-agent", user_agent)).await.status, 200);
}

#[tokio::test]
async fn the_list_has_the_users_live_sessions_newest_first() {
    let app = App::start().await;
    let first = app.person(ADA).await;
    app.person("grace@example.com").await;
    app.clock.pass(1000);
    let ended = app.log_in(ADA).await;
    app.clock.pass(1000);
    let last = app.log_in(ADA).await;
    assert_eq!(end(&app, Some(&ended), &ended.session).await, 204, "one ends one's own");
    let sessions = list(&app, &first).await;
    assert_eq!(ids(&sessions), [last.session.as_str(), first.session.as_str()]);
    assert_eq!((&sessions[0]["current"], &sessions[1]["current"]), (&json!(false), &json!(true)));
    for session in &sessions {
        let names: Vec<&String> = session.as_object().unwrap().keys().collect();
        assert_eq!(names, ["created_at", "current", "expires_at", "id", "last_used_at", "user_agent"]);
        assert_eq!(session["last_used_at"], session["created_at"]);
    }
    app.clock.pass(60_000);
    assert_eq!(app.refresh(&first.refresh).await.status, 200);
    let again = list(&app, &first).await;
    let time = |name: &str| again[1][name].as_str().unwrap();
    assert!(time("last_used_at") > time("created_at"), "a refresh uses it");
    assert!(time("expires_at") > sessions[1]["expires_at"].as_str().unwrap(), "and prolongs it");
    app.clock.pass(limits::REFRESH_TOKEN_MS - 30_000);
    assert_eq!(ids(&list(&app, &first).await), [first.session.as_str()], "what has expired is not listed");
}

#[tokio::test]
async fn the_user_agent_comes_from_the_gateway_and_is_bounded() {
    let app = App::start().await;
    let ada = app.person(ADA).await;
    let token = ada.refresh.as_str();
    let words = "word ".repeat(200);
    let first: String = words.chars().take(portcullis_redact::TEXT_BYTES).collect();
    for (user_agent, shown) in [
        ("curl/8.5.0", "curl/8.5.0"),
        ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (X11; Linux x86_64)"),
        (token, "[long]"),
        (&format!("agent ({token}; x)"), "agent ([long]; x)"),
        (words.as_str(), first.as_str()),
        ("<script>'; DROP TABLE sessions;--", "<script>'; DROP TABLE sessions;--"),
    ] {
        app.clock.pass(1000);
        log_in(&app, user_agent).await;
        assert_eq!(list(&app, &ada).await[0]["user_agent"], shown);
    }
}

#[tokio::test]
async fn a_deleted_session_ends_and_is_pushed_to_the_gateway() {
    let app = App::start().await;
    let (ada, laptop) = (app.person(ADA).await, app.log_in(ADA).await);
    assert_eq!(end(&app, Some(&ada), &laptop.session).await, 204);
    assert_eq!(app.get(Service::Auth, ME, &laptop).await.code(), "token_revoked");
    assert_eq!(app.refresh(&laptop.refresh).await.status, 401);
    assert_eq!(app.get(Service::Auth, ME, &ada).await.status, 200);
    let [told] = outbox(&app).await.try_into().unwrap();
    assert!(told.contains(&laptop.session));
    assert_eq!(end(&app, Some(&ada), &laptop.session).await, 404, "a second time");
    assert_eq!(outbox(&app).await.len(), 1);
}

#[tokio::test]
async fn sessions_of_other_users_are_invisible() {
    let app = App::start().await;
    let (ada, eve) = (app.person(ADA).await, app.person("eve@example.com").await);
    for session in [ada.session.as_str(), "00000000-0000-7000-8000-000000000000", "x", "'%20OR%201=1"] {
        assert_eq!(end(&app, Some(&eve), session).await, 404, "{session}");
        assert_eq!(end(&app, None, session).await, 401, "{session}");
    }
    assert_eq!(ids(&list(&app, &eve).await), [eve.session.as_str()]);
    assert_eq!(ids(&list(&app, &ada).await), [ada.session.as_str()]);
    assert_eq!(end(&app, Some(&eve), &eve.session).await, 204);
    assert_eq!(end(&app, Some(&eve), &ada.session).await, 401, "a session that ended ends no other");
    assert_eq!(app.get(Service::Auth, SESSIONS, &eve).await.code(), "token_revoked");
}

#[tokio::test]
async fn the_oldest_session_ends_above_the_limit() {
    let app = App::start().await;
    let (first, second) = (app.person(ADA).await, app.log_in(ADA).await);
    // Written directly to the database, because a hundred password hashes take long.
    let pool = app.databases.open(Service::Auth).await;
    let now = app.clock.now();
    for index in 2..limits::SESSIONS {
        sqlx::query("INSERT INTO sessions (id, account_id, created_at, expires_at) VALUES ($1, $2, $3, $4)")
            .bind(uuid::Uuid::from_u128(u128::try_from(index).unwrap()).to_string())
            .bind(&first.id)
            .bind(now)
            .bind(now + limits::REFRESH_TOKEN_MS)
            .execute(&pool)
            .await
            .unwrap();
    }
    pool.close().await;
    assert_eq!(list(&app, &first).await.len(), 100);
    assert_eq!(outbox(&app).await.len(), 0);
    app.clock.pass(1000);
    let third = app.log_in(ADA).await;
    assert_eq!(app.get(Service::Auth, ME, &first).await.code(), "token_revoked");
    let sessions = list(&app, &second).await;
    assert_eq!((sessions.len(), ids(&sessions)[0]), (100, third.session.as_str()));
    let [told] = outbox(&app).await.try_into().unwrap();
    assert!(told.contains(&first.session), "{told}");
}

#[tokio::test]
async fn ended_sessions_are_swept_and_live_ones_are_not() {
    let app = App::start().await;
    let (ada, ended) = (app.person(ADA).await, app.log_in(ADA).await);
    app.clock.pass(limits::REFRESH_TOKEN_MS - 1000);
    let second = app.refresh(&ada.refresh).await.json()["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(end(&app, Some(&ada), &ended.session).await, 204);
    app.clock.pass(1000);
    let database = Database::open(&app.databases.url(Service::Auth), Schema::Auth).await.unwrap();
    let sessions = Sessions::of(database.clone());
    while sessions.sweep(app.clock.now(), limits::SWEEP_ROWS).await.unwrap() > 0 {}
    database.close().await;
    let pool = app.databases.open(Service::Auth).await;
    let mut left = Vec::new();
    for text in ["SELECT count(*) FROM sessions", "SELECT count(*) FROM refresh_tokens"] {
        left.push(sqlx::query_scalar::<_, i64>(text).fetch_one(&pool).await.unwrap());
    }
    pool.close().await;
    assert_eq!(left, [1, 1]);
    assert_eq!(app.refresh(&second).await.status, 200);
}
