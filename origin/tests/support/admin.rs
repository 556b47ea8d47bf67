//! Administrators, and requests of theirs.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    app::{App, Person, Reply},
    databases::Service,
};

pub(crate) async fn logout(app: &App, person: &Person) {
    let reply = app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(person), None).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

pub(crate) const ROLES: &str = "/api/v1/auth/roles";

pub(crate) const PERMISSIONS: &str = "/api/v1/auth/permissions";

pub(crate) const ADMIN: &str = "00000000-0000-7000-8000-000000000001";

pub(crate) const USER: &str = "00000000-0000-7000-8000-000000000002";

/// A user who sends requests.
pub(crate) struct AdminClient<'a> {
    pub(crate) app: &'a App,
    pub(crate) who: Person,
}

impl AdminClient<'_> {
    pub(crate) async fn admin(app: &App) -> AdminClient<'_> {
        let person = app.person("root@example.com").await;
        AdminClient { app, who: make_admin(app, &person).await }
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.app.send(Service::Auth, method, path, Some(&self.who), body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let reply = self.ask(Method::GET, path, None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.json()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.ask(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.ask(Method::DELETE, path, None).await
    }

    /// Creates a role. Returns its id.
    pub(crate) async fn role(&self, name: &str) -> String {
        let reply = self.post(ROLES, json!({ "name": name })).await;
        assert_eq!(reply.status, 201, "{name}: {}", reply.text);
        reply.json()["role"]["id"].as_str().unwrap().to_owned()
    }

    /// Creates a permission. Returns its id.
    pub(crate) async fn permission(&self, name: &str) -> String {
        let reply = self.post(PERMISSIONS, json!({ "name": name, "resource": "reports", "action": "read" })).await;
        assert_eq!(reply.status, 201, "{name}: {}", reply.text);
        reply.json()["permission"]["id"].as_str().unwrap().to_owned()
    }
}

pub(crate) async fn make_admin(app: &App, person: &Person) -> Person {
    let pool = app.databases.open(Service::Auth).await;
    sqlx::query("INSERT INTO account_roles SELECT $1, id FROM roles WHERE name = 'admin'")
        .bind(&person.id)
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    app.log_in(&person.email).await
}
