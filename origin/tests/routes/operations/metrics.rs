//! `GET /metrics`.

use portcullis_client::secret::Secret;
use portcullis_origin::settings::Secrets;
use reqwest::Method;
use serde_json::json;

use crate::support::{App, Reply, Service};

const NO_EDGE: &str = "http://127.0.0.1:9";

async fn page(app: &App, service: Service) -> Reply {
    app.send_raw(app.http.get(app.url(service, "/metrics"))).await
}

/// Returns the value of a series, which is written as on the page.
async fn value(app: &App, service: Service, series: &str) -> Option<f64> {
    let page = page(app, service).await;
    assert_eq!(page.status, 200, "{}", page.text);
    page.text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn requests(service: &str, route: &str, method: &str, status: u16) -> String {
    format!("origin_requests_total{{service=\"{service}\",route=\"{route}\",method=\"{method}\",status=\"{status}\"}}")
}

#[tokio::test]
async fn requests_are_counted_by_route_template_method_and_status() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    for id in [ada.id.as_str(), "00000000-0000-4000-8000-000000000000", "no-id"] {
        app.get(Service::Users, &format!("/api/v1/users/{id}"), &ada).await;
    }
    app.post("/api/v1/auth/login", json!({ "email": "ada@example.com", "password": "wrong horse" })).await;
    for (service, series, expected) in [
        (Service::Users, requests("users", "/api/v1/users/{id}", "GET", 200), 1.0),
        (Service::Users, requests("users", "/api/v1/internal/users", "POST", 201), 1.0),
        (Service::Auth, requests("auth", "/api/v1/auth/register", "POST", 201), 1.0),
        (Service::Auth, requests("auth", "/api/v1/auth/login", "POST", 200), 1.0),
        (Service::Auth, requests("auth", "/api/v1/auth/login", "POST", 401), 1.0),
        (Service::Auth, "origin_logins_total{result=\"success\"}".to_owned(), 1.0),
        (Service::Auth, "origin_logins_total{result=\"denied\"}".to_owned(), 1.0),
        (Service::Auth, "origin_password_hash_seconds_count".to_owned(), 3.0),
        (
            Service::Auth,
            "origin_request_duration_seconds_count{service=\"auth\",route=\"/api/v1/auth/login\"}".to_owned(),
            2.0,
        ),
        (
            Service::Auth,
            "origin_request_duration_seconds_bucket{service=\"auth\",route=\"/api/v1/auth/login\",le=\"+Inf\"}"
                .to_owned(),
            2.0,
        ),
    ] {
        assert_eq!(value(&app, service, &series).await, Some(expected), "{series}");
    }
    assert_eq!(page(&app, Service::Auth).await.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(value(&app, Service::Users, "process_start_time_seconds").await.unwrap() > 1.6e9);
}

#[tokio::test]
async fn clients_cannot_create_series() {
    let app = App::start().await;
    for number in 0..20 {
        let method = Method::from_bytes(format!("MADE{number}").as_bytes()).unwrap();
        let path = format!("/made/up/{number}?route={number}");
        app.send_raw(app.http.request(method.clone(), app.url(Service::Auth, &path))).await;
        app.send_raw(app.http.request(method, app.url(Service::Auth, "/health"))).await;
        app.send_raw(app.http.get(app.url(Service::Auth, &path))).await;
    }
    assert_eq!(value(&app, Service::Auth, &requests("auth", "unmatched", "other", 401)).await, Some(20.0));
    assert_eq!(value(&app, Service::Auth, &requests("auth", "unmatched", "GET", 401)).await, Some(20.0));
    assert_eq!(value(&app, Service::Auth, &requests("auth", "/health", "other", 405)).await, Some(20.0));
    assert!(!page(&app, Service::Auth).await.text.to_lowercase().contains("made"));
}

#[tokio::test]
async fn the_outbox_and_database_errors_are_visible() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    assert_eq!(value(&app, Service::Auth, "origin_outbox_waiting").await, Some(0.0));
    app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&ada), None).await;
    assert_eq!(value(&app, Service::Auth, "origin_outbox_waiting").await, Some(1.0), "nobody takes it");
    let faults = "origin_store_errors_total{kind=\"database\"}";
    let before = value(&app, Service::Auth, faults).await.unwrap_or_default();
    let pool = app.databases.open(Service::Auth).await;
    sqlx::query("ALTER TABLE accounts RENAME TO elsewhere").execute(&pool).await.unwrap();
    pool.close().await;
    assert_eq!(app.login("ada@example.com").await.status, 503);
    assert!(value(&app, Service::Auth, faults).await.unwrap_or_default() > before);
}

#[tokio::test]
async fn services_in_one_process_have_separate_metrics() {
    let (one, two) = (App::start().await, App::start().await);
    one.login("nobody@example.com").await;
    let series = "origin_logins_total{result=\"denied\"}";
    assert_eq!(value(&one, Service::Auth, series).await, Some(1.0));
    assert_eq!(value(&two, Service::Auth, series).await, None);
    assert_eq!(value(&one, Service::Users, series).await, None);
}

#[tokio::test]
async fn the_page_requires_the_token_if_one_is_set() {
    let token = "a token for the one who scrapes";
    let app = App::start_with(NO_EDGE, |settings| {
        let secrets =
            Secrets { metrics_token: Some(Secret::new(token.to_owned())), ..crate::support::secrets([1; 32]) };
        settings.with_secrets(secrets)
    })
    .await;
    for service in [Service::Auth, Service::Users] {
        let ask = |authorization: Option<String>| {
            let request = app.http.get(app.url(service, "/metrics"));
            app.send_raw(match authorization {
                Some(value) => request.header("authorization", value),
                None => request,
            })
        };
        for (authorization, status, code) in [
            (None, 401, "credentials_missing"),
            (Some(format!("Basic {token}")), 401, "credentials_missing"),
            (Some("Bearer x".to_owned()), 401, "token_invalid"),
            (Some(format!("Bearer {token}x")), 401, "token_invalid"),
            (Some(format!("Bearer {token}")), 200, ""),
        ] {
            let reply = ask(authorization.clone()).await;
            assert_eq!(reply.status, status, "{service:?} {authorization:?}");
            if status == 401 {
                assert_eq!(reply.code(), code, "{service:?} {authorization:?}");
            }
        }
    }
}
