//! Changes of the master key.

use portcullis_origin::{
    auth::Keyring,
    boot::StartError,
    clock::Clock,
    signing::MasterKey,
    store::{Database, Schema, SigningKeys},
};
use reqwest::Method;

use crate::support::{App, BOTH, Databases, ROTATE, Service, kids, make_admin};

async fn sealed_keys(app: &App) -> Vec<Vec<u8>> {
    let pool = app.databases.open(Service::Auth).await;
    let sealed = sqlx::query_scalar("SELECT private_sealed FROM signing_keys ORDER BY kid").fetch_all(&pool).await;
    pool.close().await;
    sealed.unwrap()
}

#[tokio::test]
async fn a_new_master_key_replaces_the_old_one_in_one_start() {
    let mut app = App::start().await;
    let person = app.person("ada@example.com").await;
    let admin = make_admin(&app, &person).await;
    assert_eq!(app.send(Service::Auth, Method::POST, ROTATE, Some(&admin), None).await.status, 200);
    let (published, first) = (kids(&app).await, sealed_keys(&app).await);
    assert_eq!(first.len(), 2);
    let (old, new) = ([1; 32], [2; 32]);
    // In any order: a key under the new master key stays as it is.
    app.restart_with_old(BOTH, new, Some(old)).await.unwrap();
    let second = sealed_keys(&app).await;
    assert!(first.iter().zip(&second).all(|(was, is)| was != is), "all are encrypted again");
    app.restart_with_old(BOTH, new, Some(old)).await.unwrap();
    assert_eq!(sealed_keys(&app).await, second, "once");
    app.restart_with(BOTH, new).await.unwrap();
    assert_eq!(kids(&app).await, published);
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/validate-token", &admin).await.status, 200);
    app.log_in("ada@example.com").await;
    for (master, older) in [(old, None), ([3; 32], None), ([3; 32], Some(old))] {
        let StartError::Other(text) = app.restart_with_old(BOTH, master, older).await.unwrap_err() else { panic!() };
        assert!(text.starts_with("MASTER_KEY does not open the signing keys"), "{text}");
    }
    assert_eq!(sealed_keys(&app).await, second, "a start that fails changes nothing");
    // And back.
    app.restart_with_old(BOTH, old, Some(new)).await.unwrap();
    app.restart_with(BOTH, old).await.unwrap();
}

#[tokio::test]
async fn two_processes_that_replace_the_master_key_at_once_agree() {
    let databases = Databases::make().await;
    let clock = Clock::default();
    clock.stop();
    let now = clock.now();
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
    // A process that has not been restarted yet makes a key.
    late.rotate(&clock).await.unwrap();
    assert!(open(new()).await.is_err(), "the old master key sealed it");
    let (first, second) = tokio::join!(one.maintain(&clock, Some(now)), two.maintain(&clock, Some(now)));
    first.and(second).unwrap();
    let alone = open(new()).await.unwrap();
    for keyring in [&one, &two, &late] {
        assert_eq!(keyring.jwks(), alone.jwks());
    }
    late.maintain(&clock, Some(now)).await.unwrap();
}

#[test]
fn a_wrong_old_master_key_is_reported_by_its_name() {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        settings: portcullis_origin::settings::Settings,
    }
    let secrets = portcullis_origin::settings::Secrets {
        master_key: Some(portcullis_client::secret::Secret::new("A".repeat(43))),
        master_key_old: Some(portcullis_client::secret::Secret::new("too short".to_owned())),
        ..Default::default()
    };
    let settings = Line::try_parse_from(["origin"]).ok().unwrap().settings.with_secrets(secrets.clone());
    let text = settings.master_key().unwrap_err().to_string();
    assert!(
        text.starts_with("MASTER_KEY_OLD is not the base64url of 32 bytes") && !text.contains("too short"),
        "{text}"
    );
    let missing = portcullis_origin::settings::Secrets { master_key_old: None, ..secrets };
    let file = ["origin", "--master-key-old-file", "/nowhere/key"];
    let settings = Line::try_parse_from(file).ok().unwrap().settings.with_secrets(missing);
    let text = settings.master_key().unwrap_err().to_string();
    assert!(text.starts_with("MASTER_KEY_OLD_FILE /nowhere/key cannot be read"), "{text}");
}
