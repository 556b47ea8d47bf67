//! Errors as problem documents, and connections after an error.

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::json;

use crate::{
    routes::auth::register::REGISTER,
    support::{App, Service},
};

#[tokio::test]
async fn every_error_on_every_route_is_a_problem_document() {
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
async fn a_body_above_the_limit_is_413_without_a_broken_connection() {
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
async fn a_connection_stays_usable_after_an_error_before_the_body_was_read() {
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
async fn problem_documents_name_route_and_request_and_nothing_else() {
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
