//! The public keys of the auth service: fetched, cached, and fetched again when they are old or a
//! token names an unknown key.

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

/// Time-out of one fetch.
const FETCH: Duration = Duration::from_secs(2);

/// Keys that are fetched from the auth service.
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
    /// When the key set was fetched, by two clocks: the monotonic one cannot be set, the wall clock
    /// does not stop while the machine sleeps.
    fetched_at: Option<(Instant, i64)>,
    /// When the last fetch was tried, and whether it succeeded.
    asked_at: Option<(Instant, bool)>,
}

impl Held {
    /// Age of the key set in milliseconds.
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

    /// Returns whether a fetch is allowed. Without pauses, tokens with made-up key ids would cause a
    /// fetch each and delay all other callers.
    fn may_ask(&self, now: i64) -> bool {
        match self.asked_at {
            None => true,
            // The pause spares a failing auth service. After a successful fetch, a set that is too
            // old is fetched again at once: the clock may have jumped ahead.
            Some((at, given)) if !self.is_usable(now) => given || at.elapsed() >= limits::JWKS_BACK_OFF,
            Some((at, _)) => at.elapsed() >= limits::JWKS_COOL_DOWN,
        }
    }

    /// Verifies a token. A set that is too old counts as empty.
    fn verify(&self, token: &str, now: i64) -> Result<ServiceClaims, BadToken> {
        if !self.is_usable(now) {
            return Err(BadToken::UnknownKey);
        }
        signing::verify(&self.keys, auth::SERVICE_TYPE, token, now)
    }
}

impl FetchedKeys {
    /// Fetches from the auth service at a base URL.
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
        // An empty set must not replace a valid one.
        (keys != PublicKeys::default()).then_some(keys)
    }

    /// Fetches the key set.
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
        // One task fetches while the others wait.
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        // A revoked key is still in the cached set, so the set is refreshed even when it has the key.
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
            // Without the current set it is unknown whether the token is valid: 503, not 401.
            Err(BadToken::UnknownKey) if !held.is_usable(now) || !held.asked_at.is_some_and(|(_, given)| given) => {
                Err(UNAVAILABLE)
            }
            Err(BadToken::UnknownKey | BadToken::Invalid | BadToken::Expired) => Err(invalid),
        }
    }
}
