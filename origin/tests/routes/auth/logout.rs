//! `POST /api/v1/auth/logout`.

use reqwest::Method;
use serde_json::json;

use crate::{
    routes::auth::refresh::{ME, rotate},
    support::{App, Person, Service},
};

const LOGOUT: &str = "/api/v1/auth/logout";

#[tokio::test]
async fn a_logout_ends_its_session_and_no_other() {
    let app = App::start().await;
    let person = app.person("ada@example.com").await;
    let other = app.log_in("ada@example.com").await;
    assert_eq!(app.send(Service::Auth, Method::POST, LOGOUT, Some(&person), None).await.status, 200);
    let me = app.get(Service::Auth, ME, &person).await;
    assert_eq!(
        (me.status, me.json()["detail"].as_str().unwrap().to_owned()),
        (401, "Token has been revoked".to_owned())
    );
    assert!(rotate(&app, &person.refresh).await.is_err());
    assert_eq!(app.get(Service::Auth, ME, &other).await.status, 200);
    assert_eq!(
        app.send(Service::Auth, Method::POST, LOGOUT, Some(&person), None).await.status,
        200,
        "logging out twice is logged out"
    );
}

#[tokio::test]
async fn a_logout_with_a_refresh_token_ends_that_session_of_the_same_user() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let laptop = app.log_in("ada@example.com").await;
    let grace = app.person("grace@example.com").await;
    let logout = |who: Person, token: String| {
        let app = &app;
        async move {
            let body = json!({ "refresh_token": token });
            app.send(Service::Auth, Method::POST, LOGOUT, Some(&who), Some(body)).await.status
        }
    };
    assert_eq!(logout(ada.clone(), grace.refresh.clone()).await, 200);
    assert!(rotate(&app, &grace.refresh).await.is_ok(), "another's session is not ended");
    let ada = app.log_in("ada@example.com").await;
    assert_eq!(logout(ada, laptop.refresh.clone()).await, 200);
    assert!(rotate(&app, &laptop.refresh).await.is_err());
}
