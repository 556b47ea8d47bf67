//! The signing keys: made once, sealed at rest, published as they should be.

use std::fs;

use portcullis_origin::boot::{BootFault, Which};
use serde_json::Value;

use crate::app::{App, Service};

const BOTH: Which = Which { auth: true, users: true };

async fn jwks(app: &App) -> (Value, reqwest::header::HeaderMap) {
    let reply = app.bare(app.http.get(app.url(Service::Auth, "/.well-known/jwks.json"))).await;
    assert_eq!(reply.status, 200);
    (reply.json(), reply.headers)
}

#[tokio::test]
async fn the_key_set_is_public_cacheable_and_named_by_thumbprint() {
    let app = App::start().await;
    let (set, headers) = jwks(&app).await;
    assert_eq!(headers["cache-control"], "public, max-age=300");
    let [key] = set["keys"].as_array().unwrap().as_slice() else { panic!("one key: {set}") };
    let mut names: Vec<&String> = key.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["alg", "e", "kid", "kty", "n", "use"], "and nothing private");
    assert_eq!(
        (key["alg"].as_str(), key["use"].as_str(), key["e"].as_str()),
        (Some("RS256"), Some("sig"), Some("AQAB"))
    );
    // RFC 7638, section 3.
    let canonical = format!(r#"{{"e":"AQAB","kty":"RSA","n":{}}}"#, key["n"]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    assert_eq!(key["kid"], base64::Engine::encode(&engine, digest));
    let pem = app.bare(app.http.get(app.url(Service::Auth, "/api/v1/auth/public-key"))).await;
    assert!(pem.text.starts_with("-----BEGIN PUBLIC KEY-----\n") && pem.text.ends_with("-----END PUBLIC KEY-----\n"));
    assert!(pem.text.lines().all(|line| line.len() <= 64));
}

#[tokio::test]
async fn the_key_outlives_a_restart_and_so_do_sessions() {
    let mut app = App::start().await;
    let person = app.person("ada@example.com").await;
    let (before, _) = jwks(&app).await;
    app.restart(BOTH).await;
    assert_eq!(jwks(&app).await.0, before);
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/validate-token", &person).await.status, 200);
    assert_eq!(app.refresh(&person.refresh).await.status, 200);
}

#[tokio::test]
async fn private_keys_lie_sealed_and_open_with_their_master_key_alone() {
    let mut app = App::start().await;
    app.restart(BOTH).await;
    // The object identifier of RSA keys stands in the clear in every PKCS#8.
    let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let mut looked = 0;
    for entry in fs::read_dir(app.folder.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        looked += bytes.len();
        assert!(!bytes.windows(rsa.len()).any(|window| window == rsa), "a private key in the clear");
    }
    assert!(looked > 10_000, "databases were looked at");
    let fault = app.restart_with(BOTH, [2; 32]).await.unwrap_err();
    let BootFault::Other(text) = fault else { panic!("{fault:?}") };
    assert!(text.starts_with("MASTER_KEY does not open the signing keys"), "{text}");
    app.restart(BOTH).await;
}

#[tokio::test]
async fn databases_are_their_owners_alone_whatever_folder_they_lie_in() {
    use std::os::unix::fs::PermissionsExt as _;
    let app = App::start().await;
    app.person("ada@example.com").await;
    for name in ["auth.db", "auth.db-wal", "users.db", "users.db-wal"] {
        let mode = fs::metadata(app.folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn no_token_or_password_lies_in_a_database() {
    let mut app = App::start().await;
    let person = app.person("ada@example.com").await;
    app.restart(BOTH).await;
    for entry in fs::read_dir(app.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        for secret in [crate::app::PASSWORD, person.refresh.as_str(), person.access.as_str(), crate::app::AUTH_SECRET] {
            assert!(!text.contains(secret), "{} holds a secret", path.display());
        }
    }
}
