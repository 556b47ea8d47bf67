//! When a session's tokens are renewed, and how it is done once for all who wait.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Inner, SessionTokens};
use crate::error::ClientError;

/// Refreshes in a row within one renewal: with our token, and with one that another
/// process put into the store meanwhile.
const REFRESHES: usize = 2;

/// A refresh that is under way: its result, once it is there.
pub(super) type Flight = watch::Receiver<Option<Result<SessionTokens, ClientError>>>;

/// Whether the refresh token may be spent although no new one came: the answer was lost, or
/// something other than the auth service wrote it.
fn may_be_spent(error: &ClientError) -> bool {
    match error {
        ClientError::Timeout | ClientError::Lost | ClientError::Malformed { .. } => true,
        // A 401 without a code of ours is a proxy's.
        ClientError::Refused(refusal) => refusal.status >= 500 || refusal.code == "http_401",
        ClientError::Invalid(_)
        | ClientError::Unreachable
        | ClientError::BreakerOpen { .. }
        | ClientError::LoggedOut
        | ClientError::Store(_) => false,
    }
}

/// Whether an answer was lost on its way, and so soon that the service gives it again. A
/// time-out comes too late for that.
fn was_lost(error: &ClientError) -> bool {
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

impl Inner {
    /// Tokens that are good for now, as far as the clock can tell.
    pub(super) async fn good_tokens(self: &Arc<Self>) -> Result<SessionTokens, ClientError> {
        let (tokens, is_doubtful) = {
            let held = self.held();
            (held.tokens.clone(), held.is_doubtful)
        };
        let Some(tokens) = tokens else {
            // Somebody may have logged in through the same store since.
            let tokens = self.store.load().await?.ok_or(ClientError::LoggedOut)?;
            self.hold(Some(tokens.clone()));
            return Ok(tokens);
        };
        let now = (self.now)();
        if now < tokens.renew_at || (is_doubtful && now < tokens.expires_at) {
            return Ok(tokens);
        }
        match self.renew(&tokens).await {
            // Ahead of its end there is still time for another try.
            Err(error) if (self.now)() < tokens.expires_at && error != ClientError::LoggedOut => Ok(tokens),
            other => other,
        }
    }

    /// Other tokens than `used`: those that somebody got meanwhile, or new ones.
    pub(super) async fn renew(self: &Arc<Self>, used: &SessionTokens) -> Result<SessionTokens, ClientError> {
        let mut flight = {
            let mut held = self.held();
            match &held.tokens {
                None => return Err(ClientError::LoggedOut),
                Some(tokens) if tokens.access_token != used.access_token => return Ok(tokens.clone()),
                Some(_) => {}
            }
            match &held.flight {
                // One whose task died without a result is no longer under way.
                Some(flight) if flight.has_changed().is_ok() => flight.clone(),
                Some(_) | None => {
                    let (sender, flight) = watch::channel(None);
                    held.flight = Some(flight.clone());
                    let (inner, used) = (Arc::clone(self), used.clone());
                    // A task of its own: a caller that goes away must not take the
                    // answer, which holds the only good refresh token, with it.
                    tokio::spawn(async move {
                        let result = inner.refresh(used).await;
                        inner.held().flight = None;
                        sender.send_replace(Some(result));
                    });
                    flight
                }
            }
        };
        let result = flight.wait_for(Option::is_some).await.map(|result| result.clone());
        // The task was torn down with its runtime.
        result.ok().flatten().unwrap_or(Err(ClientError::Lost))
    }

    /// One renewal, under the store's lock.
    async fn refresh(&self, used: SessionTokens) -> Result<SessionTokens, ClientError> {
        let _guard = self.store.lock().await?;
        let Some(mut there) = self.store.load().await? else {
            self.hold(None);
            return Err(ClientError::LoggedOut);
        };
        // Ours are newer than the store's where a save failed.
        let mut current = if there.is_newer(&used) { there.clone() } else { used.clone() };
        if current.access_token != used.access_token && (self.now)() < current.renew_at {
            self.hold(Some(current.clone()));
            return Ok(current);
        }
        for _ in 0..REFRESHES {
            let asked_at = (self.now)();
            let mut answer = self.auth.refresh(&current.refresh_token).await;
            if answer.as_ref().is_err_and(was_lost) {
                // Within seconds of its use a refresh token is answered with the same new one.
                answer = self.auth.refresh(&current.refresh_token).await;
            }
            match answer {
                Ok(set) => return self.keep(&there, SessionTokens::from_set(&set, asked_at, Some(&current))).await,
                Err(error) if error.ends_session() => {}
                Err(error) => {
                    self.held().is_doubtful = may_be_spent(&error);
                    return Err(error);
                }
            }
            // Refused. A store without a lock may hold what another process got by the
            // same token.
            match self.store.load().await? {
                Some(newer) if newer.refresh_token != current.refresh_token && newer.is_newer(&current) => {
                    if (self.now)() < newer.renew_at {
                        self.hold(Some(newer.clone()));
                        return Ok(newer);
                    }
                    (current, there) = (newer.clone(), newer);
                }
                Some(_) | None => break,
            }
        }
        tracing::warn!("the session has ended: its refresh token is refused");
        self.hold(None);
        self.store.replace(Some(&there), None).await?;
        Err(ClientError::LoggedOut)
    }

    /// Keeps new tokens, here whatever becomes of the store.
    async fn keep(&self, there: &SessionTokens, new: SessionTokens) -> Result<SessionTokens, ClientError> {
        self.hold(Some(new.clone()));
        match self.store.replace(Some(there), Some(&new)).await {
            Ok(true) => Ok(new),
            // Without a lock, somebody logged out or in while we were asking: theirs is
            // the later word.
            Ok(false) => {
                let theirs = self.store.load().await?;
                self.hold(theirs.clone());
                theirs.ok_or(ClientError::LoggedOut)
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
