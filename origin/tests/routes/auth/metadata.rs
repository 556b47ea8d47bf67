//! `GET /.well-known/oauth-authorization-server` (RFC 8414), and `TOKEN_ISSUER`.

use portcullis_origin::{boot, clock::Clock};
use reqwest::Method;
use serde_json::json;

use crate::{
    routes::auth::{introspection::introspect, refresh::ME},
    support::{App, BOTH, Databases, Reply, Service, claims, settings},
};

const METADATA: &str = "/.well-known/oauth-authorization-server";

const EDGE: &str = "http://127.0.0.1:9";

const URL: &str = "https://api.example.com";

async fn start(issuer: &str, public_url: Option<&str>) -> App {
    App::start_with(EDGE, |mut settings| {
        settings.token_issuer = issuer.to_owned();
        settings.public_url = public_url.map(str::to_owned);
        settings
    })
    .await
}

async fn metadata(app: &App) -> Reply {
    app.send_raw(app.http.get(app.url(Service::Auth, METADATA))).await
}

#[tokio::test]
async fn the_metadata_name_the_issuer_and_what_clients_can_reach() {
    let reply = metadata(&start(URL, Some(&format!("{URL}/"))).await).await;
    assert_eq!(reply.headers["cache-control"], "public, max-age=300");
    assert_eq!(
        reply.json(),
        json!({
            "issuer": URL,
            "jwks_uri": format!("{URL}/.well-known/jwks.json"),
            "revocation_endpoint": format!("{URL}/api/v1/auth/revoke"),
            "revocation_endpoint_auth_methods_supported": ["none"],
            "response_types_supported": [],
            "grant_types_supported": [],
            "dpop_signing_alg_values_supported": ["ES256", "EdDSA", "RS256", "PS256"],
        })
    );
}

#[tokio::test]
async fn metadata_exist_only_at_the_url_that_is_the_issuer() {
    for (issuer, public_url) in [
        ("auth-service", Some(URL)),
        (URL, None),
        (URL, Some("https://gateway.example.com")),
        (URL, Some("https://api.example.com:8443")),
    ] {
        let reply = metadata(&start(issuer, public_url).await).await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"), "{issuer}");
        assert_eq!(reply.json()["detail"], "Metadata needs TOKEN_ISSUER and PUBLIC_URL, both the same URL");
    }
}

#[tokio::test]
async fn the_issuer_of_the_settings_is_that_of_each_token_and_both_services_require_it() {
    let mut app = start(URL, None).await;
    let ada = app.person("ada@example.com").await;
    assert_eq!(claims(&ada.access)["iss"], URL);
    assert_eq!(introspect(&app, &ada.access).await["iss"], URL);
    let token = app.service_token(Service::Users).await;
    assert_eq!(claims(&token)["iss"], URL);
    let read = |app: &App| {
        let url = app.url(Service::Users, &format!("/api/v1/internal/users/{}", ada.id));
        app.internal(Service::Users, Method::GET, &url, &token)
    };
    assert_eq!(app.send_raw(read(&app)).await.status, 200);
    let url = app.url(Service::Auth, &format!("/api/v1/internal/accounts/{}/revoke", ada.id));
    let of_users = app.service_token(Service::Auth).await;
    let revoke = |app: &App| app.internal(Service::Auth, Method::POST, &url, &of_users);
    assert_eq!(app.send_raw(revoke(&app)).await.status, 204);
    let ada = app.log_in("ada@example.com").await;
    assert_eq!(app.get(Service::Auth, ME, &ada).await.status, 200);
    // With the default issuer, the same keys do not suffice.
    app.restart(BOTH).await;
    assert_eq!(app.send_raw(read(&app)).await.code(), "service_token_invalid");
    assert_eq!(app.send_raw(revoke(&app)).await.code(), "service_token_invalid");
    assert_eq!(introspect(&app, &ada.access).await, json!({ "active": false }));
}

#[tokio::test]
async fn an_issuer_that_clients_would_write_differently_fails_the_start() {
    for (issuer, reason) in [
        ("", "TOKEN_ISSUER is not a URL"),
        ("auth", "TOKEN_ISSUER is not a URL"),
        ("http://api.example.com", "TOKEN_ISSUER cannot be used"),
        ("https://api.example.com/auth", "TOKEN_ISSUER cannot be used"),
        ("https://api.example.com?x", "TOKEN_ISSUER cannot be used"),
        ("https://ada:secret@api.example.com", "TOKEN_ISSUER cannot be used"),
        ("https://api.example.com/", "TOKEN_ISSUER is compared exactly; write it as https://api.example.com"),
        ("https://API.example.com", "write it as https://api.example.com"),
        ("https://api.example.com:443", "write it as https://api.example.com"),
    ] {
        let databases = Databases::make().await;
        let mut settings = settings(&databases, 0, 0, [1; 32], EDGE);
        settings.token_issuer = issuer.to_owned();
        let fault = boot::start(&settings, BOTH, Clock::default()).await.unwrap_err().to_string();
        assert!(fault.contains(reason) && !fault.contains("secret"), "{issuer}: {fault}");
    }
}
