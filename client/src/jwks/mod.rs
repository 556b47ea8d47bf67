//! Verifies tokens with their issuer's published keys, for services that receive service tokens, or
//! access tokens that did not pass the gateway.
//!
//! Keys are fetched when a token needs them. Keys older than [`KeyPolicy::refresh_after`] are refreshed
//! before a token is verified, so a key that the issuer revoked is accepted for that long at most.
//! While refreshes fail, keys are used for [`KeyPolicy::max_age`] after their last confirmation. Both ages
//! are by the clock that shows more: the monotonic one cannot be set, and the wall clock does not stop
//! while the machine sleeps. Tokens with an unknown `kid` cause one fetch per [`KeyPolicy::cool_down`].
//! Unavailable keys are 503, never 401. Clocks may differ by [`LEEWAY_S`].

mod keys;
mod rule;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use rule::{Algorithm, LEEWAY_S, TokenRule};
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use tokio::time::{Duration, Instant};

use crate::{
    error::ClientError,
    http::{BreakerPolicy, Plaintext, RetryPolicy, Transport, TransportConfig, parse_base_url},
    request::{ApiRequest, Method},
};
pub(crate) use keys::{Fault, KeySet};

/// Time for one fetch of the key set. A caller waits for it.
const FETCH: Duration = Duration::from_secs(2);

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(1);

/// The longest wait for keys that another task fetches.
const WAIT: Duration = Duration::from_secs(3);

/// Age after which keys are refreshed: a revoked key is accepted for this long at most while the issuer
/// answers, and one small request per minute is no load.
const REFRESH_AFTER: Duration = Duration::from_secs(60);

/// How long keys are used, and how often they are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPolicy {
    /// Keys older than this are refreshed before a token is verified.
    pub refresh_after: Duration,
    /// Keys that the issuer has not confirmed for this long are not used.
    pub max_age: Duration,
    /// Time between two fetches for tokens with an unknown `kid`, which anyone can invent.
    pub cool_down: Duration,
    /// Time between a failed fetch and the next.
    pub back_off: Duration,
}

impl Default for KeyPolicy {
    /// 1 minute, a day, 30 s, 2 s.
    fn default() -> Self {
        Self {
            refresh_after: REFRESH_AFTER,
            max_age: Duration::from_secs(24 * 60 * 60),
            cool_down: Duration::from_secs(30),
            back_off: Duration::from_secs(2),
        }
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It violates the rule, or no key of the issuer signed it: 401.
    Invalid,
    /// It has expired: 401.
    Expired,
    /// The issuer's keys are unavailable: 503.
    KeysUnavailable,
}

impl TokenError {
    /// Returns a stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "token_invalid",
            Self::Expired => "token_expired",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }

    /// Returns the text of the contract.
    const fn text(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid token",
            Self::Expired => "Token has expired",
            Self::KeysUnavailable => "Authentication service unavailable",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl std::error::Error for TokenError {}

/// Verifies tokens of one issuer by one rule. Clones share the keys.
///
/// ```no_run
/// # use portcullis_client::{ClientError, jwks::{JwksVerifier, TokenRule}};
/// # #[derive(serde::Deserialize)] struct Claims { sub: String }
/// # async fn run(token: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let verifier = JwksVerifier::new("https://auth.example.com", TokenRule::access())?;
/// let claims: Claims = verifier.verify(token).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct JwksVerifier {
    inner: Arc<Inner>,
}

struct Inner {
    issuer: Arc<Transport>,
    path: &'static str,
    rule: TokenRule,
    policy: KeyPolicy,
    now: Arc<dyn Fn() -> u64 + Send + Sync>,
    keys: Mutex<HeldKeys>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct HeldKeys {
    set: Arc<KeySet>,
    /// When the issuer last confirmed them, by the monotonic clock and in seconds since 1970.
    confirmed_at: Option<(Instant, u64)>,
    /// Time of the last fetch, and whether it succeeded.
    fetched: Option<(Instant, bool)>,
}

impl fmt::Debug for JwksVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JwksVerifier").field("rule", &self.inner.rule).finish_non_exhaustive()
    }
}

impl JwksVerifier {
    /// Returns a verifier with the keys at `/.well-known/jwks.json` of a base URL. The URL may be `http:`
    /// only on a private network: a host that can alter the answer can sign tokens.
    ///
    /// # Errors
    /// [`ClientError::Invalid`], which names the fault of the URL.
    pub fn new(base_url: &str, rule: TokenRule) -> Result<Self, ClientError> {
        let config = TransportConfig {
            user_agent: concat!("portcullis-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect: CONNECT,
            call: FETCH,
            whole: FETCH,
            // The policy's pauses decide when keys are fetched.
            retry: RetryPolicy { retries: 0, ..RetryPolicy::default() },
            breaker: BreakerPolicy { outages: 0, ..BreakerPolicy::default() },
            now: Arc::new(OffsetDateTime::now_utc),
        };
        let now = || u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or_default();
        Ok(Self {
            inner: Arc::new(Inner {
                issuer: Arc::new(Transport::new(parse_base_url(base_url, Plaintext::Anywhere)?, config)?),
                path: "/.well-known/jwks.json",
                rule,
                policy: KeyPolicy::default(),
                now: Arc::new(now),
                keys: Mutex::default(),
                fetching: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// Sets another policy; before the first token.
    #[must_use]
    pub fn with_policy(self, policy: KeyPolicy) -> Self {
        self.change(|inner| inner.policy = policy)
    }

    /// Sets another path of the key set; before the first token.
    #[must_use]
    pub fn with_path(self, path: &'static str) -> Self {
        self.change(|inner| inner.path = path)
    }

    /// Sets another clock, in seconds since 1970; before the first token.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.change(|inner| inner.now = Arc::new(now))
    }

    fn change(self, change: impl FnOnce(&mut Inner)) -> Self {
        // A verifier that has clones gets keys of its own: the clones keep their settings.
        let mut inner = Arc::try_unwrap(self.inner).unwrap_or_else(|shared| Inner {
            issuer: Arc::clone(&shared.issuer),
            path: shared.path,
            rule: shared.rule.clone(),
            policy: shared.policy,
            now: Arc::clone(&shared.now),
            keys: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        });
        change(&mut inner);
        Self { inner: Arc::new(inner) }
    }

    /// Verifies a token and returns its claims.
    ///
    /// # Errors
    /// [`TokenError`]
    pub async fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<C, TokenError> {
        let inner = &self.inner;
        let held = inner.refreshed().await;
        let is_usable = held.is_younger(inner.policy.max_age, (inner.now)());
        if is_usable {
            match inner.check(&held, token) {
                Err(Fault::UnknownKey) => {}
                result => return result.map_err(token_error),
            }
        }
        let held = inner.newer_than(held, is_usable).await?;
        inner.check(&held, token).map_err(token_error)
    }
}

impl JwksVerifier {
    /// Fetches keys if those at hand are too old or lack the key of a token.
    pub(crate) async fn prepare(&self, token: &str) {
        let inner = &self.inner;
        let held = inner.refreshed().await;
        let is_usable = held.is_younger(inner.policy.max_age, (inner.now)());
        if !is_usable || !held.set.has_key_for(token) {
            // Without newer keys, the check of the token fails.
            let _ = inner.newer_than(held, is_usable).await;
        }
    }

    /// Returns the keys at hand, unless they are too old.
    pub(crate) fn usable_keys(&self) -> Option<Arc<KeySet>> {
        let held = self.inner.held().clone();
        held.is_younger(self.inner.policy.max_age, (self.inner.now)()).then_some(held.set)
    }
}

/// Maps the fault of a token after a fetch: a key that the issuer does not publish signs nothing.
const fn token_error(fault: Fault) -> TokenError {
    match fault {
        Fault::Expired => TokenError::Expired,
        Fault::Invalid | Fault::UnknownKey => TokenError::Invalid,
    }
}

impl HeldKeys {
    fn is_younger(&self, age: Duration, now: u64) -> bool {
        self.confirmed_at
            .is_some_and(|(at, seconds)| at.elapsed().max(Duration::from_secs(now.saturating_sub(seconds))) < age)
    }

    /// Whether the keys are usable, older than `refresh_after`, and no fetch failed recently.
    fn is_due(&self, policy: &KeyPolicy, now: u64) -> bool {
        self.is_younger(policy.max_age, now)
            && !self.is_younger(policy.refresh_after, now)
            && self.fetched.is_none_or(|(at, is_good)| is_good || at.elapsed() >= policy.back_off)
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, HeldKeys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check<C: DeserializeOwned>(&self, held: &HeldKeys, token: &str) -> Result<C, Fault> {
        held.set.verify(token, &self.rule, (self.now)())
    }

    /// Returns the keys, refreshed if they are due, or the previous ones if the refresh fails.
    async fn refreshed(self: &Arc<Self>) -> HeldKeys {
        let seen = self.held().clone();
        if !seen.is_due(&self.policy, (self.now)()) {
            return seen;
        }
        let inner = Arc::clone(self);
        // A separate task: a cancelled caller does not end a fetch that others wait for.
        let refresh = tokio::spawn(async move {
            let _turn = inner.fetching.lock().await;
            // A caller that waited for another caller's fetch uses its result.
            let is_first = inner.held().fetched == seen.fetched;
            if is_first {
                inner.fetch().await;
            }
        });
        // The wait is bounded; the result is in the held keys.
        let _ = tokio::time::timeout(WAIT, refresh).await;
        self.held().clone()
    }

    /// Returns keys that were fetched after `seen`, which lacks a token's key or is too old.
    async fn newer_than(self: &Arc<Self>, seen: HeldKeys, is_usable: bool) -> Result<HeldKeys, TokenError> {
        let inner = Arc::clone(self);
        // A separate task: a caller that is cancelled or not polled again holds up no other.
        let newer = tokio::spawn(async move {
            let _turn = inner.fetching.lock().await;
            let held = inner.held().clone();
            if held.confirmed_at != seen.confirmed_at {
                return Ok(held);
            }
            match held.fetched {
                // An unknown `kid`: the issuer has just published a set without it.
                Some((at, true)) if is_usable && at.elapsed() < inner.policy.cool_down => {
                    return Err(TokenError::Invalid);
                }
                // The key may be a second old, which is unknown while the issuer does not answer.
                Some((at, false)) if at.elapsed() < inner.policy.back_off => return Err(TokenError::KeysUnavailable),
                Some(_) | None => {}
            }
            if inner.fetch().await { Ok(inner.held().clone()) } else { Err(TokenError::KeysUnavailable) }
        });
        match tokio::time::timeout(WAIT, newer).await {
            Ok(Ok(newer)) => newer,
            Ok(Err(_)) | Err(_) => Err(TokenError::KeysUnavailable),
        }
    }

    /// Fetches the key set. Returns whether that succeeded.
    async fn fetch(&self) -> bool {
        let answer = self.issuer.exchange(&ApiRequest::new(Method::GET, self.path)).await;
        let keys = answer.ok().and_then(|answer| KeySet::read(answer.body()));
        let now = Instant::now();
        let mut held = self.held();
        held.fetched = Some((now, keys.is_some()));
        if let Some(keys) = keys {
            (held.set, held.confirmed_at) = (Arc::new(keys), Some((now, (self.now)())));
            return true;
        }
        tracing::warn!("the issuer's keys cannot be fetched; the previous ones stay in use until they are too old");
        false
    }
}
