//! Stored password hashes and their renewal.

use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version, password_hash::SaltString};

use crate::{
    routes::auth::password::{ADA, login},
    support::{App, PASSWORD, PATIENCE, Service},
};

#[tokio::test]
async fn passwords_are_stored_as_argon2id_with_the_parameters_of_owasp() {
    let app = App::start().await;
    app.register("ada@example.com").await;
    let stored = app.databases.dump().await;
    assert!(stored.contains("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert!(!stored.contains(PASSWORD));
}

/// Stores Ada's password with other parameters, directly in the database.
async fn store_hash(app: &App, memory_kib: u32, passes: u32) -> String {
    let params = Params::new(memory_kib, passes, 1, None).unwrap();
    let salt = SaltString::encode_b64(&[9; 16]).unwrap();
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = hasher.hash_password(PASSWORD.as_bytes(), &salt).unwrap().to_string();
    write_hash(app, &hash).await;
    hash
}

async fn write_hash(app: &App, hash: &str) {
    let pool = app.databases.open(Service::Auth).await;
    sqlx::query("UPDATE accounts SET password_hash = $1").bind(hash).execute(&pool).await.unwrap();
    pool.close().await;
}

async fn stored_hash(app: &App) -> String {
    let pool = app.databases.open(Service::Auth).await;
    let hash = sqlx::query_scalar("SELECT password_hash FROM accounts").fetch_one(&pool).await.unwrap();
    pool.close().await;
    hash
}

/// Waits for the renewal, which follows the answer of a login.
async fn until_renewed(app: &App) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let hash = stored_hash(app).await;
        if hash.starts_with(TODAY) {
            return hash;
        }
        assert!(Instant::now() < deadline, "{hash}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const TODAY: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

#[tokio::test]
async fn an_outdated_hash_is_renewed_by_the_next_login() {
    let app = App::start().await;
    app.register(ADA).await;
    for (memory_kib, passes) in [(8 * 1024, 2), (19 * 1024, 1)] {
        let old = store_hash(&app, memory_kib, passes).await;
        assert_eq!(login(&app, "not her password").await.status, 401);
        assert_eq!(stored_hash(&app).await, old, "a wrong password renews nothing");
        assert_eq!(login(&app, PASSWORD).await.status, 200);
        let new = until_renewed(&app).await;
        assert_eq!(login(&app, PASSWORD).await.status, 200);
        assert_eq!(stored_hash(&app).await, new, "once is enough");
    }
    let stronger = store_hash(&app, 32 * 1024, 3).await;
    assert_eq!(login(&app, PASSWORD).await.status, 200);
    assert_eq!(stored_hash(&app).await, stronger);
}

#[tokio::test]
async fn concurrent_logins_with_an_outdated_hash_all_succeed() {
    let app = App::start().await;
    app.register(ADA).await;
    store_hash(&app, 8 * 1024, 1).await;
    let replies =
        tokio::join!(login(&app, PASSWORD), login(&app, PASSWORD), login(&app, PASSWORD), login(&app, PASSWORD));
    for reply in [replies.0, replies.1, replies.2, replies.3] {
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    until_renewed(&app).await;
}

#[tokio::test]
async fn a_hash_with_excessive_parameters_is_not_verified() {
    let app = App::start().await;
    app.register(ADA).await;
    let good = stored_hash(&app).await;
    for bad in [
        good.replace("m=19456", "m=4000000"),
        good.replace("t=2", "t=1000000"),
        good.replace("$argon2id", "$argon3"),
        "no hash at all".to_owned(),
        String::new(),
    ] {
        write_hash(&app, &bad).await;
        assert_eq!(login(&app, PASSWORD).await.code(), "invalid_credentials", "{bad}");
        write_hash(&app, &good).await;
        assert_eq!(login(&app, PASSWORD).await.status, 200);
    }
}
