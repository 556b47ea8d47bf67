//! Changes of the own account that require the password or a recent login.

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{App, PASSWORD, Person, Reply, Service, status_and_code};

const ADA: &str = "ada@example.com";

const WRONG: &str = "not her password";

async fn ask(app: &App, method: Method, who: &Person, id: &str, body: Option<Value>) -> Reply {
    app.send(Service::Users, method, &format!("/api/v1/users/{id}"), Some(who), body).await
}

#[tokio::test]
async fn an_ended_session_changes_nothing_in_either_service() {
    let app = App::start().await;
    let root = app.admin("root@example.com").await;
    let ada = app.person(ADA).await;
    let other = app.log_in(ADA).await;
    for who in [&root, &ada] {
        app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(who), None).await;
    }
    let new = json!({ "email": "new@example.com", "password": PASSWORD });
    let password = json!({ "current_password": PASSWORD, "new_password": "another password" });
    let user = format!("/api/v1/users/{}", ada.id);
    let session = format!("/api/v1/auth/sessions/{}", other.session);
    for (service, method, path, who, body) in [
        (Service::Users, Method::PATCH, user.as_str(), &ada, Some(json!({ "first_name": "Eve" }))),
        (Service::Users, Method::PUT, &user, &ada, Some(json!({ "email": ADA, "first_name": "Eve" }))),
        (Service::Users, Method::DELETE, &user, &ada, Some(json!({ "current_password": PASSWORD }))),
        (Service::Users, Method::PATCH, &user, &root, Some(json!({ "first_name": "Eve" }))),
        (Service::Users, Method::DELETE, &user, &root, None),
        (Service::Users, Method::POST, "/api/v1/users", &root, Some(new)),
        (Service::Auth, Method::POST, "/api/v1/auth/password", &ada, Some(password)),
        (Service::Auth, Method::DELETE, &session, &ada, None),
        (Service::Auth, Method::POST, "/api/v1/auth/keys/rotate", &root, None),
        (Service::Auth, Method::POST, "/api/v1/auth/roles", &root, Some(json!({ "name": "a" }))),
    ] {
        let reply = app.send(service, method.clone(), path, Some(who), body).await;
        assert_eq!(status_and_code(&reply), (401, "token_revoked".to_owned()), "{method} {path} {}", who.email);
    }
    // A logout succeeds each time and ends only its own session.
    let logout = json!({ "refresh_token": other.refresh });
    let reply = app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&ada), Some(logout)).await;
    assert_eq!(reply.status, 200);
    let read = app.get(Service::Users, &user, &other).await.json();
    assert_eq!((&read["data"]["first_name"], &read["data"]["email"]), (&json!("Ada"), &json!(ADA)));
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &other).await.status, 200, "the other session lives");
}

#[tokio::test]
async fn changing_the_address_and_deleting_the_account_require_the_password_or_a_recent_login() {
    let app = App::start().await;
    app.clock.stop();
    let ada = app.person(ADA).await;
    app.clock.pass(limits::RECENT_LOGIN_MS);
    let to = |email: &str, password: Option<&str>| {
        let mut body = json!({ "email": email });
        if let Some(password) = password {
            body["current_password"] = json!(password);
        }
        Some(body)
    };
    let missing = (403, "reauthentication_required".to_owned());
    let wrong = (401, "invalid_credentials".to_owned());
    for (method, body, expected) in [
        (Method::PATCH, to("eve@example.com", None), &missing),
        (Method::PUT, to("eve@example.com", None), &missing),
        (Method::DELETE, None, &missing),
        (Method::DELETE, Some(json!({})), &missing),
        (Method::PATCH, to("eve@example.com", Some(WRONG)), &wrong),
        (Method::PUT, to("eve@example.com", Some(WRONG)), &wrong),
        (Method::DELETE, Some(json!({ "current_password": WRONG })), &wrong),
    ] {
        let reply = ask(&app, method.clone(), &ada, &ada.id, body.clone()).await;
        assert_eq!(status_and_code(&reply), *expected, "{method} {body:?}");
    }
    let reply = ask(&app, Method::DELETE, &ada, &ada.id, None).await;
    let challenge = reply.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("insufficient_user_authentication"), "{challenge}");
    assert_eq!(app.login(ADA).await.status, 200, "nothing has changed");
    // Other changes need neither.
    for body in [json!({ "first_name": "Augusta" }), json!({ "email": " Ada@Example.com ", "last_name": "King" })] {
        assert_eq!(ask(&app, Method::PATCH, &ada, &ada.id, Some(body)).await.status, 200);
    }
    let reply = ask(&app, Method::PATCH, &ada, &ada.id, to("ada@example.org", Some(PASSWORD))).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let recent = app.log_in("ada@example.org").await;
    assert_eq!(ask(&app, Method::PATCH, &recent, &ada.id, to("ada@example.net", None)).await.status, 200);
    let reply = ask(&app, Method::DELETE, &ada, &ada.id, Some(json!({ "current_password": PASSWORD }))).await;
    assert_eq!(reply.status, 204, "{}", reply.text);
    let grace = app.person("grace@example.com").await;
    app.clock.pass(limits::RECENT_LOGIN_MS - 1);
    assert_eq!(ask(&app, Method::DELETE, &grace, &grace.id, None).await.status, 204, "a recent login");
}

#[tokio::test]
async fn a_refresh_is_not_a_recent_login_and_wrong_passwords_are_delayed() {
    let app = App::start().await;
    app.clock.stop();
    let ada = app.person(ADA).await;
    app.clock.pass(limits::RECENT_LOGIN_MS);
    assert_eq!(app.refresh(&ada.refresh).await.status, 200);
    let reply = ask(&app, Method::DELETE, &ada, &ada.id, None).await;
    assert_eq!(status_and_code(&reply), (403, "reauthentication_required".to_owned()));
    let wrong = || Some(json!({ "current_password": WRONG }));
    for _ in 0..limits::FAILURES_FREE {
        assert_eq!(ask(&app, Method::DELETE, &ada, &ada.id, wrong()).await.status, 401);
    }
    let reply = ask(&app, Method::DELETE, &ada, &ada.id, wrong()).await;
    assert_eq!(status_and_code(&reply), (429, "login_delayed".to_owned()));
    assert_eq!(reply.headers["retry-after"], "1");
}

#[tokio::test]
async fn guesses_of_strangers_do_not_delay_the_owner_of_a_session() {
    let app = App::start().await;
    app.clock.stop();
    let ada = app.person(ADA).await;
    app.clock.pass(limits::RECENT_LOGIN_MS);
    let guess = async |network: i64| {
        let body = json!({ "email": ADA, "password": WRONG });
        let request = app.forwarded(Service::Auth, Method::POST, "/api/v1/auth/login", None, Some(body));
        app.send_raw(request.header("x-forwarded-for", format!("198.51.100.{network}"))).await.status
    };
    for index in 0..limits::FAILURES_FREE_OF_ALL {
        assert_eq!(guess(index / limits::FAILURES_FREE).await, 401);
    }
    assert_eq!(guess(100).await, 429, "strangers are delayed");
    let body = json!({ "email": "ada@example.org", "current_password": PASSWORD });
    let reply = ask(&app, Method::PATCH, &ada, &ada.id, Some(body)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reply = ask(&app, Method::DELETE, &ada, &ada.id, Some(json!({ "current_password": PASSWORD }))).await;
    assert_eq!(reply.status, 204, "{}", reply.text);
}

#[tokio::test]
async fn administrators_change_other_accounts_without_the_password_and_their_own_with_it() {
    let app = App::start().await;
    let root = app.admin("root@example.com").await;
    app.admin("second@example.com").await;
    let ada = app.person(ADA).await;
    app.clock.pass(limits::RECENT_LOGIN_MS);
    let email = json!({ "email": "ada@example.org" });
    assert_eq!(ask(&app, Method::PATCH, &root, &ada.id, Some(email)).await.status, 200);
    assert_eq!(ask(&app, Method::DELETE, &root, &ada.id, None).await.status, 204);
    let own = ask(&app, Method::DELETE, &root, &root.id, None).await;
    assert_eq!(status_and_code(&own), (403, "reauthentication_required".to_owned()));
}

#[tokio::test]
async fn changes_of_the_address_are_rate_limited() {
    let app = App::start().await;
    app.clock.stop();
    let ada = app.person(ADA).await;
    app.register("grace@example.com").await;
    let to = |email: &str| Some(json!({ "email": email }));
    for _ in 0..limits::FAILURES_FREE {
        let reply = ask(&app, Method::PATCH, &ada, &ada.id, to("grace@example.com")).await;
        assert_eq!(status_and_code(&reply), (409, "email_taken".to_owned()));
    }
    for (method, email) in [(Method::PATCH, "grace@example.com"), (Method::PUT, "free@example.com")] {
        let reply = ask(&app, method, &ada, &ada.id, to(email)).await;
        assert_eq!(status_and_code(&reply), (429, "email_change_delayed".to_owned()), "{email}");
        assert_eq!(reply.headers["retry-after"], "1");
    }
    let name = json!({ "first_name": "Augusta" });
    assert_eq!(ask(&app, Method::PATCH, &ada, &ada.id, Some(name)).await.status, 200, "names are no addresses");
    app.clock.pass(1000);
    assert_eq!(ask(&app, Method::PATCH, &ada, &ada.id, to("free@example.com")).await.status, 200);
}

#[tokio::test]
async fn concurrent_changes_of_the_address_are_limited_like_sequential_ones() {
    let app = App::start().await;
    app.clock.stop();
    let ada = app.person(ADA).await;
    app.register("grace@example.com").await;
    let path = format!("/api/v1/users/{}", ada.id);
    let changes = (0..20).map(|_| {
        let body = json!({ "email": "grace@example.com" });
        let request = app.forwarded(Service::Users, Method::PATCH, &path, Some(&ada), Some(body));
        tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
    });
    let mut taken = 0;
    for change in changes.collect::<Vec<_>>() {
        match change.await.unwrap() {
            409 => taken += 1,
            429 => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(taken, limits::FAILURES_FREE);
}

#[tokio::test]
async fn addresses_are_not_reported_as_verified() {
    let app = App::start().await;
    let ada = app.person(ADA).await;
    let me = app.get(Service::Auth, "/api/v1/auth/me", &ada).await.json();
    assert_eq!(me["user"]["email_verified"], false);
    let read = ask(&app, Method::GET, &ada, &ada.id, None).await.json();
    assert_eq!(read["data"]["email_verified"], false);
    assert_eq!(crate::support::claims(&ada.access)["email_verified"], false);
}
