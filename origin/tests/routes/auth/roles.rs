//! `/api/v1/auth/roles` and `/api/v1/auth/permissions`.

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{ADMIN, AdminClient, App, PERMISSIONS, Person, ROLES, Service, USER, make_admin, status_and_code};

const READ_PROFILE: &str = "00000000-0000-7000-8000-000000000101";

const MANAGE_ROLES: &str = "00000000-0000-7000-8000-000000000107";

const NOBODY: &str = "00000000-0000-7000-8000-00000000ffff";

fn refused(code: &str) -> (u16, String) {
    (409, code.to_owned())
}

fn names(body: &Value, list: &str) -> Vec<String> {
    body[list].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_role_is_created_read_replaced_and_deleted() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let made = admin.post(ROLES, json!({ "name": "editor", "description": " Writes ", "built_in": true })).await;
    assert_eq!(made.status, 201);
    let role = made.json()["role"].clone();
    assert_eq!((&role["name"], &role["description"]), (&json!("editor"), &json!("Writes")));
    assert_eq!(role["built_in"], false, "that is not theirs to say");
    let members: Vec<&String> = role.as_object().unwrap().keys().collect();
    assert_eq!(members, ["built_in", "created_at", "description", "id", "name", "updated_at"]);
    let path = format!("{ROLES}/{}", role["id"].as_str().unwrap());
    assert_eq!(admin.get(&path).await, json!({ "role": role }));

    app.clock.pass(1000);
    let replaced = admin.put(&path, json!({ "name": "author" })).await;
    assert_eq!(replaced.status, 200, "{}", replaced.text);
    let replaced = replaced.json()["role"].clone();
    assert_eq!(
        (&replaced["name"], &replaced["description"]),
        (&json!("author"), &json!("")),
        "what is not sent is empty"
    );
    assert_eq!((&replaced["id"], &replaced["created_at"]), (&role["id"], &role["created_at"]));
    assert!(replaced["updated_at"].as_str() > role["updated_at"].as_str());

    assert_eq!(admin.delete(&path).await.status, 204);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(admin.ask(method, &path, None).await.status, 404);
    }
    assert_eq!(admin.role("editor").await.len(), 36, "the name is free again");
}

#[tokio::test]
async fn a_permission_is_created_read_replaced_and_deleted() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let body = json!({ "name": "read:reports", "resource": "reports", "action": "read", "built_in": true });
    let made = admin.post(PERMISSIONS, body).await;
    assert_eq!(made.status, 201);
    let permission = made.json()["permission"].clone();
    assert_eq!((&permission["resource"], &permission["action"]), (&json!("reports"), &json!("read")));
    assert_eq!(permission["built_in"], false, "that is not theirs to say");
    let members: Vec<&String> = permission.as_object().unwrap().keys().collect();
    assert_eq!(members, ["action", "built_in", "created_at", "id", "name", "resource", "updated_at"]);
    let path = format!("{PERMISSIONS}/{}", permission["id"].as_str().unwrap());
    assert_eq!(admin.get(&path).await, json!({ "permission": permission }));

    let body = json!({ "name": "see:reports", "resource": "reports", "action": "see" });
    let replaced = admin.put(&path, body).await;
    assert_eq!((replaced.status, &replaced.json()["permission"]["name"]), (200, &json!("see:reports")));
    assert_eq!(admin.put(&path, json!({ "name": "see:reports" })).await.status, 422);

    assert_eq!(admin.delete(&path).await.status, 204);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(admin.ask(method, &path, None).await.status, 404);
    }
}

#[tokio::test]
async fn names_are_words_that_are_safe_in_headers() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let (long, longer) = ("a".repeat(64), "a".repeat(65));
    for (name, role, permission) in [
        (json!("a"), 201, 201),
        (json!("a0_.-z"), 201, 201),
        (json!(long), 201, 201),
        (json!("read:reports"), 422, 201),
        (json!("service"), 422, 201),
        (json!("services"), 201, 201),
        (json!(longer), 422, 422),
        (json!(""), 422, 422),
        (json!(null), 422, 422),
        (json!("Admin"), 422, 422),
        (json!("0a"), 422, 422),
        (json!("-a"), 422, 422),
        (json!(":a"), 422, 422),
        (json!("a,admin"), 422, 422),
        (json!("a b"), 422, 422),
        (json!(" a"), 422, 422),
        (json!("a\n"), 422, 422),
        (json!("a\0"), 422, 422),
        (json!("\u{430}dmin"), 422, 422),
        (json!("a'; DROP TABLE roles;--"), 422, 422),
        (json!(7), 400, 400),
        (json!(["a"]), 400, 400),
    ] {
        let reply = admin.post(ROLES, json!({ "name": name })).await;
        assert_eq!(reply.status, role, "role {name}: {}", reply.text);
        let reply = admin.post(PERMISSIONS, json!({ "name": name, "resource": "a", "action": "a" })).await;
        assert_eq!(reply.status, permission, "permission {name}: {}", reply.text);
        if permission == 422 {
            assert_eq!(reply.json()["errors"][0]["field"], "name");
            let reply = admin.post(PERMISSIONS, json!({ "name": "other", "resource": name, "action": name })).await;
            assert_eq!(reply.json()["errors"].as_array().unwrap().len(), 2, "{name}");
        }
    }
    for (description, status) in [
        (json!("é".repeat(200)), 200),
        (json!(null), 200),
        (json!("é".repeat(201)), 422),
        (json!("two\nlines"), 422),
        (json!("\u{9b}31m"), 422),
    ] {
        let body = json!({ "name": "user", "description": description });
        assert_eq!(admin.put(&format!("{ROLES}/{USER}"), body).await.status, status, "{description}");
    }
}

#[tokio::test]
async fn built_in_roles_keep_their_names_and_administrators_their_permissions() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let role = |id: &str| format!("{ROLES}/{id}");
    let profile = format!("{PERMISSIONS}/{READ_PROFILE}");
    let said_of_it = |name: &str, resource: &str| json!({ "name": name, "resource": resource, "action": "read" });
    for (method, path, body, expected) in [
        (Method::PUT, role(ADMIN), Some(json!({ "name": "root" })), 409),
        (Method::PUT, role(USER), Some(json!({ "name": "member" })), 409),
        (Method::PUT, role(ADMIN), Some(json!({ "name": "admin", "description": "All of it" })), 200),
        (Method::DELETE, role(ADMIN), None, 409),
        (Method::DELETE, role(USER), None, 409),
        (Method::PUT, profile.clone(), Some(said_of_it("see:profile", "profile")), 409),
        (Method::PUT, profile.clone(), Some(said_of_it("read:profile", "users")), 409),
        (Method::PUT, profile.clone(), Some(said_of_it("read:profile", "profile")), 200),
        (Method::DELETE, profile.clone(), None, 409),
        (Method::DELETE, format!("{ROLES}/{ADMIN}/permissions/{READ_PROFILE}"), None, 409),
        (Method::DELETE, format!("{ROLES}/{USER}/permissions/{READ_PROFILE}"), None, 204),
        (Method::DELETE, format!("{ROLES}/{USER}/permissions/{READ_PROFILE}"), None, 404),
        (Method::DELETE, format!("{ROLES}/{USER}/permissions/{MANAGE_ROLES}"), None, 404),
        (Method::DELETE, profile.clone(), None, 409),
    ] {
        let reply = admin.ask(method.clone(), &path, body.clone()).await;
        assert_eq!(reply.status, expected, "{method} {path} {body:?}: {}", reply.text);
        if expected == 409 {
            assert_eq!(reply.code(), "built_in", "{method} {path} {body:?}");
        }
    }
    assert_eq!(admin.get(&role(ADMIN)).await["role"]["description"], "All of it");
    let all = admin.get(&format!("{ROLES}/{ADMIN}/permissions")).await;
    assert_eq!(all["pagination"]["total"], 8);
}

#[tokio::test]
async fn names_of_roles_and_of_permissions_are_unique() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let editor = admin.role("editor").await;
    let reports = admin.permission("read:reports").await;
    let permission = |name: &str| json!({ "name": name, "resource": "a", "action": "a" });
    for (method, path, body) in [
        (Method::POST, ROLES.to_owned(), json!({ "name": "editor" })),
        (Method::POST, ROLES.to_owned(), json!({ "name": "admin" })),
        (Method::PUT, format!("{ROLES}/{editor}"), json!({ "name": "user" })),
        (Method::POST, PERMISSIONS.to_owned(), permission("read:reports")),
        (Method::PUT, format!("{PERMISSIONS}/{reports}"), permission("read:users")),
    ] {
        assert_eq!(
            status_and_code(&admin.ask(method.clone(), &path, Some(body)).await),
            refused("name_taken"),
            "{method} {path}"
        );
    }
    for round in 0..5 {
        let make = || admin.post(ROLES, json!({ "name": format!("role{round}") }));
        let (one, two, three) = tokio::join!(make(), make(), make());
        let mut statuses = [one, two, three].map(|reply| reply.status);
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409]);
    }
}

#[tokio::test]
async fn roles_and_permissions_in_use_are_not_deleted_and_held_roles_not_renamed() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let (editor, reports) = (admin.role("editor").await, admin.permission("read:reports").await);
    let (role, permission) = (format!("{ROLES}/{editor}"), format!("{PERMISSIONS}/{reports}"));
    let held = format!("/api/v1/auth/users/{}/roles", ada.id);
    let given = format!("{role}/permissions");
    assert_eq!(admin.post(&held, json!({ "role_id": editor })).await.status, 201);
    assert_eq!(admin.post(&given, json!({ "permission_id": reports })).await.status, 201);
    assert_eq!(admin.post(&given, json!({ "permission_id": reports })).await.status, 200, "it has it already");

    assert_eq!(status_and_code(&admin.delete(&role).await), refused("in_use"));
    assert_eq!(status_and_code(&admin.put(&role, json!({ "name": "author" })).await), refused("in_use"));
    assert_eq!(admin.put(&role, json!({ "name": "editor", "description": "Writes" })).await.status, 200);
    assert_eq!(status_and_code(&admin.delete(&permission).await), refused("in_use"));

    assert_eq!(admin.delete(&format!("{held}/{editor}")).await.status, 204);
    assert_eq!(admin.put(&role, json!({ "name": "author" })).await.status, 200);
    assert_eq!(admin.delete(&format!("{given}/{reports}")).await.status, 204);
    assert_eq!(admin.delete(&permission).await.status, 204, "administrators alone have it");
    assert_eq!(admin.delete(&role).await.status, 204);
}

#[tokio::test]
async fn a_deleted_role_loses_its_permissions() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let (editor, reports) = (admin.role("editor").await, admin.permission("read:reports").await);
    admin.post(&format!("{ROLES}/{editor}/permissions"), json!({ "permission_id": reports })).await;
    assert_eq!(admin.delete(&format!("{ROLES}/{editor}")).await.status, 204);
    assert_eq!(admin.delete(&format!("{PERMISSIONS}/{reports}")).await.status, 204);
}

#[tokio::test]
async fn of_a_concurrent_deletion_and_assignment_of_a_role_one_succeeds() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let held = format!("/api/v1/auth/users/{}/roles", ada.id);
    for round in 0..10 {
        let role = admin.role(&format!("role{round}")).await;
        let path = format!("{ROLES}/{role}");
        let (deleted, given) = tokio::join!(admin.delete(&path), admin.post(&held, json!({ "role_id": role })));
        let statuses = (deleted.status, given.status);
        assert!([(204, 404), (409, 201)].contains(&statuses), "{statuses:?} {}", deleted.text);
    }
}

#[tokio::test]
async fn lists_are_paginated_in_the_order_of_names() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    for name in ["ab", "a_b", "a-b", "a.b", "a0b"] {
        admin.role(name).await;
        admin.permission(name).await;
    }
    // Byte order, regardless of the server's locale.
    let sorted = ["a-b", "a.b", "a0b", "a_b", "ab", "admin", "user"];
    assert_eq!(names(&admin.get(ROLES).await, "roles"), sorted);
    assert_eq!(names(&admin.get(PERMISSIONS).await, "permissions")[..5], sorted[..5]);
    let of_admins = format!("{ROLES}/{ADMIN}/permissions");
    assert_eq!(names(&admin.get(&of_admins).await, "permissions")[..5], sorted[..5], "made later, and theirs, too");
    for (path, list, total) in [(ROLES, "roles", 7), (PERMISSIONS, "permissions", 13), (&of_admins, "permissions", 13)]
    {
        for (query, limit, offset, rows) in [
            ("", 10, 0, total.min(10)),
            ("?limit=100", 100, 0, total),
            ("?limit=3&offset=5", 3, 5, (total - 5).min(3)),
            ("?offset=100", 10, 100, 0),
        ] {
            let body = admin.get(&format!("{path}{query}")).await;
            assert_eq!(body[list].as_array().unwrap().len(), rows, "{path}{query}");
            assert_eq!(
                body["pagination"],
                json!({ "limit": limit, "offset": offset, "total": total }),
                "{path}{query}"
            );
        }
        for query in ["?limit=0", "?limit=101", "?limit=x", "?offset=-1", "?limit=1&limit=2"] {
            let reply = admin.ask(Method::GET, &format!("{path}{query}"), None).await;
            assert_eq!((reply.status, reply.code().as_str()), (400, "page_invalid"), "{path}{query}");
        }
    }
}

#[tokio::test]
async fn there_are_at_most_a_thousand_roles_and_permissions() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let pool = app.databases.open(Service::Auth).await;
    let mut transaction = pool.begin().await.unwrap();
    for (table, columns, there) in [("roles", "description", 2), ("permissions", "resource, action", 8)] {
        let values = if table == "roles" { "''" } else { "'a', 'a'" };
        for number in there..limits::ROLES - 1 {
            let text = format!(
                "INSERT INTO {table} (id, name, {columns}, built_in, created_at, updated_at) \
                 VALUES ('00000000-0000-7000-8001-{number:012}', 'n{number}', {values}, 0, 0, 0)"
            );
            sqlx::query(sqlx::AssertSqlSafe(text)).execute(&mut *transaction).await.unwrap();
        }
    }
    transaction.commit().await.unwrap();
    pool.close().await;
    let make = |path: &'static str, name: &'static str| {
        admin.post(path, json!({ "name": name, "resource": "a", "action": "a" }))
    };
    // The first rounds have few database connections.
    for (path, kind) in [(ROLES, "role"), (PERMISSIONS, "permission")].repeat(5) {
        let (a, b, c) = (make(path, "a"), make(path, "b"), make(path, "c"));
        let (d, e, f) = (make(path, "d"), make(path, "e"), make(path, "f"));
        let (a, b, c, d, e, f) = tokio::join!(a, b, c, d, e, f);
        let mut answers = [a, b, c, d, e, f];
        answers.sort_unstable_by_key(|reply| reply.status);
        let [made, others @ ..] = &answers;
        assert_eq!(made.status, 201, "{}", made.text);
        for other in others {
            assert_eq!(status_and_code(other), refused("too_many"), "{path}");
        }
        let id = made.json()[kind]["id"].as_str().unwrap().to_owned();
        assert_eq!(admin.delete(&format!("{path}/{id}")).await.status, 204);
    }
}

/// Every route on roles and permissions for administrators.
fn routes(account: &str) -> Vec<(Method, String)> {
    let roles = format!("/api/v1/auth/users/{account}/roles");
    let mut routes = Vec::new();
    for (methods, path) in [
        ("GET POST", ROLES.to_owned()),
        ("GET PUT DELETE", format!("{ROLES}/{USER}")),
        ("GET POST", format!("{ROLES}/{USER}/permissions")),
        ("DELETE", format!("{ROLES}/{USER}/permissions/{READ_PROFILE}")),
        ("GET POST", PERMISSIONS.to_owned()),
        ("GET PUT DELETE", format!("{PERMISSIONS}/{READ_PROFILE}")),
        ("GET POST PUT", roles.clone()),
        ("DELETE", format!("{roles}/{USER}")),
    ] {
        routes.extend(methods.split(' ').map(|method| (method.parse().unwrap(), path.clone())));
    }
    routes
}

#[tokio::test]
async fn every_route_requires_a_current_administrator() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let claimed = Person { roles: vec!["admin".to_owned(), "user".to_owned()], ..ada.clone() };
    let demoted = make_admin(&app, &app.person("grace@example.com").await).await;
    assert_eq!(admin.delete(&format!("/api/v1/auth/users/{}/roles/{ADMIN}", demoted.id)).await.status, 204);
    let gone = make_admin(&app, &app.person("edsger@example.com").await).await;
    app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&gone), None).await;
    let lists = async || {
        let of_users = format!("{ROLES}/{USER}/permissions");
        let of_ada = format!("/api/v1/auth/users/{}/roles", ada.id);
        [admin.get(ROLES).await, admin.get(PERMISSIONS).await, admin.get(&of_users).await, admin.get(&of_ada).await]
    };
    let before = lists().await;
    for (method, path) in routes(&ada.id) {
        for (who, status, code) in [
            (Some(&ada), 403, "rights_missing"),
            (Some(&claimed), 403, "rights_missing"),
            (Some(&demoted), 403, "rights_missing"),
            (Some(&gone), 401, "token_revoked"),
            (None, 401, "credentials_missing"),
        ] {
            // Valid and invalid bodies make no difference.
            for body in [
                json!({ "name": "a", "resource": "a", "action": "a", "role_id": ADMIN, "role_ids": [ADMIN] }),
                json!(7),
            ] {
                let reply = app.send(Service::Auth, method.clone(), &path, who, Some(body)).await;
                assert_eq!(status_and_code(&reply), (status, code.to_owned()), "{method} {path} {who:?}");
            }
        }
        let bare = app.send_raw(app.http.request(method.clone(), app.url(Service::Auth, &path))).await;
        assert_eq!(status_and_code(&bare), (401, "gateway_required".to_owned()), "{method} {path} around the gateway");
    }
    assert_eq!(lists().await, before);
}

#[tokio::test]
async fn unknown_ids_are_404_and_malformed_ids_in_a_body_422() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let user = format!("/api/v1/auth/users/{}", admin.who.id);
    let named = json!({ "name": "a", "resource": "a", "action": "a" });
    let mut cases = Vec::new();
    for id in [NOBODY, "not-an-id", "%27%20OR%201=1%20--"] {
        cases.extend([
            (Method::GET, format!("{ROLES}/{id}"), None, 404),
            (Method::PUT, format!("{ROLES}/{id}"), Some(named.clone()), 404),
            (Method::DELETE, format!("{ROLES}/{id}"), None, 404),
            (Method::GET, format!("{ROLES}/{id}/permissions"), None, 404),
            (Method::POST, format!("{ROLES}/{id}/permissions"), Some(json!({ "permission_id": READ_PROFILE })), 404),
            (Method::DELETE, format!("{ROLES}/{id}/permissions/{READ_PROFILE}"), None, 404),
            (Method::DELETE, format!("{ROLES}/{USER}/permissions/{id}"), None, 404),
            (Method::GET, format!("{PERMISSIONS}/{id}"), None, 404),
            (Method::PUT, format!("{PERMISSIONS}/{id}"), Some(named.clone()), 404),
            (Method::DELETE, format!("{PERMISSIONS}/{id}"), None, 404),
            (Method::GET, format!("/api/v1/auth/users/{id}/roles"), None, 404),
            (Method::POST, format!("/api/v1/auth/users/{id}/roles"), Some(json!({ "role_id": USER })), 404),
            (Method::PUT, format!("/api/v1/auth/users/{id}/roles"), Some(json!({ "role_ids": [USER] })), 404),
            (Method::DELETE, format!("/api/v1/auth/users/{id}/roles/{USER}"), None, 404),
            (Method::DELETE, format!("{user}/roles/{id}"), None, 404),
            (Method::GET, format!("/api/v1/auth/users/{id}/permissions"), None, 404),
        ]);
    }
    for (id, status) in [(json!(NOBODY), 404), (json!("x"), 422), (json!(null), 422), (json!(""), 422), (json!(7), 400)]
    {
        let role_ids = json!({ "role_ids": [ADMIN, USER, id] });
        cases.extend([
            (Method::POST, format!("{ROLES}/{USER}/permissions"), Some(json!({ "permission_id": id })), status),
            (Method::POST, format!("{user}/roles"), Some(json!({ "role_id": id })), status),
            (Method::PUT, format!("{user}/roles"), Some(role_ids), if id.is_null() { 400 } else { status }),
            (
                Method::POST,
                format!("{PERMISSIONS}/check"),
                Some(json!({ "user_id": id, "permission": "read:users" })),
                status,
            ),
        ]);
    }
    cases.push((Method::PUT, format!("{user}/roles"), Some(json!({})), 422));
    cases.push((Method::POST, format!("{user}/permissions"), Some(json!({})), 405));
    for (method, path, body, status) in cases {
        let reply = admin.ask(method.clone(), &path, body.clone()).await;
        assert_eq!(reply.status, status, "{method} {path} {body:?}: {}", reply.text);
        assert_eq!(reply.headers["content-type"], "application/problem+json", "{method} {path}");
    }
    let roles = admin.get(&format!("{user}/roles")).await;
    assert_eq!(names(&roles, "roles"), ["admin", "user"], "and nothing is half done");
}
