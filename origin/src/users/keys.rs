//! The auth service's public keys, fetched when a token needs one that is not
//! at hand.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::{
    auth,
    clock::Clock,
    http::{ApiError, ServiceClaims, ServiceVerifier},
    limits,
    signing::{self, BadToken, PublicKeys},
};

const UNAVAILABLE: ApiError = ApiError::unavailable("keys_unavailable", "Authentication service unavailable");

/// Time for one fetch.
const FETCH: Duration = Duration::from_secs(2);

/// Keys by fetch, and when they were last asked for.
#[derive(Debug)]
pub struct FetchedKeys {
    http: reqwest::Client,
    url: String,
    clock: Clock,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    keys: PublicKeys,
    /// When the auth service last gave a key set, by both clocks: the one cannot be moved,
    /// the other does not stop while the machine sleeps.
    fetched_at: Option<(Instant, i64)>,
    /// When the auth service was last asked, and whether it gave a key set.
    asked_at: Option<(Instant, bool)>,
}

impl Held {
    /// Milliseconds since the key set was the auth service's.
    fn age_ms(&self, now: i64) -> Option<i64> {
        let (at, millis) = self.fetched_at?;
        let elapsed = i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX);
        Some(elapsed.max(now.saturating_sub(millis)))
    }

    fn is_fresh(&self, now: i64) -> bool {
        self.age_ms(now).is_some_and(|age| age < limits::JWKS_FRESH_MS)
    }

    fn is_usable(&self, now: i64) -> bool {
        self.age_ms(now).is_some_and(|age| age < limits::JWKS_KEPT_MS)
    }

    /// Whether the auth service may be asked. Without pauses a stranger's made-up kids would
    /// have us ask all the time, and honest callers wait in line behind them.
    fn may_ask(&self, now: i64) -> bool {
        match self.asked_at {
            None => true,
            // The pause is for an auth service that fails. One that gave a set is asked at once
            // when that has grown too old, as it does when a clock jumps ahead.
            Some((at, given)) if !self.is_usable(now) => given || at.elapsed() >= limits::JWKS_BACK_OFF,
            Some((at, _)) => at.elapsed() >= limits::JWKS_COOL_DOWN,
        }
    }

    /// The claims of a token. A set that is too old knows no key.
    fn verify(&self, token: &str, now: i64) -> Result<ServiceClaims, BadToken> {
        if !self.is_usable(now) {
            return Err(BadToken::UnknownKey);
        }
        signing::verify(&self.keys, auth::SERVICE_TYPE, token, now)
    }
}

impl FetchedKeys {
    /// Keys of the auth service at a base URL.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(auth_url: &str, clock: Clock) -> Result<Self, reqwest::Error> {
        let http =
            reqwest::Client::builder().timeout(FETCH).redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
        Ok(Self { http, url: format!("{auth_url}/.well-known/jwks.json"), clock, held: Mutex::default() })
    }

    async fn fetch(&self) -> Option<PublicKeys> {
        let mut answer = self.http.get(&self.url).send().await.ok()?.error_for_status().ok()?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.ok()? {
            body.extend_from_slice(&chunk);
            if body.len() > limits::JWKS_BYTES {
                return None;
            }
        }
        let keys = PublicKeys::from_jwks(&serde_json::from_slice(&body).ok()?);
        // An empty set never replaces a good one.
        (keys != PublicKeys::default()).then_some(keys)
    }
}

impl FetchedKeys {
    /// Asks the auth service, and keeps what it says.
    async fn renew(&self, held: &mut Held) {
        let fetched = self.fetch().await;
        held.asked_at = Some((Instant::now(), fetched.is_some()));
        if let Some(keys) = fetched {
            held.keys = keys;
            held.fetched_at = Some((Instant::now(), self.clock.now()));
        }
    }
}

impl ServiceVerifier for FetchedKeys {
    async fn verify(&self, token: &str) -> Result<ServiceClaims, ApiError> {
        let invalid = ApiError::unauthorized("service_token_invalid", "Invalid service token");
        // One task fetches, the others wait for it.
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        // What was revoked is not asked about by its kid: a set is looked at again and again.
        if !held.is_fresh(now) && held.may_ask(now) {
            self.renew(&mut held).await;
        }
        let mut outcome = held.verify(token, now);
        if outcome == Err(BadToken::UnknownKey) && held.may_ask(now) {
            self.renew(&mut held).await;
            outcome = held.verify(token, now);
        }
        match outcome {
            Ok(claims) => Ok(claims),
            // A set that could not be had is no reason to call a token bad.
            Err(BadToken::UnknownKey) if !held.is_usable(now) || !held.asked_at.is_some_and(|(_, given)| given) => {
                Err(UNAVAILABLE)
            }
            Err(BadToken::UnknownKey | BadToken::Invalid | BadToken::Expired) => Err(invalid),
        }
    }
}
