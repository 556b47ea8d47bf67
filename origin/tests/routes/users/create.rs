//! `POST /api/v1/users`.

use std::time::Duration;

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    routes::users::list::USERS,
    support::{App, BOTH, PASSWORD, Person, ROLES, Reply, Service, USERS_ONLY},
};

async fn make(app: &App, who: &Person, body: Value) -> Reply {
    app.send(Service::Users, Method::POST, USERS, Some(who), Some(body)).await
}

#[tokio::test]
async fn an_administrator_creates_users_with_roles() {
    let app = App::start().await;
    let admin = app.admin("root@example.com").await;
    for (email, roles, expected) in [
        ("plain@example.com", None, json!(["user"])),
        ("both@example.com", Some(json!(["user", "admin", "user"])), json!(["admin", "user"])),
    ] {
        let mut body = json!({ "email": email.to_uppercase(), "password": PASSWORD, "first_name": " New " });
        if let Some(roles) = roles {
            body["roles"] = roles;
        }
        let reply = make(&app, &admin, body).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        let data = reply.json()["data"].clone();
        assert_eq!((&data["email"], &data["first_name"], &data["roles"]), (&json!(email), &json!("New"), &expected));
        let id = data["id"].as_str().unwrap();
        assert_eq!(reply.headers["location"].to_str().unwrap(), format!("{USERS}/{id}"));
        assert_eq!(reply.headers["etag"], "\"1\"");
        assert!(!reply.text.contains(PASSWORD));
        let person = app.log_in(email).await;
        assert_eq!(json!(person.roles), expected);
        assert_eq!(app.get(Service::Users, &format!("{USERS}/{id}"), &person).await.json()["data"], data);
    }
    app.until_synchronised().await;
}

#[tokio::test]
async fn a_user_gets_no_role_that_is_being_deleted() {
    let app = App::start().await;
    let admin = app.admin("root@example.com").await;
    let role = Some(json!({ "name": "bookkeeper" }));
    assert_eq!(app.send(Service::Auth, Method::POST, ROLES, Some(&admin), role).await.status, 201);
    // The deletion of a role by another process, up to its commit.
    let pool = app.databases.open(Service::Auth).await;
    let mut deletion = pool.begin().await.unwrap();
    if !app.databases.is_sqlite() {
        sqlx::query("SELECT pg_advisory_xact_lock(3)").execute(&mut *deletion).await.unwrap();
    }
    sqlx::query("DELETE FROM roles WHERE name = 'bookkeeper'").execute(&mut *deletion).await.unwrap();
    let body = json!({ "email": "new@example.com", "password": PASSWORD, "roles": ["bookkeeper"] });
    let commit = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        deletion.commit().await.unwrap();
    };
    let (reply, ()) = tokio::join!(make(&app, &admin, body), commit);
    assert_eq!((reply.status, reply.code().as_str()), (422, "fields_invalid"), "{}", reply.text);
    pool.close().await;
}

#[tokio::test]
async fn users_with_invalid_fields_are_not_created() {
    let app = App::start().await;
    let admin = app.admin("root@example.com").await;
    let good = |email: &str| json!({ "email": email, "password": PASSWORD });
    let with_roles = |roles: Value| json!({ "email": "new@example.com", "password": PASSWORD, "roles": roles });
    for (body, status, code) in [
        (good("ROOT@example.com"), 409, "email_taken"),
        (json!({}), 422, "fields_invalid"),
        (json!({ "email": "new@example.com", "password": "short" }), 422, "fields_invalid"),
        (with_roles(json!(["user", "emperor"])), 422, "fields_invalid"),
        (with_roles(json!(["' OR 1=1 --"])), 422, "fields_invalid"),
        (with_roles(json!(["a\u{0}"])), 422, "fields_invalid"),
        (with_roles(json!([])), 422, "fields_invalid"),
        (with_roles(json!(vec!["user"; limits::ROLES_GIVEN + 1])), 422, "fields_invalid"),
        (with_roles(json!("admin")), 400, "json_shape"),
        (with_roles(json!([7])), 400, "json_shape"),
    ] {
        let reply = make(&app, &admin, body.clone()).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{body}: {}", reply.text);
    }
    assert_eq!(app.login("new@example.com").await.status, 401, "nothing half done");
    assert_eq!(make(&app, &admin, good("new@example.com")).await.status, 201, "and nothing in the way");
    app.until_synchronised().await;
}

#[tokio::test]
async fn only_current_administrators_create_and_change_other_users() {
    let app = App::start().await;
    let (ada, root) = (app.person("ada@example.com").await, app.admin("root@example.com").await);
    let body = || json!({ "email": "new@example.com", "password": PASSWORD, "roles": ["admin"] });
    assert_eq!(make(&app, &ada, body()).await.status, 403);
    // A token carries the roles of its time of issue.
    let former = Person { roles: vec!["admin".to_owned()], ..ada.clone() };
    let target = format!("{USERS}/{}", root.id);
    let send = |method: Method, who: Person, body: Option<Value>| {
        let (app, target) = (&app, &target);
        async move { app.send(Service::Users, method, target, Some(&who), body).await.status }
    };
    assert_eq!(make(&app, &former, body()).await.status, 403);
    assert_eq!(send(Method::PATCH, former.clone(), Some(json!({ "first_name": "x" }))).await, 403);
    assert_eq!(send(Method::PUT, former.clone(), Some(json!({ "email": "x@example.com" }))).await, 403);
    assert_eq!(send(Method::DELETE, former, None).await, 403);
    // A session that ended does not suffice either.
    let ended = app.log_in("root@example.com").await;
    assert_eq!(app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&ended), None).await.status, 200);
    let reply = make(&app, &ended, body()).await;
    assert_eq!((reply.status, reply.code().as_str()), (401, "token_revoked"));
    assert_eq!(make(&app, &root, body()).await.status, 201, "and who is one does");
}

#[tokio::test]
async fn without_one_of_the_services_no_user_is_created() {
    let mut app = App::start().await;
    let admin = app.admin("root@example.com").await;
    app.restart(USERS_ONLY).await;
    let body = || json!({ "email": "new@example.com", "password": PASSWORD });
    let reply = make(&app, &admin, body()).await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "auth_service_unavailable"));
    app.restart(BOTH).await;
    app.until_synchronised().await;
    assert_eq!(app.login("new@example.com").await.status, 401);
    assert_eq!(make(&app, &admin, body()).await.status, 201);
}
