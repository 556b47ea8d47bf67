//! `If-Match` and `If-None-Match` on `/api/v1/users/{id}`.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{App, Person, Reply, Service};

async fn ask(app: &App, method: Method, who: &Person, headers: &[(&str, &str)], body: Option<&str>) -> Reply {
    let target = format!("/api/v1/users/{}", who.id);
    let mut request = app
        .http
        .request(method.clone(), app.url(Service::Users, &target))
        .header("x-gateway-assertion", app.assertion(Service::Users, &method, &target, Some(who)));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        request = request.body(body.to_owned());
    }
    app.send_raw(request).await
}

fn etag(reply: &Reply) -> &str {
    reply.headers["etag"].to_str().unwrap()
}

#[tokio::test]
async fn the_etag_is_the_version_and_grows_only_with_changes() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let first = ask(&app, Method::GET, &ada, &[], None).await;
    assert_eq!(etag(&first), "\"1\"");
    for (method, body, expected) in [
        (Method::PATCH, r#"{}"#, "\"1\""),
        (Method::PATCH, r#"{"first_name":"Ada"}"#, "\"1\""),
        (Method::PATCH, r#"{"first_name":" Ada "}"#, "\"1\""),
        (Method::PATCH, r#"{"email":"ADA@example.com"}"#, "\"1\""),
        (Method::PATCH, r#"{"id":"x","roles":["admin"],"created_at":7,"version":9,"state":"gone"}"#, "\"1\""),
        (Method::PUT, r#"{"email":"ada@example.com","first_name":"Ada"}"#, "\"1\""),
        (Method::PATCH, r#"{"last_name":"Lovelace"}"#, "\"2\""),
        (Method::PATCH, r#"{"last_name":"Lovelace"}"#, "\"2\""),
        (Method::PUT, r#"{"email":"ada@example.com","first_name":"Ada"}"#, "\"3\""),
        (Method::PATCH, r#"{"email":"countess@example.com","first_name":null}"#, "\"4\""),
    ] {
        let before = ask(&app, Method::GET, &ada, &[], None).await;
        app.clock.pass(1000);
        let reply = ask(&app, method.clone(), &ada, &[], Some(body)).await;
        assert_eq!((reply.status, etag(&reply)), (200, expected), "{method} {body}");
        let after = ask(&app, Method::GET, &ada, &[], None).await;
        assert_eq!((etag(&after), after.json()), (expected, reply.json()), "{method} {body}");
        let at = |reply: &Reply| reply.json()["data"]["updated_at"].clone();
        assert_eq!(at(&before) != at(&after), etag(&before) != etag(&after), "{method} {body}");
    }
    app.until_synchronised().await;
}

#[tokio::test]
async fn a_change_with_if_match_requires_the_current_version() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let patch = r#"{"last_name":"Lovelace"}"#;
    let put = r#"{"email":"ada@example.com"}"#;
    for tag in ["\"2\"", "\"0\"", "\"01\"", "\"-1\"", "\"\"", "\"x\"", "W/\"1\"", "\"2\", \"3\"", "\"1,2\""] {
        for (method, body) in [(Method::PATCH, Some(patch)), (Method::PUT, Some(put)), (Method::DELETE, None)] {
            let reply = ask(&app, method.clone(), &ada, &[("if-match", tag)], body).await;
            assert_eq!((reply.status, reply.code().as_str()), (412, "version_mismatch"), "{method} {tag}");
            assert_eq!(reply.json()["type"], "conflict");
        }
    }
    for tag in ["1", "\"1", "", "*, \"1\"", "\"1\" \"2\"", "\"\u{e9}\""] {
        let reply = ask(&app, Method::PATCH, &ada, &[("if-match", tag)], Some(patch)).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "precondition_invalid"), "{tag}");
    }
    let unchanged = ask(&app, Method::GET, &ada, &[], None).await;
    assert_eq!((etag(&unchanged), &unchanged.json()["data"]["last_name"]), ("\"1\"", &json!("")));
    for (tag, name, expected) in [
        ("\"1\"", "a", "\"2\""),
        ("*", "b", "\"3\""),
        (" \"7\" , W/\"3\",\"3\"", "c", "\"4\""),
        ("\"4\"", "c", "\"4\""),
    ] {
        let body = json!({ "last_name": name }).to_string();
        let reply = ask(&app, Method::PATCH, &ada, &[("if-match", tag)], Some(&body)).await;
        assert_eq!((reply.status, etag(&reply)), (200, expected), "{tag}: {}", reply.text);
    }
    // Two header lines are one list.
    let two = [("if-match", "\"9\""), ("if-match", "\"4\"")];
    assert_eq!(ask(&app, Method::PUT, &ada, &two, Some(put)).await.status, 200);
    assert_eq!(ask(&app, Method::DELETE, &ada, &[("if-match", "\"5\"")], None).await.status, 204);
    // A missing user is 404 with any condition.
    for tag in ["*", "\"5\"", "\"6\""] {
        assert_eq!(ask(&app, Method::DELETE, &ada, &[("if-match", tag)], None).await.status, 404, "{tag}");
        assert_eq!(ask(&app, Method::PATCH, &ada, &[("if-match", tag)], Some(patch)).await.status, 404, "{tag}");
    }
    app.until_synchronised().await;
}

#[tokio::test]
async fn the_version_of_the_account_decides_not_that_of_the_profile() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let token = app.service_token(Service::Auth).await;
    let url = app.url(Service::Auth, &format!("/api/v1/internal/accounts/{}", ada.id));
    let half = app.internal(Service::Auth, Method::PATCH, &url, &token).json(&json!({ "first_name": "A." }));
    assert_eq!(app.send_raw(half).await.status, 200);
    let stale = ask(&app, Method::GET, &ada, &[], None).await;
    assert_eq!(etag(&stale), "\"1\"");
    let change = Some(r#"{"first_name":"Augusta"}"#);
    assert_eq!(ask(&app, Method::PATCH, &ada, &[("if-match", "\"1\"")], change).await.status, 412);
    assert_eq!(ask(&app, Method::DELETE, &ada, &[("if-match", "\"1\"")], None).await.status, 412);
    app.until_synchronised().await;
    assert_eq!(etag(&ask(&app, Method::GET, &ada, &[], None).await), "\"2\"");
    assert_eq!(ask(&app, Method::PATCH, &ada, &[("if-match", "\"2\"")], change).await.status, 200);
}

#[tokio::test]
async fn a_reader_with_the_current_version_gets_304() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    for (tag, status) in [
        ("\"1\"", 304),
        ("W/\"1\"", 304),
        ("*", 304),
        ("\"0\", \"1\"", 304),
        ("\"2\"", 200),
        ("\"01\"", 200),
        ("1", 200),
        ("\"", 200),
    ] {
        let reply = ask(&app, Method::GET, &ada, &[("if-none-match", tag)], None).await;
        assert_eq!((reply.status, etag(&reply)), (status, "\"1\""), "{tag}");
        assert_eq!(reply.text.is_empty(), status == 304, "{tag}");
    }
    ask(&app, Method::PATCH, &ada, &[], Some(r#"{"last_name":"L."}"#)).await;
    assert_eq!(ask(&app, Method::GET, &ada, &[("if-none-match", "\"1\"")], None).await.status, 200);
    // For the profile of another user, the answer reveals not even that.
    let grace = app.person("grace@example.com").await;
    let other = Person { id: ada.id.clone(), ..grace };
    let target = format!("/api/v1/users/{}", other.id);
    let stranger = app.person("eve@example.com").await;
    let request = app
        .http
        .get(app.url(Service::Users, &target))
        .header("x-gateway-assertion", app.assertion(Service::Users, &Method::GET, &target, Some(&stranger)))
        .header("if-none-match", "*");
    assert_eq!(app.send_raw(request).await.status, 403);
}

#[tokio::test]
async fn only_merge_patches_are_accepted() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    for (content_type, body, status) in [
        ("application/merge-patch+json", r#"{"last_name":"L."}"#, 200),
        ("application/merge-patch+json; charset=utf-8", "{}", 200),
        ("Application/JSON", "{}", 200),
        ("application/json-patch+json", r#"[{"op":"remove","path":"/last_name"}]"#, 415),
        ("application/json-patch+json", "{}", 415),
        ("text/plain", "{}", 415),
        ("application/json", "[]", 400),
        ("application/json", r#"["new@example.com"]"#, 400),
        ("application/json", "null", 400),
        ("application/json", "\"x\"", 400),
        ("application/json", "", 400),
        ("application/json", r#"{"last_name":7}"#, 400),
        ("application/json", r#"{"last_name":{}}"#, 400),
        ("application/json", r#"{"email":null}"#, 422),
    ] {
        let reply = ask(&app, Method::PATCH, &ada, &[("content-type", content_type)], Some(body)).await;
        assert_eq!(reply.status, status, "{content_type} {body}: {}", reply.text);
    }
    assert_eq!(etag(&ask(&app, Method::GET, &ada, &[], None).await), "\"2\"", "one of them changed something");
}

#[tokio::test]
async fn concurrent_patches_of_different_fields_are_all_applied() {
    const CHANGES: i64 = 20;
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let mut tasks = tokio::task::JoinSet::new();
    let app = std::sync::Arc::new(app);
    // One after another they must end within the user service's time-out of a call, also on a slow machine.
    for number in 0..CHANGES {
        let (app, ada) = (std::sync::Arc::clone(&app), ada.clone());
        tasks.spawn(async move {
            let field = if number % 2 == 0 { "first_name" } else { "last_name" };
            let body = json!({ field: format!("{number}") }).to_string();
            let reply = ask(&app, Method::PATCH, &ada, &[], Some(&body)).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
            let data = reply.json()["data"].clone();
            assert_eq!(data[field], format!("{number}"), "what was asked for");
            (etag(&reply).trim_matches('"').parse::<i64>().unwrap(), field, data)
        });
    }
    let mut states: Vec<(i64, &str, Value)> = tasks.join_all().await;
    states.sort_by_key(|(version, ..)| *version);
    let versions: BTreeSet<i64> = states.iter().map(|(version, ..)| *version).collect();
    assert_eq!(versions, (2..=CHANGES + 1).collect(), "each change has a version of its own");
    // Each version has one more field than the one before.
    for pair in states.windows(2) {
        let ((_, _, before), (version, field, after)) = (&pair[0], &pair[1]);
        let other = if *field == "first_name" { "last_name" } else { "first_name" };
        assert_eq!(before[other], after[other], "{version} undid another's change");
    }
    let last = ask(&app, Method::GET, &ada, &[], None).await;
    assert_eq!(last.json()["data"], states.last().unwrap().2);
    app.until_synchronised().await;
}

#[tokio::test]
async fn of_concurrent_changes_to_one_version_one_succeeds() {
    let app = std::sync::Arc::new(App::start().await);
    let ada = app.person("ada@example.com").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..10 {
        let (app, ada) = (std::sync::Arc::clone(&app), ada.clone());
        tasks.spawn(async move {
            let body = json!({ "first_name": format!("{number}") }).to_string();
            ask(&app, Method::PATCH, &ada, &[("if-match", "\"1\"")], Some(&body)).await.status
        });
    }
    let mut statuses = tasks.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200], vec![412; 9]].concat());
}
