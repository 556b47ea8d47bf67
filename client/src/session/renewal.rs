//! The state that the clones of a session share, and how its tokens are renewed: once for all
//! tasks that wait, and once for all processes that share the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;
use tokio::sync::watch;

use super::store::{SessionStore, SessionTokens};
use crate::{account::AuthClient, error::ClientError};

/// Refreshes in a row within one renewal: with our token, and with one that another process put
/// into the store meanwhile.
const REFRESHES: usize = 2;

/// The refresh in progress: its result, once there is one.
type PendingRefresh = watch::Receiver<Option<Result<SessionTokens, ClientError>>>;

/// A session that all clones of a client share.
pub(super) struct SharedSession {
    pub(super) auth: Arc<dyn AuthClient>,
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) now: Arc<dyn Fn() -> OffsetDateTime + Send + Sync>,
    state: Mutex<SessionState>,
}

/// What this process knows of the session.
#[derive(Default)]
struct SessionState {
    tokens: Option<SessionTokens>,
    pending: Option<PendingRefresh>,
    /// The answer to a refresh was lost, so the refresh token may be spent. Sending it again would
    /// end the session while its access token is still valid.
    may_be_spent: bool,
}

/// Whether the refresh token may be spent although no new one arrived: the answer was lost, or did
/// not come from the auth service.
fn may_be_spent(error: &ClientError) -> bool {
    match error {
        ClientError::Timeout | ClientError::Lost | ClientError::Malformed { .. } => true,
        // A 401 without a code of the contract comes from a proxy.
        ClientError::Refused(refusal) => refusal.status >= 500 || refusal.code == "http_401",
        ClientError::Invalid(_)
        | ClientError::Unreachable
        | ClientError::BreakerOpen { .. }
        | ClientError::LoggedOut
        | ClientError::Store(_) => false,
    }
}

/// Whether an answer was lost so soon that the service repeats it. A time-out comes too late.
fn is_repeatable(error: &ClientError) -> bool {
    match error {
        ClientError::Lost => true,
        ClientError::Refused(refusal) => refusal.status == 502,
        ClientError::Invalid(_)
        | ClientError::Timeout
        | ClientError::Malformed { .. }
        | ClientError::Unreachable
        | ClientError::BreakerOpen { .. }
        | ClientError::LoggedOut
        | ClientError::Store(_) => false,
    }
}

impl SharedSession {
    pub(super) fn new(
        auth: Arc<dyn AuthClient>,
        store: Arc<dyn SessionStore>,
        now: Arc<dyn Fn() -> OffsetDateTime + Send + Sync>,
        tokens: Option<SessionTokens>,
    ) -> Self {
        Self { auth, store, now, state: Mutex::new(SessionState { tokens, ..SessionState::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the tokens that this process holds.
    pub(super) fn tokens(&self) -> Option<SessionTokens> {
        self.state().tokens.clone()
    }

    pub(super) fn set_tokens(&self, tokens: Option<SessionTokens>) {
        let mut state = self.state();
        state.tokens = tokens;
        state.may_be_spent = false;
    }

    /// Returns tokens that are valid by the local clock.
    pub(super) async fn valid_tokens(self: &Arc<Self>) -> Result<SessionTokens, ClientError> {
        let (tokens, may_be_spent) = {
            let state = self.state();
            (state.tokens.clone(), state.may_be_spent)
        };
        let Some(tokens) = tokens else {
            // Another client may have logged in through the same store since.
            let tokens = self.store.load().await?.ok_or(ClientError::LoggedOut)?;
            self.set_tokens(Some(tokens.clone()));
            return Ok(tokens);
        };
        let now = (self.now)();
        if now < tokens.renew_at || (may_be_spent && now < tokens.expires_at) {
            return Ok(tokens);
        }
        match self.renew(&tokens).await {
            // Before the access token expires there is time for another try.
            Err(error) if (self.now)() < tokens.expires_at && error != ClientError::LoggedOut => Ok(tokens),
            result => result,
        }
    }

    /// Returns other tokens than `used`: those that another caller received meanwhile, or new ones.
    pub(super) async fn renew(self: &Arc<Self>, used: &SessionTokens) -> Result<SessionTokens, ClientError> {
        let mut pending = {
            let mut state = self.state();
            match &state.tokens {
                None => return Err(ClientError::LoggedOut),
                Some(tokens) if tokens.access_token != used.access_token => return Ok(tokens.clone()),
                Some(_) => {}
            }
            match &state.pending {
                // A refresh whose task died without a result is no longer in progress.
                Some(pending) if pending.has_changed().is_ok() => pending.clone(),
                Some(_) | None => {
                    let (sender, pending) = watch::channel(None);
                    state.pending = Some(pending.clone());
                    let (session, used) = (Arc::clone(self), used.clone());
                    // A separate task: a caller that is cancelled must not lose the answer, which
                    // holds the only valid refresh token.
                    tokio::spawn(async move {
                        let result = session.refresh(used).await;
                        session.state().pending = None;
                        sender.send_replace(Some(result));
                    });
                    pending
                }
            }
        };
        let result = pending.wait_for(Option::is_some).await.map(|result| result.clone());
        // The task ends without a result only when its runtime shuts down.
        result.ok().flatten().unwrap_or(Err(ClientError::Lost))
    }

    /// Renews the tokens under the store's lock.
    async fn refresh(&self, used: SessionTokens) -> Result<SessionTokens, ClientError> {
        let _guard = self.store.lock().await?;
        let Some(mut stored) = self.store.load().await? else {
            self.set_tokens(None);
            return Err(ClientError::LoggedOut);
        };
        // Ours are newer than the stored ones if a save failed.
        let mut current = if stored.is_newer(&used) { stored.clone() } else { used.clone() };
        if current.access_token != used.access_token && (self.now)() < current.renew_at {
            self.set_tokens(Some(current.clone()));
            return Ok(current);
        }
        for _ in 0..REFRESHES {
            let asked_at = (self.now)();
            let mut answer = self.auth.refresh(&current.refresh_token).await;
            // A lost answer may have spent the token, whatever the second answer is.
            let is_repeated = answer.as_ref().is_err_and(is_repeatable);
            if is_repeated {
                // Within seconds of its use a refresh token is answered with the same new one.
                answer = self.auth.refresh(&current.refresh_token).await;
            }
            match answer {
                Ok(set) => return self.save(&stored, SessionTokens::from_set(&set, asked_at, Some(&current))).await,
                Err(error) if error.ends_session() => {}
                Err(error) => {
                    self.state().may_be_spent |= is_repeated || may_be_spent(&error);
                    return Err(error);
                }
            }
            // Refused. A store without a lock may hold what another process received for the same
            // token.
            match self.store.load().await? {
                Some(newer) if newer.refresh_token != current.refresh_token && newer.is_newer(&current) => {
                    if (self.now)() < newer.renew_at {
                        self.set_tokens(Some(newer.clone()));
                        return Ok(newer);
                    }
                    (current, stored) = (newer.clone(), newer);
                }
                Some(_) | None => break,
            }
        }
        tracing::warn!("the session has ended: its refresh token is refused");
        self.set_tokens(None);
        self.store.replace(Some(&stored), None).await?;
        Err(ClientError::LoggedOut)
    }

    /// Saves new tokens: in memory in any case, and in the store if it works.
    async fn save(&self, stored: &SessionTokens, new: SessionTokens) -> Result<SessionTokens, ClientError> {
        self.set_tokens(Some(new.clone()));
        match self.store.replace(Some(stored), Some(&new)).await {
            Ok(true) => Ok(new),
            // Without a lock, another client logged out or in during the refresh: its change is the
            // later one.
            Ok(false) => {
                let stored = self.store.load().await?;
                self.set_tokens(stored.clone());
                stored.ok_or(ClientError::LoggedOut)
            }
            Err(error) => {
                tracing::error!(
                    code = error.code(),
                    "the session's new tokens cannot be stored; they are kept in memory"
                );
                Ok(new)
            }
        }
    }
}
