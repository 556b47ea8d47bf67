//! `POST /api/v1/auth/register`.

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::json;

use crate::support::{AUTH_ONLY, App, PASSWORD, Service, USERS_ONLY};

pub(crate) const REGISTER: &str = "/api/v1/auth/register";

#[tokio::test]
async fn an_answer_contains_all_validation_errors() {
    let app = App::start().await;
    for (body, fields) in [
        (json!({}), &["email", "password"][..]),
        (json!({ "email": "ada", "password": "short" }), &["email", "password"]),
        (json!({ "email": "ada@example.com", "password": "1234567" }), &["password"]),
        (json!({ "email": "ada@example.com", "password": "x".repeat(129) }), &["password"]),
        (json!({ "email": "\u{430}da@example.com", "password": PASSWORD }), &["email"]),
        (json!({ "email": "ada@example.com", "password": PASSWORD, "first_name": "x".repeat(101) }), &["first_name"]),
        (json!({ "email": "ada@example.com", "password": PASSWORD, "last_name": "a\u{0}" }), &["last_name"]),
    ] {
        let reply = app.post(REGISTER, body.clone()).await;
        assert_eq!(reply.status, 422, "{body}");
        let document = reply.json();
        assert_eq!(document["type"], "validation_error");
        let told: Vec<&str> =
            document["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
        assert_eq!(told, fields, "{body}");
        assert!(!reply.text.contains(PASSWORD));
    }
}

#[tokio::test]
async fn each_kind_of_unsuitable_body_has_its_own_error() {
    let app = App::start().await;
    let deep = format!(r#"{{"email":{}"x"{}}}"#, "[".repeat(200), "]".repeat(200));
    let large = json!({ "email": "ada@example.com", "password": "x".repeat(limits::BODY_BYTES) }).to_string();
    for (content_type, body, status, code) in [
        (Some("application/json"), "", 400, "json_syntax"),
        (Some("application/json"), "{", 400, "json_syntax"),
        (Some("application/json"), "[]", 400, "json_shape"),
        (Some("application/json"), r#"{"email":7}"#, 400, "json_shape"),
        (Some("application/json"), deep.as_str(), 400, "json_"),
        (Some("application/json; charset=utf-8"), "{}", 422, "fields_invalid"),
        (Some("text/plain"), "{}", 415, "content_type_unsupported"),
        (Some("application/x-www-form-urlencoded"), "email=a", 415, "content_type_unsupported"),
        (None, "{}", 415, "content_type_unsupported"),
        (Some("application/json"), large.as_str(), 413, "body_too_large"),
    ] {
        let mut request = app
            .http
            .post(app.url(Service::Auth, REGISTER))
            .header("x-gateway-assertion", app.assertion(Service::Auth, &Method::POST, REGISTER, None))
            .body(body.to_owned());
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let reply = app.send_raw(request).await;
        let shown: String = body.chars().take(40).collect();
        assert_eq!(reply.status, status, "{content_type:?} {shown}");
        assert!(reply.code().starts_with(code), "{content_type:?} {shown}: {}", reply.text);
    }
}

#[tokio::test]
async fn registration_ignores_fields_that_clients_must_not_set() {
    let app = App::start().await;
    let wish = json!({
        "email": "Eve@Example.com ", "password": PASSWORD, "id": "00000000-0000-4000-8000-000000000000",
        "roles": ["admin"], "state": "active", "created_at": "2000-01-01T00:00:00Z",
    });
    let user = app.post(REGISTER, wish).await.json()["user"].clone();
    assert_eq!(user["roles"], json!(["user"]));
    assert_eq!(user["email"], "eve@example.com");
    assert_ne!(user["id"], "00000000-0000-4000-8000-000000000000");
    assert!(!user["created_at"].as_str().unwrap().starts_with("2000"));
}

#[tokio::test]
async fn an_email_address_is_one_account_in_upper_and_lower_case() {
    let app = App::start().await;
    assert_eq!(app.register("ada@example.com").await.status, 201);
    for twin in ["ada@example.com", "ADA@example.com", " ada@EXAMPLE.com"] {
        let reply = app.register(twin).await;
        assert_eq!((reply.status, reply.code().as_str()), (409, "email_taken"), "{twin}");
    }
    assert_eq!(app.login("Ada@Example.com").await.status, 200);
}

#[tokio::test]
async fn concurrent_registrations_of_one_address_create_one_account() {
    let app = App::start().await;
    let register = || app.register("ada@example.com");
    let (one, two, three, four) = tokio::join!(register(), register(), register(), register());
    let mut statuses = [one, two, three, four].map(|reply| reply.status);
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409]);
    assert_eq!(app.login("ada@example.com").await.status, 200);
}

#[tokio::test]
async fn sql_in_a_field_is_text() {
    let app = App::start().await;
    let name = "Robert'); DROP TABLE accounts;--";
    let body = json!({ "email": "o'brien@example.com", "password": PASSWORD, "first_name": name });
    let reply = app.post(REGISTER, body).await;
    assert_eq!(reply.json()["user"]["first_name"], name);
    assert_eq!(app.login("o'brien@example.com").await.status, 200);
    for email in ["' OR 1=1 --", "o'brien@example.com' --", "%"] {
        assert_eq!(app.login(email).await.code(), "invalid_credentials", "{email}");
    }
}

#[tokio::test]
async fn a_half_failed_registration_can_be_repeated() {
    let mut app = App::start().await;
    app.restart(AUTH_ONLY).await;
    let reply = app.register("ada@example.com").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "user_service_unavailable"));
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(app.login("ada@example.com").await.status, 401, "half an account cannot log in");

    let users = app.start_additional(USERS_ONLY).await;
    let person = app.person("ada@example.com").await;
    let profile = app.get(Service::Users, &format!("/api/v1/users/{}", person.id), &person).await;
    assert_eq!(profile.json()["data"]["email"], "ada@example.com");
    users.stop().await;
}
