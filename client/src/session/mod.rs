//! [`AuthenticatedClient`]: a session that refreshes itself, for any number of tasks,
//! and with other processes through a shared [`SessionStore`].
//!
//! A refresh token can be spent once, and shown twice it ends its session. So there is
//! one refresh at a time: tasks wait for the one that is under way, processes for the
//! store's lock, and whoever comes late uses what the other got. A refresh runs in a
//! task of its own, so that a caller who gives up does not lose its answer.
//!
//! What cannot be mended: when the answer to a refresh is lost on the wire, nobody knows
//! whether the old token was spent. It is kept, the access token is used for as long as
//! it lives, and only then is the refresh token shown again. If it was not spent, the
//! session goes on; if it was, the service takes the second showing for theft, and the
//! call fails with [`ClientError::LoggedOut`]. The same is true of a process that dies
//! between the answer and the store.

mod file;
mod renewal;
mod store;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use time::OffsetDateTime;
use uuid::Uuid;

pub use file::FileStore;
pub use store::{MemoryStore, SessionStore, SessionTokens, StoreError, StoreGuard};

use crate::{
    account::{AuthClient, Credentials, PasswordChange, Session, User},
    admin::AdminClient,
    error::ClientError,
    request::{ApiAnswer, ApiRequest},
    secret::Secret,
};
use renewal::Flight;

/// A session: it shows its access token with each call, and refreshes it ahead of its
/// end or when it is refused. Clones are the same session.
#[derive(Clone)]
pub struct AuthenticatedClient {
    inner: Arc<Inner>,
}

struct Inner {
    auth: Arc<dyn AuthClient>,
    store: Arc<dyn SessionStore>,
    now: Arc<dyn Fn() -> OffsetDateTime + Send + Sync>,
    held: Mutex<Held>,
}

/// What this process knows of the session.
#[derive(Default)]
struct Held {
    tokens: Option<SessionTokens>,
    /// The refresh that is under way.
    flight: Option<Flight>,
    /// The answer to a refresh was lost: the refresh token may be spent, and showing it
    /// again would end the session while its access token is still good.
    is_doubtful: bool,
}

impl fmt::Debug for AuthenticatedClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_held = self.inner.held().tokens.is_some();
        formatter.debug_struct("AuthenticatedClient").field("is_held", &is_held).finish_non_exhaustive()
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, tokens: Option<SessionTokens>) {
        let mut held = self.held();
        held.tokens = tokens;
        held.is_doubtful = false;
    }
}

impl AuthenticatedClient {
    fn new(auth: Arc<dyn AuthClient>, store: Arc<dyn SessionStore>, tokens: Option<SessionTokens>) -> Self {
        let held = Mutex::new(Held { tokens, ..Held::default() });
        Self { inner: Arc::new(Inner { auth, store, now: Arc::new(OffsetDateTime::now_utc), held }) }
    }

    /// Logs in and keeps the session in a store. What is there is replaced, even if it is no
    /// session or a file that others can read; a session that can be read of it is ended at
    /// the service, so that no session stays alive that no program knows of.
    ///
    /// # Errors
    /// [`ClientError`]: the login's, or the store's. When the store fails, the new session is
    /// ended again.
    pub async fn login(
        auth: Arc<dyn AuthClient>,
        store: Arc<dyn SessionStore>,
        credentials: &Credentials,
    ) -> Result<Self, ClientError> {
        // The store first: one that cannot be used should cost no session.
        let guard = store.lock().await?;
        let (before, is_broken) = match store.load().await {
            Ok(before) => (before, false),
            Err(error) if error.is_healed_by_login() => (store.salvage().await?, true),
            Err(error) => return Err(error.into()),
        };
        let asked_at = OffsetDateTime::now_utc();
        let set = auth.login(credentials).await?;
        let tokens = SessionTokens::from_set(&set, asked_at, before.as_ref());
        let kept = if is_broken {
            store.overwrite(Some(&tokens)).await.map(|()| true)
        } else {
            store.replace(before.as_ref(), Some(&tokens)).await
        };
        drop(guard);
        // False: another login through the same store happened at the same moment.
        if let Some(error) = kept.map_or_else(Some, |is_kept| (!is_kept).then_some(StoreError::Busy)) {
            end(auth.as_ref(), &tokens).await;
            return Err(error.into());
        }
        if let Some(before) = before {
            end(auth.as_ref(), &before).await;
        }
        Ok(Self::new(auth, store, Some(tokens)))
    }

    /// Goes on with the session that a store holds. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::LoggedOut`] when it holds none, or the store's.
    pub async fn resume(auth: Arc<dyn AuthClient>, store: Arc<dyn SessionStore>) -> Result<Self, ClientError> {
        let tokens = store.load().await?.ok_or(ClientError::LoggedOut)?;
        Ok(Self::new(auth, store, Some(tokens)))
    }

    /// With another clock, for tests; before the first call.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        let tokens = self.inner.held().tokens.clone();
        let held = Mutex::new(Held { tokens, ..Held::default() });
        let (auth, store) = (Arc::clone(&self.inner.auth), Arc::clone(&self.inner.store));
        Self { inner: Arc::new(Inner { auth, store, now: Arc::new(now), held }) }
    }

    /// Makes a call of any route of the gateway in the session's name.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::LoggedOut`] when the session has ended.
    pub async fn send(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        // The body is shared bytes: the second try costs no copy.
        self.with_token(|token| self.inner.auth.exchange(request.clone().with_token(&token))).await
    }

    /// Makes a call of the caller's own with a good access token. If it fails because
    /// the token was refused ([`ClientError::wants_refresh`]), it is made once more, with
    /// a new one.
    ///
    /// # Errors
    /// The call's, or the refresh's.
    pub async fn with_token<T, C, F>(&self, call: C) -> Result<T, ClientError>
    where
        C: Fn(Secret) -> F,
        F: Future<Output = Result<T, ClientError>>,
    {
        let tokens = self.inner.good_tokens().await?;
        match call(tokens.access_token.clone()).await {
            Err(error) if error.wants_refresh() => {
                let renewed = self.inner.renew(&tokens).await?;
                call(renewed.access_token).await
            }
            other => other,
        }
    }

    /// The session's user, as of now.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn me(&self) -> Result<User, ClientError> {
        let auth = &self.inner.auth;
        self.with_token(|token| async move { auth.me(&token).await }).await
    }

    /// A user's profile: one's own, and an administrator reads anybody's.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn user(&self, id: Uuid) -> Result<User, ClientError> {
        let auth = &self.inner.auth;
        self.with_token(|token| async move { auth.user(&token, id).await }).await
    }

    /// Changes the password, which ends the user's other sessions.
    ///
    /// # Errors
    /// [`ClientError`]; 401 `invalid_credentials` where the current one is wrong.
    pub async fn change_password(&self, change: &PasswordChange) -> Result<(), ClientError> {
        let auth = &self.inner.auth;
        self.with_token(|token| async move { auth.change_password(&token, change).await }).await
    }

    /// The user's sessions.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn sessions(&self) -> Result<Vec<Session>, ClientError> {
        let auth = &self.inner.auth;
        self.with_token(|token| async move { auth.sessions(&token).await }).await
    }

    /// Ends one of the user's sessions.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn end_session(&self, id: Uuid) -> Result<(), ClientError> {
        let auth = &self.inner.auth;
        self.with_token(|token| async move { auth.end_session(&token, id).await }).await
    }

    /// Ends the session, here, in the store and at the service. When the service cannot
    /// be reached the session stays, so that it can be tried again; see
    /// [`AuthenticatedClient::forget`].
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn logout(&self) -> Result<(), ClientError> {
        let inner = &self.inner;
        let ended = self
            .with_token(|token| async move {
                let refresh_token = inner.held().tokens.as_ref().map(|tokens| tokens.refresh_token.clone());
                inner.auth.logout(&token, refresh_token.as_ref()).await
            })
            .await;
        match ended {
            Ok(()) | Err(ClientError::LoggedOut) => self.forget().await,
            Err(error) => Err(error),
        }
    }

    /// Forgets the session here and in the store, and tells nobody: whoever has a copy
    /// of its tokens can go on with it.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget(&self) -> Result<(), ClientError> {
        let inner = &self.inner;
        let ours = inner.held().tokens.clone();
        let _guard = inner.store.lock().await?;
        let (there, is_broken) = match inner.store.load().await {
            Ok(there) => (there, false),
            Err(error) if error.is_healed_by_login() => (inner.store.salvage().await?, true),
            Err(error) => return Err(error.into()),
        };
        // Somebody may have logged in anew meanwhile; that session is not ours to end.
        let is_anothers = matches!((&ours, &there), (Some(ours), Some(there)) if there.is_newer(ours));
        if is_broken && !is_anothers {
            inner.store.overwrite(None).await?;
        } else if !is_anothers && ours.is_some() && there.is_some() {
            inner.store.replace(there.as_ref(), None).await?;
        }
        inner.hold(None);
        Ok(())
    }
}

/// Ends a session that no store holds any more. A service that cannot be reached keeps it
/// until it expires: the caller's own call has succeeded, and does not fail because of it.
async fn end(auth: &dyn AuthClient, tokens: &SessionTokens) {
    let mut ended = auth.logout(&tokens.access_token, Some(&tokens.refresh_token)).await;
    // An access token that has expired ends nothing; its refresh token gives one that does.
    if ended.as_ref().is_err_and(ClientError::wants_refresh) {
        ended = match auth.refresh(&tokens.refresh_token).await {
            Ok(set) => auth.logout(&set.access_token, Some(&set.refresh_token)).await,
            Err(error) if error.ends_session() => Ok(()),
            Err(error) => Err(error),
        };
    }
    if let Err(error) = ended {
        tracing::warn!(code = error.code(), "a session that was replaced cannot be ended; it ends by itself");
    }
}

#[async_trait::async_trait]
impl AdminClient for AuthenticatedClient {
    async fn send(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        Self::send(self, request).await
    }
}
