//! Registration and the bodies it takes.

use portcullis_origin::{boot::EnabledServices, limits};
use reqwest::Method;
use serde_json::json;

use crate::app::{App, PASSWORD, Service};

const REGISTER: &str = "/api/v1/auth/register";

#[tokio::test]
async fn fields_are_checked_and_all_faults_told_at_once() {
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
async fn bodies_that_are_not_the_json_asked_for_are_refused_by_kind() {
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
        let reply = app.bare(request).await;
        let shown: String = body.chars().take(40).collect();
        assert_eq!(reply.status, status, "{content_type:?} {shown}");
        assert!(reply.code().starts_with(code), "{content_type:?} {shown}: {}", reply.text);
    }
}

#[tokio::test]
async fn every_refusal_on_every_route_is_a_problem_document() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let large = json!({ "refresh_token": "x".repeat(limits::BODY_BYTES) });
    for (method, path, body, status) in [
        (Method::POST, "/api/v1/auth/logout", Some(large.clone()), 413),
        (Method::POST, "/api/v1/auth/logout", Some(json!({ "refresh_token": 5 })), 400),
        (Method::POST, "/api/v1/auth/token", Some(large.clone()), 413),
        (Method::POST, "/api/v1/auth/refresh", Some(large), 413),
        (Method::POST, "/api/v1/auth/refresh", Some(json!({})), 422),
        (Method::POST, "/api/v1/auth/login", Some(json!({ "email": "a@example.com" })), 422),
        (Method::DELETE, "/api/v1/internal/accounts/not-an-id", None, 401),
        (Method::GET, "/api/v1/auth/nothing", None, 404),
        (Method::PUT, "/api/v1/auth/me", None, 405),
    ] {
        let reply = app.send(Service::Auth, method.clone(), path, Some(&ada), body).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        assert_eq!(reply.headers["content-type"], "application/problem+json", "{method} {path}");
        assert_eq!(reply.json()["status"], status);
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413_and_no_broken_connection() {
    let app = App::start().await;
    for bytes in [limits::BODY_BYTES, 300_000, 1_000_000, 5_000_000] {
        for _ in 0..5 {
            let body = json!({ "email": "ada@example.com", "password": "x".repeat(bytes) });
            let reply = app.post(REGISTER, body).await;
            assert_eq!((reply.status, reply.code().as_str()), (413, "body_too_large"), "{bytes} bytes");
        }
    }
}

#[tokio::test]
async fn who_is_refused_before_their_body_was_read_can_go_on_on_the_same_connection() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = App::start().await;
    let address = app.url(Service::Auth, "").replace("http://", "");
    let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let (mut answers, mut requests) = stream.into_split();
    let size = 1_000_000;
    let first = format!("POST /api/v1/auth/password HTTP/1.1\r\nhost: {address}\r\ncontent-length: {size}\r\n\r\n");
    let second = format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let sending = tokio::spawn(async move {
        for part in [first.into_bytes(), vec![b'x'; size], second.into_bytes()] {
            requests.write_all(&part).await?;
        }
        Ok::<_, std::io::Error>(requests)
    });
    let mut text = String::new();
    answers.read_to_string(&mut text).await.unwrap();
    let statuses: Vec<_> = text.match_indices("HTTP/1.1 ").filter_map(|(at, _)| text.get(at + 9..at + 12)).collect();
    assert_eq!(statuses, ["401", "200"], "{text}");
    sending.await.unwrap().unwrap();
}

#[tokio::test]
async fn nobody_assigns_what_is_not_theirs_to_assign() {
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
async fn an_address_is_one_account_whatever_its_case() {
    let app = App::start().await;
    assert_eq!(app.register("ada@example.com").await.status, 201);
    for twin in ["ada@example.com", "ADA@example.com", " ada@EXAMPLE.com"] {
        let reply = app.register(twin).await;
        assert_eq!((reply.status, reply.code().as_str()), (409, "email_taken"), "{twin}");
    }
    assert_eq!(app.login("Ada@Example.com").await.status, 200);
}

#[tokio::test]
async fn of_many_that_register_one_address_at_once_exactly_one_wins() {
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
async fn a_registration_that_half_failed_leaves_nothing_in_the_way() {
    let mut app = App::start().await;
    app.restart(EnabledServices { auth: true, users: false }).await;
    let reply = app.register("ada@example.com").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "user_service_unavailable"));
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(app.login("ada@example.com").await.status, 401, "half an account cannot log in");

    let users = app.start_beside(EnabledServices { auth: false, users: true }).await;
    let person = app.person("ada@example.com").await;
    let profile = app.get(Service::Users, &format!("/api/v1/users/{}", person.id), &person).await;
    assert_eq!(profile.json()["data"]["email"], "ada@example.com");
    users.stop().await;
}

#[tokio::test]
async fn passwords_are_stored_as_argon2id_at_owasps_figures() {
    let app = App::start().await;
    app.register("ada@example.com").await;
    let stored = app.databases.dump().await;
    assert!(stored.contains("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert!(!stored.contains(PASSWORD));
}

#[tokio::test]
async fn problems_name_route_and_request_and_nothing_else() {
    let app = App::start().await;
    let reply = app.login("nobody@example.com").await;
    let document = reply.json();
    let names: Vec<&String> = document.as_object().unwrap().keys().collect();
    let mut expected = ["type", "title", "status", "detail", "error", "code", "operation", "request_id"];
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(document["operation"], "/api/v1/auth/login");
    assert_eq!(document["detail"], "Invalid email or password");
    assert_eq!(document["error"], document["detail"]);
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    assert_eq!(reply.headers["x-request-id"].to_str().unwrap(), document["request_id"].as_str().unwrap());
    let method = app.send(Service::Auth, Method::GET, "/api/v1/auth/login", None, None).await;
    assert_eq!((method.status, method.headers["allow"].to_str().unwrap()), (405, "POST"));
    assert_eq!(app.send(Service::Auth, Method::GET, "/nowhere", None, None).await.status, 404);
}
