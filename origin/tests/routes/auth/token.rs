//! `POST /api/v1/auth/token`, and services that an operator added.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_origin::{
    auth::{ServiceFault, add_service, remove_service},
    store::{Database, Schema, Services},
};
use reqwest::Method;
use serde_json::json;

use crate::support::{AUTH_SECRET, App, Reply, Service};

const TOKEN: &str = "/api/v1/auth/token";

const FORM: &str = "application/x-www-form-urlencoded";

const GOOD: &str = "grant_type=client_credentials&audience=user-service";

/// Nothing listens on the discard port.
const NO_EDGE: &str = "http://127.0.0.1:9";

async fn services(app: &App) -> Services {
    Services(Database::open(&app.databases.url(Service::Auth), Schema::Auth).await.unwrap())
}

/// Adds a service that may call the user service. Returns its secret.
async fn add(app: &App, name: &str) -> String {
    let audiences = ["user-service".to_owned()];
    add_service(&services(app).await, name, &audiences, &app.clock).await.unwrap().expose().to_owned()
}

async fn ask_token(app: &App, authorization: &str, content_type: Option<&str>, form: &str) -> Reply {
    let mut request = app.http.post(app.url(Service::Auth, TOKEN)).header("authorization", authorization);
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    app.send_raw(request.body(form.to_owned())).await
}

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")))
}

async fn token(app: &App, name: &str, secret: &str) -> String {
    let reply = ask_token(app, &basic(name, secret), Some(FORM), GOOD).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

async fn call(app: &App, method: Method, path: &str, name: &str, token: &str) -> Reply {
    let request = app.http.request(method, app.url(Service::Users, path)).bearer_auth(token);
    let request = request.header("x-service-caller", name).header("content-type", "application/json");
    app.send_raw(request.body(json!({ "email": "a@example.com", "first_name": "", "last_name": "" }).to_string())).await
}

#[tokio::test]
async fn an_added_service_gets_tokens_until_it_is_removed() {
    let app = App::start().await;
    let secret = add(&app, "billing").await;
    assert_eq!(secret.len(), 43, "256 bits");
    let reply = ask_token(&app, &basic("billing", &secret), Some(FORM), GOOD).await;
    assert_eq!((reply.status, reply.headers["cache-control"].to_str().unwrap()), (200, "no-store"));
    let claims = crate::support::claims(reply.json()["access_token"].as_str().unwrap());
    assert_eq!((&claims["sub"], &claims["aud"]), (&json!("billing"), &json!("user-service")));
    assert_eq!(claims["roles"], json!(["service", "billing"]));
    let other = GOOD.replace("user-service", "auth-service");
    assert_eq!(ask_token(&app, &basic("billing", &secret), Some(FORM), &other).await.code(), "invalid_target");
    assert!(!app.databases.dump().await.contains(&secret), "its secret lies in the database");

    remove_service(&services(&app).await, "billing").await.unwrap();
    let reply = ask_token(&app, &basic("billing", &secret), Some(FORM), GOOD).await;
    assert_eq!((reply.status, reply.code().as_str()), (401, "invalid_client"));
    let again = add(&app, "billing").await;
    assert_ne!(again, secret);
    assert_eq!(ask_token(&app, &basic("billing", &secret), Some(FORM), GOOD).await.status, 401);
    token(&app, "billing", &again).await;
}

#[tokio::test]
async fn credentials_are_the_name_and_the_secret_of_one_service() {
    let app = App::start().await;
    let secret = add(&app, "billing").await;
    let escaped = AUTH_SECRET.replace(' ', "+").replace(',', "%2C");
    for (name, text, status) in [
        ("auth-service", AUTH_SECRET, 200),
        ("auth-service", escaped.as_str(), 200),
        ("auth%2Dservice", escaped.as_str(), 200),
        ("billing", secret.as_str(), 200),
        ("billing", AUTH_SECRET, 401),
        ("auth-service", secret.as_str(), 401),
        ("stranger", secret.as_str(), 401),
        ("Billing", secret.as_str(), 401),
        ("", secret.as_str(), 401),
        ("billing", "", 401),
        ("billing", &secret.to_lowercase(), 401),
        ("billing' OR '1'='1", "", 401),
        ("billing\0", secret.as_str(), 401),
    ] {
        let reply = ask_token(&app, &basic(name, text), Some(FORM), GOOD).await;
        assert_eq!(reply.status, status, "{name:?}");
        if status == 401 {
            assert_eq!(reply.json()["error"], "invalid_client", "{name:?}");
            assert_eq!(reply.headers["www-authenticate"], "Basic realm=\"portcullis\"", "{name:?}");
        }
    }
    for authorization in ["", "Basic", "Basic !", "Basic YmlsbGluZw==", &format!("Bearer {secret}")] {
        assert_eq!(ask_token(&app, authorization, Some(FORM), GOOD).await.status, 401, "{authorization}");
    }
}

#[tokio::test]
async fn a_request_is_a_form_with_each_parameter_once() {
    let app = App::start().await;
    let secret = add(&app, "billing").await;
    let known = basic("billing", &secret);
    for (form, status, code) in [
        (GOOD, 200, ""),
        ("audience=user%2Dservice&grant_type=client%5Fcredentials", 200, ""),
        ("grant_type=client_credentials&audience=user-service&scope=x&unknown=1", 200, ""),
        ("", 400, "invalid_request"),
        ("grant_type=client_credentials&grant_type=client_credentials&audience=user-service", 400, "invalid_request"),
        ("grant_type=client_credentials&audience=user-service&audience=auth-service", 400, "invalid_request"),
        ("grant_type=client_credentials&audience=user-service&%61udience=", 400, "invalid_request"),
        ("grant_type=client_credentials&audience=user-service&x=1&x=2", 400, "invalid_request"),
        ("grant_type=client_credentials&audience=user-service&client_secret=x", 400, "invalid_request"),
        ("grant_type=password&audience=user-service", 400, "unsupported_grant_type"),
        ("grant_type=client_credentials", 400, "invalid_target"),
        ("grant_type=client_credentials&audience=user-service%00", 400, "invalid_target"),
        ("grant_type=client_credentials&audience=portcullis", 400, "invalid_target"),
    ] {
        let reply = ask_token(&app, &known, Some(FORM), form).await;
        assert_eq!(reply.status, status, "{form}");
        if status == 400 {
            assert_eq!((reply.code().as_str(), reply.json()["error"].as_str().unwrap()), (code, code), "{form}");
        }
    }
    for (content_type, status) in [
        (Some("application/x-www-form-urlencoded; charset=utf-8"), 200),
        (Some("Application/X-WWW-Form-Urlencoded"), 200),
        (Some("application/json"), 400),
        (Some("multipart/form-data"), 400),
        (Some("text/plain"), 400),
        (Some(""), 400),
        (None, 400),
    ] {
        assert_eq!(ask_token(&app, &known, content_type, GOOD).await.status, status, "{content_type:?}");
    }
    assert_eq!(ask_token(&app, &basic("x1", "y"), None, GOOD).await.status, 401, "a stranger learns no more");
}

#[tokio::test]
async fn a_reader_may_read_but_not_write() {
    let app = App::start_with(NO_EDGE, |mut settings| {
        settings.internal_readers = "billing, stock".to_owned();
        settings
    })
    .await;
    let ada = app.person("ada@example.com").await;
    let reader = token(&app, "billing", &add(&app, "billing").await).await;
    let stranger = token(&app, "ledger", &add(&app, "ledger").await).await;
    let list = "/api/v1/internal/users";
    let one = format!("{list}/{}", ada.id);
    for (method, path, expected) in [
        (Method::GET, list, 200),
        (Method::GET, one.as_str(), 200),
        (Method::HEAD, one.as_str(), 200),
        (Method::POST, list, 403),
        (Method::PATCH, one.as_str(), 403),
        (Method::DELETE, one.as_str(), 403),
    ] {
        let reply = call(&app, method.clone(), path, "billing", &reader).await;
        assert_eq!(reply.status, expected, "{method} {path}");
        if expected == 403 {
            assert_eq!(reply.code(), "service_not_authorized", "{method} {path}");
        }
        if method != Method::HEAD {
            let reply = call(&app, method.clone(), path, "ledger", &stranger).await;
            assert_eq!((reply.status, reply.code().as_str()), (403, "service_not_authorized"), "{method} {path}");
            let reply = call(&app, method.clone(), path, "stock", &reader).await;
            let answer = (reply.status, reply.code());
            assert_eq!(
                answer,
                (401, "service_caller_mismatch".to_owned()),
                "{method} {path}: a name that is not the token's"
            );
        }
    }
    let reply = app.get(Service::Users, &format!("/api/v1/users/{}", ada.id), &ada).await;
    assert_eq!(reply.json()["data"]["email"], "ada@example.com", "nothing was written");
}

#[tokio::test]
async fn other_services_may_not_read() {
    let app = App::start().await;
    let token = token(&app, "billing", &add(&app, "billing").await).await;
    let reply = call(&app, Method::GET, "/api/v1/internal/users", "billing", &token).await;
    assert_eq!((reply.status, reply.code().as_str()), (403, "service_not_authorized"));
}

#[tokio::test]
async fn reserved_names_cannot_be_added() {
    let app = App::start().await;
    let services = services(&app).await;
    let users = || vec!["user-service".to_owned()];
    for (name, audiences, code) in [
        ("auth-service", users(), "name_reserved"),
        ("user-service", users(), "name_reserved"),
        ("portcullis", users(), "name_reserved"),
        ("Billing", users(), "name_invalid"),
        ("b", users(), "name_invalid"),
        ("a:b", users(), "name_invalid"),
        ("billing", vec![], "audience_invalid"),
        ("billing", vec!["portcullis".to_owned()], "audience_invalid"),
        ("billing", vec!["user-service".to_owned(), "*".to_owned()], "audience_invalid"),
        ("billing", (0..33).map(|n| format!("service-{n}")).collect(), "too_many"),
    ] {
        let fault = add_service(&services, name, &audiences, &app.clock).await.unwrap_err();
        assert_eq!(fault.code(), code, "{name} {audiences:?}");
    }
    add_service(&services, "billing", &users(), &app.clock).await.unwrap();
    let fault = add_service(&services, "billing", &users(), &app.clock).await.unwrap_err();
    assert!(matches!(fault, ServiceFault::Taken), "{fault}");
    let fault = remove_service(&services, "nobody").await.unwrap_err();
    assert!(matches!(fault, ServiceFault::Unknown), "{fault}");
}
