//! Profiles: read, listed, changed and deleted, by those who may.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Person, Service};

async fn change(app: &App, method: Method, who: &Person, id: &str, body: Value) -> crate::app::Reply {
    app.send(Service::Users, method, &format!("/api/v1/users/{id}"), Some(who), Some(body)).await
}

/// The same person with the role, as a token would say after it was given.
fn as_admin(person: &Person) -> Person {
    Person { roles: vec!["admin".to_owned(), "user".to_owned()], ..person.clone() }
}

#[tokio::test]
async fn a_profile_is_its_owners_and_the_admins() {
    let app = App::start().await;
    let (ada, grace) = (app.person("ada@example.com").await, app.person("grace@example.com").await);
    let path = |id: &str| format!("/api/v1/users/{id}");
    for (who, id, expected) in [
        (&ada, ada.id.as_str(), 200),
        (&ada, grace.id.as_str(), 403),
        (&as_admin(&ada), grace.id.as_str(), 200),
        (&ada, "00000000-0000-4000-8000-000000000000", 403),
        (&as_admin(&ada), "00000000-0000-4000-8000-000000000000", 404),
        (&as_admin(&ada), "not-a-uuid", 404),
        (&ada, "' OR 1=1 --", 404),
    ] {
        let target = path(&id.replace(' ', "%20"));
        let reply = app.get(Service::Users, &target, who).await;
        assert_eq!(reply.status, expected, "{} {id}", who.email);
    }
    let profile = app.get(Service::Users, &path(&ada.id), &ada).await.json()["data"].clone();
    assert_eq!(profile["email"], "ada@example.com");
    assert_eq!(profile["first_name"], "Ada");
    assert_eq!(profile["last_name"], "");
    assert_eq!(profile["roles"], json!(["user"]));
}

#[tokio::test]
async fn put_replaces_and_patch_merges() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let names = |reply: &crate::app::Reply| {
        let data = reply.json()["data"].clone();
        (data["email"].clone(), data["first_name"].clone(), data["last_name"].clone())
    };
    for (method, body, expected) in [
        (Method::PATCH, json!({ "last_name": "Lovelace" }), ("ada@example.com", "Ada", "Lovelace")),
        (Method::PATCH, json!({}), ("ada@example.com", "Ada", "Lovelace")),
        (Method::PATCH, json!({ "first_name": null }), ("ada@example.com", "", "Lovelace")),
        (Method::PUT, json!({ "email": "Ada@Example.com", "first_name": " A. " }), ("ada@example.com", "A.", "")),
        (Method::PATCH, json!({ "email": "countess@example.com" }), ("countess@example.com", "A.", "")),
    ] {
        let reply = change(&app, method.clone(), &ada, &ada.id, body.clone()).await;
        assert_eq!(reply.status, 200, "{method} {body}: {}", reply.text);
        assert_eq!(names(&reply), (json!(expected.0), json!(expected.1), json!(expected.2)), "{method} {body}");
    }
    for (method, body) in [
        (Method::PATCH, json!({ "email": null })),
        (Method::PATCH, json!({ "email": "no address" })),
        (Method::PATCH, json!({ "first_name": "x".repeat(101) })),
        (Method::PUT, json!({ "first_name": "A." })),
    ] {
        assert_eq!(change(&app, method, &ada, &ada.id, body.clone()).await.status, 422, "{body}");
    }
    assert_eq!(app.login("ada@example.com").await.status, 401, "the old address logs nobody in");
    let again = app.person_again("countess@example.com").await;
    assert_eq!(again.id, ada.id);
}

#[tokio::test]
async fn a_change_assigns_no_id_and_no_role_and_no_address_of_anothers() {
    let app = App::start().await;
    let (ada, grace) = (app.person("ada@example.com").await, app.person("grace@example.com").await);
    let wish = json!({ "id": grace.id, "roles": ["admin"], "created_at": "2000-01-01T00:00:00Z" });
    let data = change(&app, Method::PATCH, &ada, &ada.id, wish).await.json()["data"].clone();
    assert_eq!((&data["id"], &data["roles"]), (&json!(ada.id), &json!(["user"])));
    let reply = change(&app, Method::PATCH, &ada, &ada.id, json!({ "email": "GRACE@example.com" })).await;
    assert_eq!((reply.status, reply.code().as_str()), (409, "email_taken"));
    let own = app.get(Service::Users, &format!("/api/v1/users/{}", ada.id), &ada).await;
    assert_eq!(own.json()["data"]["email"], "ada@example.com", "nothing half done");
    assert_eq!(change(&app, Method::PATCH, &ada, &grace.id, json!({ "first_name": "x" })).await.status, 403);
    assert_eq!(
        app.send(Service::Users, Method::DELETE, &format!("/api/v1/users/{}", grace.id), Some(&ada), None).await.status,
        403
    );
}

#[tokio::test]
async fn a_deleted_user_is_gone_from_both_services() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let path = format!("/api/v1/users/{}", ada.id);
    assert_eq!(app.send(Service::Users, Method::DELETE, &path, Some(&ada), None).await.status, 204);
    assert_eq!(app.get(Service::Users, &path, &ada).await.status, 404);
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &ada).await.status, 401);
    assert_eq!(app.refresh(&ada.refresh).await.status, 401);
    assert_eq!(app.login("ada@example.com").await.status, 401);
    assert_eq!(app.send(Service::Users, Method::DELETE, &path, Some(&ada), None).await.status, 404);
    let anew = app.person("ada@example.com").await;
    assert_ne!(anew.id, ada.id, "the address is free for somebody new");
}

/// What a change leaves behind that stopped between the two services.
async fn half_a_change(app: &App, id: &str, email: &str) {
    let pool = app.databases.open(Service::Auth).await;
    sqlx::query("UPDATE accounts SET email = $2 WHERE id = $1").bind(id).bind(email).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn a_change_that_stopped_half_way_costs_nobody_a_profile() {
    let app = App::start().await;
    let ada = app.person("old@example.com").await;
    half_a_change(&app, &ada.id, "new@example.com").await;
    // Somebody else takes the address that is free again.
    let other = app.person("old@example.com").await;
    for person in [&ada, &other] {
        let path = format!("/api/v1/users/{}", person.id);
        assert_eq!(app.get(Service::Users, &path, person).await.status, 200, "{}", person.id);
    }
    let mended = change(&app, Method::PATCH, &ada, &ada.id, json!({ "email": "new@example.com" })).await;
    assert_eq!((mended.status, &mended.json()["data"]["email"]), (200, &json!("new@example.com")));
}

#[tokio::test]
async fn a_deletion_that_stopped_half_way_goes_on_when_it_is_sent_again() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let path = format!("/api/v1/users/{}", ada.id);
    for (service, table) in [(Service::Auth, "accounts"), (Service::Users, "profiles")] {
        let person = if table == "accounts" { ada.clone() } else { app.person("grace@example.com").await };
        let pool = app.databases.open(service).await;
        let text = format!("DELETE FROM {table} WHERE id = $1");
        sqlx::query(sqlx::AssertSqlSafe(text)).bind(&person.id).execute(&pool).await.unwrap();
        pool.close().await;
        let path = format!("/api/v1/users/{}", person.id);
        let delete = || app.send(Service::Users, Method::DELETE, &path, Some(&person), None);
        assert_eq!(delete().await.status, 204, "{table} gone before");
        assert_eq!(delete().await.status, 404);
        assert_eq!(app.login(&person.email).await.status, 401);
    }
    assert_eq!(app.get(Service::Users, &path, &ada).await.status, 404);
}

#[tokio::test]
async fn the_last_administrator_cannot_be_deleted() {
    let app = App::start().await;
    let (ada, grace) = (app.person("ada@example.com").await, app.person("grace@example.com").await);
    let pool = app.databases.open(Service::Auth).await;
    for person in [&ada, &grace] {
        sqlx::query("INSERT INTO account_roles SELECT $1, id FROM roles WHERE name = 'admin'")
            .bind(&person.id)
            .execute(&pool)
            .await
            .unwrap();
    }
    let delete = |person: Person| {
        let (app, path) = (&app, format!("/api/v1/users/{}", person.id));
        async move { app.send(Service::Users, Method::DELETE, &path, Some(&as_admin(&person)), None).await }
    };
    assert_eq!(delete(ada).await.status, 204);
    let last = delete(grace.clone()).await;
    assert_eq!((last.status, last.code().as_str()), (409, "last_admin"));
    assert_eq!(app.login(&grace.email).await.status, 200, "and is whole still");
}

#[tokio::test]
async fn the_list_is_for_admins_in_pages_of_at_most_100() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    for number in 0..11 {
        app.register(&format!("user{number}@example.com")).await;
    }
    let admin = as_admin(&ada);
    assert_eq!(app.get(Service::Users, "/api/v1/users", &ada).await.status, 403);
    for (query, rows) in [("", 10), ("?limit=100", 12), ("?limit=5&offset=10", 2), ("?offset=100", 0), ("?limit=1", 1)]
    {
        let reply = app.get(Service::Users, &format!("/api/v1/users{query}"), &admin).await;
        assert_eq!(reply.status, 200, "{query}");
        let body = reply.json();
        assert_eq!(body["data"].as_array().unwrap().len(), rows, "{query}");
        assert_eq!(body["pagination"]["total"], 12, "{query}");
    }
    for query in ["?limit=0", "?limit=101", "?limit=-1", "?limit=x", "?offset=-1", "?limit=99999999999999999999"] {
        let reply = app.get(Service::Users, &format!("/api/v1/users{query}"), &admin).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "page_invalid"), "{query}");
    }
}
