//! Retries of each kind of call.

use portcullis_client::{
    account::{AuthClient as _, Credentials, Registration},
    admin::{AdminClient as _, Bearer, UserDraft, UserPatch, UserQuery},
    error::ClientError,
    http::{HttpAuthClient, RetryPolicy},
    precondition::EntityTag,
};
use serde_json::json;
use tokio::time::{Duration, Instant};

use crate::fake::{Fake, Reply, USER_ID, answer, closed_url, quick, refuse, reply, secret, start_hanging_up, user};

/// Makes one call of a kind and ignores its result.
async fn call(client: &HttpAuthClient, kind: &str) {
    let (token, id) = (secret("access"), USER_ID.parse().unwrap());
    let admin = Bearer::new(client, token.clone());
    match kind {
        "GET" => drop(client.me(&token).await),
        "PUT" => drop(admin.set_roles(id, &[]).await),
        "PUT of a version" => {
            let version = EntityTag::parse("\"1\"").unwrap();
            drop(admin.replace_user(id, &UserDraft::default(), Some(&version)).await);
        }
        "PUT with a password" => {
            let draft = UserDraft { current_password: Some(secret("password")), ..UserDraft::default() };
            drop(admin.replace_user(id, &draft, None).await);
        }
        "PATCH" => drop(admin.update_user(id, &UserPatch::default(), None).await),
        "DELETE" => drop(client.end_session(&token, id).await),
        "question" => drop(admin.is_allowed(id, "read:users").await),
        "register" => drop(client.register(&Registration::new("ada@example.com", secret("password"))).await),
        "login" => drop(client.login(&Credentials::new("ada@example.com", secret("password"))).await),
        "refresh" => drop(client.refresh(&secret("refresh")).await),
        "logout" => drop(client.logout(&token, None).await),
        _ => drop(admin.users(&UserQuery::default()).await),
    }
}

const ONCE: [&str; 7] = ["PATCH", "PUT of a version", "PUT with a password", "DELETE", "login", "refresh", "logout"];
const AGAIN: [&str; 5] = ["GET", "PUT", "question", "register", "list"];

#[tokio::test]
async fn what_was_received_is_made_again_only_where_that_does_no_harm() {
    for (kinds, times) in [(&ONCE[..], 1), (&AGAIN[..], 3)] {
        for kind in kinds.iter().copied() {
            let fake = Fake::start(|_, _| reply(503, &[("retry-after", "0")], "")).await;
            call(&fake.client(), kind).await;
            assert_eq!(fake.count(), times, "{kind}, 503");

            let (url, asked) = start_hanging_up().await;
            call(&quick(&url).build().unwrap(), kind).await;
            assert_eq!(*asked.lock().unwrap(), times, "{kind}, broken off");
        }
    }
}

#[tokio::test]
async fn refusals_are_final() {
    for status in [400, 401, 403, 404, 409, 422, 500] {
        let fake = Fake::start(move |_, _| refuse(status, "no")).await;
        call(&fake.client(), "GET").await;
        assert_eq!(fake.count(), 1, "{status}");
    }
}

#[tokio::test]
async fn what_was_not_sent_is_made_again_whatever_it_is() {
    // The port has no listener until the first try has failed.
    let url = closed_url().await;
    let address = url.trim_start_matches("http://").to_owned();
    let policy = RetryPolicy { retries: 20, first_pause: Duration::from_millis(20), ..RetryPolicy::default() };
    let breaker = portcullis_client::http::BreakerPolicy { outages: 0, rest: Duration::ZERO };
    let client = quick(&url).retry(policy).breaker(breaker).build().unwrap();
    let token = secret("refresh");
    let refresh = tokio::spawn(async move { client.refresh(&token).await });
    tokio::task::yield_now().await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let app = axum::Router::new().fallback(|| async { axum::Json(crate::fake::tokens("access-1", "refresh-1", 900)) });
    tokio::spawn(async move { axum::serve(listener, app).await });
    assert_eq!(refresh.await.unwrap().unwrap().refresh_token, secret("refresh-1"));
}

#[tokio::test]
async fn a_registration_is_sent_again_under_its_key_and_no_other_has_it() {
    let fake = Fake::start(|_, before| {
        if before == 0 { refuse(502, "upstream_unreachable") } else { answer(201, &json!({ "user": user() })) }
    })
    .await;
    let registration = Registration::new("ada@example.com", secret("password"));
    let made = fake.client().register(&registration).await.unwrap();
    fake.client().register(&registration).await.unwrap();
    fake.client().register(&Registration::new("ada@example.com", secret("password"))).await.unwrap();
    let keys: Vec<_> = fake.asked().iter().map(|asked| asked.header("idempotency-key").unwrap().to_owned()).collect();
    assert_eq!(made.email, "ada@example.com");
    assert!(keys[0] == keys[1] && keys[1] == keys[2] && keys[2] != keys[3], "{keys:?}");
    assert!(keys[0].parse::<uuid::Uuid>().is_ok());
    assert_eq!(fake.asked()[0].body, fake.asked()[1].body);
}

#[tokio::test]
async fn retry_after_is_waited_for_and_left_to_the_caller_when_it_is_long() {
    let fake = Fake::start(|_, before| {
        if before == 0 { reply(503, &[("retry-after", "1")], "") } else { answer(200, &json!({ "user": user() })) }
    })
    .await;
    let begun = Instant::now();
    fake.client().me(&secret("access")).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));

    let fake = Fake::start(|_, _| reply(503, &[("retry-after", "60")], "")).await;
    let error = fake.client().me(&secret("access")).await.unwrap_err();
    assert_eq!((fake.count(), error.retry_after()), (1, Some(Duration::from_secs(60))));
}

#[tokio::test]
async fn retries_end_with_the_time_for_the_whole_call() {
    let fake = Fake::start(|_, _| Reply::Never).await;
    let policy = RetryPolicy { retries: 100, first_pause: Duration::ZERO, ..RetryPolicy::default() };
    let client = quick(&fake.url)
        .retry(policy)
        .call_timeout(Duration::from_millis(400))
        .whole_timeout(Duration::from_secs(1))
        .build()
        .unwrap();
    assert_eq!(client.me(&secret("access")).await.unwrap_err(), ClientError::Timeout);
    assert!((2..=4).contains(&fake.count()), "{}", fake.count());
}

#[tokio::test]
async fn retries_of_many_failing_calls_end_with_their_budget() {
    let fake = Fake::start(|_, _| reply(503, &[("retry-after", "0")], "")).await;
    let client = fake.client();
    for _ in 0..100 {
        let _ = client.me(&secret("access")).await;
    }
    // 100 calls: 10 saved retries and one for each ten calls.
    assert!((115..=120).contains(&fake.count()), "{}", fake.count());
}
