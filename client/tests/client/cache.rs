//! How long a validated token is cached.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use portcullis_client::{
    account::{AuthClient as _, Validation},
    error::ClientError,
    http::{Builder, CachePolicy, HttpAuthClient},
};
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::Duration;

use crate::fake::{Asked, Fake, Reply, answer, quick, refuse, run_at_once, secret, user};

/// 2027-01-15T08:00:00Z
const START: i64 = 1_800_000_000;

fn validate(asked: &Asked) -> Reply {
    match (asked.header("authorization"), asked.target.as_str()) {
        (Some("Bearer bad"), _) => refuse(401, "token_invalid"),
        (_, "/api/v1/auth/validate-token") => {
            answer(200, &json!({ "valid": true, "user": user(), "expires_at": "2027-01-15T08:00:10Z" }))
        }
        _ => answer(200, &json!({ "message": "done", "sessions": [] })),
    }
}

/// Returns a builder of a client whose clock stands at `START`.
fn at_start(fake: &Fake) -> Builder {
    quick(&fake.url).clock(|| OffsetDateTime::from_unix_timestamp(START).unwrap())
}

#[tokio::test]
async fn a_token_is_asked_for_once_until_it_expires() {
    let fake = Fake::start(|asked, _| validate(asked)).await;
    let now = Arc::new(AtomicI64::new(START));
    let clock = Arc::clone(&now);
    let clock = move || OffsetDateTime::from_unix_timestamp(clock.load(Ordering::Relaxed)).unwrap();
    let client = quick(&fake.url).clock(clock).build().unwrap();
    for (case, token, at, count) in [
        ("the first time", "one", START, 1),
        ("the second time", "one", START, 1),
        ("another token", "two", START, 2),
        ("in the last second", "one", START + 9, 2),
        ("expired by our clock", "one", START + 10, 3),
        ("and so never remembered", "one", START + 10, 4),
    ] {
        now.store(at, Ordering::Relaxed);
        assert_eq!(client.validate(&secret(token)).await.unwrap().user.email, "ada@example.com", "{case}");
        assert_eq!(fake.count(), count, "{case}");
    }
}

#[tokio::test]
async fn refusals_are_not_remembered() {
    let fake = Fake::start(|asked, _| validate(asked)).await;
    let client = fake.client();
    for _ in 0..3 {
        assert_eq!(client.validate(&secret("bad")).await.unwrap_err().code(), "token_invalid");
    }
    assert_eq!(fake.count(), 3);
}

#[tokio::test]
async fn what_ends_a_session_ends_what_is_remembered_of_it() {
    let fake = Fake::start(|asked, _| validate(asked)).await;
    let client = at_start(&fake).build().unwrap();
    let validations = || fake.asked().iter().filter(|asked| asked.target == "/api/v1/auth/validate-token").count();
    client.validate(&secret("one")).await.unwrap();
    client.validate(&secret("two")).await.unwrap();
    client.logout(&secret("one"), None).await.unwrap();
    client.validate(&secret("two")).await.unwrap();
    assert_eq!(validations(), 2, "another token is still known");
    client.validate(&secret("one")).await.unwrap();
    assert_eq!(validations(), 3, "the one that was logged out is asked for again");
    client.end_session(&secret("one"), uuid::Uuid::nil()).await.unwrap();
    client.validate(&secret("two")).await.unwrap();
    assert_eq!(validations(), 4, "which tokens a session has is not known");
}

#[tokio::test]
async fn nothing_is_remembered_without_leave() {
    let fake = Fake::start(|asked, _| validate(asked)).await;
    let policy = CachePolicy { longest: Duration::ZERO, ..CachePolicy::default() };
    let client = at_start(&fake).cache(policy).build().unwrap();
    client.validate(&secret("one")).await.unwrap();
    client.validate(&secret("one")).await.unwrap();
    assert_eq!(fake.count(), 2);
}

type Call = Pin<Box<dyn Future<Output = Result<Validation, ClientError>> + Send>>;

/// Concurrent calls, all started before the first answer.
fn begin(client: &HttpAuthClient, token: &'static str, count: usize) -> Vec<Call> {
    let call = |_| {
        let client = client.clone();
        let mut call: Call = Box::pin(async move { client.validate(&secret(token)).await });
        assert!(matches!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        call
    };
    (0..count).map(call).collect()
}

#[tokio::test]
async fn fifty_tasks_that_ask_for_one_token_at_one_moment_are_one_call() {
    let fake = Fake::start(|asked, _| validate(asked)).await;
    let client = at_start(&fake).build().unwrap();
    let mut calls = begin(&client, "one", 50);
    calls.extend(begin(&client, "two", 50));
    for outcome in run_at_once(calls).await {
        assert_eq!(outcome.unwrap().user.email, "ada@example.com");
    }
    assert_eq!(fake.count(), 2, "one for each token");
}

#[tokio::test]
async fn a_failure_reaches_all_waiting_calls_and_no_later_one() {
    let fake = Fake::start(|asked, before| if before == 0 { refuse(500, "oops") } else { validate(asked) }).await;
    let client = fake.client();
    for outcome in run_at_once(begin(&client, "one", 50)).await {
        assert_eq!(outcome.unwrap_err().code(), "oops");
    }
    assert_eq!(fake.count(), 1);
    client.validate(&secret("one")).await.unwrap();
    assert_eq!(fake.count(), 2);
}

#[tokio::test]
async fn when_the_task_that_asks_goes_away_the_others_are_answered_all_the_same() {
    let fake = Fake::start(|asked, _| validate(asked)).await;
    let client = at_start(&fake).build().unwrap();
    let mut calls = begin(&client, "one", 10);
    drop(calls.remove(0));
    for outcome in run_at_once(calls).await {
        outcome.unwrap();
    }
    let asked = fake.asked().iter().filter(|asked| asked.header("authorization") == Some("Bearer one")).count();
    assert!((1..=2).contains(&asked), "the first may have been sent: {asked}");
}

#[tokio::test]
async fn an_abandoned_call_delays_no_other() {
    let fake = Fake::start(|asked, _| validate(asked)).await;
    let client = at_start(&fake).whole_timeout(Duration::from_secs(1)).build().unwrap();
    let first = begin(&client, "one", 1);
    client.validate(&secret("one")).await.unwrap();
    // As in a `select!` whose other branch validates the same token.
    drop(first);
}
