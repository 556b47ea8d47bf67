//! What opens the circuit, and that an open circuit sends no call.

use portcullis_client::{
    account::AuthClient as _,
    error::{ClientError, ErrorKind},
    http::{BreakerPolicy, HttpAuthClient, RetryPolicy},
    secret::Secret,
};
use serde_json::json;
use tokio::time::Duration;

use crate::fake::{Fake, Reply, answer, closed_url, quick, refuse, reply, run_at_once, user};

fn client(url: &str, rest: Duration) -> HttpAuthClient {
    quick(url)
        .retry(RetryPolicy { retries: 0, ..RetryPolicy::default() })
        .breaker(BreakerPolicy { outages: 5, rest })
        .call_timeout(Duration::from_millis(100))
        .build()
        .unwrap()
}

const LONG: Duration = Duration::from_secs(60);

/// An answer, and whether it opens the circuit.
type Case = (&'static str, fn() -> Reply, bool);

#[tokio::test]
async fn outages_open_it_and_refusals_never_do() {
    let cases: [Case; 10] = [
        ("502", || refuse(502, "upstream_unreachable"), true),
        ("504", || refuse(504, "upstream_timeout"), true),
        ("503", || refuse(503, "unavailable"), true),
        ("503 that says when", || reply(503, &[("retry-after", "9")], ""), false),
        ("a wrong password", || refuse(401, "invalid_credentials"), false),
        ("400", || refuse(400, "json_syntax"), false),
        ("429", || refuse(429, "rate_limited"), false),
        ("500", || refuse(500, "internal"), false),
        ("no JSON", || reply(200, &[], "<html>"), false),
        ("no answer", || Reply::Never, true),
    ];
    for (name, make, opens) in cases {
        let fake = Fake::start(move |_, _| make()).await;
        let client = client(&fake.url, LONG);
        for _ in 0..8 {
            let _ = client.me(&Secret::new("access".into())).await;
        }
        assert_eq!(fake.count(), if opens { 5 } else { 8 }, "{name}");
    }
}

#[tokio::test]
async fn slowness_opens_it_though_a_call_has_no_time_for_a_second_try() {
    let fake = Fake::start(|_, _| Reply::Never).await;
    let client = quick(&fake.url).whole_timeout(Duration::from_millis(20)).build().unwrap();
    for number in 0..8 {
        let error = client.me(&Secret::new("access".into())).await.unwrap_err();
        assert_eq!(error.code() == "breaker_open", number >= 5, "{number}: {error:?}");
    }
    // On a busy machine a call may end before its request is sent.
    assert!(fake.count() <= 5);
}

#[tokio::test]
async fn an_open_breaker_says_when_it_asks_again() {
    let client = client(&closed_url().await, LONG);
    for _ in 0..5 {
        let error = client.me(&Secret::new("access".into())).await.unwrap_err();
        assert_eq!(error, ClientError::Unreachable);
    }
    let error = client.me(&Secret::new("access".into())).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "breaker_open"));
    assert!(error.retry_after().is_some_and(|wait| wait <= Duration::from_secs(1)));
}

#[tokio::test]
async fn one_probe_closes_it() {
    let fake = Fake::start(|_, before| {
        if before < 5 { refuse(502, "upstream_unreachable") } else { answer(200, &json!({ "user": user() })) }
    })
    .await;
    let client = client(&fake.url, Duration::from_millis(30));
    for _ in 0..5 {
        assert!(client.me(&Secret::new("access".into())).await.is_err());
    }
    // Calls until the open period is over; only the probe reaches the service.
    while let Err(error) = client.me(&Secret::new("access".into())).await {
        assert_eq!(error.code(), "breaker_open");
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.count(), 6);
    client.me(&Secret::new("access".into())).await.unwrap();
}

#[tokio::test]
async fn a_hundred_calls_at_once_are_one_probe() {
    let fake =
        Fake::start(|_, before| if before < 5 { refuse(502, "upstream_unreachable") } else { Reply::Never }).await;
    let client = client(&fake.url, Duration::ZERO);
    for _ in 0..5 {
        assert!(client.me(&Secret::new("access".into())).await.is_err());
    }
    let call = |client: HttpAuthClient| async move { client.me(&Secret::new("access".into())).await };
    for result in run_at_once((0..100).map(|_| call(client.clone()))).await {
        let error = result.unwrap_err();
        assert!(matches!(error, ClientError::Timeout | ClientError::BreakerOpen { .. }), "{error:?}");
    }
    assert_eq!(fake.count(), 6);
}
