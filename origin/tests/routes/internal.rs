//! `/api/v1/internal/…` of both services, and requests that bypass the gateway.

use portcullis_origin::limits;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::{AUTH_SECRET, App, Reply, Service, USERS_SECRET};

const TOKEN: &str = "/api/v1/auth/token";

async fn ask_token(app: &App, name: &str, secret: &str, form: &str) -> Reply {
    let request = app
        .http
        .post(app.url(Service::Auth, TOKEN))
        .basic_auth(name, Some(secret))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.to_owned());
    app.send_raw(request).await
}

async fn token(app: &App, name: &str, secret: &str, audience: &str) -> String {
    let form = format!("grant_type=client_credentials&audience={audience}");
    let reply = ask_token(app, name, secret, &form).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

fn internal(app: &App, caller: &str, token: &str) -> RequestBuilder {
    app.http
        .get(app.url(Service::Users, "/api/v1/internal/users"))
        .bearer_auth(token)
        .header("x-service-caller", caller)
        .header("x-internal-call", "true")
}

#[tokio::test]
async fn a_service_gets_tokens_for_the_services_that_it_may_call() {
    let app = App::start().await;
    let good = "grant_type=client_credentials&audience=user-service";
    let reply = ask_token(&app, "auth-service", AUTH_SECRET, good).await;
    let body = reply.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(300)));
    assert_eq!(reply.headers["cache-control"], "no-store");
    let claims = crate::support::claims(body["access_token"].as_str().unwrap());
    assert_eq!(claims["sub"], "auth-service");
    assert_eq!(claims["aud"], "user-service");
    assert_eq!(claims["email"], "auth-service@internal");
    assert_eq!(claims["roles"], json!(["service", "auth-service"]));
    assert_eq!(claims["token_type"], "service");
    assert_eq!(claims["user_id"], "00000000-0000-0000-0000-000000000000");
    for (name, secret, form, status, code) in [
        ("auth-service", "wrong", good, 401, "invalid_client"),
        ("auth-service", USERS_SECRET, good, 401, "invalid_client"),
        ("auth-service", "", good, 401, "invalid_client"),
        ("stranger", AUTH_SECRET, good, 401, "invalid_client"),
        ("auth-service", AUTH_SECRET, "grant_type=password&audience=user-service", 400, "unsupported_grant_type"),
        ("auth-service", AUTH_SECRET, "grant_type=urn%3Aexample&audience=user-service", 400, "unsupported_grant_type"),
        ("auth-service", AUTH_SECRET, "audience=user-service", 400, "invalid_request"),
        ("auth-service", AUTH_SECRET, "grant_type=&audience=user-service", 400, "invalid_request"),
        ("auth-service", AUTH_SECRET, "grant_type=client_credentials&audience=", 400, "invalid_target"),
        ("auth-service", AUTH_SECRET, "grant_type=client_credentials", 400, "invalid_target"),
        ("auth-service", AUTH_SECRET, "grant_type=client_credentials&audience=api", 400, "invalid_target"),
        ("auth-service", AUTH_SECRET, "grant_type=client_credentials&audience=auth-service", 400, "invalid_target"),
    ] {
        let reply = ask_token(&app, name, secret, form).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{name} {form}");
        assert_eq!(reply.json()["error"], code, "RFC 6749, section 5.2");
        let challenge = reply.headers.get("www-authenticate").map(|value| value.to_str().unwrap());
        assert_eq!(challenge, (status == 401).then_some("Basic realm=\"portcullis\""));
    }
    let bare = app.send_raw(app.http.post(app.url(Service::Auth, TOKEN)).body(good)).await;
    assert_eq!(bare.status, 401);
}

#[tokio::test]
async fn an_internal_route_authenticates_by_the_token_and_no_header() {
    let app = App::start().await;
    let person = app.person("ada@example.com").await;
    let good = token(&app, "auth-service", AUTH_SECRET, "user-service").await;
    let other_way = token(&app, "user-service", USERS_SECRET, "auth-service").await;
    assert_eq!(app.send_raw(internal(&app, "auth-service", &good)).await.status, 200);
    let flipped = format!("{}AAAAAAAAAA", good.split_at(good.len() - 10).0);
    for (caller, token, text) in [
        ("", good.as_str(), "Service caller not identified"),
        ("auth-service", "", "Service token required"),
        ("auth-service", "x", "Invalid service token"),
        ("auth-service", flipped.as_str(), "Invalid service token"),
        ("auth-service", person.access.as_str(), "Invalid service token"),
        ("user-service", other_way.as_str(), "Invalid service token"),
        ("user-service", good.as_str(), "Token not authorized for this service"),
        ("stranger", good.as_str(), "Token not authorized for this service"),
    ] {
        let reply = app.send_raw(internal(&app, caller, token)).await;
        assert_eq!(reply.status, 401, "{caller} {text}");
        assert_eq!(reply.json()["detail"], text, "{caller}");
    }
    // The assertion of an administrator does not open an internal route either.
    let mut admin = person.clone();
    admin.roles = vec!["admin".to_owned()];
    let reply = app.get(Service::Users, "/api/v1/internal/users", &admin).await;
    assert_eq!(reply.status, 401);
    app.clock.pass(limits::SERVICE_TOKEN_MS + limits::LEEWAY_MS);
    assert_eq!(app.send_raw(internal(&app, "auth-service", &good)).await.status, 401, "expired");
}

#[tokio::test]
async fn a_request_that_bypasses_the_gateway_gets_its_url_and_no_token_error() {
    let app = App::start_behind("http://127.0.0.1:9").await;
    let ada = app.person("ada@example.com").await;
    for (service, path) in [
        (Service::Auth, "/api/v1/auth/me".to_owned()),
        (Service::Auth, "/api/v1/auth/validate-token".to_owned()),
        (Service::Users, format!("/api/v1/users/{}", ada.id)),
    ] {
        // With a valid token, with an expired assertion, and with nothing.
        let plain = || app.http.get(app.url(service, &path));
        for request in [plain(), plain().bearer_auth(&ada.access), plain().header("x-gateway-assertion", "x.y.z")] {
            let reply = app.send_raw(request).await;
            assert_eq!((reply.status, reply.code().as_str()), (401, "gateway_required"), "{path}");
            let challenge = "Gateway-Assertion realm=\"http://127.0.0.1:9\", error=\"gateway_required\"";
            assert_eq!(reply.headers["www-authenticate"], challenge, "{path}");
            assert!(reply.json()["detail"].as_str().unwrap().ends_with("send it to http://127.0.0.1:9"), "{path}");
        }
    }
}

#[tokio::test]
async fn a_service_token_does_not_open_routes_for_users() {
    let app = App::start().await;
    let good = token(&app, "auth-service", AUTH_SECRET, "user-service").await;
    for path in ["/api/v1/users", "/api/v1/users/00000000-0000-4000-8000-000000000000"] {
        let request = app
            .http
            .get(app.url(Service::Users, path))
            .bearer_auth(&good)
            .header("x-service-caller", "auth-service")
            .header("x-internal-call", "true")
            .header("x-user-id", "00000000-0000-4000-8000-000000000000")
            .header("x-user-roles", "admin");
        assert_eq!(app.send_raw(request).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn revoking_an_account_ends_its_sessions() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let token = token(&app, "user-service", USERS_SECRET, "auth-service").await;
    let ask = |method: Method, path: String| {
        app.http
            .request(method, app.url(Service::Auth, &path))
            .bearer_auth(&token)
            .header("x-service-caller", "user-service")
    };
    let revoke = format!("/api/v1/internal/accounts/{}/revoke", ada.id);
    assert_eq!(app.send_raw(ask(Method::POST, revoke)).await.status, 204);
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &ada).await.status, 401);
    assert_eq!(app.refresh(&ada.refresh).await.status, 401);
    assert_eq!(app.login("ada@example.com").await.status, 200, "the account goes on");
    let nobody = "/api/v1/internal/accounts/00000000-0000-4000-8000-000000000000".to_owned();
    assert_eq!(app.send_raw(ask(Method::DELETE, nobody.clone())).await.status, 404);
    assert_eq!(app.send_raw(ask(Method::POST, format!("{nobody}/revoke"))).await.status, 404);
}
