//! The result of each kind of answer, and of no answer.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use futures_core::Stream;
use portcullis_client::{
    account::AuthClient as _,
    error::{ClientError, ErrorKind},
    http::{HttpAuthClient, RetryPolicy},
    request::{ApiRequest, Method},
    secret::Secret,
};
use serde_json::json;
use tokio::time::Duration;

use crate::fake::{Fake, Reply, closed_url, quick, refuse, reply, start_hanging_up};

fn get() -> ApiRequest {
    ApiRequest::new(Method::GET, "/x")
}

fn once(url: &str) -> HttpAuthClient {
    quick(url).retry(RetryPolicy { retries: 0, ..RetryPolicy::default() }).build().unwrap()
}

#[tokio::test]
async fn each_status_is_an_error_of_its_kind() {
    for (status, kind) in [
        (400, ErrorKind::Invalid),
        (401, ErrorKind::Unauthenticated),
        (403, ErrorKind::Forbidden),
        (404, ErrorKind::NotFound),
        (405, ErrorKind::Refused),
        (409, ErrorKind::Conflict),
        (412, ErrorKind::Stale),
        (413, ErrorKind::Invalid),
        (415, ErrorKind::Invalid),
        (422, ErrorKind::Invalid),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::Fault),
        (502, ErrorKind::Unavailable),
        (503, ErrorKind::Unavailable),
        (504, ErrorKind::Timeout),
    ] {
        let fake = Fake::start(move |_, _| refuse(status, "some_code")).await;
        let error = once(&fake.url).exchange(get()).await.unwrap_err();
        assert_eq!((error.kind(), error.status(), error.code()), (kind, Some(status), "some_code"), "{status}");
        assert_eq!(error.request_id(), Some("r1"), "{status}");
    }
}

#[tokio::test]
async fn a_problem_document_is_kept_with_its_fields_and_its_times() {
    let body = json!({
        "type": "validation_error", "status": 422, "detail": "Some fields are invalid", "code": "fields_invalid",
        "errors": [{ "field": "password", "message": "must have 8 to 128 characters" }],
    });
    let headers = [("content-type", "application/problem+json"), ("retry-after", "7"), ("x-request-id", "r9")];
    let fake = Fake::start(move |_, _| reply(422, &headers, body.to_string())).await;
    let error = once(&fake.url).exchange(get()).await.unwrap_err();
    assert_eq!(error.fields()[0].field, "password");
    assert_eq!((error.retry_after(), error.request_id()), (Some(Duration::from_secs(7)), Some("r9")));
    let text = error.to_string();
    assert_eq!(text, "422 fields_invalid: Some fields are invalid; password: must have 8 to 128 characters");
}

#[tokio::test]
async fn retry_after_is_read_as_seconds_and_as_a_date() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let now = time::OffsetDateTime::from_unix_timestamp(784_111_770).unwrap();
    for (text, expected) in [("3", Some(3)), (date, Some(7)), ("soon", None)] {
        let fake = Fake::start(move |_, _| reply(503, &[("retry-after", text)], "")).await;
        let policy = RetryPolicy { retries: 0, ..RetryPolicy::default() };
        let client = quick(&fake.url).retry(policy).clock(move || now).build().unwrap();
        let error = client.exchange(get()).await.unwrap_err();
        assert_eq!(error.retry_after(), expected.map(Duration::from_secs), "{text}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Fake::start(|_, _| reply(200, &[], "{}")).await;
    let url = other.url.clone();
    for status in [301, 302, 303, 307, 308] {
        let url = url.clone();
        let fake = Fake::start(move |_, _| reply(status, &[("location", &url)], "")).await;
        let request = get().with_token(&Secret::new("access".into()));
        let error = once(&fake.url).exchange(request).await.unwrap_err();
        assert!(matches!(error, ClientError::Malformed { status: found, .. } if found == status), "{error:?}");
    }
    assert_eq!(other.count(), 0);
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    for declared in [true, false] {
        let fake = Fake::start(move |_, _| {
            let size = 2 * 1024 * 1024;
            if declared {
                return reply(200, &[], vec![b' '; size]);
            }
            reply(200, &[], Body::from_stream(Parts { left: size / 4096, ends: true }))
        })
        .await;
        let error = once(&fake.url).exchange(get()).await.unwrap_err();
        assert!(matches!(error, ClientError::Malformed { status: 200, .. }), "{error:?}");
    }
    let fake = Fake::start(|_, _| reply(401, &[("content-type", "application/json")], vec![b' '; 1024 * 1024])).await;
    let error = once(&fake.url).exchange(get()).await.unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(401), "http_401"), "a refusal is known by its status");
}

#[tokio::test]
async fn a_success_that_is_not_of_the_contract_is_malformed() {
    for body in ["", "<html>", "[]", "null", r#"{"user":{}}"#, r#"{"access_token":"a"}"#] {
        let fake = Fake::start(move |_, _| reply(200, &[("content-type", "application/json")], body)).await;
        let error = once(&fake.url).refresh(&Secret::new("refresh".into())).await.unwrap_err();
        assert!(matches!(error, ClientError::Malformed { status: 200, .. }), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn a_missing_answer_is_classified_by_what_was_sent() {
    let error = once(&closed_url().await).exchange(get()).await.unwrap_err();
    assert_eq!(error, ClientError::Unreachable);

    let (url, _) = start_hanging_up().await;
    assert_eq!(once(&url).exchange(get()).await.unwrap_err(), ClientError::Lost);

    let fake = Fake::start(|_, _| Reply::Never).await;
    let policy = RetryPolicy { retries: 0, ..RetryPolicy::default() };
    let client = quick(&fake.url).retry(policy).call_timeout(Duration::from_millis(50)).build().unwrap();
    assert_eq!(client.exchange(get()).await.unwrap_err(), ClientError::Timeout);
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let fake = Fake::start(|_, _| reply(200, &[], Body::from_stream(Parts { left: 1, ends: false }))).await;
    let policy = RetryPolicy { retries: 0, ..RetryPolicy::default() };
    let client = quick(&fake.url).retry(policy).call_timeout(Duration::from_millis(50)).build().unwrap();
    assert_eq!(client.exchange(get()).await.unwrap_err(), ClientError::Timeout);
}

/// A body of several parts, with or without an end.
struct Parts {
    left: usize,
    ends: bool,
}

impl Stream for Parts {
    type Item = Result<Vec<u8>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(vec![b' '; 4096])))
            }
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn a_status_that_http_has_not_is_malformed() {
    let fake = Fake::start(|_, _| reply(600, &[], "")).await;
    let error = once(&fake.url).exchange(get()).await.unwrap_err();
    assert!(matches!(error, ClientError::Malformed { status: 600, .. }), "{error:?}");
}

#[tokio::test]
async fn a_client_names_itself_and_one_that_could_never_answer_is_not_built() {
    let fake = Fake::start(|_, _| reply(200, &[], "{}")).await;
    HttpAuthClient::new(&fake.url).unwrap().exchange(get()).await.unwrap();
    let named =
        HttpAuthClient::builder(&fake.url).user_agent("stock-keeper/2.1").connect_timeout(Duration::from_secs(1));
    named.build().unwrap().exchange(get()).await.unwrap();
    let names: Vec<_> = fake.asked().iter().map(|asked| asked.header("user-agent").map(str::to_owned)).collect();
    assert!(names[0].as_deref().is_some_and(|name| name.starts_with("portcullis-client/")), "{names:?}");
    assert_eq!(names[1].as_deref(), Some("stock-keeper/2.1"));
    for builder in [
        HttpAuthClient::builder(&fake.url).call_timeout(Duration::ZERO),
        HttpAuthClient::builder(&fake.url).whole_timeout(Duration::ZERO),
        HttpAuthClient::builder(&fake.url).user_agent("line\r\nbreak"),
    ] {
        assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Invalid);
    }
}
