//! `PUT` and `PATCH /api/v1/users/{id}`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{App, Person, Service};

async fn change(app: &App, method: Method, who: &Person, id: &str, body: Value) -> crate::support::Reply {
    app.send(Service::Users, method, &format!("/api/v1/users/{id}"), Some(who), Some(body)).await
}

#[tokio::test]
async fn put_replaces_and_patch_merges() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    let names = |reply: &crate::support::Reply| {
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
    let again = app.log_in("countess@example.com").await;
    assert_eq!(again.id, ada.id);
}

#[tokio::test]
async fn a_change_cannot_set_id_role_or_a_taken_address() {
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

/// The state after a change that was interrupted between the two services.
async fn half_a_change(app: &App, id: &str, email: &str) {
    let pool = app.databases.open(Service::Auth).await;
    sqlx::query("UPDATE accounts SET email = $2 WHERE id = $1").bind(id).bind(email).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn an_interrupted_change_loses_no_profile() {
    let app = App::start().await;
    let ada = app.person("old@example.com").await;
    half_a_change(&app, &ada.id, "new@example.com").await;
    // Another user takes the address that is free again.
    let other = app.person("old@example.com").await;
    for person in [&ada, &other] {
        let path = format!("/api/v1/users/{}", person.id);
        assert_eq!(app.get(Service::Users, &path, person).await.status, 200, "{}", person.id);
    }
    let mended = change(&app, Method::PATCH, &ada, &ada.id, json!({ "email": "new@example.com" })).await;
    assert_eq!((mended.status, &mended.json()["data"]["email"]), (200, &json!("new@example.com")));
}
