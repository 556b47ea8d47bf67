//! Direct mode: the requests that the auth service serves to loopback callers without the gateway, and
//! those that it rejects.

use portcullis_origin::{boot, clock::Clock, limits, settings::Settings};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{
    App, BOTH, Databases, Deployment, PASSWORD, Person, Reply, Service, settings, status_and_code, until, until_ready,
};

const EDGE: &str = "http://127.0.0.1:9";

const REGISTER: &str = "/api/v1/auth/register";

const LOGIN: &str = "/api/v1/auth/login";

const REFRESH: &str = "/api/v1/auth/refresh";

const LOGOUT: &str = "/api/v1/auth/logout";

const ME: &str = "/api/v1/auth/me";

const VALIDATE: &str = "/api/v1/auth/validate-token";

const ADA: &str = "ada@example.com";

fn directly(settings: Settings) -> Settings {
    with_mode(settings, "loopback")
}

fn with_mode(mut settings: Settings, mode: &str) -> Settings {
    settings.auth_direct = mode.to_owned();
    settings
}

async fn start() -> App {
    App::start_with(EDGE, directly).await
}

fn request(app: &App, method: Method, path: &str, body: Option<Value>) -> RequestBuilder {
    let request = app.http.request(method, app.url(Service::Auth, path));
    match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    }
}

async fn post(app: &App, path: &str, body: Value) -> Reply {
    app.send_raw(request(app, Method::POST, path, Some(body))).await
}

async fn as_user(app: &App, method: Method, path: &str, token: &str) -> Reply {
    app.send_raw(request(app, method, path, None).bearer_auth(token)).await
}

#[tokio::test]
async fn a_loopback_caller_registers_logs_in_refreshes_and_logs_out_without_the_gateway() {
    let app = start().await;
    let body = json!({ "email": ADA, "password": PASSWORD });
    assert_eq!(post(&app, REGISTER, body.clone()).await.status, 201);
    assert_eq!(status_and_code(&post(&app, REGISTER, body.clone()).await), (409, "email_taken".to_owned()));
    let wrong = json!({ "email": ADA, "password": "not her password" });
    assert_eq!(status_and_code(&post(&app, LOGIN, wrong).await), (401, "invalid_credentials".to_owned()));
    let login = post(&app, LOGIN, body).await.json();
    let (first, refresh) = (login["access_token"].as_str().unwrap(), &login["refresh_token"]);
    assert_eq!(as_user(&app, Method::GET, ME, first).await.json()["user"]["email"], ADA);
    let renewed = post(&app, REFRESH, json!({ "refresh_token": refresh })).await.json();
    let token = renewed["access_token"].as_str().unwrap();
    for method in [Method::GET, Method::POST] {
        let reply = as_user(&app, method, VALIDATE, token).await;
        assert_eq!((reply.status, &reply.json()["valid"]), (200, &json!(true)));
    }
    let key = app.send_raw(request(&app, Method::GET, "/api/v1/auth/public-key", None)).await;
    assert!(key.text.starts_with("-----BEGIN PUBLIC KEY-----"), "{}", key.text);
    assert_eq!(as_user(&app, Method::POST, LOGOUT, token).await.status, 200);
    for (method, path) in [(Method::GET, ME), (Method::POST, VALIDATE), (Method::POST, LOGOUT)] {
        for token in [first, token] {
            let reply = as_user(&app, method.clone(), path, token).await;
            assert_eq!(status_and_code(&reply), (401, "token_revoked".to_owned()), "{method} {path} after the logout");
        }
    }
    let reply = post(&app, REFRESH, json!({ "refresh_token": renewed["refresh_token"] })).await;
    assert_eq!(reply.status, 401, "the logout ended the family");
}

#[tokio::test]
async fn a_direct_caller_with_an_invalid_token_gets_the_gateways_errors() {
    let app = start().await;
    let person = app.person(ADA).await;
    let other = App::start_with(EDGE, directly).await.person(ADA).await;
    let service = app.service_token(Service::Auth).await;
    let bearer = |token: &str| format!("Bearer {token}");
    for (what, value, code) in [
        ("no header", None, "credentials_missing"),
        ("another scheme", Some("Basic YTpi".to_owned()), "credentials_malformed"),
        ("no token", Some("Bearer ".to_owned()), "credentials_malformed"),
        ("no JWT", Some(bearer("x")), "token_invalid"),
        ("a forged token", Some(bearer(&format!("{}x", person.access))), "token_invalid"),
        ("another service's token", Some(bearer(&other.access)), "token_invalid"),
        ("a service token", Some(bearer(&service)), "token_invalid"),
        ("a refresh token", Some(bearer(&person.refresh)), "token_invalid"),
    ] {
        for (method, path) in [(Method::GET, ME), (Method::GET, VALIDATE), (Method::POST, LOGOUT)] {
            let mut request = request(&app, method.clone(), path, None);
            if let Some(value) = &value {
                request = request.header("authorization", value);
            }
            let reply = app.send_raw(request).await;
            assert_eq!(status_and_code(&reply), (401, code.to_owned()), "{what}: {method} {path}");
            assert!(reply.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer "), "{what}");
        }
    }
    let twice = request(&app, Method::GET, ME, None).bearer_auth(&person.access).bearer_auth(&person.access);
    assert_eq!(status_and_code(&app.send_raw(twice).await), (401, "credentials_malformed".to_owned()));
    app.clock.pass(limits::ACCESS_TOKEN_MS + limits::LEEWAY_MS);
    let reply = as_user(&app, Method::GET, ME, &person.access).await;
    assert_eq!(status_and_code(&reply), (401, "token_expired".to_owned()));
}

#[tokio::test]
async fn a_token_of_a_revoked_account_is_rejected_directly() {
    let app = start().await;
    let person = app.person(ADA).await;
    let token = app.service_token(Service::Auth).await;
    let url = app.url(Service::Auth, &format!("/api/v1/internal/accounts/{}/revoke", person.id));
    assert_eq!(app.send_raw(app.internal(Service::Auth, Method::POST, &url, &token)).await.status, 204);
    let reply = as_user(&app, Method::GET, ME, &person.access).await;
    assert_eq!(status_and_code(&reply), (401, "token_revoked".to_owned()));
    // The removal of a role revokes the tokens and keeps the session.
    let root = app.admin("root@example.com").await;
    let ada = app.log_in(ADA).await;
    let roles = app.get(Service::Auth, "/api/v1/auth/roles", &root).await.json();
    let user = roles["roles"].as_array().unwrap().iter().find(|role| role["name"] == "user").unwrap()["id"].clone();
    let path = format!("/api/v1/auth/users/{}/roles/{}", ada.id, user.as_str().unwrap());
    assert_eq!(app.send(Service::Auth, Method::DELETE, &path, Some(&root), None).await.status, 204);
    let reply = as_user(&app, Method::GET, ME, &ada.access).await;
    assert_eq!(status_and_code(&reply), (401, "token_revoked".to_owned()));
}

/// Asserts the answer to a caller that must use the gateway.
fn assert_gateway_required(reply: &Reply, what: &str) {
    assert_eq!(status_and_code(reply), (401, "gateway_required".to_owned()), "{what}");
    let expected = format!("Gateway-Assertion realm=\"{EDGE}\", error=\"gateway_required\"");
    assert_eq!(reply.headers["www-authenticate"].to_str().unwrap(), expected, "{what}");
}

#[tokio::test]
async fn all_other_routes_require_the_gateway_in_direct_mode() {
    let app = start().await;
    let root = app.admin("root@example.com").await;
    let sessions = format!("/api/v1/auth/sessions/{}", root.session);
    for (service, method, path) in [
        (Service::Auth, Method::POST, "/api/v1/auth/password"),
        (Service::Auth, Method::GET, "/api/v1/auth/sessions"),
        (Service::Auth, Method::DELETE, sessions.as_str()),
        (Service::Auth, Method::GET, "/api/v1/auth/roles"),
        (Service::Auth, Method::POST, "/api/v1/auth/keys/rotate"),
        (Service::Auth, Method::GET, "/api/v1/auth/audit"),
        (Service::Auth, Method::GET, "/api/v1/auth/elsewhere"),
        (Service::Users, Method::GET, "/api/v1/users"),
    ] {
        let request = app.http.request(method.clone(), app.url(service, path)).bearer_auth(&root.access);
        assert_gateway_required(&app.send_raw(request).await, &format!("{method} {path}"));
    }
}

#[tokio::test]
async fn a_request_of_a_proxy_or_a_web_page_is_not_direct() {
    let app = start().await;
    let person = app.person(ADA).await;
    let assertion = app.assertion(Service::Auth, &Method::GET, LOGIN, None);
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x_forwarded_for", "127.0.0.1"),
        ("x-forwarded-host", "localhost"),
        ("forwarded", "for=127.0.0.1"),
        ("via", "1.1 proxy"),
        ("x-real-ip", "127.0.0.1"),
        ("cf-connecting-ip", "127.0.0.1"),
        ("cf-ray", "1"),
        ("cdn-loop", "cloudflare"),
        ("x-gateway-assertion", "not an assertion"),
        // The assertion of another request.
        ("x-gateway-assertion", assertion.as_str()),
        ("host", "rebound.example:8083"),
    ] {
        let login = request(&app, Method::POST, LOGIN, Some(json!({ "email": ADA, "password": PASSWORD })));
        assert_gateway_required(&app.send_raw(login.header(name, value)).await, name);
        let me = request(&app, Method::GET, ME, None).bearer_auth(&person.access);
        assert_gateway_required(&app.send_raw(me.header(name, value)).await, name);
    }
    let reply = app.get(Service::Auth, ME, &person).await;
    assert_eq!(reply.status, 200, "the gateway's own requests go on");
}

#[tokio::test]
async fn direct_mode_is_off_by_default() {
    for set in [|settings: Settings| settings, |settings: Settings| with_mode(settings, "off")] {
        let app = App::start_with(EDGE, set).await;
        let person: Person = app.person(ADA).await;
        let reply = post(&app, LOGIN, json!({ "email": ADA, "password": PASSWORD })).await;
        assert_gateway_required(&reply, "a login");
        assert_gateway_required(&as_user(&app, Method::GET, ME, &person.access).await, "me");
    }
}

#[tokio::test]
async fn direct_mode_beyond_loopback_and_unknown_modes_fail_the_start() {
    for (bind, mode, reason) in [
        ("127.0.0.1", "on", "set it to off or loopback"),
        ("127.0.0.1", "", "set it to off or loopback"),
        ("127.0.0.1", "LOOPBACK", "set it to off or loopback"),
        ("0.0.0.0", "loopback", "BIND_ADDR is 0.0.0.0"),
        ("::", "loopback", "BIND_ADDR is ::"),
        ("192.0.2.1", "loopback", "BIND_ADDR is 192.0.2.1"),
    ] {
        let databases = Databases::make().await;
        let mut settings = with_mode(settings(&databases, 0, 0, [1; 32], EDGE), mode);
        settings.bind = bind.parse().unwrap();
        let fault = boot::start(&settings, BOTH, Clock::default()).await.unwrap_err();
        assert!(fault.to_string().contains(reason), "{bind} {mode:?}: {fault}");
    }
}

#[tokio::test]
async fn direct_requests_are_in_the_audit_log_with_their_address() {
    let app = start().await;
    let root = app.admin("root@example.com").await;
    let person = app.person(ADA).await;
    let logout = request(&app, Method::POST, LOGOUT, None).bearer_auth(&person.access).header("user-agent", "a script");
    assert_eq!(app.send_raw(logout).await.status, 200);
    let events = app.get(Service::Auth, "/api/v1/auth/audit?event_type=auth.logout", &root).await.json();
    let event = &events["events"][0];
    assert_eq!(
        (&event["user_id"], &event["ip_address"], &event["user_agent"], &event["result"]),
        (&json!(person.id), &json!("127.0.0.1"), &json!("a script"), &json!("success"))
    );
}

#[tokio::test]
async fn the_log_warns_of_direct_mode() {
    for (mode, is_warned) in [("off", false), ("loopback", true)] {
        let databases = Databases::make().await;
        let mut place = Deployment::of(&databases);
        place.settings.push(("AUTH_DIRECT", mode.to_owned()));
        let app = App::connect(databases, place.auth, place.users);
        let mut service = place.start("auth");
        until_ready(&app, &place, &mut service).await;
        until("the start is not in the log", || {
            place.lines.lock().unwrap().iter().any(|line| line.contains("listening"))
        })
        .await;
        let lines = place.lines.lock().unwrap();
        let warned = lines.iter().any(|line| line.contains("\"WARN\"") && line.contains("AUTH_DIRECT"));
        assert_eq!(warned, is_warned, "{mode}: {lines:?}");
    }
}

#[tokio::test]
async fn the_log_of_direct_mode_contains_no_token_and_no_password_at_any_level() {
    const WRONG: &str = "not her password";
    let databases = Databases::make().await;
    let mut place = Deployment::of(&databases);
    place.settings.extend([("AUTH_DIRECT", "loopback".to_owned()), ("LOG_LEVEL", "trace".to_owned())]);
    let app = App::connect(databases, place.auth, place.users);
    let mut services = [place.start("auth"), place.start("users")];
    for service in &mut services {
        until_ready(&app, &place, service).await;
    }
    let registration = json!({ "email": ADA, "password": PASSWORD });
    assert_eq!(post(&app, REGISTER, registration.clone()).await.status, 201);
    assert_eq!(post(&app, LOGIN, json!({ "email": ADA, "password": WRONG })).await.status, 401);
    let login = post(&app, LOGIN, registration).await.json();
    let renewed = post(&app, REFRESH, json!({ "refresh_token": login["refresh_token"] })).await.json();
    let texts = [&login["access_token"], &login["refresh_token"], &renewed["access_token"], &renewed["refresh_token"]];
    let tokens = texts.map(|token| token.as_str().unwrap());
    for path in [ME, VALIDATE] {
        assert_eq!(as_user(&app, Method::GET, path, tokens[2]).await.status, 200, "{path}");
    }
    assert_eq!(as_user(&app, Method::POST, LOGOUT, tokens[2]).await.status, 200);
    assert_eq!(as_user(&app, Method::GET, ME, tokens[2]).await.status, 401);
    // Secrets in unexpected places are not logged either.
    let forged = format!("{}x", tokens[0]);
    assert_eq!(as_user(&app, Method::GET, ME, &forged).await.status, 401);
    assert_eq!(post(&app, REFRESH, json!({ "refresh_token": forged })).await.status, 401);
    for body in [json!({ "email": PASSWORD, "password": tokens[1] }), json!({ "password": { "is": PASSWORD } })] {
        assert!(matches!(post(&app, LOGIN, body).await.status, 400 | 401 | 422));
    }
    let query = format!("{ME}?access_token={}", tokens[0]);
    app.send_raw(request(&app, Method::GET, &query, None)).await;

    let requests = || place.lines.lock().unwrap().iter().filter(|line| line.contains(LOGIN)).count();
    until("the logins are not in the log", || requests() >= 3).await;
    let lines = place.lines.lock().unwrap();
    assert!(lines.iter().any(|line| line.contains("\"TRACE\"")), "every level is logged");
    for line in lines.iter() {
        for secret in tokens.iter().copied().chain([PASSWORD, WRONG]) {
            assert!(!line.contains(secret), "a secret is in the log: {}", line.replace(secret, "[it]"));
        }
    }
}
