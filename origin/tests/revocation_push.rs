//! Revocations that are pushed to the gateway, and tokens that are issued around them.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    App, BOTH, Databases, Deployment, Person, PushReceiver, Service, USERS_SECRET, claims, logout, until_ready,
};

/// A call of the user service to an internal route of the auth service.
async fn internal(app: &App, method: Method, path: &str) -> u16 {
    let form = "grant_type=client_credentials&audience=auth-service";
    let request = app.http.post(app.url(Service::Auth, "/api/v1/auth/token"));
    let issued = app
        .send_raw(
            request
                .basic_auth("user-service", Some(USERS_SECRET))
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form),
        )
        .await
        .json();
    let token = issued["access_token"].as_str().unwrap().to_owned();
    let request = app.http.request(method, app.url(Service::Auth, path)).bearer_auth(token);
    app.send_raw(request.header("x-service-caller", "user-service")).await.status
}

fn seconds(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

#[tokio::test]
async fn each_revoked_session_is_pushed_to_the_gateway() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let ada = app.person("ada@example.com").await;
    let laptop = app.log_in("ada@example.com").await;
    let phone = app.log_in("ada@example.com").await;

    logout(&app, &ada).await;
    logout(&app, &ada).await;
    let told = gateway.until_received(1).await;
    assert_eq!(told[0]["session"], ada.session.as_str());
    let token = claims(&ada.access);
    let until = seconds(&told[0]["expires_at"]);
    assert!(until >= seconds(&token["exp"]) && until <= seconds(&token["exp"]) + 60, "{until} for {token}");

    let logout_of_laptop = |who: Person| {
        let body = json!({ "refresh_token": laptop.refresh });
        let app = &app;
        async move { app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&who), Some(body)).await }
    };
    logout_of_laptop(ada).await;
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &laptop).await.status, 200, "an ended session ends no other");
    let desk = app.log_in("ada@example.com").await;
    logout_of_laptop(desk.clone()).await;
    let told = gateway.until_received(3).await;
    assert_eq!(told[1]["session"], desk.session.as_str(), "and the first is told once");
    assert_eq!(told[2]["session"], laptop.session.as_str());

    assert_eq!(app.refresh(&phone.refresh).await.status, 200);
    app.clock.pass(limits::REFRESH_REUSE_S * 1000);
    assert_eq!(app.refresh(&phone.refresh).await.status, 401);
    assert_eq!(gateway.until_received(4).await[3]["session"], phone.session.as_str(), "a reuse");
}

#[tokio::test]
async fn revoked_and_deleted_accounts_are_pushed_to_the_gateway() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let ada = app.person("ada@example.com").await;
    let now = app.clock.now() / 1000;
    assert_eq!(internal(&app, Method::POST, &format!("/api/v1/internal/accounts/{}/revoke", ada.id)).await, 204);
    let told = gateway.until_received(1).await;
    assert_eq!(told[0]["user"], ada.id.as_str());
    let until = seconds(&told[0]["issued_until"]);
    assert!(until >= seconds(&claims(&ada.access)["iat"]) && until - now <= 30, "{until}");

    assert_eq!(internal(&app, Method::DELETE, &format!("/api/v1/internal/accounts/{}", ada.id)).await, 204);
    assert_eq!(gateway.until_received(2).await[1]["user"], ada.id.as_str());
    assert_eq!(internal(&app, Method::DELETE, &format!("/api/v1/internal/accounts/{}", ada.id)).await, 404);
}

#[tokio::test]
async fn a_push_carries_a_service_token_for_the_gateway() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    logout(&app, &app.person("ada@example.com").await).await;
    gateway.until_received(1).await;
    let token = gateway.tokens.lock().unwrap()[0].clone();
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header["typ"], "service+jwt");
    let claims = claims(&token);
    assert_eq!(
        (&claims["sub"], &claims["aud"], &claims["token_type"]),
        (&json!("auth-service"), &json!("portcullis"), &json!("service"))
    );
}

#[tokio::test]
async fn revocations_survive_an_outage_of_the_gateway_and_a_restart() {
    let gateway = PushReceiver::start().await;
    let mut app = App::start_behind(&gateway.url).await;
    let people = [app.person("ada@example.com").await, app.person("grace@example.com").await];
    for status in [503, 401, 404, 400] {
        gateway.refuse(StatusCode::from_u16(status).ok());
        let before = *gateway.asked.lock().unwrap();
        let person = app.person(&format!("user{status}@example.com")).await;
        logout(&app, &person).await;
        gateway.until(|| *gateway.asked.lock().unwrap() > before).await;
    }
    for person in &people {
        logout(&app, person).await;
    }
    app.restart(BOTH).await;
    assert!(gateway.received().is_empty());
    gateway.refuse(None);
    let told = gateway.until_received(6).await;
    for person in &people {
        assert!(told.iter().any(|item| item["session"] == person.session.as_str()));
    }
}

#[tokio::test]
async fn a_rejected_revocation_does_not_block_others() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let people =
        [app.person("a@example.com").await, app.person("b@example.com").await, app.person("c@example.com").await];
    *gateway.poison.lock().unwrap() = Some(people[0].session.clone());
    gateway.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    for person in &people {
        logout(&app, person).await;
    }
    gateway.refuse(None);
    let told = gateway.until_received(2).await;
    for person in &people[1..] {
        assert!(told.iter().any(|item| item["session"] == person.session.as_str()));
    }
    *gateway.poison.lock().unwrap() = None;
    assert_eq!(gateway.until_received(3).await[2]["session"], people[0].session.as_str());
}

#[tokio::test]
async fn a_rejected_revocation_does_not_delay_later_ones() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let rejected = app.person("a@example.com").await;
    *gateway.poison.lock().unwrap() = Some(rejected.session.clone());
    logout(&app, &rejected).await;
    // The first pauses of a worker that fails are shorter than the limit below.
    tokio::time::sleep(Duration::from_secs(4)).await;
    app.person("b@example.com").await;
    for round in 1..=4 {
        let person = app.log_in("b@example.com").await;
        let begun = Instant::now();
        logout(&app, &person).await;
        assert_eq!(gateway.until_received(round).await[round - 1]["session"], person.session.as_str());
        assert!(begun.elapsed() < Duration::from_secs(2), "{round}: {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let metrics = app.send_raw(app.http.get(app.url(Service::Auth, "/metrics"))).await;
    assert!(metrics.text.contains("origin_outbox_waiting 1\n"), "{}", metrics.text);
    *gateway.poison.lock().unwrap() = None;
    gateway.until_received(5).await;
}

#[tokio::test]
async fn outages_and_rejections_are_logged_once_whatever_the_database_does() {
    let gateway = PushReceiver::start().await;
    let databases = Databases::make().await;
    let mut place = Deployment::of(&databases);
    place.settings.push(("EDGE_URL", gateway.url.clone()));
    let app = App::connect(databases, place.auth, place.users);
    let (mut auth, mut users) = (place.start("auth"), place.start("users"));
    until_ready(&app, &place, &mut auth).await;
    until_ready(&app, &place, &mut users).await;
    let people = [app.person("a@example.com").await, app.person("b@example.com").await];

    gateway.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    logout(&app, &people[0]).await;
    place.until_logged("revocations wait", 1).await;
    app.databases.run(Service::Auth, "ALTER TABLE outbox RENAME TO away").await;
    place.until_logged("the database failed", 2).await;
    app.databases.run(Service::Auth, "ALTER TABLE away RENAME TO outbox").await;
    let before = *gateway.asked.lock().unwrap();
    gateway.until(|| *gateway.asked.lock().unwrap() > before + 1).await;
    gateway.refuse(None);
    gateway.until_received(1).await;
    place.until_logged("the gateway accepts revocations again", 1).await;
    assert_eq!((place.logged("revocations wait"), place.logged("accepts revocations again")), (1, 1));

    *gateway.poison.lock().unwrap() = Some(people[1].session.clone());
    logout(&app, &people[1]).await;
    place.until_logged("the gateway rejects a revocation", 1).await;
    let before = *gateway.asked.lock().unwrap();
    gateway.until(|| *gateway.asked.lock().unwrap() > before + 1).await;
    assert_eq!((place.logged("rejects a revocation"), place.logged("revocations wait")), (1, 1));
}

#[tokio::test]
async fn repeated_revocations_issue_no_token_far_in_the_future() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let ada = app.person("ada@example.com").await;
    let path = format!("/api/v1/internal/accounts/{}/revoke", ada.id);
    let mut status = 204;
    for _ in 0..1000 {
        status = internal(&app, Method::POST, &path).await;
        if status != 204 {
            break;
        }
    }
    assert_eq!(status, 503, "too often within seconds");
    let again = app.log_in("ada@example.com").await;
    let ahead = seconds(&claims(&again.access)["iat"]) - app.clock.now() / 1000;
    assert!(ahead <= limits::REVOKED_AHEAD_S + 1, "{ahead} s ahead");
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &again).await.status, 200);
}

#[tokio::test]
async fn expired_revocations_are_not_pushed() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    gateway.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    let (old, young) = (app.person("ada@example.com").await, app.person("grace@example.com").await);
    logout(&app, &old).await;
    app.clock.pass(limits::ACCESS_TOKEN_MS + limits::LEEWAY_MS + limits::REVOKED_AHEAD_S * 1000);
    logout(&app, &young).await;
    // The first push may have been assembled before.
    let before = *gateway.asked.lock().unwrap();
    gateway.until(|| *gateway.asked.lock().unwrap() >= before + 2).await;
    gateway.refuse(None);
    let told = gateway.until_received(1).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["session"], young.session.as_str());
}

#[tokio::test]
async fn tokens_issued_after_a_revocation_are_not_revoked() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let ada = app.person("ada@example.com").await;
    let path = format!("/api/v1/internal/accounts/{}/revoke", ada.id);
    let mut issued_at = seconds(&claims(&ada.access)["iat"]);
    for round in 1..=5 {
        assert_eq!(internal(&app, Method::POST, &path).await, 204);
        // At once, and most likely within the same second.
        let again = app.log_in("ada@example.com").await;
        let until = seconds(&gateway.until_received(round).await[round - 1]["issued_until"]);
        assert!(issued_at <= until, "a token of before survived");
        issued_at = seconds(&claims(&again.access)["iat"]);
        assert!(issued_at > until, "a token of after did not");
        let refreshed = app.refresh(&again.refresh).await.json();
        issued_at = issued_at.max(seconds(&claims(refreshed["access_token"].as_str().unwrap())["iat"]));
        assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &again).await.status, 200);
    }
}

#[tokio::test]
async fn no_token_survives_a_concurrent_refresh_and_revocation() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    for round in 1..=30_usize {
        let person = app.person(&format!("ada{round}@example.com")).await;
        let path = format!("/api/v1/internal/accounts/{}/revoke", person.id);
        let (refresh, revoked) = tokio::join!(app.refresh(&person.refresh), internal(&app, Method::POST, &path));
        assert_eq!(revoked, 204);
        if refresh.status == 200 {
            let token = refresh.json()["access_token"].as_str().unwrap().to_owned();
            let told = gateway.until_received(round).await;
            let ended = told.iter().find(|item| item["user"] == person.id.as_str()).unwrap();
            assert!(seconds(&claims(&token)["iat"]) <= seconds(&ended["issued_until"]), "a token survived");
        } else {
            gateway.until_received(round).await;
        }
    }
}
