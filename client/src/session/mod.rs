//! [`AuthenticatedClient`]: a session that refreshes itself, for any number of tasks, and for
//! other processes through a shared [`SessionStore`].
//!
//! # Refreshes
//!
//! A refresh token can be spent once; sending it twice ends its session. Therefore one refresh
//! runs at a time: tasks wait for the one in progress, processes for the store's lock, and both
//! use its result. A refresh runs in a task of its own, so that a cancelled caller does not lose
//! the answer. Tokens are renewed 30 s before they expire; if that fails, the old access token is
//! used until it expires. A token that the service refuses is renewed, and the call is sent once
//! more with the same body.
//!
//! The session ends only when the auth service refuses its refresh token (401 `token_invalid` or
//! `token_revoked`). An outage, a proxy's 401, or `gateway_required` leave it as it is.
//!
//! # Lost answers
//!
//! If the connection breaks or the gateway answers 502, the refresh token is sent once more at
//! once: within ten seconds the auth service repeats its answer. After a time-out the client
//! cannot know whether the token was spent. It uses the access token for as long as that is valid
//! and then sends the refresh token again. If the token was spent, the service takes this for
//! theft, and the call fails with [`ClientError::LoggedOut`]. The same applies to a process that
//! dies between the answer and the store.
//!
//! # Files
//!
//! [`FileStore`] is a file that only its owner can read (0600), replaced as a whole, under an
//! advisory lock on `<name>.lock`. Keep it on a local disk. A file that is empty, truncated or
//! readable by others is refused; a login replaces it and ends the session that it held, if that
//! can still be read.
//!
//! # Without async
//!
//! A runtime of one thread is enough. Keep it for as long as the session: a refresh in progress
//! continues when the runtime is entered next. Inside another runtime use
//! `tokio::task::spawn_blocking`, because `block_on` panics there.
//!
//! ```no_run
//! use std::sync::Arc;
//! use portcullis_client::{AuthenticatedClient, FileStore, HttpAuthClient};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//!     let auth = Arc::new(HttpAuthClient::new("https://api.example.com")?);
//!     let store = Arc::new(FileStore::new("session.json"));
//!     let session = runtime.block_on(AuthenticatedClient::resume(auth, store))?;
//!     println!("{}", runtime.block_on(session.me())?.email);
//!     Ok(())
//! }
//! ```

mod file;
mod renewal;
mod store;

use std::{fmt, future::Future, sync::Arc};

use time::OffsetDateTime;
use uuid::Uuid;

pub use crate::error::StoreError;
pub use file::FileStore;
pub use store::{MemoryStore, SessionStore, SessionTokens, StoreGuard};

use crate::{
    account::{AuthClient, Credentials, PasswordChange, Session, User},
    admin::AdminClient,
    error::ClientError,
    request::{ApiAnswer, ApiRequest},
    secret::Secret,
};
use renewal::SharedSession;

/// A session: sends its access token with each call, and refreshes it before it expires or when it
/// is refused. Clones are the same session.
#[derive(Clone)]
pub struct AuthenticatedClient {
    session: Arc<SharedSession>,
}

impl fmt::Debug for AuthenticatedClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_tokens = self.session.tokens().is_some();
        formatter.debug_struct("AuthenticatedClient").field("has_tokens", &has_tokens).finish_non_exhaustive()
    }
}

impl AuthenticatedClient {
    fn new(auth: Arc<dyn AuthClient>, store: Arc<dyn SessionStore>, tokens: Option<SessionTokens>) -> Self {
        let now = Arc::new(OffsetDateTime::now_utc);
        Self { session: Arc::new(SharedSession::new(auth, store, now, tokens)) }
    }

    /// Logs in and keeps the session in a store. The previous content is replaced, even if it is not
    /// a session or is readable by others. A session that can be read from it is ended at the
    /// service, so that no session outlives its last copy.
    ///
    /// # Errors
    /// [`ClientError`]: the login's, or the store's. If the store fails, the new session is ended.
    pub async fn login(
        auth: Arc<dyn AuthClient>,
        store: Arc<dyn SessionStore>,
        credentials: &Credentials,
    ) -> Result<Self, ClientError> {
        // The store comes first: if it is unusable, no session is created.
        let guard = store.lock().await?;
        let Stored { tokens: before, is_broken } = load(store.as_ref()).await?;
        let asked_at = OffsetDateTime::now_utc();
        let set = auth.login(credentials).await?;
        let tokens = SessionTokens::from_set(&set, asked_at, before.as_ref());
        let saved = if is_broken {
            store.overwrite(Some(&tokens)).await.map(|()| true)
        } else {
            store.replace(before.as_ref(), Some(&tokens)).await
        };
        drop(guard);
        // False: another login through the same store happened at the same moment.
        if let Some(error) = saved.map_or_else(Some, |is_saved| (!is_saved).then_some(StoreError::Busy)) {
            end(auth.as_ref(), &tokens).await;
            return Err(error.into());
        }
        if let Some(before) = before {
            end(auth.as_ref(), &before).await;
        }
        Ok(Self::new(auth, store, Some(tokens)))
    }

    /// Resumes the session that a store holds. Sends nothing.
    ///
    /// # Errors
    /// [`ClientError::LoggedOut`] if it holds none, or the store's.
    pub async fn resume(auth: Arc<dyn AuthClient>, store: Arc<dyn SessionStore>) -> Result<Self, ClientError> {
        let tokens = store.load().await?.ok_or(ClientError::LoggedOut)?;
        Ok(Self::new(auth, store, Some(tokens)))
    }

    /// Sets another clock, for tests; before the first call.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        let (auth, store) = (Arc::clone(&self.session.auth), Arc::clone(&self.session.store));
        Self { session: Arc::new(SharedSession::new(auth, store, Arc::new(now), self.session.tokens())) }
    }

    /// Calls any route of the gateway with the session's token.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::LoggedOut`] if the session has ended.
    pub async fn send(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        // The body is shared bytes: a second try costs no copy.
        self.with_token(|token| self.session.auth.exchange(request.clone().with_token(&token))).await
    }

    /// Runs a call with a valid access token. If the token is refused
    /// ([`ClientError::wants_refresh`]), runs it once more with a new one.
    ///
    /// # Errors
    /// The call's, or the refresh's.
    pub async fn with_token<T, C, F>(&self, call: C) -> Result<T, ClientError>
    where
        C: Fn(Secret) -> F,
        F: Future<Output = Result<T, ClientError>>,
    {
        let tokens = self.session.valid_tokens().await?;
        match call(tokens.access_token.clone()).await {
            Err(error) if error.wants_refresh() => {
                let renewed = self.session.renew(&tokens).await?;
                call(renewed.access_token).await
            }
            result => result,
        }
    }

    /// Returns the session's user as the service knows it now.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn me(&self) -> Result<User, ClientError> {
        let auth = &self.session.auth;
        self.with_token(|token| async move { auth.me(&token).await }).await
    }

    /// Returns a user's profile: the session's own, or any for an administrator.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn user(&self, id: Uuid) -> Result<User, ClientError> {
        let auth = &self.session.auth;
        self.with_token(|token| async move { auth.user(&token, id).await }).await
    }

    /// Changes the password, which ends the user's other sessions.
    ///
    /// # Errors
    /// [`ClientError`]; 401 `invalid_credentials` if the current one is wrong.
    pub async fn change_password(&self, change: &PasswordChange) -> Result<(), ClientError> {
        let auth = &self.session.auth;
        self.with_token(|token| async move { auth.change_password(&token, change).await }).await
    }

    /// Lists the user's sessions.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn sessions(&self) -> Result<Vec<Session>, ClientError> {
        let auth = &self.session.auth;
        self.with_token(|token| async move { auth.sessions(&token).await }).await
    }

    /// Ends one of the user's sessions.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn end_session(&self, id: Uuid) -> Result<(), ClientError> {
        let auth = &self.session.auth;
        self.with_token(|token| async move { auth.end_session(&token, id).await }).await
    }

    /// Ends the session at the service, in the store and in memory. If the service cannot be
    /// reached, the session stays, so that the caller can try again; see
    /// [`AuthenticatedClient::forget`].
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn logout(&self) -> Result<(), ClientError> {
        let session = &self.session;
        let ended = self
            .with_token(|token| async move {
                let refresh_token = session.tokens().map(|tokens| tokens.refresh_token);
                session.auth.logout(&token, refresh_token.as_ref()).await
            })
            .await;
        match ended {
            Ok(()) | Err(ClientError::LoggedOut) => self.forget().await,
            Err(error) => Err(error),
        }
    }

    /// Removes the session from memory and from the store without ending it at the service: a copy
    /// of its tokens stays valid.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget(&self) -> Result<(), ClientError> {
        let session = &self.session;
        let _guard = session.store.lock().await?;
        // Read under the lock: a refresh of this session may have ended just before.
        let ours = session.tokens();
        let Stored { tokens: stored, is_broken } = load(session.store.as_ref()).await?;
        // Another client may have logged in meanwhile; that session is not ours to remove.
        let is_another = matches!((&ours, &stored), (Some(ours), Some(stored)) if stored.is_newer(ours));
        if is_broken && !is_another {
            session.store.overwrite(None).await?;
        } else if !is_another && ours.is_some() && stored.is_some() {
            session.store.replace(stored.as_ref(), None).await?;
        }
        session.set_tokens(None);
        Ok(())
    }
}

/// The content of a store, as far as it can be read.
struct Stored {
    tokens: Option<SessionTokens>,
    /// Whether [`SessionStore::load`] refuses the content.
    is_broken: bool,
}

async fn load(store: &dyn SessionStore) -> Result<Stored, StoreError> {
    match store.load().await {
        Ok(tokens) => Ok(Stored { tokens, is_broken: false }),
        Err(error) if error.is_resolved_by_login() => Ok(Stored { tokens: store.salvage().await?, is_broken: true }),
        Err(error) => Err(error),
    }
}

/// Ends a session that no store holds any more. If the service cannot be reached, the session stays
/// until it expires: the caller's own call has succeeded and does not fail because of it.
async fn end(auth: &dyn AuthClient, tokens: &SessionTokens) {
    let mut ended = auth.logout(&tokens.access_token, Some(&tokens.refresh_token)).await;
    // An expired access token ends nothing; the refresh token yields one that does.
    if ended.as_ref().is_err_and(ClientError::wants_refresh) {
        ended = match auth.refresh(&tokens.refresh_token).await {
            Ok(set) => auth.logout(&set.access_token, Some(&set.refresh_token)).await,
            Err(error) if error.ends_session() => Ok(()),
            Err(error) => Err(error),
        };
    }
    if let Err(error) = ended {
        tracing::warn!(code = error.code(), "a replaced session cannot be ended; it stays until it expires");
    }
}

#[async_trait::async_trait]
impl AdminClient for AuthenticatedClient {
    async fn send(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        Self::send(self, request).await
    }
}
