//! Processes on hosts whose clocks differ, and clocks that jump.

use std::net::SocketAddr;

use portcullis_origin::boot::{self, RunningServices};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{AUTH_ONLY, App, PASSWORD, Person, PushReceiver, Reply, Service, claims, settings, until};

/// Milliseconds by which another host's clock is ahead: less than the gateway's leeway.
const AHEAD_MS: i64 = 20_000;

/// The same, beyond the leeway. The gateway rejects the host's tokens for 20 seconds.
const FAR_AHEAD_MS: i64 = 50_000;

/// Another process of the auth service, on a host whose clock is ahead.
struct Other {
    running: RunningServices,
    addr: SocketAddr,
}

impl Other {
    async fn start(app: &App, ahead_ms: i64) -> Self {
        let settings = settings(&app.databases, 0, 9, [1; 32], "http://127.0.0.1:9");
        let which = AUTH_ONLY;
        let running = boot::start(&settings, which, app.clock.apart(ahead_ms)).await.unwrap();
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
    for ahead_ms in [AHEAD_MS, FAR_AHEAD_MS] {
        revoke_at_one_host_what_another_issued(ahead_ms).await;
    }
}

async fn revoke_at_one_host_what_another_issued(ahead_ms: i64) {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let other = Other::start(&app, ahead_ms).await;
    let admin = app.admin("root@example.com").await;
    let token_of_users = app.service_token(Service::Auth).await;
    for what in ["end all sessions", "delete the account", "take a role away", "log out"] {
        let email = format!("{}@example.com", what.replace(' ', "."));
        let ada = app.person(&email).await;
        let role = "00000000-0000-7000-8000-000000000001";
        let roles = format!("/api/v1/auth/users/{}/roles", ada.id);
        let given = app.send(Service::Auth, Method::POST, &roles, Some(&admin), Some(json!({ "role_id": role }))).await;
        assert_eq!(given.status, 201, "{}", given.text);
        let login = json!({ "email": email, "password": PASSWORD });
        let login = other.post(&app, "/api/v1/auth/login", login).await;
        assert_eq!(login.status, 200, "{}", login.text);
        let token = claims(login.json()["access_token"].as_str().unwrap());
        let issued = token["iat"].as_i64().unwrap();
        assert!(issued > app.clock.now() / 1000 + 15, "the other's clock is ahead");
        let account = format!("/api/v1/internal/accounts/{}", ada.id);
        let (method, path) = match what {
            "end all sessions" => (Method::POST, format!("{account}/revoke")),
            "delete the account" => (Method::DELETE, account),
            "log out" => (Method::POST, "/api/v1/auth/logout".to_owned()),
            _ => (Method::DELETE, format!("{roles}/{role}")),
        };
        let reply = match what {
            "take a role away" => app.send(Service::Auth, method, &path, Some(&admin), None).await,
            "log out" => app.send(Service::Auth, method, &path, Some(&Person::from_login(&login)), None).await,
            _ => {
                app.send_raw(app.internal(Service::Auth, method, &app.url(Service::Auth, &path), &token_of_users)).await
            }
        };
        assert!([200, 204].contains(&reply.status), "{what}: {}", reply.text);
        let is_covered = |item: &Value| {
            if what == "log out" || ahead_ms == FAR_AHEAD_MS {
                item["session"] == token["sid"] && item["expires_at"].as_i64() >= token["exp"].as_i64()
            } else {
                item["user"] == ada.id.as_str() && item["issued_until"].as_i64() >= Some(issued)
            }
        };
        until(what, || gateway.received().iter().any(is_covered)).await;
        if ahead_ms == FAR_AHEAD_MS && what == "take a role away" {
            let refresh = json!({ "refresh_token": login.json()["refresh_token"] });
            assert_eq!(app.post("/api/v1/auth/refresh", refresh).await.status, 401, "the session ended");
        }
        if what != "delete the account" {
            let again = claims(&app.log_in(&email).await.access)["iat"].as_i64().unwrap();
            assert!(again <= app.clock.now() / 1000 + 30, "{what}: the gateway accepts new tokens");
        }
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
    let other = Other::start(&app, AHEAD_MS).await;
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
