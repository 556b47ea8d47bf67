//! The answers of a service between the binding of its port and its readiness.

use std::time::Duration;

use sqlx::Connection as _;

use crate::support::{App, BOTH, Service};

/// Locks the auth service's tables exclusively until a commit.
async fn hold(app: &App) -> sqlx::AnyConnection {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(&app.databases.url(Service::Auth)).await.unwrap();
    let statements = if app.databases.is_sqlite() {
        // Without the write-ahead log, readers wait as well.
        ["PRAGMA journal_mode = DELETE", "BEGIN EXCLUSIVE"]
    } else {
        ["BEGIN", "LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE"]
    };
    for statement in statements {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    connection
}

#[tokio::test]
async fn a_service_whose_database_is_not_ready_answers_starting_and_then_works() {
    let mut app = App::start().await;
    let ada = app.person("ada@example.com").await;
    app.stop().await;
    let mut held = hold(&app).await;
    let asking = async {
        let kept = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(1).build().unwrap();
        let ask = |path: &str| kept.get(app.url(Service::Auth, path)).send();
        for _ in 0..2000 {
            if ask("/health").await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let health = ask("/health").await.unwrap();
        assert_eq!((health.status().as_u16(), health.text().await.unwrap().as_str()), (200, r#"{"status":"ok"}"#));
        for path in ["/ready", "/metrics", "/.well-known/jwks.json", "/api/v1/auth/me", "/nowhere"] {
            let answer = ask(path).await.unwrap();
            assert_eq!(answer.status().as_u16(), 503, "{path}");
            assert!(answer.headers().contains_key("retry-after"), "{path}");
            assert!(answer.text().await.unwrap().contains(r#""code":"starting""#), "{path}");
        }
        sqlx::query("COMMIT").execute(&mut held).await.unwrap();
        for _ in 0..2000 {
            // The connection of a request that was told to wait.
            if ask("/ready").await.unwrap().status().as_u16() == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never ready");
    };
    let (running, ()) = tokio::join!(app.start_additional(BOTH), asking);
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &ada).await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_service_that_fails_to_start_releases_its_port() {
    let mut app = App::start().await;
    app.restart_with(BOTH, [2; 32]).await.unwrap_err();
    for service in [Service::Auth, Service::Users] {
        assert!(app.http.get(app.url(service, "/health")).send().await.is_err(), "{service:?}");
    }
}
