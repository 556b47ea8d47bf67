//! Reading lists of several parts.

use portcullis_client::{
    admin::{AdminClient as _, AuditQuery, Bearer, Pages, UserQuery},
    error::{ClientError, ErrorKind},
    mock::MockAuthClient,
    request::{ApiAnswer, ApiRequest, Method},
    secret::Secret,
};
use serde_json::{Value, json};

use crate::fake::user;

const USERS: &str = "/api/v1/users";
const AUDIT: &str = "/api/v1/auth/audit";

/// A part of the list of users with the cursor of the next.
fn part(number: usize, next: &Value) -> Value {
    let mut user = user();
    user["email"] = json!(format!("user{number}@example.com"));
    json!({ "data": [user], "pagination": { "limit": 1, "total": 3, "next": next } })
}

fn answered(body: &Value) -> Result<ApiAnswer, ClientError> {
    Ok(ApiAnswer::new(200, body.to_string()))
}

/// Answers by the cursor, like the service.
fn by_cursor(request: &ApiRequest) -> Result<ApiAnswer, ClientError> {
    let target = request.target()?;
    let is_of_query = target.contains("limit=100") && target.contains("email=user");
    assert!(is_of_query, "each part is one of the same query: {target}");
    if target.contains("cursor=second") {
        answered(&part(2, &json!("third")))
    } else if target.contains("cursor=third") {
        answered(&part(3, &Value::Null))
    } else {
        assert!(target.contains("offset=7"), "a walk may begin with a jump: {target}");
        answered(&part(1, &json!("second")))
    }
}

fn token() -> Secret {
    Secret::new("access".to_owned())
}

async fn emails(pages: &mut Pages<'_, UserQuery>) -> Result<Vec<String>, ClientError> {
    let mut seen = Vec::new();
    while let Some(users) = pages.next().await? {
        seen.extend(users.into_iter().map(|user| user.email));
    }
    Ok(seen)
}

#[tokio::test]
async fn a_walk_returns_each_user_once_and_ends() {
    let auth = MockAuthClient::default().on(Method::GET, USERS, by_cursor);
    let admin = Bearer::new(&auth, token());
    let query = UserQuery { email: Some("user".to_owned()), offset: Some(7), ..UserQuery::default() };
    let mut pages = Pages::of_users(&admin, query);
    let expected = ["user1@example.com", "user2@example.com", "user3@example.com"];
    assert_eq!(emails(&mut pages).await.unwrap(), expected);
    assert_eq!(pages.next().await, Ok(None), "the end is the end");
    assert_eq!(auth.calls().len(), 3);
}

#[tokio::test]
async fn a_walk_that_failed_goes_on_where_it_stood() {
    let auth = MockAuthClient::default()
        .on(Method::GET, USERS, |_| answered(&part(1, &json!("second"))))
        .fail(Method::GET, USERS, ClientError::Timeout)
        .on(Method::GET, USERS, |request| {
            assert!(request.target()?.contains("cursor=second"));
            answered(&part(2, &Value::Null))
        });
    let admin = Bearer::new(&auth, token());
    let mut pages = Pages::of_users(&admin, UserQuery::default());
    assert_eq!(pages.next().await.unwrap().unwrap().len(), 1);
    assert_eq!(pages.next().await, Err(ClientError::Timeout));
    assert_eq!(emails(&mut pages).await.unwrap(), ["user2@example.com"]);
}

#[tokio::test]
async fn a_service_that_leads_in_circles_is_not_followed() {
    let auth = MockAuthClient::default().on(Method::GET, USERS, |_| answered(&part(1, &json!("same"))));
    let admin = Bearer::new(&auth, token());
    let mut pages = Pages::of_users(&admin, UserQuery::default());
    assert_eq!(emails(&mut pages).await.unwrap_err().kind(), ErrorKind::Fault);
    assert_eq!(auth.calls().len(), 2);
}

#[tokio::test]
async fn a_place_in_the_list_that_cannot_be_read_is_not_taken_for_its_end() {
    for pagination in [json!({ "next": 7 }), json!("x")] {
        let body = json!({ "data": [user()], "pagination": pagination });
        let auth = MockAuthClient::default().answer(Method::GET, USERS, 200, &body);
        let error = Bearer::new(&auth, token()).users(&UserQuery::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fault, "{pagination}");
    }
}

#[tokio::test]
async fn the_audit_log_is_walked_with_its_filters() {
    let event = |kind: &str| json!({ "event_type": kind, "result": "denied", "timestamp": "2026-01-01T00:00:00Z" });
    let (first, last) = (event("login"), event("logout"));
    let auth = MockAuthClient::default().on(Method::GET, AUDIT, move |request| {
        let target = request.target()?;
        assert!(target.contains("result=denied") && target.contains("limit=100"), "{target}");
        if target.contains("cursor=c2") {
            answered(&json!({ "events": [last] }))
        } else {
            answered(&json!({ "events": [first], "next": "c2" }))
        }
    });
    let admin = Bearer::new(&auth, token());
    let mut pages = Pages::of_audit(&admin, AuditQuery { result: Some("denied".to_owned()), ..AuditQuery::default() });
    let mut kinds = Vec::new();
    while let Some(events) = pages.next().await.unwrap() {
        kinds.extend(events.into_iter().map(|event| event.event_type));
    }
    assert_eq!(kinds, ["login", "logout"]);
    assert_eq!(pages.next().await, Ok(None));
}
