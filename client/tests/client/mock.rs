//! The fake service for tests of programs: a table of answers that are used in order.

use std::sync::Arc;

use portcullis_client::{
    account::{AuthClient, Credentials},
    admin::{AdminClient as _, Bearer, UserPatch, UserQuery},
    error::{ClientError, ErrorKind},
    mock::MockAuthClient,
    precondition::EntityTag,
    request::{ApiAnswer, Method},
    secret::Secret,
    session::{AuthenticatedClient, MemoryStore},
};
use serde_json::json;

use crate::fake::{USER_ID, tokens, user};

const LOGIN: &str = "/api/v1/auth/login";
const ME: &str = "/api/v1/auth/me";
const REFRESH: &str = "/api/v1/auth/refresh";

fn credentials() -> Credentials {
    Credentials::new("ada@example.com", Secret::new("password".into()))
}

#[tokio::test]
async fn answers_are_used_up_in_order_and_the_last_one_stays() {
    let auth = MockAuthClient::default()
        .fail(Method::POST, LOGIN, ClientError::Timeout)
        .refuse(Method::POST, LOGIN, 401, "invalid_credentials")
        .answer(Method::POST, LOGIN, 200, &tokens("access", "refresh", 900));
    let auth: Arc<dyn AuthClient> = Arc::new(auth);
    assert_eq!(auth.login(&credentials()).await.unwrap_err(), ClientError::Timeout);
    assert_eq!(auth.login(&credentials()).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    for _ in 0..2 {
        assert_eq!(auth.login(&credentials()).await.unwrap().expires_in, 900);
    }
    assert_eq!(auth.me(&Secret::new("access".into())).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_session_lives_on_it_as_on_a_service() {
    let auth = MockAuthClient::default()
        .answer(Method::POST, LOGIN, 200, &tokens("access-1", "refresh-1", 900))
        .answer(Method::POST, REFRESH, 200, &tokens("access-2", "refresh-2", 900))
        .on(Method::GET, "/api/v1/users", |request| {
            let is_new = request.token().is_some_and(|token| token.expose() == "access-2");
            let refusal = portcullis_client::error::Refusal::new(401, "token_expired");
            if is_new { Ok(ApiAnswer::new(200, json!({ "data": [user()] }).to_string())) } else { Err(refusal.into()) }
        });
    let auth = Arc::new(auth);
    let store = Arc::new(MemoryStore::default());
    let session = AuthenticatedClient::login(auth.clone(), store, &credentials()).await.unwrap();
    assert_eq!(session.users(&UserQuery::default()).await.unwrap().entries.len(), 1);
    let users = (Method::GET, "/api/v1/users");
    assert_eq!(auth.calls(), [(Method::POST, LOGIN), users.clone(), (Method::POST, REFRESH), users]);
    assert_eq!(session.me().await.unwrap_err().status(), Some(404), "{ME} has no answer");
}

#[tokio::test]
async fn a_program_that_asks_for_the_password_is_tested_on_it() {
    const USER: &str = "/api/v1/users/{id}";
    let changed = |request: &portcullis_client::request::ApiRequest| {
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body, json!({ "email": "eve@example.com", "current_password": "password" }));
        let answer = ApiAnswer::new(200, json!({ "data": user() }).to_string());
        Ok(answer.with_version(EntityTag::parse("\"2\"")?))
    };
    let auth = MockAuthClient::default()
        .refuse(Method::PATCH, USER, 403, "reauthentication_required")
        .on(Method::PATCH, USER, changed)
        .refuse(Method::DELETE, USER, 403, "reauthentication_required")
        .answer(Method::DELETE, USER, 204, &serde_json::Value::Null);
    let admin = Bearer::new(&auth, Secret::new("access".into()));
    let (id, password) = (USER_ID.parse().unwrap(), Secret::new("password".into()));
    let patch = UserPatch { email: Some("eve@example.com".into()), ..UserPatch::default() };
    let refused = admin.update_user(id, &patch, None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReauthenticationRequired);
    let confirmed = UserPatch { current_password: Some(password.clone()), ..patch };
    admin.update_user(id, &confirmed, None).await.unwrap();
    assert_eq!(admin.delete_user(id, None).await.unwrap_err().kind(), ErrorKind::ReauthenticationRequired);
    admin.delete_own_account(id, &password, None).await.unwrap();
}
