//! API keys that are pushed to the gateway, whatever fails in between.

use axum::http::StatusCode;
use portcullis_origin::{
    limits,
    store::{ApiKeys, Database, Schema},
};
use reqwest::Method;

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

async fn until_empty(store: &ApiKeys, now: i64) {
    for _ in 0..1000 {
        if store.due(10, now).await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("pushes are left: {:?}", store.due(10, now).await.unwrap());
}

#[tokio::test]
async fn a_push_that_another_process_delays_beyond_the_end_is_followed_by_the_end() {
    let gateway = PushReceiver::start().await;
    let mut app = App::start().await;
    let (slow, id) = {
        let admin = AdminClient::admin(&app).await;
        let (id, _) = make(&admin, &admin.who.id).await;
        // A process has read that the key is live, and is slow to push it.
        let slow = store(&app).await.due(10, app.clock.now()).await.unwrap();
        assert!(slow[0].key.is_some());
        end(&admin, &id).await;
        (slow, id)
    };
    let store = store(&app).await;
    for _ in 0..2 {
        let due = store.due(10, app.clock.now()).await.unwrap();
        assert_eq!((due.len(), due[0].key.is_none()), (1, true));
        store.delivered(&due, &app.clock).await.unwrap();
        app.clock.pass(limits::API_KEY_END_REPEAT_MS);
    }
    assert!(store.due(10, app.clock.now()).await.unwrap().is_empty(), "the gateway has the end");
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
async fn no_push_has_more_than_a_hundred_keys_and_push_sends_all_live_ones_again() {
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
    assert!(pushes.iter().all(|push| push["keys"].as_array().unwrap().len() <= 100));
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
