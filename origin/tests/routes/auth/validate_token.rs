//! `GET /api/v1/auth/validate-token`.

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::json;

use crate::support::{App, Person, Service};

const VALIDATE: &str = "/api/v1/auth/validate-token";

#[tokio::test]
async fn validate_token_returns_the_expiry_of_the_verified_token() {
    let app = App::start().await;
    let person = app.person("ada@example.com").await;
    for method in [Method::GET, Method::POST] {
        let reply = app.send(Service::Auth, method, VALIDATE, Some(&person), None).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let body = reply.json();
        assert_eq!((&body["valid"], &body["user"]["id"]), (&json!(true), &json!(person.id)));
        assert!(body["expires_at"].as_str().unwrap().ends_with('Z'));
    }
    let other = app.person("grace@example.com").await;
    let mixed = Person { access: other.access.clone(), ..person.clone() };
    assert_eq!(app.get(Service::Auth, VALIDATE, &mixed).await.status, 401, "another's token");
    let forged = Person { access: format!("{}x", person.access), ..person.clone() };
    assert_eq!(app.get(Service::Auth, VALIDATE, &forged).await.status, 401);
    app.clock.pass(limits::ACCESS_TOKEN_MS + limits::LEEWAY_MS);
    assert_eq!(app.get(Service::Auth, VALIDATE, &person).await.status, 401, "expired");
}
