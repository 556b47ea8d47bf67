//! Many concurrent clients of the client library. Afterwards each account is in the state that its last
//! answer described.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use axum::http::Method;
use portcullis_client::{
    AdminClient as _, AuthClient as _, HttpAuthClient, Secret,
    account::{Credentials, Registration},
    admin::{AuditQuery, Bearer, Pages, UserDraft, UserPatch, UserQuery},
    error::ErrorKind,
    http::RetryPolicy,
    precondition::Revalidated,
    profile::{ProfileChange, ProfileFields},
};
use serde_json::{Value, json};

use crate::support::{App, PASSWORD, Person, Reply, Service, start_gateway};

/// Number of concurrent clients, and of their operations in all.
const CLIENTS: usize = 64;

const OPERATIONS: usize = 2_000;

fn ada() -> ProfileFields {
    ProfileFields { first_name: "Ada".to_owned(), ..ProfileFields::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_concurrent_users_register_and_log_in_without_an_error() {
    let app = Arc::new(App::start().await);
    let client = HttpAuthClient::builder(&start_gateway(&app).await)
        .call_timeout(Duration::from_secs(20))
        .whole_timeout(Duration::from_secs(60))
        .retry(RetryPolicy { retries: 0, ..RetryPolicy::default() })
        .build()
        .unwrap();
    let people = (0..50).map(|number| {
        let client = client.clone();
        tokio::spawn(async move {
            let email = format!("person-{number}@example.com");
            let password = Secret::new(PASSWORD.to_owned());
            let registration = Registration::new(&email, password.clone()).with_profile(ada());
            let user = client.register(&registration).await.unwrap();
            let credentials = Credentials::new(&email, password);
            let tokens = client.login(&credentials).await.unwrap();
            let me = client.me(&tokens.access_token).await.unwrap();
            assert_eq!((me.id, me.email), (user.id, email));
            user.id
        })
    });
    let mut ids = HashSet::new();
    for person in people.collect::<Vec<_>>() {
        assert!(ids.insert(person.await.unwrap()), "an id of one's own");
    }
    assert_eq!(ids.len(), 50);
    app.until_synchronised().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_library_pages_through_lists_and_makes_conditional_changes() {
    let app = Arc::new(App::start().await);
    let root = app.admin("root@example.com").await;
    for number in 0..5 {
        app.person(&format!("person-{number}@example.com")).await;
    }
    let client = HttpAuthClient::builder(&start_gateway(&app).await).build().unwrap();
    let admin = Bearer::new(&client, Secret::new(root.access.clone()));
    for (email, count) in [(None, 6), (Some("person-"), 5), (Some("nobody"), 0)] {
        let query = UserQuery { email: email.map(str::to_owned), limit: Some(2), ..UserQuery::default() };
        let mut pages = Pages::of_users(&admin, query);
        let mut seen = HashSet::new();
        while let Some(users) = pages.next().await.unwrap() {
            assert!(users.into_iter().all(|user| seen.insert(user.id)), "nobody twice");
        }
        assert_eq!(seen.len(), count, "{email:?}");
    }
    let found = admin.users(&UserQuery { email: Some("person-3".to_owned()), ..UserQuery::default() }).await.unwrap();
    assert_eq!(found.pagination.total, 1);
    let id = found.entries[0].id;
    let read = admin.read_user(id).await.unwrap();
    assert_eq!(admin.revalidate_user(id, &read.version).await, Ok(Revalidated::NotModified));
    let profile = ProfileChange { last_name: Some("Lovelace".to_owned()), ..ProfileChange::default() };
    let patch = UserPatch { profile, ..UserPatch::default() };
    let patched = admin.update_user(id, &patch, Some(&read.version)).await.unwrap();
    let draft = UserDraft { email: read.value.email.clone(), profile: ada(), ..UserDraft::default() };
    for error in [
        admin.update_user(id, &patch, Some(&read.version)).await.unwrap_err(),
        admin.replace_user(id, &draft, Some(&read.version)).await.unwrap_err(),
        admin.delete_user(id, Some(&read.version)).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.code()), (ErrorKind::Stale, "version_mismatch"));
    }
    assert_eq!(admin.revalidate_user(id, &read.version).await.unwrap().changed(), Some(patched.clone()));
    let replaced = admin.replace_user(id, &draft, Some(&patched.version)).await.unwrap();
    admin.delete_user(id, Some(&replaced.version)).await.unwrap();
    assert_eq!(admin.read_user(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    let query = AuditQuery { limit: Some(2), ..AuditQuery::default() };
    let whole = admin.audit(&AuditQuery { limit: Some(100), ..AuditQuery::default() }).await.unwrap();
    let mut pages = Pages::of_audit(&admin, query);
    let mut count = 0;
    while let Some(events) = pages.next().await.unwrap() {
        count += events.len();
    }
    assert!(count >= whole.events.len() && count > 2, "{count}");
}

/// What one client knows about its account.
struct KnownAccount {
    email: String,
    first_name: String,
    sessions: Vec<Person>,
    over: Vec<Person>,
    deleted: bool,
}

async fn send(
    app: &App,
    service: Service,
    method: Method,
    path: &str,
    who: Option<&Person>,
    body: Option<Value>,
) -> Reply {
    loop {
        let reply = app.send(service, method.clone(), path, who, body.clone()).await;
        if !matches!(reply.status, 429 | 503) {
            return reply;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn random_below(below: usize) -> usize {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    usize::from_le_bytes(bytes) % below
}

async fn log_in(app: &App, email: &str) -> Person {
    let body = json!({ "email": email, "password": PASSWORD });
    let login = send(app, Service::Auth, Method::POST, "/api/v1/auth/login", None, Some(body)).await;
    assert_eq!(login.status, 200, "{}", login.text);
    Person::from_login(&login)
}

/// Performs one client's share. Returns the number of operations.
async fn run_client(app: &App, admin: &Person, number: usize) -> (KnownAccount, usize) {
    let email = format!("client-{number}@example.com");
    let body = json!({ "email": email, "password": PASSWORD, "first_name": "First" });
    let made = send(app, Service::Auth, Method::POST, "/api/v1/auth/register", None, Some(body)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let first = log_in(app, &email).await;
    let mut known =
        KnownAccount { email, first_name: "First".to_owned(), sessions: vec![first], over: Vec::new(), deleted: false };
    let mut done = 2;
    while done < OPERATIONS.div_ceil(CLIENTS) {
        done += 1;
        let at = random_below(known.sessions.len());
        let me = known.sessions[at].clone();
        let path = format!("/api/v1/users/{}", me.id);
        match random_below(20) {
            0..5 => {
                let name = format!("Name {number} {done}");
                let reply =
                    send(app, Service::Users, Method::PATCH, &path, Some(&me), Some(json!({ "first_name": name })))
                        .await;
                assert_eq!(reply.status, 200, "{}", reply.text);
                known.first_name = name;
            }
            5..10 => {
                let body = json!({ "refresh_token": me.refresh });
                let reply = send(app, Service::Auth, Method::POST, "/api/v1/auth/refresh", None, Some(body)).await;
                assert_eq!(reply.status, 200, "{}", reply.text);
                known.sessions[at] = Person::from_login(&reply);
            }
            10..12 if known.sessions.len() < 4 => known.sessions.push(log_in(app, &known.email).await),
            12..14 if known.sessions.len() > 1 => {
                let reply = send(app, Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&me), None).await;
                assert_eq!(reply.status, 200, "{}", reply.text);
                known.over.push(known.sessions.remove(at));
            }
            14 => {
                let reply = send(app, Service::Users, Method::GET, "/api/v1/users?limit=5", Some(admin), None).await;
                assert_eq!(reply.status, 200, "{}", reply.text);
            }
            15 => {
                let other = format!("/api/v1/users/{}", admin.id);
                assert_eq!(send(app, Service::Users, Method::GET, &other, Some(&me), None).await.status, 403);
            }
            16 => {
                let body = json!({ "user_id": me.id, "permission": "read:profile" });
                let path = "/api/v1/auth/permissions/check";
                let reply = send(app, Service::Auth, Method::POST, path, Some(&me), Some(body)).await;
                assert_eq!(reply.json()["allowed"], true, "{}", reply.text);
            }
            17 => {
                let reply = send(app, Service::Auth, Method::GET, "/api/v1/auth/sessions", Some(&me), None).await;
                let listed: BTreeSet<String> = reply.json()["sessions"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|session| session["id"].as_str().unwrap().to_owned())
                    .collect();
                assert_eq!(listed, known.sessions.iter().map(|person| person.session.clone()).collect());
            }
            _ => {
                let reply = send(app, Service::Auth, Method::GET, "/api/v1/auth/me", Some(&me), None).await;
                assert_eq!(reply.json()["user"]["first_name"], known.first_name, "{}", reply.text);
            }
        }
    }
    if number.is_multiple_of(8) {
        let me = known.sessions[0].clone();
        let path = format!("/api/v1/users/{}", me.id);
        assert_eq!(send(app, Service::Users, Method::DELETE, &path, Some(&me), None).await.status, 204);
        known.deleted = true;
        done += 1;
    }
    (known, done)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_concurrent_operations_leave_the_state_that_their_answers_describe() {
    let app = Arc::new(App::start().await);
    let admin = Arc::new(app.admin("root@example.com").await);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (app, admin) = (Arc::clone(&app), Arc::clone(&admin));
            tokio::spawn(async move { run_client(&app, &admin, number).await })
        })
        .collect();
    let mut everybody = Vec::new();
    let mut operations = 0;
    for client in clients {
        let (known, done) = client.await.unwrap();
        everybody.push(known);
        operations += done;
    }
    assert!(operations >= OPERATIONS, "{operations}");
    app.until_synchronised().await;
    for known in &everybody {
        let path = format!("/api/v1/users/{}", known.sessions[0].id);
        let seen = send(&app, Service::Users, Method::GET, &path, Some(&admin), None).await;
        if known.deleted {
            assert_eq!(seen.status, 404, "{}", known.email);
            assert_eq!(app.refresh(&known.sessions[0].refresh).await.status, 401);
            continue;
        }
        assert_eq!(seen.json()["data"]["first_name"], known.first_name, "{}", known.email);
        for person in &known.over {
            assert_eq!(app.refresh(&person.refresh).await.status, 401, "{} logged out", known.email);
        }
        for person in &known.sessions {
            assert_eq!(app.refresh(&person.refresh).await.status, 200, "{} is logged in", known.email);
        }
    }
}

#[tokio::test]
async fn writers_that_wait_for_a_lock_leave_connections_to_others() {
    let app = App::start().await;
    let (ada, grace) = (app.person("ada@example.com").await, app.person("grace@example.com").await);
    let pool = app.databases.open(Service::Auth).await;
    let mut held = pool.acquire().await.unwrap();
    // The first writer keeps the account's lock while it waits for this one.
    let hold = if app.databases.is_sqlite() { "BEGIN IMMEDIATE" } else { "BEGIN; SELECT 1 FROM sessions FOR UPDATE" };
    sqlx::raw_sql(hold).execute(&mut *held).await.unwrap();
    let request = || app.forwarded(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&ada), None);
    let logouts: Vec<_> = (0..20).map(|_| tokio::spawn(request().send())).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = std::time::Instant::now();
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &grace).await.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    for logout in logouts {
        assert_eq!(logout.await.unwrap().unwrap().status(), 503);
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut *held).await.unwrap();
}
