//! `GET /api/v1/auth/audit`, and the events that requests leave.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_origin::{
    clock::{parse_rfc3339, rfc3339},
    limits,
    store::{AuditLog, Database, Schema},
};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::support::{App, PASSWORD, Person, Service, USERS_SECRET, make_admin};

const AUDIT: &str = "/api/v1/auth/audit";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

const SPAN: &str = "00f067aa0ba902b7";

/// An account that is an administrator in the database, logged in.
async fn admin(app: &App) -> Person {
    let person = app.person("root@example.com").await;
    make_admin(app, &person).await
}

/// Returns the answer to a query of the audit log.
async fn ask(app: &App, admin: &Person, query: &str) -> Value {
    let reply = app.get(Service::Auth, &format!("{AUDIT}{query}"), admin).await;
    assert_eq!(reply.status, 200, "{query}: {}", reply.text);
    reply.json()
}

/// Returns the newest event of a query.
async fn newest(app: &App, admin: &Person, query: &str) -> Value {
    ask(app, admin, query).await["events"][0].clone()
}

fn summary(event: &Value) -> (String, String, Value, Value, Value) {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    (text("event_type"), text("result"), event["user_id"].clone(), event["entity_id"].clone(), event["detail"].clone())
}

#[tokio::test]
async fn an_event_contains_caller_operation_origin_and_result() {
    let app = App::start().await;
    let root = admin(&app).await;
    let before = app.clock.now();
    let path = "/api/v1/auth/roles";
    let send = |headers: Vec<(&'static str, String)>| {
        let mut request = app
            .http
            .post(app.url(Service::Auth, path))
            .header("x-gateway-assertion", app.assertion(Service::Auth, &Method::POST, path, Some(&root)))
            .header("content-type", "application/json")
            .body(json!({ "name": "editor", "description": "" }).to_string());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        app.send_raw(request)
    };
    let token = "eyJhbGciOiJSUzI1NiIsImtpZCI6InNvbWVib2R5J3MgdG9rZW4ifQ";
    let reply = send(vec![
        ("traceparent", format!("00-{TRACE}-{SPAN}-01")),
        ("x-forwarded-for", "203.0.113.66, 192.0.2.7".to_owned()),
        ("user-agent", format!("curl/8.1 {token}")),
    ])
    .await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let event = newest(&app, &root, "?event_type=role.create").await;
    let timestamp = event["timestamp"].as_str().unwrap();
    assert!((before..=app.clock.now()).contains(&parse_rfc3339(timestamp).unwrap()), "{timestamp}");
    assert_eq!(
        event,
        json!({
            "event_type": "role.create", "result": "success", "user_id": root.id,
            "entity_id": reply.json()["role"]["id"], "operation": "POST /api/v1/auth/roles",
            "request_id": reply.headers["x-request-id"].to_str().unwrap(),
            "trace_id": TRACE, "span_id": SPAN, "ip_address": "192.0.2.7", "user_agent": "curl/8.1 [long]",
            "detail": null, "timestamp": timestamp,
        })
    );
    let again = send(vec![("traceparent", "00-x-y-01".to_owned()), ("x-forwarded-for", "nowhere".to_owned())]).await;
    assert_eq!(again.status, 409);
    let event = newest(&app, &root, "?event_type=role.create").await;
    assert_eq!((&event["result"], &event["detail"]), (&json!("failure"), &json!("name_taken")));
    for name in ["trace_id", "ip_address", "user_agent", "entity_id"] {
        assert_eq!(event[name], Value::Null, "{name}");
    }
}

#[tokio::test]
async fn each_authentication_is_recorded_for_its_account() {
    let app = App::start().await;
    let root = admin(&app).await;
    let registered = app.register("ada@example.com").await.json()["user"]["id"].clone();
    assert_eq!(
        summary(&newest(&app, &root, "?event_type=auth.register").await),
        ("auth.register".to_owned(), "success".to_owned(), registered.clone(), registered.clone(), Value::Null)
    );
    let wrong = json!({ "email": "ada@example.com", "password": "wrong horse battery" });
    app.post("/api/v1/auth/login", wrong).await;
    let (_, result, user, entity, detail) = summary(&newest(&app, &root, "?event_type=auth.login").await);
    assert_eq!((result.as_str(), user, entity), ("denied", registered.clone(), Value::Null));
    assert_eq!(detail, "invalid_credentials");
    app.login("nobody@example.com").await;
    assert_eq!(newest(&app, &root, "?event_type=auth.login").await["user_id"], Value::Null);
    let ada = app.log_in("ada@example.com").await;
    let (_, result, user, entity, _) = summary(&newest(&app, &root, "?event_type=auth.login").await);
    assert_eq!((result.as_str(), user, entity), ("success", registered.clone(), json!(ada.session)));

    assert_eq!(app.refresh(&ada.refresh).await.status, 200);
    let (_, result, user, entity, _) = summary(&newest(&app, &root, "?event_type=auth.refresh").await);
    assert_eq!((result.as_str(), user, entity), ("success", registered.clone(), json!(ada.session)));
    app.clock.pass(limits::REFRESH_REUSE_S * 1000);
    assert_eq!(app.refresh(&ada.refresh).await.status, 401);
    let (_, result, user, _, detail) = summary(&newest(&app, &root, "?event_type=auth.refresh").await);
    assert_eq!((result.as_str(), user, detail), ("denied", registered.clone(), json!("token_revoked")));
    app.refresh("not one").await;
    let (_, result, user, _, detail) = summary(&newest(&app, &root, "?event_type=auth.refresh").await);
    assert_eq!((result.as_str(), user, detail), ("denied", Value::Null, json!("token_invalid")));

    let ada = app.log_in("ada@example.com").await;
    app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&ada), None).await;
    let (_, result, user, ..) = summary(&newest(&app, &root, "?event_type=auth.logout").await);
    assert_eq!((result.as_str(), user), ("success", registered));
}

#[tokio::test]
async fn changes_of_roles_and_permissions_are_recorded_with_their_ids() {
    let app = App::start().await;
    let root = admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let send = |method: Method, path: String, body: Option<Value>| {
        let (app, root) = (&app, &root);
        async move { app.send(Service::Auth, method, &path, Some(root), body).await }
    };
    let body = Some(json!({ "name": "editor", "description": "" }));
    let role = send(Method::POST, "/api/v1/auth/roles".to_owned(), body).await.json()["role"]["id"].clone();
    let role = role.as_str().unwrap();
    let body = Some(json!({ "role_id": role }));
    assert_eq!(send(Method::POST, format!("/api/v1/auth/users/{}/roles", ada.id), body).await.status, 201);
    let path = format!("/api/v1/auth/users/{}/roles/{role}", ada.id);
    assert_eq!(send(Method::DELETE, path, None).await.status, 204);
    assert_eq!(send(Method::DELETE, format!("/api/v1/auth/roles/{role}"), None).await.status, 204);
    let rotated = send(Method::POST, "/api/v1/auth/keys/rotate".to_owned(), None).await.json()["kid"].clone();
    for (event_type, entity, detail) in [
        ("role.create", json!(role), Value::Null),
        ("user.role.grant", json!(ada.id), json!(role)),
        ("user.role.revoke", json!(role), json!(ada.id)),
        ("role.delete", json!(role), Value::Null),
        ("keys.rotate", rotated, Value::Null),
    ] {
        let event = newest(&app, &root, &format!("?event_type={event_type}")).await;
        assert_eq!(
            summary(&event),
            (event_type.to_owned(), "success".to_owned(), json!(root.id), entity, detail),
            "{event_type}"
        );
    }
    let other = send(Method::DELETE, format!("/api/v1/auth/roles/{}", "x".repeat(60)), None).await;
    assert_eq!(other.status, 404);
    let event = newest(&app, &root, "?event_type=role.delete").await;
    assert_eq!(event["entity_id"], Value::Null, "what is no id may be anything");
    assert!(!event.to_string().contains("xxx"), "{event}");
}

#[tokio::test]
async fn calls_of_services_are_recorded_and_untrusted_text_is_not() {
    let app = App::start().await;
    let root = admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let ask_token = |secret: &'static str| {
        let request = app.http.post(app.url(Service::Auth, "/api/v1/auth/token"));
        let form = "grant_type=client_credentials&audience=auth-service";
        let request = request.basic_auth("user-service", Some(secret)).header("x-forwarded-for", "192.0.2.9");
        app.send_raw(request.header("content-type", "application/x-www-form-urlencoded").body(form))
    };
    assert_eq!(ask_token("wrong").await.code(), "invalid_client");
    // The services request tokens of their own.
    let refused = ask(&app, &root, "?event_type=service.token&result=denied").await;
    assert_eq!(refused["events"], json!([]), "a stranger leaves none");
    let token = ask_token(USERS_SECRET).await.json()["access_token"].as_str().unwrap().to_owned();
    let event = newest(&app, &root, "?event_type=service.token").await;
    assert_eq!(event["result"], "success");
    assert_eq!((&event["ip_address"], &event["user_agent"]), (&Value::Null, &Value::Null), "no gateway states them");

    let path = format!("/api/v1/internal/accounts/{}/revoke", ada.id);
    let request = app.http.post(app.url(Service::Auth, &path));
    assert_eq!(app.send_raw(request.bearer_auth(token).header("x-service-caller", "user-service")).await.status, 204);
    let (_, result, user, entity, detail) = summary(&newest(&app, &root, "?event_type=account.revoke").await);
    assert_eq!((result.as_str(), user, entity, detail), ("success", Value::Null, json!(ada.id), Value::Null));

    // Without the gateway, with all headers of another user.
    for _ in 0..3 {
        let request = app.http.post(app.url(Service::Auth, "/api/v1/auth/keys/rotate"));
        let request = request.header("x-user-id", &root.id).header("x-forwarded-for", "192.0.2.9");
        assert_eq!(app.send_raw(request).await.code(), "gateway_required");
        let request = app.http.delete(app.url(Service::Auth, &format!("/api/v1/internal/accounts/{}", ada.id)));
        assert_eq!(app.send_raw(request).await.status, 401);
    }
    for query in ["?event_type=keys.rotate", "?event_type=account.delete"] {
        let events = ask(&app, &root, query).await;
        assert_eq!(events["events"], json!([]), "nobody who reaches the port can fill the trail: {query}");
    }
    let metrics = app.send_raw(app.http.get(app.url(Service::Auth, "/metrics"))).await.text;
    assert!(metrics.contains("origin_audit_events_omitted_total{reason=\"unidentified\"} 7"), "{metrics}");
}

#[tokio::test]
async fn rejected_requests_are_recorded_up_to_a_limit_and_successes_always() {
    let app = App::start().await;
    app.clock.stop();
    let root = admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let grace = app.person("grace@example.com").await;
    let count = |query: &'static str| {
        let (app, root) = (&app, &root);
        async move { ask(app, root, query).await["events"].as_array().unwrap().len() }
    };
    let most = limits::AUDIT_REFUSALS;
    for who in [&ada, &grace] {
        for _ in 0..most + 10 {
            let reply = app.send(Service::Auth, Method::POST, "/api/v1/auth/keys/rotate", Some(who), None).await;
            assert_eq!(reply.status, 403);
        }
    }
    assert_eq!(count("?event_type=keys.rotate&limit=100").await, 100, "of two users more than one page");
    for who in [&ada, &grace] {
        let query = format!("?event_type=keys.rotate&limit=100&user_id={}", who.id);
        assert_eq!(ask(&app, &root, &query).await["events"].as_array().unwrap().len(), most, "{}", who.email);
    }
    let metrics = app.send_raw(app.http.get(app.url(Service::Auth, "/metrics"))).await.text;
    assert!(metrics.contains("origin_audit_events_omitted_total{reason=\"capped\"} 20"), "{metrics}");
    assert_eq!(app.refresh(&ada.refresh).await.status, 200);
    assert_eq!(count("?event_type=auth.refresh").await, 1, "what succeeds is written");
    app.clock.pass(60_000);
    app.send(Service::Auth, Method::POST, "/api/v1/auth/keys/rotate", Some(&ada), None).await;
    let query = format!("?event_type=keys.rotate&limit=100&user_id={}", ada.id);
    assert_eq!(ask(&app, &root, &query).await["events"].as_array().unwrap().len(), most + 1, "the next minute");
}

#[tokio::test]
async fn reads_are_recorded_only_if_they_are_rejected() {
    let app = App::start().await;
    let root = admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let count = || async { ask(&app, &root, "?limit=100").await["events"].as_array().unwrap().len() };
    let before = count().await;
    for path in ["/api/v1/auth/roles", "/api/v1/auth/me", AUDIT] {
        assert_eq!(app.get(Service::Auth, path, &root).await.status, 200, "{path}");
    }
    let body = json!({ "user_id": ada.id, "permission": "read:profile" });
    let check = "/api/v1/auth/permissions/check";
    assert_eq!(app.send(Service::Auth, Method::POST, check, Some(&ada), Some(body)).await.status, 200);
    let put = app.send(Service::Auth, Method::PUT, "/api/v1/auth/login", None, None).await;
    assert_eq!(put.status, 405, "was asked for nothing");
    assert_eq!(app.post("/api/v1/auth/nowhere", json!({})).await.status, 404);
    assert_eq!(count().await, before);
    for (path, event_type) in [("/api/v1/auth/roles", "role.read"), (AUDIT, "audit.read")] {
        assert_eq!(app.get(Service::Auth, path, &ada).await.status, 403, "{path}");
        let event = newest(&app, &root, &format!("?event_type={event_type}")).await;
        assert_eq!(
            summary(&event),
            (event_type.to_owned(), "denied".to_owned(), json!(ada.id), Value::Null, json!("rights_missing"))
        );
    }
}

#[tokio::test]
async fn the_audit_log_requires_a_current_administrator_with_a_live_session() {
    let app = App::start().await;
    let root = admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let claimed = Person { roles: vec!["admin".to_owned()], ..ada };
    assert_eq!(app.get(Service::Auth, AUDIT, &claimed).await.status, 403);
    assert_eq!(app.send(Service::Auth, Method::GET, AUDIT, None, None).await.status, 401);
    app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&root), None).await;
    assert_eq!(app.get(Service::Auth, AUDIT, &root).await.status, 401);
}

#[tokio::test]
async fn filters_find_matching_events_only() {
    let app = App::start().await;
    let root = admin(&app).await;
    let ada = app.person("ada@example.com").await;
    app.clock.pass(60_000);
    let noon = app.clock.now();
    app.clock.pass(60_000);
    app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&ada), None).await;
    app.login("nobody@example.com").await;
    let types = |found: &Value| -> Vec<String> {
        let events = found["events"].as_array().unwrap();
        events.iter().map(|event| event["event_type"].as_str().unwrap().to_owned()).collect()
    };
    let noon = rfc3339(noon);
    for (query, expected) in [
        (format!("?user_id={}", ada.id), vec!["auth.logout", "auth.login", "auth.register"]),
        (format!("?user_id={}", ada.id.to_uppercase()), vec!["auth.logout", "auth.login", "auth.register"]),
        (format!("?user_id={}&event_type=auth.login", ada.id), vec!["auth.login"]),
        ("?result=denied".to_owned(), vec!["auth.login"]),
        (format!("?entity_id={}", ada.session), vec!["auth.login"]),
        (format!("?from={noon}"), vec!["auth.login", "auth.logout"]),
        (format!("?to={noon}&user_id={}", ada.id), vec!["auth.login", "auth.register"]),
        (format!("?from={noon}&to={noon}"), vec![]),
        ("?event_type=no.such".to_owned(), vec![]),
        (format!("?user_id={}&unknown=1", ada.id), vec!["auth.logout", "auth.login", "auth.register"]),
        (format!("?from={}&user_id={}", noon.replace('Z', "%2B00:00"), ada.id), vec!["auth.logout"]),
    ] {
        let found = ask(&app, &root, &query).await;
        assert_eq!(types(&found), expected, "{query}");
        assert_eq!(found["next"], Value::Null, "{query}");
    }
    for (query, code) in [
        ("?limit=0", "filter_invalid"),
        ("?limit=101", "filter_invalid"),
        ("?limit=many", "filter_invalid"),
        ("?limit=99999999999999999999", "filter_invalid"),
        ("?limit=1&limit=2", "filter_invalid"),
        ("?user_id=ada", "filter_invalid"),
        ("?event_type=", "filter_invalid"),
        ("?event_type=a%27%20OR%201=1", "filter_invalid"),
        ("?event_type=%00", "filter_invalid"),
        ("?entity_id=%27", "filter_invalid"),
        ("?result=well", "filter_invalid"),
        ("?from=yesterday", "filter_invalid"),
        ("?from=2026-01-01", "filter_invalid"),
        ("?to=2026-13-01T00:00:00Z", "filter_invalid"),
        ("?cursor=", "cursor_invalid"),
        ("?cursor=AAAA", "cursor_invalid"),
        ("?cursor=AAAAAAAAAAA=", "cursor_invalid"),
        ("?cursor=__________8", "cursor_invalid"),
    ] {
        let reply = app.get(Service::Auth, &format!("{AUDIT}{query}"), &root).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{query}");
    }
}

#[tokio::test]
async fn pagination_returns_each_event_once_while_events_are_added() {
    let app = App::start().await;
    let root = admin(&app).await;
    let mut ids = Vec::new();
    for round in 0..7 {
        ids.insert(0, app.register(&format!("ada{round}@example.com")).await.json()["user"]["id"].clone());
    }
    let (mut met, mut query) = (Vec::new(), "?event_type=auth.register&limit=3".to_owned());
    for round in 7.. {
        let found = ask(&app, &root, &query).await;
        let events = found["events"].as_array().unwrap();
        met.extend(events.iter().map(|event| event["user_id"].clone()));
        app.register(&format!("ada{round}@example.com")).await;
        let Some(next) = found["next"].as_str() else { break };
        assert_eq!(events.len(), 3);
        query = format!("?event_type=auth.register&limit=3&cursor={next}");
    }
    ids.push(json!(root.id));
    assert_eq!(met, ids);
    let all = ask(&app, &root, "?event_type=auth.register&limit=100").await;
    assert_eq!(all["next"], Value::Null);
}

#[tokio::test]
async fn events_are_deleted_after_400_days_and_no_sooner() {
    let app = App::start().await;
    let pool = app.databases.open(Service::Auth).await;
    let old = app.clock.now() - limits::AUDIT_MS;
    // More events than one batch.
    for (at, count) in [(old - 1, 2500), (old + 60_000, 2)] {
        for _ in 0..count / 2 {
            sqlx::query(
                "INSERT INTO audit (event_type, result, operation, at) VALUES ('old', 'success', 'test', $1), \
                 ('old', 'success', 'test', $1)",
            )
            .bind(at)
            .execute(&pool)
            .await
            .unwrap();
        }
    }
    let database = Database::open(&app.databases.url(Service::Auth), Schema::Auth).await.unwrap();
    let trail = AuditLog(database.clone());
    let mut portions = 0;
    while trail.sweep(app.clock.now() - limits::AUDIT_MS, limits::SWEEP_ROWS).await.unwrap() > 0 {
        portions += 1;
    }
    assert_eq!(portions, 13, "2500 events, some at a time");
    database.close().await;
    let count = || async {
        let row = sqlx::query("SELECT count(*) AS n FROM audit WHERE event_type = 'old'").fetch_one(&pool).await;
        row.unwrap().try_get::<i64, _>("n").unwrap()
    };
    assert_eq!(count().await, 2);
    pool.close().await;
}

#[tokio::test]
async fn a_failure_to_record_an_event_does_not_affect_the_answer() {
    let app = App::start().await;
    let pool = app.databases.open(Service::Auth).await;
    sqlx::query("ALTER TABLE audit RENAME TO elsewhere").execute(&pool).await.unwrap();
    pool.close().await;
    assert_eq!(app.register("ada@example.com").await.status, 201);
    assert_eq!(app.login("ada@example.com").await.status, 200);
}

#[tokio::test]
async fn events_of_refusals_that_cannot_be_written_delay_the_answer_by_a_second_at_most() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let pool = app.databases.open(Service::Auth).await;
    let hold = if app.databases.is_sqlite() { "BEGIN IMMEDIATE" } else { "BEGIN; LOCK TABLE audit" };
    let mut held = pool.acquire().await.unwrap();
    sqlx::raw_sql(hold).execute(&mut *held).await.unwrap();
    let refused = (0..3 * limits::AUDIT_REFUSALS_AT_ONCE).map(|_| {
        let begun = std::time::Instant::now();
        let request = app.forwarded(Service::Auth, Method::GET, "/api/v1/auth/roles", Some(&ada), None);
        tokio::spawn(async move { (request.send().await.unwrap().status().as_u16(), begun.elapsed()) })
    });
    for one in refused.collect::<Vec<_>>() {
        let (status, took) = one.await.unwrap();
        assert_eq!(status, 403);
        assert!(took < limits::AUDIT_WAIT + Duration::from_millis(700), "{took:?}");
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut *held).await.unwrap();
}

#[tokio::test]
async fn an_unidentified_caller_of_the_token_endpoint_is_not_recorded() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const FORM: &str = "grant_type=client_credentials&audience=auth-service";
    let app = App::start().await;
    let root = admin(&app).await;
    let address = app.url(Service::Auth, "").replace("http://", "");
    let basic = |secret: &str| STANDARD.encode(format!("user-service:{secret}"));
    let mut omitted = 0;
    // The body is read before the credentials are checked.
    for (case, authorization, body_sent) in [
        ("a wrong secret", basic("wrong"), FORM.len()),
        ("a wrong secret, and half a body", basic("wrong"), FORM.len() / 2),
        ("no secret, and half a body", String::new(), FORM.len() / 2),
        ("the right secret, and half a body", basic(USERS_SECRET), FORM.len() / 2),
    ] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "POST /api/v1/auth/token HTTP/1.1\r\nhost: {address}\r\nauthorization: Basic {authorization}\r\n\
             content-type: application/x-www-form-urlencoded\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            FORM.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut told = [0; 12];
        stream.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100", "{case}");
        stream.write_all(FORM.split_at(body_sent).0.as_bytes()).await.unwrap();
        if body_sent == FORM.len() {
            stream.read_exact(&mut told).await.unwrap();
        }
        drop(stream);
        omitted += 1;
        let expected = format!("origin_audit_events_omitted_total{{reason=\"unidentified\"}} {omitted}\n");
        let begun = std::time::Instant::now();
        while !app.send_raw(app.http.get(app.url(Service::Auth, "/metrics"))).await.text.contains(&expected) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{case}: is not counted");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    for result in ["denied", "failure"] {
        let events = ask(&app, &root, &format!("?event_type=service.token&result={result}")).await;
        assert_eq!(events["events"], json!([]), "{result}");
    }
}

#[tokio::test]
async fn a_request_whose_client_disconnects_is_recorded_with_its_actual_result() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = App::start().await;
    let root = admin(&app).await;
    let path = "/api/v1/auth/login";
    let body = json!({ "email": "root@example.com", "password": PASSWORD }).to_string();
    let address = app.url(Service::Auth, "").replace("http://", "");
    let list = async |path: &str, name: &str| {
        app.get(Service::Auth, path, &root).await.json()[name].as_array().unwrap().clone()
    };
    let logins = async || list("/api/v1/auth/audit?event_type=auth.login", "events").await;
    let sessions = async || list("/api/v1/auth/sessions", "sessions").await.len();
    for (result, sent) in [("failure", body.len() / 2), ("success", body.len())] {
        let before = (logins().await.len(), sessions().await);
        let assertion = app.assertion(Service::Auth, &Method::POST, path, None);
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nx-gateway-assertion: {assertion}\r\n\
             content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The handler reads the body now.
        let mut told = [0; 12];
        stream.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100");
        stream.write_all(body.split_at(sent).0.as_bytes()).await.unwrap();
        drop(stream);
        let begun = std::time::Instant::now();
        while logins().await.len() == before.0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "no event");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let after = logins().await;
        assert_eq!((after.len(), &after[0]["result"]), (before.0 + 1, &json!(result)), "{after:?}");
        assert_eq!(sessions().await, before.1 + usize::from(result == "success"), "{result}");
    }
}
