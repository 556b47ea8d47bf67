//! Ends of sessions and accounts on their way to the gateway, and tokens that are
//! issued around them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_origin::{boot::EnabledServices, limits};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Person, Service, USERS_SECRET, claims};

const BOTH: EnabledServices = EnabledServices { auth: true, users: true };

/// A gateway that notes what it is told, or refuses.
#[derive(Clone, Default)]
pub(crate) struct Gateway {
    told: Arc<Mutex<Vec<Value>>>,
    tokens: Arc<Mutex<Vec<String>>>,
    refuses: Arc<Mutex<Option<StatusCode>>>,
    /// What no push may hold, or all of it is 400.
    poison: Arc<Mutex<Option<String>>>,
    asked: Arc<Mutex<usize>>,
    pub(crate) url: String,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self { url: format!("http://{}", listener.local_addr().unwrap()), ..Self::default() };
        let app = Router::new().route("/_gateway/revocations", post(take)).with_state(gateway.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        gateway
    }

    pub(crate) fn refuse(&self, status: Option<StatusCode>) {
        *self.refuses.lock().unwrap() = status;
    }

    pub(crate) fn told(&self) -> Vec<Value> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until so many revocations are here.
    pub(crate) async fn until_told(&self, count: usize) -> Vec<Value> {
        self.until(|| self.told().len() >= count).await;
        self.told()
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        for _ in 0..2000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("told only {:?}", self.told());
    }
}

async fn take(State(gateway): State<Gateway>, headers: HeaderMap, body: Bytes) -> StatusCode {
    *gateway.asked.lock().unwrap() += 1;
    if let Some(status) = *gateway.refuses.lock().unwrap() {
        return status;
    }
    let token = headers["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
    gateway.tokens.lock().unwrap().push(token);
    let push: Value = serde_json::from_slice(&body).unwrap();
    if gateway.poison.lock().unwrap().as_ref().is_some_and(|id| push.to_string().contains(id)) {
        return StatusCode::BAD_REQUEST;
    }
    gateway.told.lock().unwrap().extend(push["revocations"].as_array().unwrap().iter().cloned());
    StatusCode::OK
}

pub(crate) async fn logout(app: &App, person: &Person) {
    let reply = app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(person), None).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

/// A call of the user service to an internal route of the auth service.
async fn internal(app: &App, method: Method, path: &str) -> u16 {
    let form = "grant_type=client_credentials&audience=auth-service";
    let request = app.http.post(app.url(Service::Auth, "/api/v1/auth/token"));
    let issued = app
        .bare(
            request
                .basic_auth("user-service", Some(USERS_SECRET))
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form),
        )
        .await
        .json();
    let token = issued["access_token"].as_str().unwrap().to_owned();
    let request = app.http.request(method, app.url(Service::Auth, path)).bearer_auth(token);
    app.bare(request.header("x-service-caller", "user-service")).await.status
}

fn seconds(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

#[tokio::test]
async fn each_end_of_a_session_reaches_the_gateway() {
    let gateway = Gateway::start().await;
    let app = App::start_behind(&gateway.url).await;
    let ada = app.person("ada@example.com").await;
    let laptop = app.person_again("ada@example.com").await;
    let phone = app.person_again("ada@example.com").await;

    logout(&app, &ada).await;
    logout(&app, &ada).await;
    let told = gateway.until_told(1).await;
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
    let desk = app.person_again("ada@example.com").await;
    logout_of_laptop(desk.clone()).await;
    let told = gateway.until_told(3).await;
    assert_eq!(told[1]["session"], desk.session.as_str(), "and the first is told once");
    assert_eq!(told[2]["session"], laptop.session.as_str());

    assert_eq!(app.refresh(&phone.refresh).await.status, 200);
    app.clock.pass(limits::REFRESH_REUSE_S * 1000);
    assert_eq!(app.refresh(&phone.refresh).await.status, 401);
    assert_eq!(gateway.until_told(4).await[3]["session"], phone.session.as_str(), "a reuse");
}

#[tokio::test]
async fn the_end_of_all_sessions_and_of_an_account_reaches_the_gateway() {
    let gateway = Gateway::start().await;
    let app = App::start_behind(&gateway.url).await;
    let ada = app.person("ada@example.com").await;
    let now = app.clock.now() / 1000;
    assert_eq!(internal(&app, Method::POST, &format!("/api/v1/internal/accounts/{}/revoke", ada.id)).await, 204);
    let told = gateway.until_told(1).await;
    assert_eq!(told[0]["user"], ada.id.as_str());
    let until = seconds(&told[0]["issued_until"]);
    assert!(until >= seconds(&claims(&ada.access)["iat"]) && until - now <= 30, "{until}");

    assert_eq!(internal(&app, Method::DELETE, &format!("/api/v1/internal/accounts/{}", ada.id)).await, 204);
    assert_eq!(gateway.until_told(2).await[1]["user"], ada.id.as_str());
    assert_eq!(internal(&app, Method::DELETE, &format!("/api/v1/internal/accounts/{}", ada.id)).await, 404);
}

#[tokio::test]
async fn who_pushes_shows_a_service_token_for_the_gateway() {
    let gateway = Gateway::start().await;
    let app = App::start_behind(&gateway.url).await;
    logout(&app, &app.person("ada@example.com").await).await;
    gateway.until_told(1).await;
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
async fn no_revocation_is_lost_while_the_gateway_is_away_or_the_service_ends() {
    let gateway = Gateway::start().await;
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
    assert!(gateway.told().is_empty());
    gateway.refuse(None);
    let told = gateway.until_told(6).await;
    for person in &people {
        assert!(told.iter().any(|item| item["session"] == person.session.as_str()));
    }
}

#[tokio::test]
async fn one_that_the_gateway_cannot_take_holds_up_no_other() {
    let gateway = Gateway::start().await;
    let app = App::start_behind(&gateway.url).await;
    let people =
        [app.person("a@example.com").await, app.person("b@example.com").await, app.person("c@example.com").await];
    *gateway.poison.lock().unwrap() = Some(people[0].session.clone());
    gateway.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    for person in &people {
        logout(&app, person).await;
    }
    gateway.refuse(None);
    let told = gateway.until_told(2).await;
    for person in &people[1..] {
        assert!(told.iter().any(|item| item["session"] == person.session.as_str()));
    }
    *gateway.poison.lock().unwrap() = None;
    assert_eq!(gateway.until_told(3).await[2]["session"], people[0].session.as_str());
}

#[tokio::test]
async fn ending_all_sessions_again_and_again_issues_no_token_far_in_the_future() {
    let gateway = Gateway::start().await;
    let app = App::start_behind(&gateway.url).await;
    let ada = app.person("ada@example.com").await;
    let path = format!("/api/v1/internal/accounts/{}/revoke", ada.id);
    let mut said = 204;
    for _ in 0..1000 {
        said = internal(&app, Method::POST, &path).await;
        if said != 204 {
            break;
        }
    }
    assert_eq!(said, 503, "too often within seconds");
    let again = app.person_again("ada@example.com").await;
    let ahead = seconds(&claims(&again.access)["iat"]) - app.clock.now() / 1000;
    assert!(ahead <= limits::REVOKED_AHEAD_S + 1, "{ahead} s ahead");
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &again).await.status, 200);
}

#[tokio::test]
async fn what_is_too_late_for_any_token_is_not_pushed() {
    let gateway = Gateway::start().await;
    let app = App::start_behind(&gateway.url).await;
    gateway.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    let (old, young) = (app.person("ada@example.com").await, app.person("grace@example.com").await);
    logout(&app, &old).await;
    app.clock.pass(limits::ACCESS_TOKEN_MS + limits::LEEWAY_MS + limits::REVOKED_AHEAD_S * 1000);
    logout(&app, &young).await;
    // The first push from now on may have been put together before.
    let before = *gateway.asked.lock().unwrap();
    gateway.until(|| *gateway.asked.lock().unwrap() >= before + 2).await;
    gateway.refuse(None);
    let told = gateway.until_told(1).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["session"], young.session.as_str());
}

#[tokio::test]
async fn tokens_issued_after_the_end_of_all_sessions_are_not_among_those_that_ended() {
    let gateway = Gateway::start().await;
    let app = App::start_behind(&gateway.url).await;
    let ada = app.person("ada@example.com").await;
    let path = format!("/api/v1/internal/accounts/{}/revoke", ada.id);
    let mut issued_at = seconds(&claims(&ada.access)["iat"]);
    for round in 1..=5 {
        assert_eq!(internal(&app, Method::POST, &path).await, 204);
        // At once, and most likely within the same second.
        let again = app.person_again("ada@example.com").await;
        let until = seconds(&gateway.until_told(round).await[round - 1]["issued_until"]);
        assert!(issued_at <= until, "a token of before survived");
        issued_at = seconds(&claims(&again.access)["iat"]);
        assert!(issued_at > until, "a token of after did not");
        let refreshed = app.refresh(&again.refresh).await.json();
        issued_at = issued_at.max(seconds(&claims(refreshed["access_token"].as_str().unwrap())["iat"]));
        assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &again).await.status, 200);
    }
}

#[tokio::test]
async fn of_a_refresh_and_the_end_of_all_sessions_at_one_instant_no_token_survives() {
    let gateway = Gateway::start().await;
    let app = App::start_behind(&gateway.url).await;
    for round in 1..=30_usize {
        let person = app.person(&format!("ada{round}@example.com")).await;
        let path = format!("/api/v1/internal/accounts/{}/revoke", person.id);
        let (refresh, revoked) = tokio::join!(app.refresh(&person.refresh), internal(&app, Method::POST, &path));
        assert_eq!(revoked, 204);
        if refresh.status == 200 {
            let token = refresh.json()["access_token"].as_str().unwrap().to_owned();
            let told = gateway.until_told(round).await;
            let ended = told.iter().find(|item| item["user"] == person.id.as_str()).unwrap();
            assert!(seconds(&claims(&token)["iat"]) <= seconds(&ended["issued_until"]), "a token survived");
        } else {
            gateway.until_told(round).await;
        }
    }
}
