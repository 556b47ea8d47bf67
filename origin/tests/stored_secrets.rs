//! What the databases contain of keys, tokens and passwords.

use std::fs;

use portcullis_origin::boot::StartError;

use crate::support::{App, BOTH, Service};

#[tokio::test]
async fn private_keys_are_stored_encrypted_with_the_master_key() {
    let mut app = App::start().await;
    app.restart(BOTH).await;
    // Every PKCS#8 contains the object identifier of RSA keys in plain text.
    let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let pool = app.databases.open(Service::Auth).await;
    let stored: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT private_sealed FROM signing_keys").fetch_all(&pool).await.unwrap();
    pool.close().await;
    let [sealed] = stored.as_slice() else { panic!("{} keys", stored.len()) };
    assert!(sealed.len() > 1000);
    assert!(!sealed.windows(rsa.len()).any(|window| window == rsa), "a private key in the clear");
    let fault = app.restart_with(BOTH, [2; 32]).await.unwrap_err();
    let StartError::Other(text) = fault else { panic!("{fault:?}") };
    assert!(text.starts_with("MASTER_KEY does not open the signing keys"), "{text}");
    app.restart(BOTH).await;
}

#[tokio::test]
async fn databases_are_private_in_any_directory() {
    use std::os::unix::fs::PermissionsExt as _;
    let app = App::start().await;
    if !app.databases.is_sqlite() {
        // The files of a server are its own.
        return;
    }
    app.person("ada@example.com").await;
    for name in ["auth.db", "auth.db-wal", "users.db", "users.db-wal"] {
        let mode = fs::metadata(app.databases.folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn no_database_contains_a_token_or_a_password() {
    let mut app = App::start().await;
    let person = app.person("ada@example.com").await;
    app.restart(BOTH).await;
    let text = app.databases.dump().await;
    assert!(text.contains("ada@example.com"), "databases were looked at");
    for secret in
        [crate::support::PASSWORD, person.refresh.as_str(), person.access.as_str(), crate::support::AUTH_SECRET]
    {
        assert!(!text.contains(secret), "a secret lies there");
    }
}
