//! Calls between services: requests, retries and tokens.

use portcullis_client::{
    ApiRequest, ServiceClient,
    error::{ClientError, ErrorKind},
    http::{BreakerPolicy, RetryPolicy},
    request::{ApiAnswer, Method},
    service::{CallPolicy, ServiceConfig},
};
use serde_json::{Value, json};
use tokio::time::Duration;

use crate::fake::{
    Fake, Reply, TOKEN_ROUTE, answer, closed_url, refuse, reply, run_at_once, serve_with_tokens, service_config,
};

fn config(auth_url: &str, target_url: &str) -> ServiceConfig {
    service_config("billing", "user-service", auth_url, target_url)
}

fn client(fake: &Fake) -> ServiceClient {
    ServiceClient::new(config(&fake.url, &fake.url)).unwrap()
}

fn request(method: Method) -> ApiRequest {
    ApiRequest::new(method, "/api/v1/internal/users/{id}").with_segment("7")
}

async fn call_at_once(client: &ServiceClient, count: usize) -> Vec<Result<ApiAnswer, ClientError>> {
    let call = |client: ServiceClient| async move { client.send(request(Method::GET)).await };
    run_at_once((0..count).map(|_| call(client.clone()))).await
}

#[tokio::test]
async fn any_route_is_called_with_one_token_and_the_callers_name() {
    let fake = serve_with_tokens(300, |asked, _| answer(200, &json!({ "echo": asked.json() }))).await;
    let client = client(&fake);
    let body = json!({ "article": 7 });
    for method in [Method::GET, Method::POST, Method::PATCH, Method::DELETE] {
        let sent = request(method).with_json(&body).with_header("x-acting-user", "u1");
        let answer: Value = client.send(sent).await.unwrap().json().unwrap();
        assert_eq!(answer, json!({ "echo": body }));
    }
    let asked = fake.asked();
    assert_eq!(asked[0].header("authorization"), Some("Basic YmlsbGluZzpodW50ZXIy"));
    assert_eq!(asked[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked[0].body, "grant_type=client_credentials&audience=user-service");
    assert_eq!(asked.len(), 5, "one token serves them all");
    for asked in &asked[1..] {
        let header = |name| asked.header(name);
        assert_eq!(asked.target, "/api/v1/internal/users/7");
        assert_eq!(header("authorization"), Some("Bearer token-1"));
        assert_eq!((header("x-service-caller"), header("x-internal-call")), (Some("billing"), Some("true")));
        assert_eq!(header("x-acting-user"), Some("u1"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_calls_at_once_fetch_one_token() {
    let fake = serve_with_tokens(300, |_, _| reply(204, &[], "")).await;
    let client = client(&fake);
    for result in call_at_once(&client, 50).await {
        assert_eq!(result.unwrap().status(), 204);
    }
    assert_eq!((fake.token_count(), fake.call_count()), (1, 50));
}

#[tokio::test]
async fn a_token_is_renewed_when_it_is_refused_and_before_it_ends() {
    // Refused once, before anything was processed, whatever the method.
    for method in [Method::GET, Method::POST] {
        let fake = serve_with_tokens(300, |asked, _| match asked.header("authorization") {
            Some("Bearer token-1") => refuse(401, "service_token_invalid"),
            _ => reply(204, &[], ""),
        })
        .await;
        assert!(client(&fake).send(request(method)).await.is_ok());
        assert_eq!((fake.token_count(), fake.call_count()), (2, 2));
    }
    // Always refused.
    let fake = serve_with_tokens(300, |_, _| refuse(401, "service_token_invalid")).await;
    let error = client(&fake).send(request(Method::GET)).await.unwrap_err();
    assert_eq!((error.kind(), fake.call_count()), (ErrorKind::Unauthenticated, 2));
    // The caller is not on the list, so no token helps.
    let fake = serve_with_tokens(300, |_, _| refuse(403, "service_not_authorized")).await;
    let error = client(&fake).send(request(Method::GET)).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Forbidden, "service_not_authorized"));
    assert_eq!((fake.token_count(), fake.call_count()), (1, 1));
    // About to expire.
    let fake = serve_with_tokens(30, |_, _| reply(204, &[], "")).await;
    let client = client(&fake);
    for _ in 0..2 {
        client.send(request(Method::GET)).await.unwrap();
    }
    assert_eq!(fake.token_count(), 2);
}

#[tokio::test]
async fn what_does_no_harm_twice_is_tried_again_once() {
    for (method, times) in [(Method::GET, 2), (Method::PUT, 2), (Method::POST, 1), (Method::DELETE, 1)] {
        let fake = serve_with_tokens(300, |_, _| refuse(503, "store_unavailable")).await;
        let error = client(&fake).send(request(method.clone())).await.unwrap_err();
        assert_eq!((error.kind(), fake.call_count()), (ErrorKind::Unavailable, times), "{method}");
    }
}

#[tokio::test]
async fn a_service_that_is_out_is_left_alone_for_a_second_and_then_asked_once() {
    let fake =
        serve_with_tokens(300, |_, before| if before < 5 { refuse(502, "x") } else { reply(204, &[], "") }).await;
    let policy =
        CallPolicy { breaker: BreakerPolicy { outages: 5, rest: Duration::from_millis(50) }, ..Default::default() };
    let client = ServiceClient::with_policy(config(&fake.url, &fake.url), policy).unwrap();
    for _ in 0..5 {
        assert_eq!(client.send(request(Method::POST)).await.unwrap_err().status(), Some(502));
    }
    let mut refused = 0;
    while let Err(error) = client.send(request(Method::POST)).await {
        assert!(matches!(error, ClientError::BreakerOpen { .. }), "{error}");
        refused += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refused > 0 && fake.call_count() == 6, "{refused}");
}

#[tokio::test]
async fn without_a_token_nothing_is_called() {
    for (status, body, kind, times) in [
        (401, json!({ "code": "invalid_client" }), ErrorKind::Unauthenticated, 1),
        (503, json!({}), ErrorKind::Unavailable, 2),
        (200, json!({ "access_token": 7 }), ErrorKind::Fault, 1),
        (200, json!({ "access_token": "x", "expires_in": u64::MAX }), ErrorKind::Fault, 1),
        (200, json!({ "access_token": "x".repeat(9000), "expires_in": 300 }), ErrorKind::Fault, 1),
    ] {
        let fake = Fake::start(move |_, _| answer(status, &body)).await;
        let error = client(&fake).send(request(Method::GET)).await.unwrap_err();
        assert_eq!((error.kind(), fake.token_count(), fake.call_count()), (kind, times, 0), "{error}");
    }
    let fake = serve_with_tokens(300, |_, _| Reply::Never).await;
    let alone = ServiceClient::new(config(&closed_url().await, &fake.url)).unwrap();
    assert_eq!(alone.send(request(Method::GET)).await.unwrap_err(), ClientError::Unreachable);
    let invalid = ApiRequest::new(Method::GET, "/users/{id}");
    assert_eq!(client(&fake).send(invalid).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(fake.count(), 0);
}

#[tokio::test]
async fn an_auth_service_that_hangs_holds_a_call_for_one_fetch_however_many_wait() {
    let fake = Fake::start(|asked, before| match asked.target.as_str() {
        TOKEN_ROUTE if before == 0 => Reply::Never,
        TOKEN_ROUTE => answer(200, &json!({ "access_token": "token", "expires_in": 300 })),
        _ => reply(204, &[], ""),
    })
    .await;
    let fetch = Duration::from_millis(500);
    let policy = CallPolicy {
        exchange: fetch,
        whole: fetch,
        retry: RetryPolicy { retries: 0, ..RetryPolicy::default() },
        ..CallPolicy::default()
    };
    let client = ServiceClient::with_policy(config(&fake.url, &fake.url), policy).unwrap();
    let begun = std::time::Instant::now();
    // A cancelled caller does not delay the others.
    let left = tokio::time::timeout(Duration::from_millis(100), client.send(request(Method::GET)));
    assert!(left.await.is_err());
    for result in call_at_once(&client, 20).await {
        assert_eq!(result.unwrap_err(), ClientError::Timeout);
    }
    assert!(begun.elapsed() < fetch * 3, "{:?}", begun.elapsed());
    assert_eq!(fake.count(), 1, "those who waited share what became of the fetch");
    assert_eq!(client.send(request(Method::GET)).await.unwrap().status(), 204, "the next call fetches again");
    assert_eq!((fake.token_count(), fake.call_count()), (2, 1));
}

#[tokio::test]
async fn a_call_has_its_own_time_where_it_says_so() {
    let fake = serve_with_tokens(300, |_, _| Reply::Never).await;
    let client = client(&fake);
    let begun = std::time::Instant::now();
    let error = client.send(request(Method::POST).with_timeout(Duration::from_millis(50))).await.unwrap_err();
    assert_eq!(error, ClientError::Timeout);
    assert!(begun.elapsed() < Duration::from_millis(1400), "{:?}", begun.elapsed());
}

#[test]
fn settings_that_cannot_be_are_refused_and_nothing_prints_the_secret() {
    let good = || config("http://auth.internal:8083", "https://users.internal");
    let printed = format!("{:?} {:?}", ServiceClient::new(good()).unwrap(), good());
    assert!(!printed.contains("hunter2"), "{printed}");
    for (bad, part) in [
        (ServiceConfig { caller: "billing:x".to_owned(), ..good() }, "name"),
        (ServiceConfig { audience: "a&scope=all".to_owned(), ..good() }, "name"),
        (ServiceConfig { audience: String::new(), ..good() }, "name"),
        (ServiceConfig { target_url: "users.internal".to_owned(), ..good() }, "URL"),
        (ServiceConfig { auth_url: "http://a:b@auth.internal".to_owned(), ..good() }, "credentials"),
    ] {
        let error = ServiceClient::new(bad).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}
