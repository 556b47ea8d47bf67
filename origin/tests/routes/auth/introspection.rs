//! `POST /api/v1/auth/introspect` (RFC 7662).

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{AUTH_SECRET, App, Person, Reply, Service, USERS_SECRET, claims};

pub(crate) const INTROSPECT: &str = "/api/v1/auth/introspect";

const FORM: &str = "application/x-www-form-urlencoded";

const INACTIVE: &str = r#"{"active":false}"#;

pub(crate) async fn send(app: &App, content_type: Option<&str>, form: &str) -> Reply {
    let request = app.http.post(app.url(Service::Auth, INTROSPECT)).basic_auth("user-service", Some(USERS_SECRET));
    let request = content_type.into_iter().fold(request, |request, value| request.header("content-type", value));
    app.send_raw(request.body(form.to_owned())).await
}

/// Asks about a token, whatever the hint.
pub(crate) async fn introspect(app: &App, token: &str) -> Value {
    let plain = send(app, Some(FORM), &format!("token={token}")).await;
    for hint in ["access_token", "refresh_token", "unknown"] {
        let hinted = send(app, Some(FORM), &format!("token={token}&token_type_hint={hint}")).await;
        assert_eq!((hinted.status, &hinted.text), (200, &plain.text), "{hint}");
    }
    assert_eq!((plain.status, plain.headers["cache-control"].to_str().unwrap()), (200, "no-store"), "{}", plain.text);
    plain.json()
}

async fn assert_inactive(app: &App, token: &str, what: &str) {
    let reply = send(app, Some(FORM), &format!("token={token}")).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, INACTIVE), "{what}");
}

#[tokio::test]
async fn an_access_token_is_active_with_its_claims_while_its_session_lives() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let mut expected = claims(&ada.access);
    for name in ["user_id", "email_verified"] {
        expected.as_object_mut().unwrap().remove(name).unwrap();
    }
    expected["active"] = json!(true);
    expected["token_type"] = json!("Bearer");
    assert_eq!(introspect(&app, &ada.access).await, expected);
    assert_eq!((&expected["iss"], &expected["aud"]), (&json!("auth-service"), &json!(["api"])));
    app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&ada), None).await;
    assert_inactive(&app, &ada.access, "after the logout").await;
}

#[tokio::test]
async fn whatever_is_no_live_access_token_is_inactive_and_nothing_more() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let service = app.service_token(Service::Users).await;
    let stranger = App::start().await.person("ada@example.com").await;
    let (head, signature) = ada.access.rsplit_once('.').unwrap();
    for (what, token) in [
        ("a refresh token, which no resource may accept", ada.refresh.clone()),
        ("a service token", service),
        ("a token of another key", stranger.access),
        ("another signature", format!("{head}.{}", signature.chars().rev().collect::<String>())),
        ("no signature", format!("{head}.")),
        ("no token", "x".to_owned()),
        ("NUL", "%00".to_owned()),
        ("a long text", "x".repeat(limits::TOKEN_BYTES + 1)),
    ] {
        assert_inactive(&app, &token, what).await;
    }
    assert_eq!(introspect(&app, &ada.access).await["active"], true);
    // Without leeway: a service that asks may have a clock that is behind.
    app.clock.pass(limits::ACCESS_TOKEN_MS - 20_000);
    assert_eq!(introspect(&app, &ada.access).await["active"], true);
    app.clock.pass(20_000);
    assert_inactive(&app, &ada.access, "expired").await;
}

#[tokio::test]
async fn a_token_is_inactive_once_its_account_is_revoked_or_deleted_or_loses_a_role() {
    let app = App::start().await;
    let root = app.admin("root@example.com").await;
    let token = app.service_token(Service::Auth).await;
    for (method, path, email) in
        [(Method::POST, "/revoke", "ada@example.com"), (Method::DELETE, "", "grace@example.com")]
    {
        let person = app.person(email).await;
        assert_eq!(introspect(&app, &person.access).await["active"], true);
        let url = app.url(Service::Auth, &format!("/api/v1/internal/accounts/{}{path}", person.id));
        let reply = app.send_raw(app.internal(Service::Auth, method.clone(), &url, &token)).await;
        assert_eq!(reply.status, 204, "{}", reply.text);
        assert_inactive(&app, &person.access, &format!("{method}")).await;
    }
    let joan = app.person("joan@example.com").await;
    let roles = app.get(Service::Auth, "/api/v1/auth/roles", &root).await.json();
    let user = roles["roles"].as_array().unwrap().iter().find(|role| role["name"] == "user").unwrap()["id"].clone();
    let path = format!("/api/v1/auth/users/{}/roles/{}", joan.id, user.as_str().unwrap());
    assert_eq!(app.send(Service::Auth, Method::DELETE, &path, Some(&root), None).await.status, 204);
    assert_inactive(&app, &joan.access, "of a role that was taken away").await;
    let renewed = Person::from_login(&app.refresh(&joan.refresh).await);
    assert_eq!(introspect(&app, &renewed.access).await["roles"], json!([]), "the session goes on");
}

#[tokio::test]
async fn only_services_with_their_secret_may_ask() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let form = format!("token={}", ada.access);
    let ask = || app.http.post(app.url(Service::Auth, INTROSPECT)).header("content-type", FORM).body(form.clone());
    for (what, request) in [
        ("nothing", ask()),
        ("the token itself", ask().bearer_auth(&ada.access)),
        ("another secret", ask().basic_auth("user-service", Some(AUTH_SECRET))),
        ("an unknown service", ask().basic_auth("stranger", Some(USERS_SECRET))),
        ("a service token", ask().bearer_auth(app.service_token(Service::Auth).await)),
        (
            "the gateway's assertion",
            ask().header("x-gateway-assertion", app.assertion(Service::Auth, &Method::POST, INTROSPECT, Some(&ada))),
        ),
    ] {
        let reply = app.send_raw(request).await;
        assert_eq!((reply.status, reply.json()["error"].as_str().unwrap()), (401, "invalid_client"), "{what}");
        assert_eq!(reply.headers["www-authenticate"], "Basic realm=\"portcullis\"", "{what}");
    }
    for (name, secret) in [("auth-service", AUTH_SECRET), ("user-service", USERS_SECRET)] {
        let reply = app.send_raw(ask().basic_auth(name, Some(secret))).await;
        assert_eq!(reply.json()["active"], true, "{name}");
    }
}

#[tokio::test]
async fn a_request_is_a_form_with_one_token() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let good = format!("token={}", ada.access);
    for (content_type, form) in [
        (Some("application/json"), format!("{{\"token\":\"{}\"}}", ada.access)),
        (None, good.clone()),
        (Some(FORM), String::new()),
        (Some(FORM), "token=".to_owned()),
        (Some(FORM), "token_type_hint=access_token".to_owned()),
        (Some(FORM), format!("{good}&{good}")),
        (Some(FORM), format!("{good}&%74oken=")),
        (Some(FORM), format!("{good}&token_type_hint=a&token_type_hint=b")),
        (Some(FORM), format!("{good}&client_secret=x")),
    ] {
        let reply = send(&app, content_type, &form).await;
        assert_eq!((reply.status, reply.json()["error"].as_str().unwrap()), (400, "invalid_request"), "{form}");
        assert_eq!(reply.headers["content-type"], "application/json", "RFC 6749, section 5.2");
    }
    let reply = send(&app, Some(FORM), &format!("token={}", "x".repeat(limits::BODY_BYTES))).await;
    assert_eq!((reply.status, reply.code().as_str()), (413, "body_too_large"));
    assert_eq!(app.send(Service::Auth, Method::GET, INTROSPECT, None, None).await.status, 405);
}
