//! One session that several processes share through a store: here several clients, each with its own
//! store of the same file.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use portcullis_client::{
    account::Credentials,
    error::ClientError,
    secret::Secret,
    session::{AuthenticatedClient, FileStore, MemoryStore, SessionStore, SessionTokens, StoreError},
};

use crate::{fake::run_at_once, service::Service};

fn credentials() -> Credentials {
    Credentials::new("ada@example.com", Secret::new("password".into()))
}

async fn resume(service: &Service, path: &Path) -> AuthenticatedClient {
    AuthenticatedClient::resume(Arc::new(service.fake.client()), Arc::new(FileStore::new(path))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_of_many_processes_refresh_once() {
    let service = Service::start(900).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let auth = Arc::new(service.fake.client());
    AuthenticatedClient::login(auth, Arc::new(FileStore::new(&path)), &credentials()).await.unwrap();
    let processes = [resume(&service, &path).await, resume(&service, &path).await, resume(&service, &path).await];
    for round in 1..=3 {
        service.expire();
        let call = |session: AuthenticatedClient| async move { session.me().await };
        let sessions = processes.iter().flat_map(|session| (0..20).map(|_| session.clone()));
        for result in run_at_once(sessions.map(call)).await {
            result.unwrap();
        }
        assert_eq!(service.refreshes(), round);
    }
}

#[tokio::test]
async fn a_logout_in_one_process_is_one_in_all() {
    let service = Service::start(900).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let auth = Arc::new(service.fake.client());
    let one = AuthenticatedClient::login(auth.clone(), Arc::new(FileStore::new(&path)), &credentials()).await.unwrap();
    let other = resume(&service, &path).await;
    one.logout().await.unwrap();
    assert_eq!(other.me().await.unwrap_err(), ClientError::LoggedOut);
    assert_eq!(service.refreshes(), 0, "there is nothing left to refresh");

    AuthenticatedClient::login(auth, Arc::new(FileStore::new(&path)), &credentials()).await.unwrap();
    other.me().await.expect("a login in one process is one in all");
}

/// A store without a lock, into which another process puts its tokens before ours are refused.
#[derive(Debug, Default)]
struct Overtaken {
    inner: MemoryStore,
    theirs: std::sync::Mutex<Option<SessionTokens>>,
    loads: std::sync::atomic::AtomicUsize,
}

#[async_trait]
impl SessionStore for Overtaken {
    async fn load(&self) -> Result<Option<SessionTokens>, StoreError> {
        let is_second = self.loads.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1;
        let theirs = if is_second { self.theirs.lock().unwrap().take() } else { None };
        if let Some(theirs) = theirs {
            let ours = self.inner.load().await?;
            self.inner.replace(ours.as_ref(), Some(&theirs)).await?;
        }
        self.inner.load().await
    }

    async fn replace(
        &self,
        expected: Option<&SessionTokens>,
        next: Option<&SessionTokens>,
    ) -> Result<bool, StoreError> {
        self.inner.replace(expected, next).await
    }
}

#[tokio::test]
async fn who_loses_a_race_for_a_refresh_uses_what_the_winner_got() {
    let service = Service::start(900).await;
    let store = Arc::new(Overtaken::default());
    let auth = Arc::new(service.fake.client());
    let session = AuthenticatedClient::login(auth.clone(), store.clone(), &credentials()).await.unwrap();
    // The other process refreshes with the same token.
    let ours = store.inner.load().await.unwrap().unwrap();
    let set = portcullis_client::account::AuthClient::refresh(&*auth, &ours.refresh_token).await.unwrap();
    let theirs = SessionTokens::from_set(&set, time::OffsetDateTime::now_utc(), Some(&ours));
    *store.theirs.lock().unwrap() = Some(theirs);
    store.loads.store(0, std::sync::atomic::Ordering::Relaxed);
    {
        let mut state = service.state.lock().unwrap();
        (state.is_lenient, state.oldest) = (true, state.generation);
    }
    session.me().await.unwrap();
    assert_eq!(store.inner.load().await.unwrap().unwrap().refresh_token, set.refresh_token);
}

/// A store that rejects every write after the login.
#[derive(Debug, Default)]
struct Full(MemoryStore);

#[async_trait]
impl SessionStore for Full {
    async fn load(&self) -> Result<Option<SessionTokens>, StoreError> {
        self.0.load().await
    }

    async fn replace(
        &self,
        expected: Option<&SessionTokens>,
        next: Option<&SessionTokens>,
    ) -> Result<bool, StoreError> {
        if expected.is_some() {
            return Err(StoreError::Io(std::io::ErrorKind::StorageFull));
        }
        self.0.replace(expected, next).await
    }
}

#[tokio::test]
async fn a_full_disk_does_not_end_the_session_of_the_process_that_has_it() {
    let service = Service::start(900).await;
    let auth = Arc::new(service.fake.client());
    let session = AuthenticatedClient::login(auth, Arc::new(Full::default()), &credentials()).await.unwrap();
    for round in 1..=3 {
        service.expire();
        session.me().await.unwrap();
        assert_eq!(service.refreshes(), round);
    }
}

/// A store with concurrent writers: after a number of our writes, theirs come first.
#[derive(Debug)]
struct Contended {
    inner: MemoryStore,
    /// The number of our writes that succeed.
    ours: std::sync::atomic::AtomicUsize,
    /// The tokens that the others write; `None` for a logout.
    theirs: std::sync::Mutex<Option<SessionTokens>>,
}

impl Contended {
    fn after(ours: usize) -> Arc<Self> {
        Arc::new(Self { inner: MemoryStore::default(), ours: ours.into(), theirs: std::sync::Mutex::new(None) })
    }
}

#[async_trait]
impl SessionStore for Contended {
    async fn load(&self) -> Result<Option<SessionTokens>, StoreError> {
        self.inner.load().await
    }

    async fn replace(
        &self,
        expected: Option<&SessionTokens>,
        next: Option<&SessionTokens>,
    ) -> Result<bool, StoreError> {
        use std::sync::atomic::Ordering::Relaxed;
        if self.ours.load(Relaxed) > 0 {
            self.ours.fetch_sub(1, Relaxed);
            return self.inner.replace(expected, next).await;
        }
        let theirs = self.theirs.lock().unwrap().clone();
        self.inner.replace(expected, theirs.as_ref()).await?;
        Ok(false)
    }
}

#[tokio::test]
async fn of_two_concurrent_logins_through_one_store_one_fails() {
    let service = Service::start(900).await;
    let auth = Arc::new(service.fake.client());
    let error = AuthenticatedClient::login(auth, Contended::after(0), &credentials()).await.unwrap_err();
    assert_eq!(error, StoreError::Busy.into());
}

#[tokio::test]
async fn whoever_wrote_while_we_refreshed_has_the_last_word() {
    for is_logout in [true, false] {
        let service = Service::start(900).await;
        let auth = Arc::new(service.fake.client());
        let store = Contended::after(1);
        let session = AuthenticatedClient::login(auth, store.clone(), &credentials()).await.unwrap();
        if !is_logout {
            // Another login, whose token follows that of the pending refresh.
            let mut theirs = store.load().await.unwrap().unwrap();
            theirs.access_token = Secret::new("access-2".to_owned());
            *store.theirs.lock().unwrap() = Some(theirs);
        }
        service.expire();
        let name = session.me().await.map(|user| user.profile.first_name);
        assert_eq!(name, if is_logout { Err(ClientError::LoggedOut) } else { Ok("Ada".to_owned()) });
        assert_eq!(session.me().await.is_ok(), !is_logout);
    }
}

/// A store whose lock always fails.
#[derive(Debug)]
struct Jammed;

#[async_trait]
impl SessionStore for Jammed {
    async fn load(&self) -> Result<Option<SessionTokens>, StoreError> {
        Err(StoreError::Malformed)
    }

    async fn replace(&self, _: Option<&SessionTokens>, _: Option<&SessionTokens>) -> Result<bool, StoreError> {
        Err(StoreError::Malformed)
    }

    async fn lock(&self) -> Result<portcullis_client::session::StoreGuard, StoreError> {
        Err(StoreError::Busy)
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_locked_costs_no_session() {
    let service = Service::start(900).await;
    let auth = Arc::new(service.fake.client());
    let error = AuthenticatedClient::login(auth.clone(), Arc::new(Jammed), &credentials()).await.unwrap_err();
    assert_eq!((error, service.fake.count()), (StoreError::Busy.into(), 0));
    let error = AuthenticatedClient::resume(auth, Arc::new(Jammed)).await.unwrap_err();
    assert_eq!(error, StoreError::Malformed.into());
}
