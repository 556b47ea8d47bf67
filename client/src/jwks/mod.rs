//! Checks tokens by their issuer's published keys, for services that are called with service
//! tokens, or with access tokens that did not come through the gateway.
//!
//! Keys are fetched when a token needs them. After [`KeyPolicy::refresh_after`] they are refreshed
//! before a token is checked, however long no token came, so that a key that the issuer revoked is
//! accepted no longer than that. While the refresh fails, the keys at hand are used for
//! [`KeyPolicy::max_age`] at most since the issuer last confirmed them.
//! A token with an unknown `kid` costs one fetch in [`KeyPolicy::cool_down`]. Keys that cannot
//! be had are 503, never 401.

mod keys;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use keys::Algorithm;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use tokio::time::{Duration, Instant};

use crate::{
    error::ClientError,
    http::{BreakerPolicy, Plaintext, RetryPolicy, Settings, Transport, check},
    request::{ApiRequest, Method},
};
use keys::{Fault, KeySet};

/// Seconds of clock difference between issuer and receiver that are tolerated.
pub const LEEWAY_S: u64 = 30;

/// Time for one fetch of the key set: who shows a token waits for it.
const FETCH: Duration = Duration::from_secs(2);

/// Time for a connection to stand.
const CONNECT: Duration = Duration::from_secs(1);

/// Time for which a token waits for keys that another task fetches.
const WAIT: Duration = Duration::from_secs(3);

/// Age after which keys are refreshed: one minute. A revoked key is accepted for this long at most
/// while the issuer answers, and one small request a minute is no load for it.
const REFRESH_AFTER: Duration = Duration::from_secs(60);

/// What a token must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRule {
    /// `iss`, exactly.
    pub issuer: String,
    /// One of `aud`.
    pub audience: String,
    /// `typ`, such as `service+jwt` or `at+jwt`: tokens of another kind are signed with the
    /// same keys.
    pub typ: String,
    /// Algorithms that are taken.
    pub algorithms: Vec<Algorithm>,
}

impl TokenRule {
    /// For service tokens of the auth service for the service of this name.
    pub fn service(audience: &str) -> Self {
        Self::of("service+jwt", audience)
    }

    /// For access tokens of the auth service. Whether the session still lives, no key says.
    pub fn access() -> Self {
        Self::of("at+jwt", "api")
    }

    fn of(typ: &str, audience: &str) -> Self {
        Self {
            issuer: "auth-service".to_owned(),
            audience: audience.to_owned(),
            typ: typ.to_owned(),
            algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        }
    }
}

/// How long keys are used, and how often the issuer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPolicy {
    /// Keys older than this are refreshed before a token is checked.
    pub refresh_after: Duration,
    /// Keys that the issuer has not confirmed for this long are not used any more.
    pub max_age: Duration,
    /// Time between two fetches for tokens with an unknown `kid`: a stranger makes those up.
    pub cool_down: Duration,
    /// Time between a fetch that failed and the next.
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

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It is not a token of the rule, or no key of the issuer signed it: 401.
    Invalid,
    /// It has expired: 401.
    Expired,
    /// The issuer's keys cannot be had: 503.
    KeysUnavailable,
}

impl TokenError {
    /// Stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "token_invalid",
            Self::Expired => "token_expired",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }

    /// The contract's text.
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
    issuer: Transport,
    path: &'static str,
    rule: TokenRule,
    policy: KeyPolicy,
    now: Arc<dyn Fn() -> u64 + Send + Sync>,
    held: Mutex<Held>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Held {
    keys: Arc<KeySet>,
    /// When the issuer last published them.
    confirmed_at: Option<Instant>,
    /// When the issuer was last asked, and whether it gave a key set.
    asked: Option<(Instant, bool)>,
}

impl fmt::Debug for JwksVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JwksVerifier").field("rule", &self.inner.rule).finish_non_exhaustive()
    }
}

impl JwksVerifier {
    /// With the keys at `/.well-known/jwks.json` of a base URL. It may be `http:` on a network
    /// that is the services' own: who can write there can sign.
    ///
    /// # Errors
    /// [`ClientError::Invalid`], which says what is wrong with the URL.
    pub fn new(base_url: &str, rule: TokenRule) -> Result<Self, ClientError> {
        let settings = Settings {
            user_agent: concat!("portcullis-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect: CONNECT,
            call: FETCH,
            whole: FETCH,
            // The policy's pauses say when the issuer is asked.
            retry: RetryPolicy { retries: 0, ..RetryPolicy::default() },
            breaker: BreakerPolicy { outages: 0, ..BreakerPolicy::default() },
            now: Arc::new(OffsetDateTime::now_utc),
        };
        let now = || u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or_default();
        Ok(Self {
            inner: Arc::new(Inner {
                issuer: Transport::new(check(base_url, Plaintext::Anywhere)?, settings)?,
                path: "/.well-known/jwks.json",
                rule,
                policy: KeyPolicy::default(),
                now: Arc::new(now),
                held: Mutex::default(),
                fetching: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// With another policy; before the first token.
    #[must_use]
    pub fn with_policy(self, policy: KeyPolicy) -> Self {
        self.change(|inner| inner.policy = policy)
    }

    /// With the keys at another path of the base URL; before the first token.
    #[must_use]
    pub fn with_path(self, path: &'static str) -> Self {
        self.change(|inner| inner.path = path)
    }

    /// With another clock, in seconds since 1970; before the first token.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.change(|inner| inner.now = Arc::new(now))
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        // A clone keeps what it has: one verifier has one policy.
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            change(inner);
        }
        self
    }

    /// The claims of a token that holds.
    ///
    /// # Errors
    /// [`TokenError`]
    pub async fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<C, TokenError> {
        let inner = &self.inner;
        let held = inner.refreshed().await;
        let is_usable = held.is_younger(inner.policy.max_age);
        if is_usable {
            match inner.check(&held, token) {
                Err(Fault::UnknownKey) => {}
                other => return other.map_err(told),
            }
        }
        let held = inner.newer_than(&held, is_usable).await?;
        inner.check(&held, token).map_err(told)
    }
}

/// A key that is in no set after the issuer was asked is unknown.
const fn told(fault: Fault) -> TokenError {
    match fault {
        Fault::Expired => TokenError::Expired,
        Fault::Invalid | Fault::UnknownKey => TokenError::Invalid,
    }
}

impl Held {
    fn is_younger(&self, age: Duration) -> bool {
        self.confirmed_at.is_some_and(|at| at.elapsed() < age)
    }

    /// Whether the keys are usable, older than `refresh_after`, and no fetch failed a moment ago.
    fn is_due(&self, policy: &KeyPolicy) -> bool {
        self.is_younger(policy.max_age)
            && !self.is_younger(policy.refresh_after)
            && self.asked.is_none_or(|(at, is_good)| is_good || at.elapsed() >= policy.back_off)
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check<C: DeserializeOwned>(&self, held: &Held, token: &str) -> Result<C, Fault> {
        held.keys.verify(token, &self.rule, (self.now)())
    }

    /// The keys at hand, refreshed first if they are due; those of before if the refresh fails.
    async fn refreshed(self: &Arc<Self>) -> Held {
        let seen = self.held().clone();
        if !seen.is_due(&self.policy) {
            return seen;
        }
        let inner = Arc::clone(self);
        // A task of its own: a caller that leaves does not end a fetch that others wait for.
        let refresh = tokio::spawn(async move {
            let _turn = inner.fetching.lock().await;
            // A caller that waited for another caller's fetch uses its outcome.
            let is_first = inner.held().asked == seen.asked;
            if is_first {
                inner.fetch().await;
            }
        });
        // No longer than a token may wait; the outcome is in what is held.
        let _ = tokio::time::timeout(WAIT, refresh).await;
        self.held().clone()
    }

    /// Keys that were fetched after `seen`, which lacks a token's key or is too old.
    async fn newer_than(&self, seen: &Held, is_usable: bool) -> Result<Held, TokenError> {
        // No longer than a token may wait, whatever the task that fetches does.
        let turn = tokio::time::timeout(WAIT, self.fetching.lock()).await;
        let _turn = turn.map_err(|_| TokenError::KeysUnavailable)?;
        let held = self.held().clone();
        if held.confirmed_at != seen.confirmed_at {
            return Ok(held);
        }
        match held.asked {
            // An unknown kid: the issuer has just said that there is none.
            Some((at, true)) if is_usable && at.elapsed() < self.policy.cool_down => return Err(TokenError::Invalid),
            // It may have been published a second ago: that is not known while the issuer is out.
            Some((at, false)) if at.elapsed() < self.policy.back_off => return Err(TokenError::KeysUnavailable),
            Some(_) | None => {}
        }
        if self.fetch().await { Ok(self.held().clone()) } else { Err(TokenError::KeysUnavailable) }
    }

    /// Asks the issuer; whether it gave a key set.
    async fn fetch(&self) -> bool {
        let answer = self.issuer.exchange(&ApiRequest::new(Method::GET, self.path)).await;
        let keys = answer.ok().and_then(|answer| KeySet::read(answer.body()));
        let now = Instant::now();
        let mut held = self.held();
        held.asked = Some((now, keys.is_some()));
        if let Some(keys) = keys {
            (held.keys, held.confirmed_at) = (Arc::new(keys), Some(now));
            return true;
        }
        tracing::warn!("the issuer's keys cannot be fetched; those at hand stay in use until they are too old");
        false
    }
}
