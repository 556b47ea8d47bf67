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
    /// When the auth service was last asked, and whether it gave a key set.
    asked_at: Option<(Instant, bool)>,
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

impl ServiceVerifier for FetchedKeys {
    async fn verify(&self, token: &str) -> Result<ServiceClaims, ApiError> {
        let invalid = ApiError::unauthorized("service_token_invalid", "Invalid service token");
        // One task fetches, the others wait for it.
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        match signing::verify(&held.keys, auth::SERVICE_TYPE, token, now) {
            Ok(claims) => return Ok(claims),
            Err(BadToken::Invalid | BadToken::Expired) => return Err(invalid),
            Err(BadToken::UnknownKey) => {}
        }
        // Without pauses a stranger's made-up kids would have us ask all the time,
        // and honest callers wait in line behind them.
        match held.asked_at {
            Some((at, true)) if at.elapsed() < limits::JWKS_COOL_DOWN => return Err(invalid),
            Some((at, false)) if at.elapsed() < limits::JWKS_BACK_OFF => return Err(UNAVAILABLE),
            Some(_) | None => {}
        }
        let fetched = self.fetch().await;
        held.asked_at = Some((Instant::now(), fetched.is_some()));
        held.keys = fetched.ok_or(UNAVAILABLE)?;
        signing::verify(&held.keys, auth::SERVICE_TYPE, token, now).map_err(|_| invalid)
    }
}
