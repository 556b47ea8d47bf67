//! Several processes that start at the same time on databases that do not exist yet.

use std::time::{Duration, Instant};

use portcullis_client::secret::Secret;
use portcullis_origin::{
    auth::{Keyring, KeyringFault},
    boot,
    clock::Clock,
    limits,
    settings::Secrets,
    signing::MasterKey,
    store::{Database, Schema, SigningKeys},
};
use reqwest::StatusCode;

use crate::support::{AUTH_ONLY, App, Databases, PASSWORD, PushReceiver, Service, USERS_ONLY, logout, port, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_at_once_share_one_key_and_one_administrator() {
    for _ in 0..3 {
        let databases = Databases::make().await;
        let first_port = port().port();
        let edge = "http://127.0.0.1:9";
        // Both open the user service's database as well, one of them for the first time.
        let users = boot::start(&settings(&databases, first_port, 0, [1; 32], edge), USERS_ONLY, Clock::default())
            .await
            .unwrap();
        let users_port = users.users.unwrap().port();
        let starts = [first_port, 0, 0, 0].map(|auth_port| {
            let settings = settings(&databases, auth_port, users_port, [1; 32], edge).with_secrets(Secrets {
                admin_email: Some("root@example.com".to_owned()),
                admin_password: Some(Secret::new(PASSWORD.to_owned())),
                ..crate::support::secrets([1; 32])
            });
            tokio::spawn(async move { boot::start(&settings, AUTH_ONLY, Clock::default()).await })
        });
        let mut running = Vec::new();
        for start in starts {
            running.push(start.await.unwrap().unwrap());
        }
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut sets = Vec::new();
        for one in &running {
            let url = format!("http://{}/.well-known/jwks.json", one.auth.unwrap());
            let set: serde_json::Value = http.get(url).send().await.unwrap().json().await.unwrap();
            assert_eq!(set["keys"].as_array().unwrap().len(), 1, "{set}");
            sets.push(set);
        }
        sets.dedup();
        assert_eq!(sets.len(), 1, "one first key");
        let app = App::connect(databases, running[1].auth.unwrap(), users.users.unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while app.login("root@example.com").await.status != 200 {
            assert!(Instant::now() < deadline, "no administrator");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(app.log_in("root@example.com").await.roles, ["admin", "user"]);
        for one in running {
            one.stop().await;
        }
        users.stop().await;
    }
}

#[tokio::test]
async fn a_clock_before_the_first_key_is_reported() {
    let databases = Databases::make().await;
    let database = Database::open(&databases.url(Service::Auth), Schema::Auth).await.unwrap();
    let now = 1_800_000_000_000;
    let open =
        async |now| Keyring::open(SigningKeys(database.clone()), MasterKey::new(&[1; 32]).unwrap(), 60_000, now).await;
    let first = open(now).await.unwrap();
    let behind = open(now - limits::KEYS_AHEAD_MS).await.unwrap();
    assert_eq!(behind.jwks(), first.jwks());
    assert!(behind.signer(now - limits::KEYS_AHEAD_MS).is_some());
    let fault = open(now - limits::KEYS_AHEAD_MS - 1).await.unwrap_err();
    assert!(matches!(fault, KeyringFault::ClockBehind { .. }), "{fault}");
    let text = fault.to_string();
    assert!(text.contains("clock says 2027-01-15T07:58:59") && text.contains("set the clock"), "{text}");
    database.close().await;
}

#[tokio::test]
async fn the_outbox_survives_a_clock_that_jumps_ahead() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let ada = app.person("ada@example.com").await;
    gateway.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    logout(&app, &ada).await;
    let day = 24 * 3_600_000;
    app.clock.pass(day);
    // Several checks of the outbox.
    tokio::time::sleep(Duration::from_secs(3)).await;
    app.clock.pass(-day);
    gateway.refuse(None);
    assert_eq!(gateway.until_received(1).await[0]["session"], ada.session.as_str());
}
