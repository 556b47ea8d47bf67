//! API keys that are pushed to the gateway, whatever fails in between.

use std::time::Duration;

use axum::http::StatusCode;
use portcullis_origin::{
    limits,
    store::{
        ApiKeys, Database, Schema,
        api_keys::{KeyState, PendingPush},
    },
};
use reqwest::Method;
use serde_json::Value;

use crate::{
    routes::auth::api_keys::{KEYS, fields, make},
    support::{AUTH_ONLY, AdminClient, App, BOTH, PushReceiver, Service, run},
};

async fn store(app: &App) -> ApiKeys {
    ApiKeys(Database::open(&app.databases.url(Service::Auth), Schema::Auth).await.unwrap())
}

async fn end(admin: &AdminClient<'_>, id: &str) {
    assert_eq!(admin.delete(&format!("{KEYS}/{id}")).await.status, 204);
}

fn ended(id: &str) -> (&'static str, String) {
    ("ended", id.to_owned())
}

fn live(id: &str) -> (&'static str, String) {
    ("keys", id.to_owned())
}

#[tokio::test]
async fn changes_during_an_outage_and_a_restart_reach_the_gateway_as_they_are_then() {
    let gateway = PushReceiver::start().await;
    let mut app = App::start_behind(&gateway.url).await;
    gateway.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    let admin = AdminClient::admin(&app).await;
    let (kept, _) = make(&admin, &admin.who.id).await;
    let (gone, _) = make(&admin, &admin.who.id).await;
    let asked = *gateway.asked.lock().unwrap();
    gateway.until(|| *gateway.asked.lock().unwrap() > asked).await;
    end(&admin, &gone).await;
    app.restart(BOTH).await;
    gateway.refuse(None);
    let mut states = gateway.until_key_states(2).await;
    states.sort();
    assert_eq!(states, [ended(&gone), live(&kept)], "a key that has ended is never pushed as live");
}

#[tokio::test]
async fn an_end_is_pushed_again_after_every_push_that_it_may_have_overtaken() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let admin = AdminClient::admin(&app).await;
    let (id, _) = make(&admin, &admin.who.id).await;
    gateway.until_key_states(1).await;
    end(&admin, &id).await;
    gateway.until_key_states(2).await;
    let store = store(&app).await;
    until_empty(&store, app.clock.now()).await;
    app.clock.pass(limits::API_KEY_END_REPEAT_MS);
    assert_eq!(gateway.until_key_states(3).await, [live(&id), ended(&id), ended(&id)]);
    let due_later = app.clock.now() + 2 * limits::API_KEY_END_REPEAT_MS;
    until_empty(&store, due_later).await;
    app.clock.pass(2 * limits::API_KEY_END_REPEAT_MS);
    let (next, _) = make(&admin, &admin.who.id).await;
    assert_eq!(gateway.until_key_states(4).await[3..], [live(&next)], "and then no more");
}

/// Returns up to a hundred pushes of each state that are due.
async fn due(store: &ApiKeys, now: i64) -> Vec<PendingPush> {
    let mut due = store.due(KeyState::Ended, 100, now).await.unwrap();
    due.extend(store.due(KeyState::Live, 100, now).await.unwrap());
    due
}

async fn until_due(store: &ApiKeys, now: i64, count: usize) {
    for _ in 0..1000 {
        if due(store, now).await.len() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not {count}: {:?}", due(store, now).await);
}

async fn until_empty(store: &ApiKeys, now: i64) {
    until_due(store, now, 0).await;
}

async fn make_some(admin: &AdminClient<'_>, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(make(admin, &admin.who.id).await.0);
    }
    ids
}

#[tokio::test]
async fn an_end_reaches_a_gateway_that_takes_no_live_keys() {
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST] {
        let gateway = PushReceiver::start().await;
        let app = App::start_behind(&gateway.url).await;
        let admin = AdminClient::admin(&app).await;
        let (gone, _) = make(&admin, &admin.who.id).await;
        gateway.until_key_states(1).await;
        *gateway.refuses_live.lock().unwrap() = Some(status);
        let mut ids = make_some(&admin, 25).await;
        let waiting = ids.pop().unwrap();
        end(&admin, &gone).await;
        end(&admin, &waiting).await;
        let states = gateway.until_key_states(3).await;
        assert!(states.contains(&ended(&gone)) && states.contains(&ended(&waiting)), "{status}: {states:?}");
        *gateway.refuses_live.lock().unwrap() = None;
        app.clock.pass(limits::API_KEY_REFUSED_MS);
        gateway.until(|| ids.iter().all(|id| gateway.key_states().contains(&live(id)))).await;
        assert!(!gateway.key_states().contains(&live(&waiting)), "{status}");
        let pushes = gateway.key_pushes.lock().unwrap();
        let is_empty = |push: &Value, name: &str| push[name].as_array().unwrap().is_empty();
        assert!(pushes.iter().all(|push| is_empty(push, "keys") != is_empty(push, "ended")), "{status}");
    }
}

#[tokio::test]
async fn a_push_that_is_too_much_for_the_gateway_is_divided() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let admin = AdminClient::admin(&app).await;
    *gateway.key_capacity.lock().unwrap() = Some(3);
    let store = store(&app).await;
    let ids = make_some(&admin, 20).await;
    gateway.until_key_states(20).await;
    until_empty(&store, app.clock.now()).await;
    // All together.
    gateway.key_pushes.lock().unwrap().clear();
    assert_eq!(store.schedule_all(&app.clock).await.unwrap(), 20);
    let states = gateway.until_key_states(20).await;
    assert!(ids.iter().all(|id| states.contains(&live(id))), "{states:?}");
}

#[tokio::test]
async fn a_push_of_keys_may_take_longer_than_one_of_revocations() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let admin = AdminClient::admin(&app).await;
    *gateway.key_delay.lock().unwrap() = limits::PUSH_TIME + Duration::from_secs(1);
    let ids = make_some(&admin, 1).await;
    assert_eq!(gateway.until_key_states(1).await, [live(&ids[0])]);
    until_empty(&store(&app).await, app.clock.now()).await;
    assert_eq!(gateway.key_states().len(), 1, "once");
}

#[tokio::test]
async fn a_key_on_which_the_gateway_fails_does_not_delay_others() {
    for is_ended in [false, true] {
        let gateway = PushReceiver::start().await;
        let app = App::start_behind(&gateway.url).await;
        let admin = AdminClient::admin(&app).await;
        let ids = make_some(&admin, 4).await;
        gateway.until_key_states(4).await;
        gateway.key_pushes.lock().unwrap().clear();
        *gateway.poisoned.lock().unwrap() = Some(StatusCode::INTERNAL_SERVER_ERROR);
        *gateway.poison.lock().unwrap() = Some(ids[0].clone());
        if is_ended {
            end(&admin, &ids[0]).await;
            end(&admin, &ids[1]).await;
        }
        store(&app).await.schedule_all(&app.clock).await.unwrap();
        let states = gateway.until_key_states(3).await;
        assert!(ids[1..].iter().all(|id| states.iter().any(|(_, pushed)| pushed == id)), "{is_ended}: {states:?}");
        *gateway.poison.lock().unwrap() = None;
        let state = if is_ended { ended(&ids[0]) } else { live(&ids[0]) };
        gateway.until(|| gateway.key_states().contains(&state)).await;
    }
}

#[tokio::test]
async fn a_clock_that_was_days_ahead_for_a_moment_delays_no_push() {
    const DAYS_MS: i64 = 5 * 24 * 60 * 60 * 1000;
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let admin = AdminClient::admin(&app).await;
    let ids = make_some(&admin, 2).await;
    gateway.until_key_states(2).await;
    let store = store(&app).await;
    until_empty(&store, app.clock.now()).await;
    gateway.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    app.clock.pass(DAYS_MS);
    assert!(store.end(ids[0].parse().unwrap(), &app.clock).await.unwrap());
    // Long enough for the push to fail alone.
    let asked = *gateway.asked.lock().unwrap();
    gateway.until(|| *gateway.asked.lock().unwrap() >= asked + 2).await;
    assert!(store.end(ids[1].parse().unwrap(), &app.clock).await.unwrap());
    app.clock.pass(-DAYS_MS);
    gateway.refuse(None);
    let states = gateway.until_key_states(4).await;
    assert!(ids.iter().all(|id| states.contains(&ended(id))), "{states:?}");
    until_empty(&store, app.clock.now()).await;
    // The repetition, too, is due in a minute and not in days.
    app.clock.pass(limits::API_KEY_END_REPEAT_MS);
    gateway.until_key_states(6).await;
}

#[tokio::test]
async fn a_time_of_a_clock_within_the_tolerance_postpones_a_push_and_a_later_one_does_not() {
    for (ahead_ms, is_due) in [(limits::CLOCKS_APART_S * 1000, false), (limits::API_KEY_DUE_AHEAD_MS, true)] {
        let app = App::start().await;
        let admin = AdminClient::admin(&app).await;
        let (id, _) = make(&admin, &admin.who.id).await;
        end(&admin, &id).await;
        let store = store(&app).await;
        let pushes = due(&store, app.clock.now()).await;
        app.clock.stop();
        store.delivered(&pushes, &app.clock.apart(ahead_ms)).await.unwrap();
        assert_eq!(!due(&store, app.clock.now()).await.is_empty(), is_due, "{ahead_ms}");
    }
}

#[tokio::test]
async fn a_gateway_that_takes_no_key_is_an_outage_and_not_the_fault_of_each_key() {
    // Either an unknown issuer, or a gateway that rejects each key.
    for (status, due_after) in [(StatusCode::NOT_FOUND, 12), (StatusCode::BAD_REQUEST, 12 - limits::API_KEY_REJECTIONS)]
    {
        let gateway = PushReceiver::start().await;
        let app = App::start_behind(&gateway.url).await;
        let admin = AdminClient::admin(&app).await;
        let store = store(&app).await;
        gateway.refuse(Some(status));
        let ids = make_some(&admin, 12).await;
        until_due(&store, app.clock.now(), due_after).await;
        let asked = *gateway.asked.lock().unwrap();
        gateway.until(|| *gateway.asked.lock().unwrap() >= asked + 3).await;
        assert_eq!(due(&store, app.clock.now()).await.len(), due_after, "{status}: no other key is postponed");
        gateway.refuse(None);
        app.clock.pass(limits::API_KEY_REFUSED_MS);
        let states = gateway.until_key_states(12).await;
        assert!(ids.iter().all(|id| states.contains(&live(id))), "{status}: {states:?}");
    }
}

#[tokio::test]
async fn a_push_of_all_keys_forgets_how_often_an_end_was_pushed() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    make_some(&admin, 1).await;
    app.databases.run(Service::Auth, "UPDATE api_key_pushes SET ends = 1").await;
    store(&app).await.schedule_all(&app.clock).await.unwrap();
    let pool = app.databases.open(Service::Auth).await;
    let ends: i64 = sqlx::query_scalar("SELECT ends FROM api_key_pushes").fetch_one(&pool).await.unwrap();
    assert_eq!(ends, 0);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_write_the_same_pushes_at_the_same_time_do_not_deadlock() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    make_some(&admin, 40).await;
    let store = store(&app).await;
    for _ in 0..20 {
        store.schedule_all(&app.clock).await.unwrap();
        let pushes = due(&store, app.clock.now()).await;
        let reversed: Vec<PendingPush> = pushes.iter().rev().cloned().collect();
        let (one, other, all) = tokio::join!(
            store.delivered(&pushes, &app.clock),
            store.delivered(&reversed, &app.clock),
            store.schedule_all(&app.clock)
        );
        one.unwrap();
        other.unwrap();
        all.unwrap();
    }
}

#[tokio::test]
async fn a_push_that_another_process_delays_beyond_the_end_is_followed_by_the_end() {
    let gateway = PushReceiver::start().await;
    let mut app = App::start().await;
    let (slow, id) = {
        let admin = AdminClient::admin(&app).await;
        let (id, _) = make(&admin, &admin.who.id).await;
        // A process has read that the key is live, and is slow to push it.
        let slow = due(&store(&app).await, app.clock.now()).await;
        assert!(slow[0].key.is_some());
        end(&admin, &id).await;
        (slow, id)
    };
    let store = store(&app).await;
    for _ in 0..2 {
        let pushes = due(&store, app.clock.now()).await;
        assert_eq!((pushes.len(), pushes[0].key.is_none()), (1, true));
        store.delivered(&pushes, &app.clock).await.unwrap();
        app.clock.pass(limits::API_KEY_END_REPEAT_MS);
    }
    assert!(due(&store, app.clock.now()).await.is_empty(), "the gateway has the end");
    store.delivered(&slow, &app.clock).await.unwrap();
    app.set_edge(&gateway.url);
    app.restart(AUTH_ONLY).await;
    assert_eq!(gateway.until_key_states(1).await, [ended(&id)]);
}

#[tokio::test]
async fn a_key_that_the_gateway_rejects_does_not_delay_others() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let admin = AdminClient::admin(&app).await;
    gateway.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(make(&admin, &admin.who.id).await.0);
    }
    *gateway.poison.lock().unwrap() = Some(ids[2].clone());
    gateway.refuse(None);
    let states = gateway.until_key_states(4).await;
    assert!(!states.contains(&live(&ids[2])), "{states:?}");
    until_empty(&store(&app).await, app.clock.now()).await;
    *gateway.poison.lock().unwrap() = None;
    app.clock.pass(limits::API_KEY_REFUSED_MS);
    assert!(gateway.until_key_states(5).await.contains(&live(&ids[2])));
}

#[tokio::test]
async fn no_push_has_more_than_twenty_keys_and_push_sends_all_live_ones_again() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let admin = AdminClient::admin(&app).await;
    let ada = app.person("ada@example.com").await;
    for owner in [&admin.who.id, &ada.id] {
        for _ in 0..60 {
            make(&admin, owner).await;
        }
    }
    let (gone, _) = make(&admin, &ada.id).await;
    end(&admin, &gone).await;
    gateway.until(|| gateway.key_states().contains(&ended(&gone))).await;
    let store = store(&app).await;
    until_empty(&store, app.clock.now()).await;
    gateway.key_pushes.lock().unwrap().clear();
    let result = run(&app.databases, &["api-key", "push", "--json"], "").await;
    assert_eq!(result.document()["api_keys"], 120);
    let states = gateway.until_key_states(120).await;
    assert!(states.iter().all(|(state, id)| *state == "keys" && *id != gone));
    let pushes = gateway.key_pushes.lock().unwrap().clone();
    assert!(pushes.iter().all(|push| push["keys"].as_array().unwrap().len() <= 20));
}

#[tokio::test]
async fn the_keys_of_a_deleted_account_end_and_nothing_of_them_is_left() {
    let gateway = PushReceiver::start().await;
    let mut app = App::start_behind(&gateway.url).await;
    let ada = app.person("ada@example.com").await;
    let (first, kept) = {
        let admin = AdminClient { app: &app, who: app.admin("root@example.com").await };
        let mut body = fields(&ada.id);
        body["name"] = "Ada's quite unlikely script".into();
        let reply = admin.post(KEYS, body).await.json();
        let first = reply["api_key"]["id"].as_str().unwrap().to_owned();
        let (kept, _) = make(&admin, &admin.who.id).await;
        (first, kept)
    };
    gateway.until_key_states(2).await;
    let target = format!("/api/v1/users/{}", ada.id);
    let deleted = app.send(Service::Users, Method::DELETE, &target, Some(&ada), None).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    assert_eq!(gateway.until_key_states(3).await[2], ended(&first));
    let keys = store(&app).await;
    let left: Vec<_> = keys.list(None, None, 10, app.clock.now()).await.unwrap();
    assert_eq!(left.iter().map(|key| key.id.to_string()).collect::<Vec<_>>(), [kept]);
    keys.0.close().await;
    app.until_synchronised().await;
    app.stop().await;
    assert!(!app.databases.dump().await.contains("quite unlikely"));
}

#[tokio::test]
async fn commands_create_list_and_end_keys_that_a_running_service_pushes() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let ada = app.person("ada@example.com").await;
    let command = |arguments: &'static [&'static str], owner: &str| {
        let arguments: Vec<String> =
            arguments.iter().map(|argument| argument.replace("OWNER", owner)).chain(["--json".to_owned()]).collect();
        let databases = &app.databases;
        async move { run(databases, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), "").await }
    };
    let create: &[&str] =
        &["api-key", "create", "ci", "--owner", "OWNER", "--scope", "deploy", "--api-key-prefix", "acme"];
    let created = command(create, &ada.id).await.document();
    let (id, key) = (created["id"].as_str().unwrap().to_owned(), created["key"].as_str().unwrap());
    assert!(key.starts_with("acme_"), "{key}");
    assert_eq!(gateway.until_key_states(1).await, [live(&id)]);
    let listed = command(&["api-key", "list", "--owner", "OWNER"], &ada.id).await.document();
    assert_eq!((&listed["api_keys"][0]["id"], listed["api_keys"][0].get("key")), (&created["id"], None));
    let none = command(&["api-key", "list", "--owner", "OWNER"], &uuid::Uuid::nil().to_string()).await.document();
    assert_eq!(none["api_keys"], serde_json::json!([]));
    let end: &[&str] = &["api-key", "end", "OWNER"];
    command(end, &id).await.document();
    assert_eq!(gateway.until_key_states(2).await, [live(&id), ended(&id)]);
    for (arguments, owner, code, kind) in [
        (end, id.as_str(), 1, "other"),
        (create, &uuid::Uuid::nil().to_string(), 1, "other"),
        (create, "ada", 2, "setting"),
        (&["api-key", "create", "ci", "--owner", "OWNER", "--scope", "a b"], &ada.id, 2, "setting"),
        (
            &["api-key", "create", "ci", "--owner", "OWNER", "--scope", "a", "--api-key-prefix", "A"],
            &ada.id,
            2,
            "setting",
        ),
        (&["api-key", "end", "OWNER"], "x", 2, "usage"),
    ] {
        let result = command(arguments, owner).await;
        assert_eq!((result.code, result.failure()["kind"].as_str()), (code, Some(kind)), "{result:?}");
    }
    let root = AdminClient::admin(&app).await;
    let events = root.get(&format!("/api/v1/auth/audit?entity_id={id}")).await;
    let events: Vec<_> = events["events"].as_array().unwrap().iter().map(|event| event["event_type"].clone()).collect();
    assert_eq!(events, ["api_key.end", "api_key.create"]);
}

#[tokio::test]
async fn prefix_and_issuer_have_bounds() {
    use portcullis_origin::{boot, clock::Clock};

    use crate::support::{Databases, settings};
    for (prefix, issuer, reason) in [
        ("p", "api-keys", "API_KEY_PREFIX cannot be used"),
        ("P1", "api-keys", "API_KEY_PREFIX cannot be used"),
        ("a_b", "api-keys", "API_KEY_PREFIX cannot be used"),
        ("abcdefghijklmnopq", "api-keys", "API_KEY_PREFIX cannot be used"),
        ("pck", "", "API_KEY_ISSUER cannot be used"),
        ("pck", "api keys", "API_KEY_ISSUER cannot be used"),
        ("pck", "auth-service", "API_KEY_ISSUER and TOKEN_ISSUER are the same"),
    ] {
        let databases = Databases::make().await;
        let mut settings = settings(&databases, 0, 0, [1; 32], "http://127.0.0.1:9");
        (settings.api_key_prefix, settings.api_key_issuer) = (prefix.to_owned(), issuer.to_owned());
        let fault = boot::start(&settings, BOTH, Clock::default()).await.unwrap_err();
        assert!(fault.to_string().contains(reason), "{fault}");
    }
}
