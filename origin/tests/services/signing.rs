//! The signing keys: made once, sealed at rest, published as they should be.

use std::fs;

use portcullis_origin::{
    auth::Keyring,
    boot::{EnabledServices, StartError},
    limits,
    signing::MasterKey,
    store::{Database, Schema, SigningKeys},
};
use reqwest::Method;
use serde_json::Value;

use crate::app::{App, Databases, Person, Service};

const BOTH: EnabledServices = EnabledServices { auth: true, users: true };

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

async fn sealed_keys(app: &App) -> Vec<Vec<u8>> {
    let pool = app.databases.open(Service::Auth).await;
    let sealed = sqlx::query_scalar("SELECT private_sealed FROM signing_keys ORDER BY kid").fetch_all(&pool).await;
    pool.close().await;
    sealed.unwrap()
}

#[tokio::test]
async fn a_master_key_takes_an_older_ones_place_in_one_start() {
    let mut app = App::start().await;
    let person = app.person("ada@example.com").await;
    let admin = make_admin(&app, &person).await;
    assert_eq!(app.send(Service::Auth, Method::POST, ROTATE, Some(&admin), None).await.status, 200);
    let (published, first) = (kids(&app).await, sealed_keys(&app).await);
    assert_eq!(first.len(), 2);
    let (old, new) = ([1; 32], [2; 32]);
    // In any order: what is sealed by the new one already stays as it is.
    app.restart_with_old(BOTH, new, Some(old)).await.unwrap();
    let second = sealed_keys(&app).await;
    assert!(first.iter().zip(&second).all(|(was, is)| was != is), "all are sealed anew");
    app.restart_with_old(BOTH, new, Some(old)).await.unwrap();
    assert_eq!(sealed_keys(&app).await, second, "once");
    app.restart_with(BOTH, new).await.unwrap();
    assert_eq!(kids(&app).await, published);
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/validate-token", &admin).await.status, 200);
    app.person_again("ada@example.com").await;
    for (master, older) in [(old, None), ([3; 32], None), ([3; 32], Some(old))] {
        let StartError::Other(text) = app.restart_with_old(BOTH, master, older).await.unwrap_err() else { panic!() };
        assert!(text.starts_with("MASTER_KEY does not open the signing keys"), "{text}");
    }
    assert_eq!(sealed_keys(&app).await, second, "a start that fails changes nothing");
    // Back again.
    app.restart_with_old(BOTH, old, Some(new)).await.unwrap();
    app.restart_with(BOTH, old).await.unwrap();
}

#[tokio::test]
async fn two_processes_that_replace_the_master_key_at_once_agree_and_take_in_the_olds_last_key() {
    let databases = Databases::make().await;
    let now = 1_800_000_000_000;
    let url = databases.url(Service::Auth);
    let open = |master: MasterKey| async {
        let database = Database::open(&url, Schema::Auth).await.unwrap();
        Keyring::open(SigningKeys(database), master, 60_000, now).await
    };
    let (old, new) = (|| MasterKey::new(&[1; 32]).unwrap(), || MasterKey::new(&[2; 32]).unwrap());
    let late = open(old()).await.unwrap();
    let both = || new().after(&[1; 32]).unwrap();
    let (one, two) = tokio::join!(open(both()), open(both()));
    let (one, two) = (one.unwrap(), two.unwrap());
    // A process that has yet to be restarted makes a key.
    late.rotate(now).await.unwrap();
    assert!(open(new()).await.is_err(), "the old master key sealed it");
    let (first, second) = tokio::join!(one.maintain(now), two.maintain(now));
    first.and(second).unwrap();
    let alone = open(new()).await.unwrap();
    for ring in [&one, &two, &late] {
        assert_eq!(ring.jwks(), alone.jwks());
    }
    late.maintain(now).await.unwrap();
}

#[test]
fn an_old_master_key_that_is_none_is_told_by_its_name() {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: portcullis_origin::settings::Settings,
    }
    let secrets = portcullis_origin::settings::Secrets {
        master_key: Some(portcullis_client::secret::Secret::new("A".repeat(43))),
        master_key_old: Some(portcullis_client::secret::Secret::new("too short".to_owned())),
        ..Default::default()
    };
    let flags = Line::try_parse_from(["origin"]).ok().unwrap().flags.with_secrets(secrets.clone());
    let text = flags.master_key().unwrap_err().to_string();
    assert!(
        text.starts_with("MASTER_KEY_OLD is not the base64url of 32 bytes") && !text.contains("too short"),
        "{text}"
    );
    let missing = portcullis_origin::settings::Secrets { master_key_old: None, ..secrets };
    let file = ["origin", "--master-key-old-file", "/nowhere/key"];
    let flags = Line::try_parse_from(file).ok().unwrap().flags.with_secrets(missing);
    let text = flags.master_key().unwrap_err().to_string();
    assert!(text.starts_with("MASTER_KEY_OLD_FILE /nowhere/key cannot be read"), "{text}");
}

#[tokio::test]
async fn databases_are_their_owners_alone_whatever_folder_they_lie_in() {
    use std::os::unix::fs::PermissionsExt as _;
    let app = App::start().await;
    if !app.databases.is_sqlite() {
        // A server's files are its own.
        return;
    }
    app.person("ada@example.com").await;
    for name in ["auth.db", "auth.db-wal", "users.db", "users.db-wal"] {
        let mode = fs::metadata(app.databases.folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

const ROTATE: &str = "/api/v1/auth/keys/rotate";

pub(crate) async fn make_admin(app: &App, person: &Person) -> Person {
    let pool = app.databases.open(Service::Auth).await;
    sqlx::query("INSERT INTO account_roles SELECT $1, id FROM roles WHERE name = 'admin'")
        .bind(&person.id)
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    app.person_again(&person.email).await
}

async fn kids(app: &App) -> Vec<String> {
    let (set, _) = jwks(app).await;
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Waits for what the service does every few seconds.
async fn until_kids(app: &App, what: &str, is_so: impl Fn(&[String]) -> bool) {
    for _ in 0..400 {
        if is_so(&kids(app).await) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("waited in vain: {what}");
}

fn kid_of(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let header: Value = serde_json::from_slice(&base64::Engine::decode(&engine, header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_new_key_is_published_before_it_signs_and_an_old_one_until_nobody_needs_it() {
    let app = App::start().await;
    let person = app.person("ada@example.com").await;
    let admin = make_admin(&app, &person).await;
    let first = kids(&app).await;
    let reply = app.send(Service::Auth, Method::POST, ROTATE, Some(&admin), None).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let (kid, previous) = (reply.json()["kid"].clone(), reply.json()["previous_kid"].clone());
    assert_eq!(previous, first[0].as_str());
    assert_eq!(kids(&app).await.len(), 2, "both are published at once");
    let again = app.send(Service::Auth, Method::POST, ROTATE, Some(&admin), None).await;
    assert_eq!((&again.json()["kid"], kids(&app).await.len()), (&kid, 2), "a key that waits stays the next");

    let before = app.person_again("ada@example.com").await;
    assert_eq!(kid_of(&before.access), first[0], "and does not sign yet");
    app.clock.pass(limits::KEY_LEAD_S * 1000);
    let after = app.person_again("ada@example.com").await;
    assert_eq!(kid_of(&after.access), kid.as_str().unwrap());
    let validate = "/api/v1/auth/validate-token";
    assert_eq!(app.get(Service::Auth, validate, &after).await.status, 200);
    assert_eq!(kids(&app).await.len(), 2, "the old one is published still");
    app.clock.pass(limits::ACCESS_TOKEN_MS + limits::LEEWAY_MS);
    until_kids(&app, "the old key is gone", |kids| kids == [kid.as_str().unwrap()]).await;
    // The user service has met the new key through its own fetch.
    let changed = app
        .send(
            Service::Users,
            Method::PATCH,
            &format!("/api/v1/users/{}", after.id),
            Some(&after),
            Some(serde_json::json!({ "first_name": "A." })),
        )
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text);
}

#[tokio::test]
async fn keys_are_rotated_by_their_age() {
    let app = App::start().await;
    let [first] = kids(&app).await.try_into().unwrap();
    app.clock.pass(limits::SIGNING_KEY_MS - limits::KEY_LEAD_S * 1000);
    until_kids(&app, "the next key is published", |kids| kids.len() == 2 && kids.contains(&first)).await;
    app.clock.pass(limits::KEY_LEAD_S * 1000);
    let person = app.person("ada@example.com").await;
    assert_ne!(kid_of(&person.access), first);
}

#[tokio::test]
async fn only_an_administrator_with_a_live_session_rotates() {
    let app = App::start().await;
    let person = app.person("ada@example.com").await;
    let claimed = Person { roles: vec!["admin".to_owned()], ..person.clone() };
    assert_eq!(app.send(Service::Auth, Method::POST, ROTATE, Some(&person), None).await.status, 403);
    assert_eq!(app.send(Service::Auth, Method::POST, ROTATE, Some(&claimed), None).await.status, 403);
    let admin = make_admin(&app, &person).await;
    app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&admin), None).await;
    assert_eq!(app.send(Service::Auth, Method::POST, ROTATE, Some(&admin), None).await.status, 401);
    assert_eq!(kids(&app).await.len(), 1);
}

#[tokio::test]
async fn two_processes_that_rotate_at_once_rotate_once() {
    let databases = Databases::make().await;
    let now = 1_800_000_000_000;
    let mut rings = Vec::new();
    for _ in 0..2 {
        let database = Database::open(&databases.url(Service::Auth), Schema::Auth).await.unwrap();
        let master = MasterKey::new(&[1; 32]).unwrap();
        rings.push(Keyring::open(SigningKeys(database), master, 60_000, now).await.unwrap());
    }
    let [one, two] = rings.try_into().unwrap();
    let (first, second) = tokio::join!(one.rotate(now), two.rotate(now));
    assert_eq!(first.unwrap(), second.unwrap());
    for ring in [&one, &two] {
        ring.maintain(now).await.unwrap();
        assert_eq!(ring.jwks().keys.len(), 2);
    }
    assert_eq!(one.signer(now).unwrap().kid(), two.signer(now).unwrap().kid());
    assert_eq!(one.signer(now + 60_000).unwrap().kid(), two.signer(now + 60_000).unwrap().kid());
    assert_ne!(one.signer(now).unwrap().kid(), one.signer(now + 60_000).unwrap().kid());
}

#[tokio::test]
async fn no_token_or_password_lies_in_a_database() {
    let mut app = App::start().await;
    let person = app.person("ada@example.com").await;
    app.restart(BOTH).await;
    let text = app.databases.dump().await;
    assert!(text.contains("ada@example.com"), "databases were looked at");
    for secret in [crate::app::PASSWORD, person.refresh.as_str(), person.access.as_str(), crate::app::AUTH_SECRET] {
        assert!(!text.contains(secret), "a secret lies there");
    }
}
