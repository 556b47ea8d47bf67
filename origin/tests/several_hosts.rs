//! Processes on hosts whose clocks differ, and clocks that jump.

use std::net::SocketAddr;

use portcullis_origin::boot::{self, RunningServices};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{AUTH_ONLY, App, PASSWORD, PushReceiver, Reply, Service, claims, settings};

const AHEAD_MS: i64 = 20_000;

/// Another process of the auth service, on a host whose clock is ahead.
struct Other {
    running: RunningServices,
    addr: SocketAddr,
}

impl Other {
    async fn start(app: &App, edge_url: &str) -> Self {
        let settings = settings(&app.databases, 0, 9, [1; 32], edge_url);
        let which = AUTH_ONLY;
        let running = boot::start(&settings, which, app.clock.apart(AHEAD_MS)).await.unwrap();
        Self { addr: running.auth.unwrap(), running }
    }

    async fn post(&self, app: &App, path: &str, body: Value) -> Reply {
        let request = app
            .http
            .post(format!("http://{}{path}", self.addr))
            .header("x-gateway-assertion", app.assertion(Service::Auth, &Method::POST, path, None))
            .header("content-type", "application/json")
            .body(body.to_string());
        app.send_raw(request).await
    }
}

#[tokio::test]
async fn a_revocation_includes_tokens_of_a_process_whose_clock_is_ahead() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let other = Other::start(&app, "http://127.0.0.1:9").await;
    let admin = app.admin("root@example.com").await;
    let token = app.service_token(Service::Auth).await;
    for what in ["end all sessions", "delete the account", "take a role away"] {
        let email = format!("{}@example.com", what.replace(' ', "."));
        let ada = app.person(&email).await;
        let role = "00000000-0000-7000-8000-000000000001";
        let roles = format!("/api/v1/auth/users/{}/roles", ada.id);
        let given = app.send(Service::Auth, Method::POST, &roles, Some(&admin), Some(json!({ "role_id": role }))).await;
        assert_eq!(given.status, 201, "{}", given.text);
        let login = json!({ "email": email, "password": PASSWORD });
        let login = other.post(&app, "/api/v1/auth/login", login).await;
        assert_eq!(login.status, 200, "{}", login.text);
        let issued = claims(login.json()["access_token"].as_str().unwrap())["iat"].as_i64().unwrap();
        assert!(issued > app.clock.now() / 1000 + 15, "the other's clock is ahead");
        let account = format!("/api/v1/internal/accounts/{}", ada.id);
        let (method, path) = match what {
            "end all sessions" => (Method::POST, format!("{account}/revoke")),
            "delete the account" => (Method::DELETE, account),
            _ => (Method::DELETE, format!("{roles}/{role}")),
        };
        let reply = if what == "take a role away" {
            app.send(Service::Auth, method, &path, Some(&admin), None).await
        } else {
            app.send_raw(app.internal(Service::Auth, method, &app.url(Service::Auth, &path), &token)).await
        };
        assert_eq!(reply.status, 204, "{what}: {}", reply.text);
        let is_it = |item: &&Value| item["user"] == ada.id.as_str();
        let mut until = None;
        for _ in 0..500 {
            until = gateway.received().iter().filter(is_it).filter_map(|item| item["issued_until"].as_i64()).max();
            if until.is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(until.is_some_and(|until| until >= issued), "{what}: {until:?}, and a token of {issued} lives");
    }
    other.running.stop().await;
}

#[tokio::test]
async fn sessions_can_be_revoked_after_a_clock_jumped_far_ahead() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let hour = 3_600_000;
    app.clock.pass(hour);
    app.log_in("ada@example.com").await;
    app.clock.pass(-hour);
    let token = app.service_token(Service::Auth).await;
    let path = format!("/api/v1/internal/accounts/{}/revoke", ada.id);
    let reply = app.send_raw(app.internal(Service::Auth, Method::POST, &app.url(Service::Auth, &path), &token)).await;
    assert_eq!(reply.status, 204, "{}", reply.text);
    let again = app.log_in("ada@example.com").await;
    let ahead = claims(&again.access)["iat"].as_i64().unwrap() - app.clock.now() / 1000;
    assert!(ahead <= 2, "{ahead} s ahead");
}

#[tokio::test]
async fn the_reuse_of_a_refresh_token_does_not_depend_on_the_hosts_clocks() {
    let app = App::start().await;
    let other = Other::start(&app, "http://127.0.0.1:9").await;
    let refresh = |token: &str| json!({ "refresh_token": token });
    // Spent at one process, and presented at the other one a moment and a while later.
    for (spent_ahead, wait_ms, revoked) in
        [(true, 0, false), (false, 0, false), (true, 12_000, true), (false, 12_000, true)]
    {
        let email = format!("ada{spent_ahead}{wait_ms}@example.com");
        let ada = app.person(&email).await;
        let path = "/api/v1/auth/refresh";
        let first = if spent_ahead {
            other.post(&app, path, refresh(&ada.refresh)).await
        } else {
            app.refresh(&ada.refresh).await
        };
        assert_eq!(first.status, 200, "{}", first.text);
        let successor = first.json()["refresh_token"].as_str().unwrap().to_owned();
        app.clock.pass(wait_ms);
        let second = if spent_ahead {
            app.refresh(&ada.refresh).await
        } else {
            other.post(&app, path, refresh(&ada.refresh)).await
        };
        let is_revoked = second.status == 401 && second.code() == "token_revoked";
        assert_eq!(is_revoked, revoked, "spent ahead: {spent_ahead}, after {wait_ms} ms: {}", second.text);
        assert_eq!(app.refresh(&successor).await.status == 200, !revoked, "the family");
    }
    other.running.stop().await;
}
