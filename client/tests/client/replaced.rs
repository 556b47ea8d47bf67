//! A login that replaces the content of a store: the new session is kept, and no session without a
//! copy stays alive at the service.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use portcullis_client::{
    account::Credentials,
    error::ClientError,
    secret::Secret,
    session::{AuthenticatedClient, FileStore, SessionStore, SessionTokens, StoreError},
};
use serde_json::json;

use crate::fake::{Fake, answer, refuse, tokens, user};

/// A service with numbered sessions. It refuses the access tokens of `expired` ones.
#[derive(Default)]
struct Sessions {
    count: usize,
    live: BTreeSet<usize>,
    expired: BTreeSet<usize>,
    logout_is_out: bool,
}

async fn start() -> (Fake, Arc<Mutex<Sessions>>) {
    let sessions = Arc::new(Mutex::new(Sessions::default()));
    let shared = Arc::clone(&sessions);
    let fake = Fake::start(move |asked, _| {
        let mut sessions = shared.lock().unwrap();
        let number = |text: Option<&str>, prefix: &str| text.and_then(|text| text.strip_prefix(prefix)?.parse().ok());
        let shown: Option<usize> = number(asked.header("authorization"), "Bearer access-");
        match asked.target.as_str() {
            "/api/v1/auth/login" => {
                sessions.count += 1;
                let count = sessions.count;
                sessions.live.insert(count);
                answer(200, &tokens(&format!("access-{count}"), &format!("refresh-{count}"), 900))
            }
            "/api/v1/auth/refresh" => match number(asked.json()["refresh_token"].as_str(), "refresh-") {
                Some(number) if sessions.live.contains(&number) => {
                    sessions.expired.remove(&number);
                    answer(200, &tokens(&format!("access-{number}"), &format!("refresh-{number}"), 900))
                }
                _ => refuse(401, "token_invalid"),
            },
            "/api/v1/auth/logout" if sessions.logout_is_out => refuse(503, "unavailable"),
            _ if shown.is_none_or(|shown| sessions.expired.contains(&shown)) => refuse(401, "token_expired"),
            _ if shown.is_some_and(|shown| !sessions.live.contains(&shown)) => refuse(401, "token_revoked"),
            "/api/v1/auth/logout" => {
                shown.map(|shown| sessions.live.remove(&shown));
                answer(200, &json!({ "message": "Logged out" }))
            }
            _ => answer(200, &json!({ "user": user() })),
        }
    })
    .await;
    (fake, sessions)
}

async fn log_in(fake: &Fake, store: Arc<dyn SessionStore>) -> Result<AuthenticatedClient, ClientError> {
    let credentials = Credentials::new("ada@example.com", Secret::new("password".to_owned()));
    AuthenticatedClient::login(Arc::new(fake.client()), store, &credentials).await
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// A change of a session's file, the result of reading it, and the live sessions after a login that
/// replaces it: the second and, if the first cannot be read, the first too.
type Case = (&'static str, fn(&Path), Result<(), StoreError>, &'static [usize]);

#[cfg(unix)]
#[tokio::test]
async fn a_login_replaces_whatever_the_file_is_and_ends_the_session_that_it_held() {
    let cases: [Case; 8] = [
        ("as it was written", |_| {}, Ok(()), &[2]),
        ("readable by its group", |path| set_mode(path, 0o640), Err(StoreError::Exposed), &[2]),
        ("readable by everybody", |path| set_mode(path, 0o644), Err(StoreError::Exposed), &[2]),
        ("writable by everybody", |path| set_mode(path, 0o622), Err(StoreError::Exposed), &[2]),
        ("empty", |path| std::fs::write(path, "").unwrap(), Err(StoreError::Malformed), &[1, 2]),
        ("cut off", |path| cut(path), Err(StoreError::Malformed), &[1, 2]),
        ("too long", |path| std::fs::write(path, " ".repeat(65_536)).unwrap(), Err(StoreError::Malformed), &[1, 2]),
        (
            "no session, and readable by everybody",
            |path| {
                std::fs::write(path, "[]").unwrap();
                set_mode(path, 0o666);
            },
            Err(StoreError::Exposed),
            &[1, 2],
        ),
    ];
    for (case, spoil, reads, live) in cases {
        for is_expired in [false, true] {
            let (fake, sessions) = start().await;
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("session");
            let store = Arc::new(FileStore::new(&path));
            log_in(&fake, store.clone()).await.unwrap();
            if is_expired {
                sessions.lock().unwrap().expired.insert(1);
            }
            spoil(&path);
            assert_eq!(store.load().await.map(drop), reads, "{case}");
            let resumed = AuthenticatedClient::resume(Arc::new(fake.client()), store.clone()).await;
            assert_eq!(resumed.map(drop), reads.map_err(ClientError::from), "{case}");

            let session = log_in(&fake, store.clone()).await.expect(case);
            assert_eq!(session.me().await.unwrap().email, "ada@example.com", "{case}");
            assert_eq!(store.load().await.unwrap().unwrap().access_token, Secret::new("access-2".to_owned()), "{case}");
            assert_eq!(mode(&path), 0o600, "{case}");
            let found: Vec<usize> = sessions.lock().unwrap().live.iter().copied().collect();
            assert_eq!(found, live, "{case}, {is_expired}");
        }
    }
}

fn cut(path: &Path) {
    let text = std::fs::read(path).unwrap();
    std::fs::write(path, &text[..text.len() / 2]).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_logout_removes_a_file_that_was_exposed_or_spoilt_meanwhile() {
    let expose: fn(&Path) = |path| set_mode(path, 0o644);
    let empty: fn(&Path) = |path| std::fs::write(path, "").unwrap();
    for (case, spoil) in [("exposed", expose), ("empty", empty), ("cut off", cut)] {
        let (fake, sessions) = start().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session");
        let session = log_in(&fake, Arc::new(FileStore::new(&path))).await.unwrap();
        spoil(&path);
        session.logout().await.expect(case);
        assert!(!path.exists() && sessions.lock().unwrap().live.is_empty(), "{case}");
    }
}

#[tokio::test]
async fn a_login_succeeds_though_the_session_before_cannot_be_ended() {
    let (fake, sessions) = start().await;
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FileStore::new(folder.path().join("session")));
    log_in(&fake, store.clone()).await.unwrap();
    sessions.lock().unwrap().logout_is_out = true;
    log_in(&fake, store).await.unwrap().me().await.unwrap();
}

/// A store that rejects every write.
#[derive(Debug)]
struct Full {
    holds: Result<Option<SessionTokens>, StoreError>,
}

#[async_trait]
impl SessionStore for Full {
    async fn load(&self) -> Result<Option<SessionTokens>, StoreError> {
        self.holds.clone()
    }

    async fn replace(&self, _: Option<&SessionTokens>, _: Option<&SessionTokens>) -> Result<bool, StoreError> {
        Err(StoreError::Io(std::io::ErrorKind::StorageFull))
    }
}

#[tokio::test]
async fn a_store_that_cannot_keep_the_new_session_leaves_none_at_the_service() {
    let full = StoreError::Io(std::io::ErrorKind::StorageFull);
    for (holds, error, logins) in [
        (Ok(None), full, 1),
        // A store without an implementation of `overwrite`.
        (Err(StoreError::Malformed), StoreError::Malformed, 1),
        // A login over an unreadable store fails before it creates a session.
        (Err(full), full, 0),
    ] {
        let (fake, sessions) = start().await;
        let failed = log_in(&fake, Arc::new(Full { holds })).await.unwrap_err();
        let sessions = sessions.lock().unwrap();
        assert_eq!((failed, sessions.count), (error.into(), logins));
        assert!(sessions.live.is_empty());
    }
}
