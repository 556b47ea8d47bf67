//! `DELETE /api/v1/users/{id}`.

use reqwest::Method;

use crate::support::{App, Person, Service};

/// Returns the same person with the role, as in a later token.
pub(crate) fn as_admin(person: &Person) -> Person {
    Person { roles: vec!["admin".to_owned(), "user".to_owned()], ..person.clone() }
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

#[tokio::test]
async fn an_interrupted_deletion_continues_when_it_is_repeated() {
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
