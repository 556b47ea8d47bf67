//! Passwords and addresses with several Unicode spellings.

use argon2::{Argon2, PasswordHasher as _, password_hash::SaltString};
use reqwest::Method;
use serde_json::json;

use crate::support::{App, Reply, Service};

/// `é` as one character, and as a letter with a combining accent.
const COMPOSED: &str = "caf\u{e9} au lait";

const DECOMPOSED: &str = "cafe\u{301} au lait";

async fn register(app: &App, email: &str, password: &str) -> Reply {
    app.post("/api/v1/auth/register", json!({ "email": email, "password": password })).await
}

async fn login(app: &App, email: &str, password: &str) -> Reply {
    app.post("/api/v1/auth/login", json!({ "email": email, "password": password })).await
}

#[tokio::test]
async fn a_password_is_equal_in_both_unicode_spellings() {
    let app = App::start().await;
    for (email, password) in [("one@example.com", COMPOSED), ("two@example.com", DECOMPOSED)] {
        assert_eq!(register(&app, email, password).await.status, 201);
        for spelling in [COMPOSED, DECOMPOSED] {
            assert_eq!(login(&app, email, spelling).await.status, 200, "{email} {}", spelling.len());
        }
        assert_eq!(login(&app, email, "cafe au lait").await.status, 401, "without the accent it is another");
    }
    let person = app.person("three@example.com").await;
    let change = |current: &str, new: &str| json!({ "current_password": current, "new_password": new });
    let path = "/api/v1/auth/password";
    let body = change(crate::support::PASSWORD, DECOMPOSED);
    assert_eq!(app.send(Service::Auth, Method::POST, path, Some(&person), Some(body)).await.status, 200);
    assert_eq!(login(&app, "three@example.com", COMPOSED).await.status, 200);
    let same = app.send(Service::Auth, Method::POST, path, Some(&person), Some(change(COMPOSED, DECOMPOSED))).await;
    assert_eq!(same.status, 422, "another spelling is no other password");
}

#[tokio::test]
async fn a_hash_of_an_unnormalised_password_stays_valid() {
    let app = App::start().await;
    assert_eq!(register(&app, "ada@example.com", COMPOSED).await.status, 201);
    let salt = SaltString::encode_b64(b"0123456789abcdef").unwrap();
    let old = Argon2::default().hash_password(DECOMPOSED.as_bytes(), &salt).unwrap().to_string();
    let pool = app.databases.open(Service::Auth).await;
    sqlx::query("UPDATE accounts SET password_hash = $1").bind(old).execute(&pool).await.unwrap();
    pool.close().await;
    assert_eq!(login(&app, "ada@example.com", DECOMPOSED).await.status, 200);
    assert_eq!(login(&app, "ada@example.com", "not it at all").await.status, 401);
}

#[tokio::test]
async fn an_internationalised_domain_becomes_punycode() {
    let app = App::start().await;
    let registered = register(&app, "Ada@B\u{fc}cher.example", COMPOSED).await;
    assert_eq!(registered.status, 201, "{}", registered.text);
    assert_eq!(registered.json()["user"]["email"], "ada@xn--bcher-kva.example");
    for spelling in
        ["ada@b\u{fc}cher.example", "ada@bu\u{308}cher.example", "ada@B\u{dc}CHER.example", "ADA@XN--BCHER-KVA.example"]
    {
        assert_eq!(login(&app, spelling, COMPOSED).await.status, 200, "{spelling}");
        assert_eq!(register(&app, spelling, COMPOSED).await.status, 409, "{spelling}");
    }
    let root = app.admin("root@example.com").await;
    let found = app.get(Service::Users, "/api/v1/users?email=ada@b%C3%BCcher.example", &root).await;
    assert_eq!(found.json()["pagination"]["total"], 1, "{}", found.text);
}
