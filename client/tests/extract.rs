//! The layers and extractors of axum services: what they admit, and the answer to each refusal.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics has failed, which is its purpose"
)]

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Request, Response},
    middleware::from_fn_with_state,
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use portcullis_client::{
    assertion::{AssertedUser, Assertion, AssertionError, AssertionKeys},
    extract::{
        BadGatewayUrl, Gate, GateRefusal, GatewayUrl, ServiceCaller, ServiceClaims, ServiceRule, ServiceVerifier,
        record_assertion, require_assertion, require_service,
    },
};
use serde_json::{Value, json};
use sha2::Sha256;
use tower::ServiceExt as _;

const NOW: u64 = 1_800_000_000;
const SECRET: [u8; 32] = [7; 32];

fn gate() -> Gate {
    let keys = AssertionKeys::parse(&format!("k1:{}", URL_SAFE_NO_PAD.encode(SECRET))).unwrap();
    Gate::new("shop", keys).with_clock(|| NOW)
}

/// Returns an assertion for a GET of `target`, with a user if one is named.
fn assertion(target: &str, user: Option<&str>) -> String {
    let mut claims = json!({
        "iss": "portcullis", "aud": "shop", "iat": NOW, "exp": NOW + 30, "jti": "r1", "htm": "GET", "htu": target,
    });
    if let Some(user) = user {
        claims["sub"] = json!(user);
        claims["roles"] = json!(["user"]);
    }
    let header = json!({ "alg": "HS256", "typ": "gateway+jwt", "kid": "k1" });
    let input = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let mut mac = Hmac::<Sha256>::new_from_slice(&SECRET).unwrap();
    mac.update(input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// A route, request headers, and the status and the text or code of the answer.
type Case<'a> = (&'a str, &'a str, &'a [(&'static str, &'a str)], u16, &'a str);

async fn ask(app: &Router, target: &str, headers: &[(&'static str, &str)]) -> (u16, HeaderMap, String) {
    let mut request = Request::get(target).body(Body::empty()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    let answer: Response<Body> = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = String::from_utf8(to_bytes(body, 65_536).await.unwrap().to_vec()).unwrap();
    (parts.status.as_u16(), parts.headers, body)
}

fn code(body: &str) -> String {
    let document: Value = serde_json::from_str(body).unwrap();
    document["code"].as_str().unwrap().to_owned()
}

fn shop() -> Router {
    let inner = Router::new()
        .route("/who", get(|user: AssertedUser| async move { user.id }))
        .route(
            "/any",
            get(|user: Option<AssertedUser>| async move { user.map_or("nobody".to_owned(), |user| user.id) }),
        )
        .route("/id", get(|assertion: Assertion| async move { assertion.request_id }));
    Router::new().merge(inner.clone()).nest("/nested", inner.layer(from_fn_with_state(gate(), require_assertion)))
}

#[tokio::test]
async fn only_what_the_gateway_vouches_for_gets_in() {
    let app = shop().layer(from_fn_with_state(gate(), require_assertion));
    let (user, no_user) = (assertion("/who", Some("u1")), assertion("/who", None));
    let name = "x-gateway-assertion";
    let cases: &[Case<'_>] = &[
        ("a user", "/who", &[(name, &user)], 200, "u1"),
        ("no user, where one is required", "/who", &[(name, &no_user)], 401, "credentials_missing"),
        ("no user, where none is required", "/any", &[(name, &assertion("/any", None))], 200, "nobody"),
        ("a user, where none is needed", "/any", &[(name, &assertion("/any", Some("u1")))], 200, "u1"),
        ("the request's id", "/id?x=1", &[(name, &assertion("/id?x=1", None))], 200, "r1"),
        ("nothing", "/any", &[], 401, "gateway_required"),
        ("identity headers alone", "/who", &[("x-user-id", "u1"), ("x-user-roles", "admin")], 401, "gateway_required"),
        ("an assertion of another path", "/any", &[(name, &user)], 401, "gateway_required"),
        ("the same twice", "/who", &[(name, &user), (name, &user)], 401, "gateway_required"),
        ("a bad one before a good one", "/who", &[(name, "x"), (name, &user)], 401, "gateway_required"),
        ("one that is no text", "/who", &[(name, "\u{e9}")], 401, "gateway_required"),
        ("a nested path", "/nested/who", &[(name, &assertion("/nested/who", Some("u1")))], 200, "u1"),
        ("a nested path without its prefix", "/nested/who", &[(name, &user)], 401, "gateway_required"),
    ];
    for (case, target, headers, status, expected) in cases {
        let (answered, headers, body) = ask(&app, target, headers).await;
        assert_eq!(answered, *status, "{case}");
        if *status == 200 {
            assert_eq!(body, *expected, "{case}");
        } else {
            assert_eq!(code(&body), *expected, "{case}");
            assert_eq!(headers["content-type"], "application/problem+json", "{case}");
            let scheme = if *expected == "gateway_required" { "Gateway-Assertion " } else { "Bearer " };
            assert!(headers["www-authenticate"].to_str().unwrap().starts_with(scheme), "{case}");
        }
    }
}

#[tokio::test]
async fn a_request_around_the_gateway_is_told_where_the_gateway_is() {
    let url = || GatewayUrl::parse("https://api.example.com/").unwrap();
    let open = || Router::new().route("/who", get(|user: AssertedUser| async move { user.id }));
    let named = || gate().with_gateway_url(url());
    for (layer, app, realm, place) in [
        (
            "requiring",
            open().layer(from_fn_with_state(named(), require_assertion)),
            "https://api.example.com",
            "to https://api.example.com",
        ),
        (
            "recording",
            open().layer(from_fn_with_state(named(), record_assertion)),
            "https://api.example.com",
            "to https://api.example.com",
        ),
        ("not named", open().layer(from_fn_with_state(gate(), require_assertion)), "gateway", "send it there"),
    ] {
        for assertion in ["", "x", &assertion("/other", Some("u1"))] {
            let headers = [("x-gateway-assertion", assertion)];
            let (status, headers, body) = ask(&app, "/who", if assertion.is_empty() { &[] } else { &headers }).await;
            let challenge = format!("Gateway-Assertion realm=\"{realm}\", error=\"gateway_required\"");
            assert_eq!((status, headers["www-authenticate"].to_str().unwrap()), (401, challenge.as_str()), "{layer}");
            let document: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(document["code"], "gateway_required", "{layer}");
            assert!(document["detail"].as_str().unwrap().ends_with(place), "{layer}: {body}");
        }
    }
}

#[test]
fn a_gateway_is_named_by_a_plain_url() {
    for (text, is_taken) in [
        ("https://api.example.com", true),
        ("http://127.0.0.1:8787/", true),
        ("https://api.example.com/gate", true),
        ("https://ada:hunter2@api.example.com", false),
        ("https://api.example.com/?x=1", false),
        ("https://api.example.com/#x", false),
        ("ftp://api.example.com", false),
        ("api.example.com", false),
        ("", false),
    ] {
        assert_eq!(GatewayUrl::parse(text).is_ok(), is_taken, "{text}");
    }
    for text in ["https://api.example.com/\"x", "https://api.example.com/\r\nx: y", "https://api.example.com/\u{e9}\\"]
    {
        if let Ok(url) = GatewayUrl::parse(text) {
            let challenge = url.challenge();
            let quotes = challenge.as_bytes().iter().filter(|byte| **byte == b'"').count();
            assert_eq!(quotes, 4, "{text}");
            assert!(challenge.to_str().is_ok_and(|text| !text.contains('\\')), "{text}");
        }
    }
    assert!(GatewayUrl::parse(&format!("https://api.example.com/{}", "x".repeat(3000))).is_err());
    assert!(BadGatewayUrl.to_string().contains("https://api.example.com"));
}

#[tokio::test]
async fn the_recording_layer_leaves_the_refusal_to_the_extractors() {
    let open = Router::new().route("/open", get(|| async { "open" }));
    let app = shop().merge(open).layer(from_fn_with_state(gate(), record_assertion));
    assert_eq!(ask(&app, "/open", &[]).await.0, 200);
    assert_eq!(code(&ask(&app, "/who", &[]).await.2), "gateway_required");
    assert_eq!(ask(&app, "/who", &[("x-gateway-assertion", &assertion("/who", Some("u1")))]).await.2, "u1");
}

#[tokio::test]
async fn a_route_without_the_gateway_layer_admits_no_request() {
    let (status, _, body) = ask(&shop(), "/any", &[("x-gateway-assertion", &assertion("/any", None))]).await;
    assert_eq!((status, code(&body).as_str()), (500, "internal"));
}

#[tokio::test]
async fn a_service_may_answer_a_refusal_in_its_own_words() {
    let mine = |user: Result<AssertedUser, GateRefusal>| async move {
        user.map(|user| user.id).map_err(|refusal| (axum::http::StatusCode::IM_A_TEAPOT, refusal.code()))
    };
    let app = Router::new().route("/mine", get(mine)).layer(from_fn_with_state(gate(), record_assertion));
    let (status, _, body) = ask(&app, "/mine", &[]).await;
    assert_eq!((status, body.as_str()), (418, "gateway_required"));
}

/// Accepts `issuer/subject/audience/type` as a token.
struct Plain;

impl ServiceVerifier for Plain {
    type Error = axum::http::StatusCode;

    async fn verify(&self, token: &str) -> Result<ServiceClaims, Self::Error> {
        let parts: Vec<String> = token.split('/').map(str::to_owned).collect();
        let [iss, sub, aud, token_type]: [String; 4] =
            parts.try_into().map_err(|_| axum::http::StatusCode::SERVICE_UNAVAILABLE)?;
        Ok(ServiceClaims { iss, sub, aud, token_type })
    }
}

#[tokio::test]
async fn a_service_is_known_by_its_token_and_not_by_its_headers() {
    let rule = ServiceRule {
        verifier: Arc::new(Plain),
        issuer: "issuer".into(),
        audience: "shop",
        callers: ["billing", "stock"].map(str::to_owned).into(),
    };
    let app = Router::new()
        .route("/internal", get(|caller: ServiceCaller| async move { caller.name }))
        .layer(from_fn_with_state(rule, require_service));
    for (case, caller, token, status, expected) in [
        ("a caller on the list", "billing", "Bearer issuer/billing/shop/service", 200, "billing"),
        ("the scheme in lower case", "stock", "bearer issuer/stock/shop/service", 200, "stock"),
        ("no name", "", "Bearer issuer/billing/shop/service", 401, "service_caller_missing"),
        ("no token", "billing", "", 401, "service_token_missing"),
        ("another scheme", "billing", "Basic issuer/billing/shop/service", 401, "service_token_missing"),
        ("another issuer", "billing", "Bearer other/billing/shop/service", 401, "service_token_invalid"),
        ("another service's", "billing", "Bearer issuer/billing/users/service", 401, "service_token_invalid"),
        ("a user's", "billing", "Bearer issuer/billing/shop/access", 401, "service_token_invalid"),
        ("under another name", "billing", "Bearer issuer/stock/shop/service", 401, "service_caller_mismatch"),
        ("of a caller not on the list", "mail", "Bearer issuer/mail/shop/service", 403, "service_not_authorized"),
    ] {
        let headers: Vec<_> = [("x-service-caller", caller), ("authorization", token)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let (answered, _, body) = ask(&app, "/internal", &headers).await;
        assert_eq!(answered, status, "{case}");
        assert_eq!(if status == 200 { body } else { code(&body) }, expected, "{case}");
    }
    let unknown = [("x-service-caller", "billing"), ("authorization", "Bearer what")];
    assert_eq!(ask(&app, "/internal", &unknown).await.0, 503, "the verifier's own answer");
}

#[test]
fn a_gate_prints_its_audience_and_nothing_of_its_keys() {
    let printed = format!("{:?}", gate());
    assert!(printed.contains("shop") && !printed.contains(&URL_SAFE_NO_PAD.encode(SECRET)), "{printed}");
}

#[test]
fn each_refusal_has_a_code_and_words_for_a_log() {
    for (refusal, code, text) in [
        (GateRefusal::Unchecked, "internal", "no layer checks"),
        (GateRefusal::NotVouched(GatewayUrl::default()), "gateway_required", "does not vouch"),
        (GateRefusal::NoUser, "credentials_missing", "nobody is logged in"),
    ] {
        assert_eq!(refusal.code(), code);
        assert!(refusal.to_string().contains(text), "{refusal}");
    }
    for (error, code) in [
        (AssertionError::Malformed, "assertion_malformed"),
        (AssertionError::UnknownKey, "assertion_key_unknown"),
        (AssertionError::BadSignature, "assertion_signature_invalid"),
        (AssertionError::BadClaims, "assertion_claims_invalid"),
        (AssertionError::WrongAudience, "assertion_audience_invalid"),
        (AssertionError::Expired, "assertion_expired"),
        (AssertionError::WrongRequest, "assertion_request_mismatch"),
    ] {
        assert_eq!(error.code(), code);
    }
}

#[test]
fn a_request_has_a_verified_an_invalid_or_no_assertion() {
    let check = |headers: &[(&'static str, &str)]| {
        let mut request = Request::get("/who").body(Body::empty()).unwrap();
        for (name, value) in headers {
            request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        gate().check(&request)
    };
    let good = check(&[("x-gateway-assertion", &assertion("/who", Some("u1")))]);
    assert!(good.user().is_some_and(|user| user.has_role("user") && !user.has_role("admin")));
    assert_eq!((good.refusal(), good.assertion().is_some()), (None, true));
    let elsewhere = check(&[("x-gateway-assertion", &assertion("/other", Some("u1")))]);
    assert_eq!((elsewhere.refusal(), elsewhere.user()), (Some(AssertionError::WrongRequest), None));
    let absent = check(&[("x-user-id", "u1")]);
    assert_eq!((absent.refusal(), absent.assertion().is_some()), (None, false));
}
