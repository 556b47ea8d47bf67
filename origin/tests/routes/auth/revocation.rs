//! `POST /api/v1/auth/revoke` (RFC 7009).

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    routes::auth::refresh::{ME, rotate},
    support::{App, PushReceiver, Reply, Service},
};

const REVOKE: &str = "/api/v1/auth/revoke";

const FORM: &str = "application/x-www-form-urlencoded";

async fn send(app: &App, form: &str) -> Reply {
    let request = app.forwarded(Service::Auth, Method::POST, REVOKE, None, None);
    app.send_raw(request.header("content-type", FORM).body(form.to_owned())).await
}

/// Revokes a token, and checks that the answer does not say whether there was one.
async fn revoke(app: &App, token: &str) {
    let reply = send(app, &format!("token={token}")).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, ""));
    assert_eq!(reply.headers["cache-control"], "no-store");
}

async fn events(app: &App) -> Vec<Value> {
    let root = app.admin(&format!("root-{}@example.com", app.clock.now())).await;
    let reply = app.get(Service::Auth, "/api/v1/auth/audit?event_type=auth.revoke", &root).await;
    reply.json()["events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_token_ends_its_session_and_no_other_and_the_gateway_learns_of_it() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let first = app.person("ada@example.com").await;
    let (second, third) = (app.log_in("ada@example.com").await, app.log_in("ada@example.com").await);
    let renewed = rotate(&app, &third.refresh).await.unwrap();
    for (ended, token, pushed) in [(&first, &first.access, 1), (&second, &second.refresh, 2)] {
        revoke(&app, token).await;
        let received = gateway.until_received(pushed).await;
        assert_eq!(received.last().unwrap()["session"], json!(ended.session));
        assert_eq!(app.get(Service::Auth, ME, ended).await.code(), "token_revoked");
        assert!(rotate(&app, &ended.refresh).await.is_err());
        assert_eq!(app.get(Service::Auth, ME, &third).await.status, 200, "its session is another");
    }
    // A spent refresh token is of the same family: a client may have lost the answer to its last refresh.
    revoke(&app, &third.refresh).await;
    assert_eq!(gateway.until_received(3).await.last().unwrap()["session"], json!(third.session));
    assert!(rotate(&app, &renewed).await.is_err());
    let recorded = events(&app).await;
    let named = |event: &Value| (event["user_id"].clone(), event["entity_id"].clone(), event["result"].clone());
    assert_eq!(
        recorded.iter().map(named).collect::<Vec<_>>(),
        [&third, &second, &first].map(|person| (json!(person.id), json!(person.session), json!("success")))
    );
}

#[tokio::test]
async fn a_token_that_is_unknown_or_ended_is_answered_alike_and_ends_nothing() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let root = app.admin("root@example.com").await;
    let ada = app.person("ada@example.com").await;
    let stranger = App::start().await.person("ada@example.com").await;
    let (head, _) = ada.access.rsplit_once('.').unwrap();
    // The removal of a role revokes the access token alone.
    let roles = app.get(Service::Auth, "/api/v1/auth/roles", &root).await.json();
    let user = roles["roles"].as_array().unwrap().iter().find(|role| role["name"] == "user").unwrap()["id"].clone();
    let path = format!("/api/v1/auth/users/{}/roles/{}", ada.id, user.as_str().unwrap());
    assert_eq!(app.send(Service::Auth, Method::DELETE, &path, Some(&root), None).await.status, 204);
    let pushed = gateway.until_received(1).await.len();
    for token in [
        ada.access.as_str(),
        stranger.access.as_str(),
        stranger.refresh.as_str(),
        &format!("{head}."),
        "x",
        "%00",
        &"x".repeat(limits::TOKEN_BYTES + 1),
    ] {
        revoke(&app, token).await;
    }
    let renewed = rotate(&app, &ada.refresh).await.unwrap();
    revoke(&app, &renewed).await;
    revoke(&app, &renewed).await;
    assert_eq!(gateway.until_received(pushed + 1).await.len(), pushed + 1);
    assert_eq!(events(&app).await.len(), 1, "requests without an effect leave no event");
    // An expired refresh token ends no session that was continued.
    let grace = app.person("grace@example.com").await;
    app.clock.pass(limits::REFRESH_TOKEN_MS - 60_000);
    let renewed = rotate(&app, &grace.refresh).await.unwrap();
    app.clock.pass(60_000);
    revoke(&app, &grace.refresh).await;
    assert!(rotate(&app, &renewed).await.is_ok());
}

#[tokio::test]
async fn a_service_token_is_of_a_type_that_cannot_be_revoked() {
    let app = App::start().await;
    let token = app.service_token(Service::Users).await;
    let reply = send(&app, &format!("token={token}")).await;
    assert_eq!((reply.status, reply.json()["error"].as_str().unwrap()), (400, "unsupported_token_type"));
    app.clock.pass(limits::SERVICE_TOKEN_MS + limits::LEEWAY_MS);
    revoke(&app, &token).await;
}

#[tokio::test]
async fn a_request_is_a_form_with_one_token_through_the_gateway() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let good = format!("token={}", ada.refresh);
    for form in ["", "token=", "token_type_hint=refresh_token", &format!("{good}&{good}")] {
        let reply = send(&app, form).await;
        assert_eq!((reply.status, reply.json()["error"].as_str().unwrap()), (400, "invalid_request"), "{form}");
        assert_eq!(reply.headers["content-type"], "application/json", "RFC 6749, section 5.2");
    }
    let json = app.post(REVOKE, json!({ "token": ada.refresh })).await;
    assert_eq!((json.status, json.code().as_str()), (400, "invalid_request"));
    assert_eq!(send(&app, &format!("token={}", "x".repeat(limits::BODY_BYTES))).await.status, 413);
    let request = app.http.post(app.url(Service::Auth, REVOKE)).header("content-type", FORM).body(good.clone());
    assert_eq!(app.send_raw(request).await.code(), "gateway_required");
    let renewed = rotate(&app, &ada.refresh).await.unwrap();
    // Further parameters, and a hint that is wrong or unknown, are ignored.
    for hint in ["access_token", "pizza"] {
        let form = format!("token_type_hint={hint}&client_id=app&token={renewed}");
        assert_eq!(send(&app, &form).await.status, 200);
        assert!(rotate(&app, &renewed).await.is_err());
    }
}
