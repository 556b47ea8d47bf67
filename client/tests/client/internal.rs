//! Internal calls between the services: requests, retries and errors.

use portcullis_client::{
    admin::{NewUser, UserPatch},
    internal::{ActingUser, CallError, InternalClient, UserRecord},
    profile::{ProfileChange, ProfileFields},
    secret::Secret,
    service::ServiceConfig,
    trace::TraceContext,
};
use serde_json::{Value, json};
use tokio::time::Duration;
use uuid::Uuid;

use crate::fake::{
    Fake, Reply, TOKEN_ROUTE, USER_ID, answer, closed_url, refuse, reply, serve_with_tokens, service_config,
    start_hanging_up,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn id() -> Uuid {
    USER_ID.parse().unwrap()
}

fn config(auth_url: &str, target_url: &str) -> ServiceConfig {
    service_config("user-service", "auth-service", auth_url, target_url)
}

fn client(fake: &Fake) -> InternalClient {
    InternalClient::new(config(&fake.url, &fake.url)).unwrap()
}

fn profile() -> Value {
    json!({ "id": USER_ID, "email": "ada@example.com", "first_name": "Ada", "last_name": "", "roles": ["user"],
        "created_at": 1, "updated_at": 2, "version": 3 })
}

fn a_profile() -> UserRecord {
    serde_json::from_value(profile()).unwrap()
}

fn new_user() -> NewUser {
    NewUser {
        email: "ada@example.com".to_owned(),
        password: Secret::new("password".to_owned()),
        profile: ProfileFields::default(),
        roles: vec!["user".to_owned()],
    }
}

#[tokio::test]
async fn a_call_has_a_cached_token_its_caller_and_its_user() {
    let fake = serve_with_tokens(300, |_, _| answer(200, &profile())).await;
    let client = client(&fake);
    let acting = ActingUser { user: id(), session: Some(Uuid::nil()) };
    assert_eq!(client.make_account(Some(acting), &new_user()).await.unwrap(), a_profile());
    let profile = ProfileChange { first_name: Some("Ada".to_owned()), ..ProfileChange::default() };
    let change = UserPatch { profile, ..UserPatch::default() };
    let acting_alone = ActingUser { session: None, ..acting };
    client.change_account(id(), Some(acting_alone), &change, Some("\"2\"")).await.unwrap();
    assert_eq!(client.delete_account(id(), None, None, None).await, Ok(true));
    client.put_profile(&a_profile()).await.unwrap();
    assert_eq!(client.delete_profile(id()).await, Ok(true));

    let asked = fake.asked();
    let token = &asked[0];
    assert_eq!(
        (token.method.as_str(), token.header("authorization")),
        ("POST", Some("Basic dXNlci1zZXJ2aWNlOmh1bnRlcjI="))
    );
    assert_eq!(token.body, "grant_type=client_credentials&audience=auth-service");
    let lines: Vec<_> = asked[1..].iter().map(|asked| format!("{} {}", asked.method, asked.target)).collect();
    let (accounts, users) = ("/api/v1/internal/accounts", "/api/v1/internal/users");
    let expected = [
        format!("POST {accounts}"),
        format!("PATCH {accounts}/{USER_ID}"),
        format!("DELETE {accounts}/{USER_ID}"),
        format!("POST {users}"),
        format!("DELETE {users}/{USER_ID}"),
    ];
    assert_eq!(lines, expected);
    for asked in &asked[1..] {
        assert_eq!(asked.header("authorization"), Some("Bearer token-1"), "one token serves them all");
        assert_eq!(
            (asked.header("x-service-caller"), asked.header("x-internal-call")),
            (Some("user-service"), Some("true"))
        );
    }
    let [make, change, delete] = [&asked[1], &asked[2], &asked[3]];
    assert_eq!(make.json()["password"], "password");
    let nil = Uuid::nil().to_string();
    assert_eq!((make.header("x-acting-user"), make.header("x-acting-session")), (Some(USER_ID), Some(nil.as_str())));
    assert_eq!((change.header("x-acting-user"), change.header("x-acting-session")), (Some(USER_ID), None));
    assert_eq!((change.header("if-match"), change.json()), (Some("\"2\""), json!({ "first_name": "Ada" })));
    assert_eq!((delete.header("x-acting-user"), delete.header("if-match")), (None, None));
}

#[tokio::test]
async fn a_token_that_is_about_to_expire_is_not_used() {
    let fake = serve_with_tokens(30, |_, _| reply(204, &[], "")).await;
    let client = client(&fake);
    for _ in 0..2 {
        client.delete_profile(id()).await.unwrap();
    }
    assert_eq!(fake.token_count(), 2);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let fake = serve_with_tokens(300, |asked, _| match asked.header("authorization") {
        Some("Bearer token-1") => refuse(401, "token_invalid"),
        _ => reply(204, &[], ""),
    })
    .await;
    assert_eq!(client(&fake).delete_profile(id()).await, Ok(true));
    assert_eq!((fake.token_count(), fake.call_count()), (2, 2));

    let fake = serve_with_tokens(300, |_, _| refuse(401, "token_invalid")).await;
    assert_eq!(client(&fake).delete_profile(id()).await, Err(CallError::Refused(401)));
    assert_eq!(fake.call_count(), 2);
}

#[tokio::test]
async fn only_idempotent_calls_are_retried() {
    let change = UserPatch::default();
    for (kind, times) in [("put", 2), ("delete", 2), ("change", 2), ("change of a version", 1), ("make", 1)] {
        let call = async |client: InternalClient| match kind {
            "put" => client.put_profile(&a_profile()).await,
            "delete" => client.delete_account(id(), None, None, None).await.map(drop),
            "change" => client.change_account(id(), None, &change, None).await.map(drop),
            "change of a version" => client.change_account(id(), None, &change, Some("\"1\"")).await.map(drop),
            _ => client.make_account(None, &new_user()).await.map(drop),
        };
        for status in [502, 503, 504] {
            let fake = serve_with_tokens(300, move |_, _| refuse(status, "x")).await;
            assert_eq!(call(client(&fake)).await, Err(CallError::Unavailable), "{kind}");
            assert_eq!(fake.call_count(), times, "{kind}, {status}");
        }
        let tokens = serve_with_tokens(300, |_, _| Reply::Never).await;
        let (url, asked) = start_hanging_up().await;
        let broken_off = InternalClient::new(config(&tokens.url, &url)).unwrap();
        assert_eq!(call(broken_off).await, Err(CallError::Unavailable), "{kind}");
        assert_eq!(*asked.lock().unwrap(), times, "{kind}, broken off");
    }
}

#[tokio::test]
async fn the_second_try_may_succeed() {
    let fake =
        serve_with_tokens(300, |_, before| if before == 0 { refuse(503, "x") } else { answer(200, &profile()) }).await;
    assert_eq!(client(&fake).change_account(id(), None, &UserPatch::default(), None).await, Ok(a_profile()));
}

#[tokio::test]
async fn a_refusal_has_its_status_and_a_missing_user_is_false() {
    for (status, expected) in
        [(404, Ok(false)), (409, Err(CallError::Refused(409))), (412, Err(CallError::Refused(412)))]
    {
        let fake = serve_with_tokens(300, move |_, _| refuse(status, "x")).await;
        assert_eq!(client(&fake).delete_account(id(), None, None, Some("\"1\"")).await, expected);
        assert_eq!(fake.call_count(), 1, "a refusal is final");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_not_of_the_contract_is_malformed() {
    for body in ["".to_owned(), "{}".to_owned(), "[".to_owned(), " ".repeat(65 * 1024)] {
        let fake = serve_with_tokens(300, move |_, _| reply(200, &[], body.clone())).await;
        assert_eq!(client(&fake).make_account(None, &new_user()).await, Err(CallError::Malformed));
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_called() {
    for (status, body, expected) in [
        (401, json!({}), CallError::Refused(401)),
        (503, json!({}), CallError::Unavailable),
        (200, json!({ "access_token": 7 }), CallError::Malformed),
        (200, json!({ "access_token": "x", "expires_in": u64::MAX }), CallError::Malformed),
        (200, json!({ "access_token": "x".repeat(65 * 1024), "expires_in": 300 }), CallError::Malformed),
    ] {
        let fake = Fake::start(move |_, _| answer(status, &body)).await;
        let error = client(&fake).put_profile(&a_profile()).await.unwrap_err();
        assert_eq!((error, fake.call_count()), (expected, 0));
    }
    let fake = serve_with_tokens(300, |_, _| Reply::Never).await;
    let alone = InternalClient::new(config(&closed_url().await, &fake.url)).unwrap();
    assert_eq!(alone.put_profile(&a_profile()).await, Err(CallError::Unavailable));
    assert_eq!(fake.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_opens_the_circuit_although_tokens_are_slow() {
    for is_short in [true, false] {
        let token = || answer(200, &json!({ "access_token": "token", "expires_in": 0 }));
        // The circuit is open for less time than a slow token takes.
        let fake = Fake::start(move |asked, before| match (asked.target.as_str(), token()) {
            (TOKEN_ROUTE, Reply::Now(token)) if before < 10 => Reply::Late(Duration::from_millis(1100), token),
            (TOKEN_ROUTE, token) => token,
            _ => Reply::Never,
        })
        .await;
        let client = client(&fake);
        for _ in 0..7 {
            let error = if is_short {
                client.change_account(id(), None, &UserPatch::default(), Some("\"1\"")).await.unwrap_err()
            } else {
                client.make_account(None, &new_user()).await.unwrap_err()
            };
            assert_eq!(error, CallError::Unavailable);
        }
        assert_eq!(fake.call_count(), 5, "short: {is_short}");
    }
}

#[tokio::test]
async fn each_exchange_of_a_traced_call_is_a_span_of_its_own_in_that_trace() {
    let fake =
        serve_with_tokens(300, |_, before| if before == 0 { refuse(503, "x") } else { reply(204, &[], "") }).await;
    let client = client(&fake);
    for flags in ["01", "00"] {
        let context = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-{flags}"));
        assert!(TraceContext::scope(context, client.delete_profile(id())).await.unwrap());
        let seen = fake.asked().last().unwrap().header("traceparent").unwrap().to_owned();
        assert!(seen.starts_with(&format!("00-{TRACE}-")) && seen.ends_with(&format!("-{flags}")), "{seen}");
    }
    assert_eq!(client.delete_profile(id()).await, Ok(true));
    let asked = fake.asked();
    assert_eq!(asked.last().unwrap().header("traceparent"), None, "no trace outside of one");
    let spans: Vec<_> = asked.iter().filter_map(|asked| TraceContext::parse(asked.header("traceparent")?)).collect();
    assert_eq!(spans.len(), 4, "the token, both tries, and the second call");
    assert!(spans.iter().all(|span| span.trace_id() == TRACE && span.span_id() != SPAN));
    let ids: std::collections::HashSet<_> = spans.iter().map(TraceContext::span_id).collect();
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn calls_of_the_gateway_carry_the_trace_too() {
    let fake = Fake::start(|_, _| answer(200, &json!({}))).await;
    let client = fake.client();
    let request = portcullis_client::request::ApiRequest::new(portcullis_client::request::Method::GET, "/x");
    let context = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-01"));
    let call = portcullis_client::AuthClient::exchange(&client, request);
    TraceContext::scope(context, call).await.unwrap();
    let span = TraceContext::parse(fake.asked()[0].header("traceparent").unwrap()).unwrap();
    assert_eq!((span.trace_id().as_str(), span.is_sampled()), (TRACE, true));
    assert_ne!(span.span_id(), SPAN);
}

#[test]
fn no_line_to_another_service_and_no_error_prints_a_secret() {
    let line = InternalClient::new(config("http://127.0.0.1:1", "http://127.0.0.1:1")).unwrap();
    let errors = [CallError::Unavailable, CallError::Refused(409), CallError::Malformed];
    let printed = format!(
        "{line:?} {:?} {:?} {} {errors:?}",
        config("http://127.0.0.1:1", "http://127.0.0.1:1"),
        new_user(),
        errors.map(|error| error.to_string()).join("; ")
    );
    assert!(printed.contains("refused with 409"), "{printed}");
    assert!(!printed.contains("hunter2") && !printed.contains("password\""), "{printed}");
}
