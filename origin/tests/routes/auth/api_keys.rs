//! `/api/v1/auth/api-keys`.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{AdminClient, App, PushReceiver, Service};

pub(crate) const KEYS: &str = "/api/v1/auth/api-keys";

fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

pub(crate) fn fields(owner: &str) -> Value {
    json!({ "name": "Nightly report", "owner": owner, "scopes": ["invoices:read", "invoices:list"] })
}

/// Creates a key. Returns its id and its text.
pub(crate) async fn make(admin: &AdminClient<'_>, owner: &str) -> (String, String) {
    let reply = admin.post(KEYS, fields(owner)).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let body = reply.json();
    (body["api_key"]["id"].as_str().unwrap().to_owned(), body["key"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_key_is_shown_once_pushed_by_its_digest_and_ended() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let admin = AdminClient::admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let reply = admin.post(KEYS, fields(&ada.id)).await;
    assert_eq!((reply.status, reply.headers["cache-control"].to_str().unwrap()), (201, "no-store"), "{}", reply.text);
    let mut created = reply.json();
    let text = created["key"].as_str().unwrap().to_owned();
    let (secret, sum) = text.split_at_checked(44).unwrap();
    assert!(secret.strip_prefix("pck_").unwrap().bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "{text}");
    let expected: String =
        digest(&SHA256, secret.as_bytes()).as_ref()[..4].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(sum, expected);
    let key = created["api_key"].take();
    assert_eq!((&key["name"], &key["owner"]), (&json!("Nightly report"), &json!(ada.id)));
    assert_eq!(key["scopes"], json!(["invoices:list", "invoices:read"]));
    let id = key["id"].as_str().unwrap();
    let one = format!("{KEYS}/{id}");
    assert_eq!(admin.get(&one).await, json!({ "api_key": key }));
    assert_eq!(admin.get(KEYS).await, json!({ "api_keys": [key], "next": null }));
    assert!(!app.databases.dump().await.contains(&text), "the database has the digest alone");

    gateway.until_key_states(1).await;
    let push = gateway.key_pushes.lock().unwrap()[0].clone();
    let iat = push["keys"][0]["iat"].as_i64().unwrap();
    let pushed = json!({
        "digest": hash(&text), "id": id, "owner": ada.id, "scope": "invoices:list invoices:read",
        "iat": iat, "exp": iat + 90 * 24 * 60 * 60,
    });
    assert_eq!(push, json!({ "issuer": "api-keys", "keys": [pushed], "ended": [] }));
    assert!((app.clock.now() / 1000 - iat).abs() < 60);
    let token = gateway.tokens.lock().unwrap().last().unwrap().clone();
    assert_eq!(crate::support::claims(&token)["aud"], "portcullis");

    assert_eq!(admin.delete(&one).await.status, 204);
    gateway.until_key_states(2).await;
    let push = gateway.key_pushes.lock().unwrap()[1].clone();
    assert_eq!(push, json!({ "issuer": "api-keys", "keys": [], "ended": [{ "digest": hash(&text), "id": id }] }));
    assert_eq!(admin.delete(&one).await.status, 404);
    assert_eq!(admin.ask(Method::GET, &one, None).await.status, 404);
    let events = admin.get(&format!("/api/v1/auth/audit?entity_id={id}")).await;
    let events: Vec<_> = events["events"].as_array().unwrap().iter().map(|event| &event["event_type"]).collect();
    assert_eq!(events, ["api_key.end", "api_key.end", "api_key.create"]);
    assert!(!app.databases.dump().await.contains(&text));
}

#[tokio::test]
async fn only_administrators_manage_keys() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let (id, _) = make(&admin, &ada.id).await;
    let one = format!("{KEYS}/{id}");
    for (method, path, body) in [
        (Method::GET, KEYS, None),
        (Method::POST, KEYS, Some(fields(&ada.id))),
        (Method::GET, one.as_str(), None),
        (Method::DELETE, one.as_str(), None),
    ] {
        let reply = app.send(Service::Auth, method.clone(), path, Some(&ada), body.clone()).await;
        assert_eq!((reply.status, reply.code().as_str()), (403, "rights_missing"), "{method} {path}");
        assert_eq!(app.send(Service::Auth, method, path, None, body).await.status, 401);
    }
    assert_eq!(admin.get(KEYS).await["api_keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_has_a_name_an_account_scopes_and_an_end() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let owner = admin.who.id.clone();
    let with = |name: &str, value: Value| {
        let mut body = fields(&owner);
        body[name] = value;
        body
    };
    let many = |count: usize| json!((0..count).map(|number| format!("s{number}")).collect::<Vec<_>>());
    for (body, field) in [
        (with("name", Value::Null), "name"),
        (with("name", json!(" ")), "name"),
        (with("name", json!("a\nb")), "name"),
        (with("name", json!("x".repeat(101))), "name"),
        (with("owner", Value::Null), "owner"),
        (with("owner", json!("ada")), "owner"),
        (with("owner", json!(uuid::Uuid::nil())), "owner"),
        (with("scopes", Value::Null), "scopes"),
        (with("scopes", json!([])), "scopes"),
        (with("scopes", many(33)), "scopes"),
        (with("scopes", json!(["a b"])), "scopes"),
        (with("scopes", json!([""])), "scopes"),
        (with("scopes", json!(["a\"b"])), "scopes"),
        (with("scopes", json!(["x".repeat(65)])), "scopes"),
        (with("expires_in_days", json!(0)), "expires_in_days"),
        (with("expires_in_days", json!(367)), "expires_in_days"),
        (with("expires_in_days", json!(i64::MAX)), "expires_in_days"),
    ] {
        let reply = admin.post(KEYS, body.clone()).await;
        assert_eq!((reply.status, &reply.json()["errors"][0]["field"]), (422, &json!(field)), "{body}");
    }
    for body in [json!([]), with("scopes", json!("a")), with("expires_in_days", json!(1.5))] {
        assert_eq!(admin.post(KEYS, body.clone()).await.code(), "json_shape", "{body}");
    }
    for body in [
        with("name", json!("x".repeat(100))),
        with("scopes", many(32)),
        with("scopes", json!(["a", "a", "x".repeat(64)])),
        with("expires_in_days", json!(1)),
        with("expires_in_days", json!(366)),
    ] {
        assert_eq!(admin.post(KEYS, body.clone()).await.status, 201, "{body}");
    }
}

#[tokio::test]
async fn an_account_has_a_hundred_live_keys_and_expired_ones_do_not_count() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let short = json!({ "name": "x", "owner": ada.id, "scopes": ["a"], "expires_in_days": 1 });
    for _ in 0..limits::API_KEYS {
        assert_eq!(admin.post(KEYS, short.clone()).await.status, 201);
    }
    let reply = admin.post(KEYS, short.clone()).await;
    assert_eq!((reply.status, reply.code().as_str()), (409, "too_many"));
    let (other, _) = make(&admin, &admin.who.id).await;
    // Pages, the newest first.
    let (mut path, mut seen) = (format!("{KEYS}?limit=40&owner={}", ada.id), Vec::new());
    let mut pages = 0;
    loop {
        let page = admin.get(&path).await;
        seen.extend(page["api_keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{KEYS}?limit=40&owner={}&cursor={next}", ada.id);
    }
    assert_eq!((pages, seen.len(), seen.contains(&other)), (3, 100, false));
    assert!(seen.is_sorted_by(|one, next| one > next));
    for query in ["limit=0", "limit=101", "limit=x", "owner=ada", "limit=1&limit=2", "cursor=x", "cursor="] {
        let reply = admin.ask(Method::GET, &format!("{KEYS}?{query}"), None).await;
        assert_eq!(reply.status, 400, "{query}");
    }
    app.clock.pass(24 * 60 * 60 * 1000);
    let admin = AdminClient { app: &app, who: app.log_in("root@example.com").await };
    assert_eq!(admin.get(KEYS).await["api_keys"].as_array().unwrap().len(), 1);
    assert_eq!(admin.ask(Method::GET, &format!("{KEYS}/{}", seen[0]), None).await.status, 404);
    assert_eq!(admin.post(KEYS, short).await.status, 201);
}
