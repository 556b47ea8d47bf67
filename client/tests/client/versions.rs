//! Conditional changes and conditional reads.

use portcullis_client::{
    account::AuthClient as _,
    admin::{AdminClient as _, Bearer, UserDraft, UserPatch},
    error::{ClientError, ErrorKind},
    precondition::{EntityTag, Revalidated},
    request::{ApiRequest, Method},
};
use serde_json::json;
use uuid::Uuid;

use crate::fake::{Asked, Fake, Reply, USER_ID, reply, secret, user};

const JSON: (&str, &str) = ("content-type", "application/json");

fn id() -> Uuid {
    USER_ID.parse().unwrap()
}

fn tag(text: &str) -> EntityTag {
    EntityTag::parse(text).unwrap()
}

/// A service whose user has version 2.
fn serve(asked: &Asked) -> Reply {
    let body = json!({ "data": user() }).to_string();
    if asked.header("if-none-match") == Some("\"2\"") {
        return reply(304, &[("etag", "\"2\"")], "");
    }
    if asked.header("if-match").is_some_and(|version| version != "\"2\"") {
        let problem = json!({ "status": 412, "code": "version_mismatch",
            "detail": "It was changed meanwhile: read it again, and send its ETag as If-Match" });
        return reply(412, &[("content-type", "application/problem+json")], problem.to_string());
    }
    match asked.method.as_str() {
        "DELETE" => reply(204, &[], ""),
        "GET" => reply(200, &[JSON, ("etag", "\"2\"")], body),
        _ => reply(200, &[JSON, ("etag", "\"3\"")], body),
    }
}

#[tokio::test]
async fn a_change_is_made_to_the_version_that_was_read() {
    let fake = Fake::start(|asked, _| serve(asked)).await;
    let client = fake.client();
    let admin = Bearer::new(&client, secret("access"));
    let read = admin.read_user(id()).await.unwrap();
    assert_eq!((read.version.as_str(), read.value.email.as_str()), ("\"2\"", "ada@example.com"));
    let at = Some(&read.version);
    let patched = admin.update_user(id(), &UserPatch::default(), at).await.unwrap();
    assert_eq!(patched.version, tag("\"3\""), "the version for the next change");
    assert_eq!(admin.replace_user(id(), &UserDraft::default(), at).await.unwrap().version, tag("\"3\""));
    admin.delete_user(id(), at).await.unwrap();
    let conditions: Vec<_> = fake.asked().iter().map(|asked| asked.header("if-match").map(str::to_owned)).collect();
    let version = Some("\"2\"".to_owned());
    assert_eq!(conditions, [None, version.clone(), version.clone(), version]);
}

#[tokio::test]
async fn a_change_to_what_was_changed_meanwhile_is_an_error_that_says_what_to_do() {
    let fake = Fake::start(|asked, _| serve(asked)).await;
    let client = fake.client();
    let admin = Bearer::new(&client, secret("access"));
    let old = tag("\"1\"");
    for error in [
        admin.update_user(id(), &UserPatch::default(), Some(&old)).await.unwrap_err(),
        admin.replace_user(id(), &UserDraft::default(), Some(&old)).await.unwrap_err(),
        admin.delete_user(id(), Some(&old)).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.code()), (ErrorKind::Stale, "version_mismatch"));
        assert!(error.to_string().contains("read it again"), "{error}");
    }
    assert_eq!(fake.count(), 3, "none was sent twice");
}

#[tokio::test]
async fn what_one_has_is_not_sent_again() {
    let fake = Fake::start(|asked, _| serve(asked)).await;
    let client = fake.client();
    let admin = Bearer::new(&client, secret("access"));
    assert_eq!(admin.revalidate_user(id(), &tag("\"2\"")).await, Ok(Revalidated::NotModified));
    let Revalidated::Changed(changed) = admin.revalidate_user(id(), &tag("\"1\"")).await.unwrap() else {
        panic!("version 1 is an old one");
    };
    assert_eq!(changed.version, tag("\"2\""));
    assert_eq!(Revalidated::Changed(changed.clone()).changed(), Some(changed));
    assert_eq!(Revalidated::<()>::NotModified.changed(), None);
}

#[tokio::test]
async fn not_modified_is_an_answer_only_to_who_asked_with_a_version() {
    let fake = Fake::start(|_, _| reply(304, &[], "")).await;
    let error = fake.client().exchange(ApiRequest::new(Method::GET, "/x")).await.unwrap_err();
    assert!(matches!(error, ClientError::Malformed { status: 304, .. }), "{error:?}");
}

#[tokio::test]
async fn a_user_without_a_version_is_not_one_that_can_be_changed_safely() {
    for headers in [&[JSON][..], &[JSON, ("etag", "2")], &[JSON, ("etag", "\"2\" \"3\"")]] {
        let headers = headers.to_vec();
        let fake = Fake::start(move |_, _| reply(200, &headers, json!({ "data": user() }).to_string())).await;
        let client = fake.client();
        let error = Bearer::new(&client, secret("access")).read_user(id()).await.unwrap_err();
        assert!(matches!(error, ClientError::Malformed { status: 200, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn headers_of_a_calls_own_are_sent_and_those_of_others_are_not() {
    let fake = Fake::start(|_, _| reply(200, &[JSON], "{}")).await;
    let client = fake.client();
    let get = || ApiRequest::new(Method::GET, "/x");
    client.exchange(get().with_header("accept-language", "de")).await.unwrap();
    assert_eq!(fake.asked()[0].header("accept-language"), Some("de"));
    let forged = get().with_header("Authorization", "Bearer other");
    let error = client.exchange(forged).await.unwrap_err();
    assert_eq!((error.kind(), fake.count()), (ErrorKind::Invalid, 1));
}
