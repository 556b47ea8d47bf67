//! Changes that span both services and are interrupted in between: by crashes, by faults, and by
//! concurrent changes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, post},
};
use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{
    AUTH_ONLY, App, BOTH, Databases, Deployment, PASSWORD, Person, Reply, Service, USERS_ONLY, until_ready,
};

/// The first half of a change: the user service's request to the auth service, after which the user
/// service dies.
async fn first_half(app: &App, method: Method, id: &str, body: Option<Value>) -> Reply {
    let url = app.url(Service::Auth, &format!("/api/v1/internal/accounts/{id}"));
    first_half_at(app, &app.service_token(Service::Auth).await, &url, method, body).await
}

async fn first_half_at(app: &App, token: &str, url: &str, method: Method, body: Option<Value>) -> Reply {
    let mut request = app.internal(Service::Auth, method, url, token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    app.send_raw(request).await
}

async fn profile(app: &App, who: &Person) -> Reply {
    app.get(Service::Users, &format!("/api/v1/users/{}", who.id), who).await
}

async fn count(app: &App, service: Service, table: &str) -> i64 {
    let pool = app.databases.open(service).await;
    let text = format!("SELECT count(*) FROM {table}");
    let count = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_one(&pool).await.unwrap();
    pool.close().await;
    count
}

async fn until_count(app: &App, service: Service, table: &str, expected: i64) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while count(app, service, table).await != expected {
        assert!(std::time::Instant::now() < deadline, "{table} never had {expected} rows");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn profiles_equal_accounts_after_every_kind_of_change() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let grace = app.person("grace@example.com").await;
    app.admin("root@example.com").await;
    app.until_synchronised().await;
    let path = |person: &Person| format!("/api/v1/users/{}", person.id);
    let changed = json!({ "email": "countess@example.com", "last_name": "Lovelace" });
    assert_eq!(app.send(Service::Users, Method::PATCH, &path(&ada), Some(&ada), Some(changed)).await.status, 200);
    assert_eq!(app.send(Service::Users, Method::DELETE, &path(&grace), Some(&grace), None).await.status, 204);
    assert_eq!(count(&app, Service::Users, "profiles").await, 2, "at once, and not when somebody tidies up");
    app.until_synchronised().await;
}

#[tokio::test]
async fn a_change_whose_caller_died_reaches_the_profile() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let change = json!({ "email": "new@example.com", "first_name": "A." });
    let reply = first_half(&app, Method::PATCH, &ada.id, Some(change)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!((&reply.json()["version"], &reply.json()["last_name"]), (&json!(2), &json!("")));
    assert_eq!(profile(&app, &ada).await.json()["data"]["email"], "ada@example.com", "half a change");
    app.until_synchronised().await;
    assert_eq!(profile(&app, &ada).await.json()["data"]["email"], "new@example.com");
    assert_eq!(profile(&app, &ada).await.headers["etag"], "\"2\"");
}

#[tokio::test]
async fn a_deletion_whose_caller_died_deletes_the_profile() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    assert_eq!(first_half(&app, Method::DELETE, &ada.id, None).await.status, 204);
    assert_eq!(profile(&app, &ada).await.status, 200, "half a user");
    app.until_synchronised().await;
    assert_eq!(profile(&app, &ada).await.status, 404);
    assert_eq!(count(&app, Service::Users, "profiles").await, 0);
}

#[tokio::test]
async fn an_outage_of_the_user_service_is_logged_once_whatever_the_database_does() {
    let databases = Databases::make().await;
    let place = Deployment::of(&databases);
    let app = App::connect(databases, place.auth, place.users);
    let (mut auth, mut users) = (place.start("auth"), place.start("users"));
    until_ready(&app, &place, &mut auth).await;
    until_ready(&app, &place, &mut users).await;
    let ada = app.person("ada@example.com").await;
    let fail_database = async || {
        app.databases.run(Service::Auth, "ALTER TABLE stale_profiles RENAME TO away").await;
        place.until_logged("the database failed", place.logged("the database failed") + 1).await;
        app.databases.run(Service::Auth, "UPDATE away SET due_at = 0").await;
        app.databases.run(Service::Auth, "ALTER TABLE away RENAME TO stale_profiles").await;
    };

    fail_database().await;
    users.child.kill().await.unwrap();
    let change = Some(json!({ "first_name": "A." }));
    assert_eq!(first_half(&app, Method::PATCH, &ada.id, change).await.status, 200);
    fail_database().await;
    place.until_logged("changes of profiles wait", 1).await;
    fail_database().await;
    users = place.start("users");
    until_ready(&app, &place, &mut users).await;
    place.until_logged("the user service can be reached again", 1).await;
    assert_eq!((place.logged("changes of profiles wait"), place.logged("can be reached again")), (1, 1));
    until_count(&app, Service::Auth, "stale_profiles", 0).await;
    assert_eq!(profile(&app, &ada).await.json()["data"]["first_name"], "A.");
}

#[tokio::test]
async fn changes_during_an_outage_of_the_user_service_reach_it_afterwards() {
    let mut app = App::start().await;
    let (ada, grace) = (app.person("ada@example.com").await, app.person("grace@example.com").await);
    app.restart(AUTH_ONLY).await;
    let change = Some(json!({ "first_name": "A." }));
    assert_eq!(first_half(&app, Method::PATCH, &ada.id, change).await.status, 200);
    assert_eq!(first_half(&app, Method::DELETE, &grace.id, None).await.status, 204);
    // A synchronisation fails before the user service is back.
    app.clock.pass(limits::PROFILE_SYNC_GRACE_MS);
    let users = app.start_additional(USERS_ONLY).await;
    app.until_synchronised().await;
    assert_eq!(count(&app, Service::Users, "profiles").await, 1);
    assert_eq!(profile(&app, &ada).await.json()["data"]["first_name"], "A.");
    users.stop().await;
}

#[tokio::test]
async fn profiles_without_a_version_are_synchronised_once() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    app.databases.run(Service::Users, "UPDATE profiles SET version = 0, roles = '[]'").await;
    app.databases.run(Service::Auth, include_str!("../migrations/auth/0010_agree.sql")).await;
    app.until_synchronised().await;
    assert_eq!(profile(&app, &ada).await.headers["etag"], "\"1\"");
}

#[tokio::test]
async fn committed_changes_are_completed_after_a_crash_of_both_services() {
    let mut app = App::start().await;
    let (ada, grace) = (app.person("ada@example.com").await, app.person("grace@example.com").await);
    first_half(&app, Method::PATCH, &ada.id, Some(json!({ "first_name": "A." }))).await;
    first_half(&app, Method::DELETE, &grace.id, None).await;
    app.restart(BOTH).await;
    app.until_synchronised().await;
    assert_eq!(count(&app, Service::Users, "profiles").await, 1);
    assert_eq!(profile(&app, &ada).await.json()["data"]["first_name"], "A.");
}

#[tokio::test]
async fn without_the_auth_service_a_change_is_503_and_has_no_effect() {
    let mut app = App::start().await;
    let ada = app.person("ada@example.com").await;
    app.restart(USERS_ONLY).await;
    let path = format!("/api/v1/users/{}", ada.id);
    for (method, body) in [
        (Method::PATCH, Some(json!({ "first_name": "A." }))),
        (Method::PUT, Some(json!({ "email": "a@b.cd" }))),
        (Method::DELETE, None),
    ] {
        let reply = app.send(Service::Users, method.clone(), &path, Some(&ada), body).await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "auth_service_unavailable"), "{method}");
        assert!(reply.headers.contains_key("retry-after"));
    }
    assert_eq!(profile(&app, &ada).await.json()["data"]["first_name"], "Ada");
    app.restart(BOTH).await;
    assert_eq!(app.login("ada@example.com").await.status, 200);
    app.until_synchronised().await;
}

#[tokio::test]
async fn a_failed_write_of_a_profile_is_repeated_and_the_answer_has_the_current_state() {
    let app = App::start().await;
    let (ada, grace) = (app.person("ada@example.com").await, app.person("grace@example.com").await);
    app.databases.run(Service::Users, "ALTER TABLE profiles RENAME TO away").await;
    let path = |person: &Person| format!("/api/v1/users/{}", person.id);
    let change = Some(json!({ "first_name": "A." }));
    let reply = app.send(Service::Users, Method::PATCH, &path(&ada), Some(&ada), change).await;
    assert_eq!((reply.status, &reply.json()["data"]["first_name"]), (200, &json!("A.")), "{}", reply.text);
    assert_eq!(app.send(Service::Users, Method::DELETE, &path(&grace), Some(&grace), None).await.status, 204);
    app.databases.run(Service::Users, "ALTER TABLE away RENAME TO profiles").await;
    assert_eq!(profile(&app, &ada).await.json()["data"]["first_name"], "Ada");
    app.until_synchronised().await;
    assert_eq!(profile(&app, &ada).await.json()["data"]["first_name"], "A.");
}

#[tokio::test]
async fn an_interrupted_registration_is_undone_after_fifteen_minutes() {
    let mut app = App::start().await;
    app.restart(AUTH_ONLY).await;
    assert_eq!(app.register("ada@example.com").await.status, 503);
    assert_eq!(app.register("grace@example.com").await.status, 503);
    let users = app.start_additional(USERS_ONLY).await;
    // Ada's registration died one step later, after her profile was written.
    let pool = app.databases.open(Service::Auth).await;
    let id: String =
        sqlx::query_scalar("SELECT id FROM accounts WHERE email = 'ada@example.com'").fetch_one(&pool).await.unwrap();
    pool.close().await;
    let token = app.service_token(Service::Users).await;
    let made = put(&app, &token, &id, 1, "half").await;
    assert_eq!(made.status, 201, "{}", made.text);

    let witness = app.person("witness@example.com").await;
    app.clock.pass(limits::PENDING_MS - 60_000);
    first_half(&app, Method::PATCH, &witness.id, Some(json!({ "first_name": "W." }))).await;
    app.clock.pass(limits::PROFILE_SYNC_GRACE_MS);
    // Two pending accounts remain, and the witness is gone: all due entries were processed.
    until_count(&app, Service::Auth, "stale_profiles", 2).await;
    assert_eq!(count(&app, Service::Auth, "accounts").await, 3, "a registration has time");

    // An entry that is processed too early is postponed.
    app.databases.run(Service::Auth, "UPDATE stale_profiles SET due_at = 0").await;
    until_count(&app, Service::Auth, "stale_profiles WHERE due_at = 0", 0).await;
    until_count(&app, Service::Auth, "stale_profiles", 2).await;
    assert_eq!(count(&app, Service::Auth, "accounts").await, 3);

    // Postponed until then, or claimed by the previous check.
    app.clock.pass(60_000);
    until_count(&app, Service::Auth, "stale_profiles", 0).await;
    assert_eq!(count(&app, Service::Auth, "accounts").await, 1);
    assert_eq!(count(&app, Service::Users, "profiles").await, 1, "no profile without an account");
    let token = app.service_token(Service::Users).await;
    assert_eq!(put(&app, &token, &id, 1, "late").await.status, 409, "and none comes late");
    app.until_synchronised().await;
    assert_eq!(app.register("ada@example.com").await.status, 201, "the address is free");
    app.until_synchronised().await;
    users.stop().await;
}

#[tokio::test]
async fn a_registration_that_is_taken_over_late_is_not_undone() {
    let mut app = App::start().await;
    app.restart(AUTH_ONLY).await;
    assert_eq!(app.register("ada@example.com").await.status, 503);
    app.clock.pass(limits::PENDING_MS - 1000);
    assert_eq!(app.register("ada@example.com").await.status, 503);
    let users = app.start_additional(USERS_ONLY).await;
    let witness = app.person("witness@example.com").await;
    app.clock.pass(60_000);
    first_half(&app, Method::PATCH, &witness.id, Some(json!({ "first_name": "W." }))).await;
    app.clock.pass(limits::PROFILE_SYNC_GRACE_MS);
    until_count(&app, Service::Auth, "stale_profiles", 1).await;
    assert_eq!(count(&app, Service::Auth, "accounts").await, 2, "it began anew, with time of its own");
    app.person("ada@example.com").await;
    app.until_synchronised().await;
    users.stop().await;
}

#[tokio::test]
async fn taking_over_an_administrators_registration_grants_no_role() {
    let mut app = App::start().await;
    let root = app.admin("root@example.com").await;
    app.restart(AUTH_ONLY).await;
    let token = app.service_token(Service::Auth).await;
    let url = app.url(Service::Auth, "/api/v1/internal/accounts");
    let body = json!({
        "email": "eve@example.com", "password": PASSWORD, "first_name": "", "last_name": "", "roles": ["admin"],
    });
    let request = app.internal(Service::Auth, Method::POST, &url, &token).json(&body);
    let request = request.header("x-acting-user", &root.id).header("x-acting-session", &root.session);
    assert_eq!(app.send_raw(request).await.status, 503, "begun, and no more");
    let users = app.start_additional(USERS_ONLY).await;
    let eve = app.person("eve@example.com").await;
    assert_eq!(eve.roles, ["user"]);
    assert_eq!(profile(&app, &eve).await.json()["data"]["roles"], json!(["user"]));
    app.until_synchronised().await;
    users.stop().await;
}

/// A write of a profile as the auth service sends it.
async fn put(app: &App, token: &str, id: &str, version: i64, name: &str) -> Reply {
    let body = json!({
        "id": id, "email": "ada@example.com", "first_name": name, "last_name": "", "roles": ["user"],
        "created_at": 1, "updated_at": 1, "version": version,
    });
    let url = app.url(Service::Users, "/api/v1/internal/users");
    app.send_raw(app.internal(Service::Users, Method::POST, &url, token).json(&body)).await
}

#[tokio::test]
async fn changes_of_fields_are_applied_in_the_order_of_their_versions_and_none_is_lost() {
    let app = App::start().await;
    let token = app.service_token(Service::Users).await;
    let id = "01890000-0000-7000-8000-000000000001";
    assert_eq!(put(&app, &token, id, 1, "one").await.status, 201);
    let url = app.url(Service::Users, &format!("/api/v1/internal/users/{id}"));
    let patch = async |version: i64, field: &str| {
        let part = json!({ "version": version, "updated_at": 2, field: field });
        app.send_raw(app.internal(Service::Users, Method::PATCH, &url, &token).json(&part)).await
    };
    let early = patch(3, "last_name").await;
    assert_eq!((early.status, early.code().as_str()), (409, "profile_outdated"));
    // Concurrent changes, each of which is sent until its turn has come.
    let send = async |version: i64, field: &'static str| while patch(version, field).await.status == 409 {};
    tokio::join!(send(4, "email"), send(3, "last_name"), send(2, "first_name"));
    let stored = app.send_raw(app.internal(Service::Users, Method::GET, &url, &token)).await.json()["data"].clone();
    for (field, expected) in [
        ("first_name", json!("first_name")),
        ("last_name", json!("last_name")),
        ("email", json!("email")),
        ("version", json!(4)),
    ] {
        assert_eq!(stored[field], expected, "{stored}");
    }
}

#[tokio::test]
async fn an_older_write_neither_replaces_a_newer_one_nor_restores_a_deleted_profile() {
    let app = App::start().await;
    let token = app.service_token(Service::Users).await;
    let id = "01890000-0000-7000-8000-000000000001";
    for (version, name, status, kept) in [
        (2, "two", 201, "two"),
        (1, "one", 200, "two"),
        (2, "two again", 201, "two again"),
        (5, "five", 201, "five"),
        (4, "four", 200, "five"),
    ] {
        let reply = put(&app, &token, id, version, name).await;
        assert_eq!((reply.status, &reply.json()["data"]["first_name"]), (status, &json!(kept)), "{version}");
    }
    let url = app.url(Service::Users, &format!("/api/v1/internal/users/{id}"));
    let part = json!({ "version": 4, "updated_at": 2, "first_name": "four" });
    let reply = app.send_raw(app.internal(Service::Users, Method::PATCH, &url, &token).json(&part)).await;
    assert_eq!((reply.status, &reply.json()["data"]["first_name"]), (200, &json!("five")));
    let part = json!({ "version": 6, "updated_at": 2, "first_name": "six" });
    let reply = app.send_raw(app.internal(Service::Users, Method::PATCH, &url, &token).json(&part)).await;
    let data = reply.json()["data"].clone();
    assert_eq!((reply.status, &data["first_name"], &data["version"]), (201, &json!("six"), &json!(6)));

    let ask = |method: Method| app.send_raw(app.internal(Service::Users, method, &url, &token));
    assert_eq!(ask(Method::DELETE).await.status, 204);
    assert_eq!(ask(Method::DELETE).await.status, 404);
    for version in [1, 6, 7, i64::MAX] {
        let reply = put(&app, &token, id, version, "back").await;
        assert_eq!((reply.status, reply.code().as_str()), (409, "profile_deleted"), "{version}");
    }
    assert_eq!(ask(Method::GET).await.status, 404);
    // Deletions are remembered for a day.
    app.clock.pass(limits::DELETED_PROFILE_MS + 1);
    let token = app.service_token(Service::Users).await;
    let other = app.url(Service::Users, "/api/v1/internal/users/01890000-0000-7000-8000-000000000002");
    assert_eq!(app.send_raw(app.internal(Service::Users, Method::DELETE, &other, &token)).await.status, 404);
    assert_eq!(count(&app, Service::Users, "deleted_profiles").await, 1);
}

/// A user service that answers when a test lets it.
#[derive(Clone)]
struct Slow {
    told: Arc<Mutex<Vec<(String, i64)>>>,
    turns: Arc<Semaphore>,
    status: Arc<Mutex<StatusCode>>,
}

impl Slow {
    /// Starts it in place of the user service.
    async fn start(app: &App) -> Self {
        let slow = Self {
            told: Arc::default(),
            turns: Arc::new(Semaphore::new(0)),
            status: Arc::new(Mutex::new(StatusCode::CREATED)),
        };
        let addr = app.url(Service::Users, "").trim_start_matches("http://").to_owned();
        let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
        let routes = Router::new()
            .route("/api/v1/internal/users", post(Self::put))
            .route("/api/v1/internal/users/{id}", delete(Self::delete))
            .with_state(slow.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        slow
    }

    async fn put(State(slow): State<Self>, Json(profile): Json<Value>) -> StatusCode {
        let version = profile["version"].as_i64().unwrap();
        slow.told.lock().unwrap().push((profile["id"].as_str().unwrap().to_owned(), version));
        slow.turns.acquire().await.unwrap().forget();
        *slow.status.lock().unwrap()
    }

    async fn delete(State(slow): State<Self>, Path(id): Path<String>) -> StatusCode {
        slow.told.lock().unwrap().push((id, 0));
        slow.turns.acquire().await.unwrap().forget();
        StatusCode::NO_CONTENT
    }

    async fn until_told(&self, what: &(String, i64)) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !self.told.lock().unwrap().contains(what) {
            assert!(std::time::Instant::now() < deadline, "never told {what:?}: {:?}", self.told.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Starts a delivery of the second version of a profile, which lasts until the test allows its answer.
async fn during_a_delivery() -> (App, Person, Slow) {
    let mut app = App::start().await;
    let ada = app.person("ada@example.com").await;
    app.restart(AUTH_ONLY).await;
    let slow = Slow::start(&app).await;
    first_half(&app, Method::PATCH, &ada.id, Some(json!({ "first_name": "second" }))).await;
    app.clock.pass(limits::PROFILE_SYNC_GRACE_MS);
    slow.until_told(&(ada.id.clone(), 2)).await;
    (app, ada, slow)
}

#[tokio::test]
async fn a_change_during_a_delivery_is_delivered_as_well() {
    let (app, ada, slow) = during_a_delivery().await;
    // Meanwhile another process delivers the same change, and a further change adds a new entry.
    app.databases.run(Service::Auth, "DELETE FROM stale_profiles").await;
    first_half(&app, Method::PATCH, &ada.id, Some(json!({ "first_name": "third" }))).await;
    slow.turns.add_permits(100);
    app.clock.pass(limits::PROFILE_SYNC_GRACE_MS + limits::PROFILE_SYNC_LEASE_MS);
    slow.until_told(&(ada.id.clone(), 3)).await;
    until_count(&app, Service::Auth, "stale_profiles", 0).await;
}

#[tokio::test]
async fn a_deletion_during_a_delivery_is_delivered_after_it() {
    let (app, ada, slow) = during_a_delivery().await;
    assert_eq!(first_half(&app, Method::DELETE, &ada.id, None).await.status, 204);
    slow.turns.add_permits(100);
    app.clock.pass(limits::PROFILE_SYNC_GRACE_MS + limits::PROFILE_SYNC_LEASE_MS);
    slow.until_told(&(ada.id.clone(), 0)).await;
    until_count(&app, Service::Auth, "stale_profiles", 0).await;
}

#[tokio::test]
async fn a_rejected_profile_does_not_block_others_and_is_retried() {
    let mut app = App::start().await;
    let (ada, grace) = (app.person("ada@example.com").await, app.person("grace@example.com").await);
    app.restart(AUTH_ONLY).await;
    let slow = Slow::start(&app).await;
    slow.turns.add_permits(100);
    *slow.status.lock().unwrap() = StatusCode::BAD_REQUEST;
    for person in [&ada, &grace] {
        first_half(&app, Method::PATCH, &person.id, Some(json!({ "first_name": "second" }))).await;
    }
    app.clock.pass(limits::PROFILE_SYNC_GRACE_MS);
    for person in [&ada, &grace] {
        slow.until_told(&(person.id.clone(), 2)).await;
    }
    assert_eq!(count(&app, Service::Auth, "stale_profiles").await, 2);
    *slow.status.lock().unwrap() = StatusCode::CREATED;
    // Within a moment, a rejected profile is not tried a third time.
    app.clock.pass(limits::PROFILE_SYNC_REFUSED_MS);
    until_count(&app, Service::Auth, "stale_profiles", 0).await;
}

#[tokio::test]
async fn with_two_auth_services_concurrent_changes_end_in_one_state() {
    let app = App::start().await;
    let mut people = Vec::new();
    for number in 0..4 {
        people.push(app.person(&format!("user{number}@example.com")).await);
    }
    let second = app.start_second_auth().await;
    let token = app.service_token(Service::Auth).await;
    let urls = [app.url(Service::Auth, ""), format!("http://{}", second.auth.unwrap())];
    let change = |round: usize, number: usize| {
        let (app, token, urls, person) = (&app, &token, &urls, &people[number]);
        async move {
            let name = json!({ "first_name": format!("round {round}"), "last_name": format!("{number}") });
            // Half of the changes have a caller that continues, half one that died.
            if (round + number).is_multiple_of(2) {
                let path = format!("/api/v1/users/{}", person.id);
                let reply = app.send(Service::Users, Method::PATCH, &path, Some(person), Some(name)).await;
                assert!([200, 404].contains(&reply.status), "{}", reply.text);
            } else {
                let url = format!("{}/api/v1/internal/accounts/{}", urls[round % 2], person.id);
                let reply = first_half_at(app, token, &url, Method::PATCH, Some(name)).await;
                assert!([200, 404].contains(&reply.status), "{}", reply.text);
            }
            // In between, one account is deleted while others change it.
            if number == 3 && round == 4 {
                let url = format!("{}/api/v1/internal/accounts/{}", urls[1], person.id);
                assert_eq!(first_half_at(app, token, &url, Method::DELETE, None).await.status, 204);
            }
            // All entries become due at once, so that deliveries and changes overlap.
            app.clock.pass(limits::PROFILE_SYNC_GRACE_MS);
        }
    };
    for round in 0..8 {
        tokio::join!(change(round, 0), change(round, 1), change(round, 2), change(round, 3));
    }
    app.until_synchronised().await;
    assert_eq!(count(&app, Service::Users, "profiles").await, 3);
    // One process dies with entries that the other one processes.
    let token = app.service_token(Service::Auth).await;
    let url = format!("{}/api/v1/internal/accounts/{}", urls[1], people[0].id);
    let reply = first_half_at(&app, &token, &url, Method::PATCH, Some(json!({ "first_name": "last" }))).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    second.stop().await;
    app.until_synchronised().await;
}
