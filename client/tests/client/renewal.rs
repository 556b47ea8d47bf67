//! When and how often a session refreshes itself, and what happens when it cannot.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use portcullis_client::{
    account::{Credentials, PasswordChange, User},
    error::ClientError,
    request::{ApiRequest, Method},
    session::{AuthenticatedClient, MemoryStore, SessionStore as _},
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::{
    fake::{Fake, Reply, refuse, reply, run_at_once, secret},
    service::{Next, Service},
};

async fn log_in(service: &Service) -> (AuthenticatedClient, MemoryStore) {
    let store = MemoryStore::default();
    let credentials = Credentials::new("ada@example.com", secret("password"));
    let auth = Arc::new(service.fake.client());
    (AuthenticatedClient::login(auth, Arc::new(store.clone()), &credentials).await.unwrap(), store)
}

/// Returns the session with a clock ahead of the machine's, and the difference in seconds.
fn ahead(session: AuthenticatedClient) -> (AuthenticatedClient, Arc<AtomicI64>) {
    let ahead = Arc::new(AtomicI64::new(0));
    let read = Arc::clone(&ahead);
    let clock = move || OffsetDateTime::now_utc() + Duration::seconds(read.load(Ordering::Relaxed));
    (session.with_clock(clock), ahead)
}

/// Makes a hundred concurrent calls.
async fn call_a_hundred_times(session: &AuthenticatedClient) -> Vec<Result<User, ClientError>> {
    let call = |session: AuthenticatedClient| async move { session.me().await };
    run_at_once((0..100).map(|_| call(session.clone()))).await
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_and_the_call_made_once_more_with_its_body() {
    let service = Service::start(900).await;
    let (session, _) = log_in(&service).await;
    service.expire();
    let request = ApiRequest::new(Method::POST, "/orders").with_json(&json!({ "article": 7 }));
    let answer: Value = session.send(request).await.unwrap().json().unwrap();
    assert_eq!(answer, json!({ "echo": { "article": 7 } }));
    let orders: Vec<_> = service.fake.asked().into_iter().filter(|asked| asked.target == "/orders").collect();
    assert_eq!(orders.len(), 2);
    assert_eq!(orders[0].body, orders[1].body);
    assert_eq!(service.refreshes(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_tasks_refresh_once() {
    let service = Service::start(900).await;
    let (session, _) = log_in(&service).await;
    service.expire();
    for result in call_a_hundred_times(&session).await {
        assert_eq!(result.unwrap().email, "ada@example.com");
    }
    assert_eq!(service.refreshes(), 1);
}

#[tokio::test]
async fn a_refresh_that_fails_fails_once_for_all_who_wait_for_it() {
    let service = Service::start(900).await;
    let (session, _) = log_in(&service).await;
    let (session, ahead) = ahead(session);
    ahead.store(901, Ordering::Relaxed);
    service.state.lock().unwrap().is_out = true;
    for result in call_a_hundred_times(&session).await {
        assert_eq!(result.unwrap_err().status(), Some(503));
    }
    assert_eq!(service.refreshes(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end() {
    let service = Service::start(900).await;
    let (session, store) = log_in(&service).await;
    let (session, ahead) = ahead(session);
    for (case, at, refreshes) in [("young", 0, 0), ("not yet", 860, 0), ("soon over", 875, 1), ("renewed", 880, 1)] {
        ahead.store(at, Ordering::Relaxed);
        session.me().await.unwrap();
        assert_eq!(service.refreshes(), refreshes, "{case}");
    }
    assert_eq!(store.load().await.unwrap().unwrap().refresh_token, secret("refresh-2"));
}

#[tokio::test]
async fn a_refresh_token_that_may_be_spent_is_not_shown_while_the_access_token_is_good() {
    let timeout = || refuse(504, "upstream_timeout");
    for (case, next, is_spent) in [("not done", Next::Undone(timeout), false), ("done", Next::Lost(timeout), true)] {
        let service = Service::start(900).await;
        let (session, store) = log_in(&service).await;
        let (session, ahead) = ahead(session);
        ahead.store(875, Ordering::Relaxed);
        service.next(next);
        for _ in 0..5 {
            session.me().await.expect(case);
        }
        assert_eq!(service.refreshes(), 1, "{case}");
        assert!(store.load().await.unwrap().is_some(), "{case}");

        // The access token has expired, so the refresh token is sent.
        ahead.store(901, Ordering::Relaxed);
        service.state.lock().unwrap().oldest = 2;
        let last = session.me().await;
        assert_eq!(last.err(), is_spent.then_some(ClientError::LoggedOut), "{case}");
        assert_eq!(service.refreshes(), 2, "{case}");
    }
}

#[tokio::test]
async fn a_refresh_token_may_be_spent_by_a_refresh_whose_repetition_is_refused() {
    let refreshes = AtomicI64::new(0);
    let fake = Fake::start(move |asked, _| match asked.target.as_str() {
        "/api/v1/auth/login" => crate::fake::answer(200, &crate::fake::tokens("access", "refresh", 900)),
        "/api/v1/auth/refresh" if refreshes.fetch_add(1, Ordering::Relaxed) == 0 => refuse(502, "upstream_failed"),
        "/api/v1/auth/refresh" => refuse(429, "rate_limited"),
        _ => crate::fake::answer(200, &json!({ "user": crate::fake::user() })),
    })
    .await;
    let credentials = Credentials::new("ada@example.com", secret("password"));
    let store = Arc::new(MemoryStore::default());
    let session = AuthenticatedClient::login(Arc::new(fake.client()), store, &credentials).await.unwrap();
    let (session, ahead) = ahead(session);
    ahead.store(875, Ordering::Relaxed);
    for _ in 0..5 {
        session.me().await.unwrap();
    }
    let sent = fake.asked().into_iter().filter(|asked| asked.target == "/api/v1/auth/refresh").count();
    assert_eq!(sent, 2, "the refresh and its repetition");
}

#[tokio::test]
async fn a_refresh_token_that_may_be_spent_stays_so_when_a_later_refresh_is_not_received() {
    let refreshes = AtomicI64::new(0);
    let calls = AtomicI64::new(0);
    let fake = Fake::start(move |asked, _| match asked.target.as_str() {
        "/api/v1/auth/login" => crate::fake::answer(200, &crate::fake::tokens("access", "refresh", 900)),
        "/api/v1/auth/refresh" if refreshes.fetch_add(1, Ordering::Relaxed) == 0 => refuse(504, "upstream_timeout"),
        "/api/v1/auth/refresh" => refuse(429, "rate_limited"),
        _ if calls.fetch_add(1, Ordering::Relaxed) == 1 => refuse(401, "token_revoked"),
        _ => crate::fake::answer(200, &json!({ "user": crate::fake::user() })),
    })
    .await;
    let credentials = Credentials::new("ada@example.com", secret("password"));
    let store = Arc::new(MemoryStore::default());
    let session = AuthenticatedClient::login(Arc::new(fake.client()), store, &credentials).await.unwrap();
    let (session, ahead) = ahead(session);
    ahead.store(875, Ordering::Relaxed);
    session.me().await.unwrap();
    session.me().await.unwrap_err();
    for _ in 0..5 {
        session.me().await.unwrap();
    }
    let sent = fake.asked().into_iter().filter(|asked| asked.target == "/api/v1/auth/refresh").count();
    assert_eq!(sent, 2, "one that was lost, and one that a refused token required");
}

#[tokio::test]
async fn a_refresh_that_was_not_received_is_tried_again_ahead_of_the_end() {
    let service = Service::start(900).await;
    let (session, _) = log_in(&service).await;
    let (session, ahead) = ahead(session);
    ahead.store(875, Ordering::Relaxed);
    service.next(Next::Undone(|| refuse(429, "rate_limited")));
    session.me().await.unwrap();
    session.me().await.unwrap();
    assert_eq!(service.refreshes(), 2);
}

#[tokio::test]
async fn a_refused_refresh_ends_the_session_here_and_in_the_store() {
    let service = Service::start(900).await;
    let (session, store) = log_in(&service).await;
    service.state.lock().unwrap().is_dead = true;
    assert_eq!(session.me().await.unwrap_err(), ClientError::LoggedOut);
    assert_eq!(store.load().await.unwrap(), None);
    let before = service.fake.count();
    assert_eq!(session.me().await.unwrap_err(), ClientError::LoggedOut);
    assert_eq!(service.fake.count(), before, "no service is called any more");
}

/// The answer to a refresh, and whether it ends the session.
type Answer = (&'static str, fn() -> Reply, bool);

const PROBLEM: (&str, &str) = ("content-type", "application/problem+json");

const ANSWERS: &[Answer] = &[
    ("the auth service: unknown, expired or spent", || refuse(401, "token_invalid"), true),
    ("the auth service: revoked", || refuse(401, "token_revoked"), true),
    ("a service without the gateway", || refuse(401, "gateway_required"), false),
    ("a gateway of an earlier version", || refuse(401, "assertion_required"), false),
    ("the gateway, whose assertion was refused", || refuse(502, "upstream_rejected_assertion"), false),
    ("the gateway, without credentials", || refuse(401, "credentials_missing"), false),
    ("wrong credentials", || refuse(401, "invalid_credentials"), false),
    ("a code that is not known", || refuse(401, "something_else"), false),
    ("a proxy's 401 without a body", || reply(401, &[("www-authenticate", "Basic realm=\"proxy\"")], ""), false),
    ("a proxy's 401 in HTML", || reply(401, &[("content-type", "text/html")], "<h1>401 token_revoked</h1>"), false),
    ("a code in HTML", || reply(401, &[("content-type", "text/html")], r#"{"code":"token_revoked"}"#), false),
    ("another's invalid_token", || reply(401, &[("www-authenticate", "Bearer error=\"invalid_token\"")], ""), false),
    ("half a problem document", || reply(401, &[PROBLEM], r#"{"code":"token_rev"#), false),
    ("a captive portal's redirect", || reply(302, &[("location", "/login")], ""), false),
    ("a captive portal's page", || reply(200, &[("content-type", "text/html")], "<h1>Welcome</h1>"), false),
    ("403 by a firewall", || refuse(403, "token_revoked"), false),
    ("407", || reply(407, &[], ""), false),
    ("too many", || refuse(429, "rate_limited"), false),
    ("400", || refuse(400, "token_invalid"), false),
    ("500", || refuse(500, "token_invalid"), false),
    ("503", || refuse(503, "keys_unavailable"), false),
];

#[tokio::test]
async fn only_the_auth_services_word_on_the_token_ends_a_session() {
    for (case, next, is_over) in ANSWERS {
        let service = Service::start(900).await;
        let (session, store) = log_in(&service).await;
        service.expire();
        service.next(Next::Undone(*next));
        // After a 502 the token is sent once more, and the call succeeds.
        let outcome = session.me().await;
        assert_eq!(outcome == Err(ClientError::LoggedOut), *is_over, "{case}: {outcome:?}");
        assert_eq!(store.load().await.unwrap().is_none(), *is_over, "{case}");
        // The next call succeeds if there is still a session.
        assert_eq!(session.me().await.is_ok(), !is_over, "{case}");
    }
}

#[tokio::test]
async fn an_answer_to_another_call_ends_no_session() {
    for (case, next, _) in ANSWERS {
        let document = Arc::new(std::sync::Mutex::new(Some(*next)));
        let fake = Fake::start(move |asked, _| match asked.target.as_str() {
            "/api/v1/auth/login" | "/api/v1/auth/refresh" => {
                crate::fake::answer(200, &crate::fake::tokens("access", "refresh", 900))
            }
            _ => document
                .lock()
                .unwrap()
                .take()
                .map_or_else(|| crate::fake::answer(200, &json!({ "user": crate::fake::user() })), |reply| reply()),
        })
        .await;
        let store = MemoryStore::default();
        let credentials = Credentials::new("ada@example.com", secret("password"));
        let session =
            AuthenticatedClient::login(Arc::new(fake.client()), Arc::new(store.clone()), &credentials).await.unwrap();
        let _ = session.me().await;
        assert!(store.load().await.unwrap().is_some(), "{case}");
        session.me().await.expect(case);
    }
}

#[tokio::test]
async fn a_refresh_that_finds_the_service_out_leaves_the_session_as_it_is() {
    let service = Service::start(900).await;
    let (session, store) = log_in(&service).await;
    service.expire();
    service.next(Next::Undone(|| reply(503, &[("retry-after", "1")], "")));
    assert_eq!(session.me().await.unwrap_err().status(), Some(503));
    assert!(store.load().await.unwrap().is_some());
}

#[tokio::test]
async fn a_caller_who_gives_up_does_not_lose_the_new_tokens() {
    let service = Service::start(900).await;
    let (session, store) = log_in(&service).await;
    service.expire();
    let caller = session.clone();
    let call = tokio::spawn(async move { caller.me().await });
    // The caller is cancelled once the refresh has reached the service.
    while service.refreshes() == 0 {
        tokio::task::yield_now().await;
    }
    call.abort();
    session.me().await.unwrap();
    assert_eq!(service.refreshes(), 1);
    assert_eq!(store.load().await.unwrap().unwrap().refresh_token, secret("refresh-2"));
}

#[tokio::test]
async fn a_wrong_password_is_no_reason_to_refresh() {
    let service = Service::start(900).await;
    let (session, _) = log_in(&service).await;
    let change = PasswordChange { current_password: secret("wrong"), new_password: secret("next password") };
    assert_eq!(session.change_password(&change).await.unwrap_err().code(), "invalid_credentials");
    assert_eq!(service.refreshes(), 0);
}

#[tokio::test]
async fn a_logout_ends_the_session_everywhere_even_with_an_old_token() {
    for is_old in [false, true] {
        let service = Service::start(900).await;
        let (session, store) = log_in(&service).await;
        if is_old {
            service.expire();
        }
        session.logout().await.unwrap();
        assert_eq!(store.load().await.unwrap(), None);
        assert_eq!(session.me().await.unwrap_err(), ClientError::LoggedOut);
        let asked = service.fake.asked();
        let last = asked.iter().rfind(|asked| asked.target == "/api/v1/auth/logout").unwrap();
        assert!(last.json()["refresh_token"].is_string());
    }
}

#[tokio::test]
async fn a_session_is_resumed_from_its_store() {
    let service = Service::start(900).await;
    let (_, store) = log_in(&service).await;
    let auth = Arc::new(service.fake.client());
    let session = AuthenticatedClient::resume(auth.clone(), Arc::new(store)).await.unwrap();
    session.me().await.unwrap();
    let empty = AuthenticatedClient::resume(auth, Arc::new(MemoryStore::default())).await;
    assert_eq!(empty.unwrap_err(), ClientError::LoggedOut);
}

#[tokio::test]
async fn a_session_lists_and_ends_sessions_and_stays_when_its_logout_fails() {
    let document = crate::fake::user();
    let sessions = json!({ "sessions": [{ "id": document["id"], "current": true }] });
    let route = "/api/v1/auth/sessions/{id}";
    let auth = portcullis_client::mock::MockAuthClient::default()
        .answer(Method::POST, "/api/v1/auth/login", 200, &crate::fake::tokens("access", "refresh", 900))
        .answer(Method::GET, "/api/v1/auth/sessions", 200, &sessions)
        .answer(Method::DELETE, route, 204, &Value::Null)
        .answer(Method::POST, "/api/v1/auth/password", 200, &json!({}))
        .fail(Method::POST, "/api/v1/auth/logout", ClientError::Unreachable);
    let credentials = Credentials::new("ada@example.com", secret("password"));
    let store = Arc::new(MemoryStore::default());
    let session = AuthenticatedClient::login(Arc::new(auth), store.clone(), &credentials).await.unwrap();
    let listed = session.sessions().await.unwrap();
    assert!(listed[0].current);
    session.end_session(listed[0].id).await.unwrap();
    let change = PasswordChange { current_password: secret("password"), new_password: secret("next password") };
    session.change_password(&change).await.unwrap();
    assert_eq!(session.logout().await, Err(ClientError::Unreachable));
    assert!(store.load().await.unwrap().is_some(), "it can be tried again");
    session.forget().await.unwrap();
    assert_eq!(store.load().await, Ok(None));
}

#[tokio::test]
async fn forget_removes_the_tokens_of_a_concurrent_refresh() {
    let service = Service::start(900).await;
    let (session, store) = log_in(&service).await;
    let (session, ahead) = ahead(session);
    ahead.store(901, Ordering::Relaxed);
    let call = tokio::spawn({
        let session = session.clone();
        async move { session.me().await }
    });
    // The refresh holds the store's lock until its answer arrives.
    while service.refreshes() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(session.forget().await, Ok(()));
    let _ = call.await.unwrap();
    assert_eq!(store.load().await, Ok(None));
    assert_eq!(session.me().await, Err(ClientError::LoggedOut));
}
