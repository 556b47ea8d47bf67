//! Issuers' key sets: carries out the plans of [`portcullis_token::keys`] with the ports, for one request
//! at a time. No borrow of a cell outlives a synchronous step.

use std::{cell::RefCell, rc::Rc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::{
    background::BackgroundTask,
    limits,
    metrics::Metrics,
    permits::Waiters,
    ports::{Background, Clock, KeyFetcher, KeyStore, Random},
    settings::{Misconfiguration, Settings, is_plain_http},
    wire::Fault,
};
use portcullis_policy::{JwksSource, check_url};
use portcullis_token::{
    Algorithm, UnixMillis,
    keys::{self, FetchedKeySet, IssuerKeys, Key, KeyPlan, KeyQuery, KeySet, KeyStanding},
};

/// The ports of the key cache.
pub(super) trait KeyPorts: Clock + Random + Background + KeyStore + KeyFetcher {}
impl<T: Clock + Random + Background + KeyStore + KeyFetcher> KeyPorts for T {}

/// The key sets of all issuers, by issuer index.
#[derive(Debug)]
pub(super) struct KeyCache {
    issuers: Vec<IssuerKeySet>,
    waiters: Rc<Waiters>,
    metrics: Rc<Metrics>,
}

#[derive(Debug)]
struct IssuerKeySet {
    /// `issuer` that a discovery document must have.
    issuer: String,
    algorithms: Vec<Algorithm>,
    url: KeySetUrl,
    /// Whether a discovery document may name a key set over plain HTTP on loopback.
    is_development: bool,
    /// Name of the stored set. It changes with issuer and URL, so a set of one place is never
    /// taken for another's.
    store_name: String,
    holding: RefCell<IssuerKeys>,
    /// The set in the store, as far as this isolate knows.
    stored: RefCell<Option<FetchedKeySet>>,
}

#[derive(Debug)]
enum KeySetUrl {
    Direct(String),
    /// The document at this URL names it.
    Discovery(String),
}

/// Where a token's verification came from, for logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeySource {
    /// The token itself was cached.
    TokenCache,
    /// The key was in memory.
    Memory,
    /// The key was in the store.
    Store,
    /// The issuer was asked for the key.
    Issuer,
}

impl KeySource {
    /// Returns the value of the log's `cache` field.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::TokenCache => "token",
            Self::Memory => "memory",
            Self::Store => "kv",
            Self::Issuer => "issuer",
        }
    }
}

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyError {
    /// The issuer publishes no key, or no further key, that fits.
    Unknown,
    /// The issuer's keys cannot be had.
    Unavailable {
        /// Milliseconds until the issuer may be asked again.
        retry_ms: u64,
    },
}

/// What this isolate knows of an issuer's keys, for operators.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyStatus {
    pub(super) keys: usize,
    pub(super) passed_over: usize,
    pub(super) age_ms: Option<u64>,
    pub(super) last_attempt_ms_ago: Option<u64>,
    pub(super) last_error: Option<&'static str>,
    pub(super) is_usable: bool,
}

/// A plan that borrows nothing.
enum Step {
    Use { key: Rc<Key>, refresh: bool },
    ReadStore,
    Fetch,
    Wait,
    Fail(KeyError),
}

impl KeyCache {
    /// Builds the cache. `target_of` returns the URL of an upstream by its name.
    ///
    /// # Errors
    /// [`Misconfiguration`]: an issuer's algorithm or upstream does not exist, or its keys are at
    /// a plain HTTP URL outside development.
    pub(super) fn new(
        issuers: &[portcullis_policy::Issuer],
        target_of: impl Fn(&str) -> Option<String>,
        settings: &Settings<'_>,
        waiters: Rc<Waiters>,
        metrics: Rc<Metrics>,
    ) -> Result<Self, Misconfiguration> {
        let issuers =
            issuers.iter().map(|issuer| IssuerKeySet::new(issuer, &target_of, settings)).collect::<Result<_, _>>()?;
        Ok(Self { issuers, waiters, metrics })
    }

    /// Returns the next key that may verify a token, from memory, the store or the issuer.
    pub(super) async fn key_for(
        &self,
        issuer: usize,
        wanted: &KeyQuery<'_>,
        ports: &impl KeyPorts,
    ) -> Result<(Rc<Key>, KeySource), KeyError> {
        let state = self.issuers.get(issuer).ok_or(KeyError::Unknown)?;
        let begun = ports.now();
        let mut source = KeySource::Memory;
        let mut pause = limits::KEY_WAIT_STEP_MS;
        loop {
            let now = ports.now();
            if now.since(begun) > limits::KEY_WAIT_MS {
                return Err(KeyError::Unavailable { retry_ms: keys::limits::BACK_OFF_MS });
            }
            match state.plan(wanted, now) {
                Step::Use { key, refresh } => {
                    if refresh && wanted.tried.is_empty() {
                        ports.defer(BackgroundTask::RefreshKeys(issuer));
                    }
                    return Ok((key, source));
                }
                Step::ReadStore => {
                    state.read_store(ports).await;
                    source = KeySource::Store;
                }
                Step::Fetch => {
                    source = KeySource::Issuer;
                    if self.fetch(issuer, state, ports).await {
                        ports.defer(BackgroundTask::StoreKeys(issuer));
                    }
                }
                Step::Wait => {
                    if !self.waiters.pause(pause, ports).await {
                        return Err(KeyError::Unavailable { retry_ms: keys::limits::BACK_OFF_MS });
                    }
                    pause = pause.saturating_mul(2).min(limits::KEY_WAIT_STEP_MAX_MS);
                }
                Step::Fail(error) => return Err(error),
            }
        }
    }

    /// Returns whether a key that verified a token is still its issuer's, and schedules a
    /// refresh of a set that is past its freshness.
    pub(super) fn still_vouches(
        &self,
        issuer: usize,
        key: &Rc<Key>,
        now: UnixMillis,
        background: &impl Background,
    ) -> bool {
        let Some(state) = self.issuers.get(issuer) else { return false };
        let standing = state.holding.borrow().standing(key, now);
        if standing == KeyStanding::Stale {
            background.defer(BackgroundTask::RefreshKeys(issuer));
        }
        standing != KeyStanding::Gone
    }

    /// Returns whether an issuer has a usable set, fetching one if that is allowed.
    pub(super) async fn has_keys(&self, issuer: usize, ports: &impl KeyPorts) -> bool {
        let Some(state) = self.issuers.get(issuer) else { return false };
        let is_usable = || state.holding.borrow().is_usable(ports.now());
        if is_usable() {
            return true;
        }
        state.read_store(ports).await;
        if !is_usable() && state.holding.borrow().is_refresh_due(ports.now()) && self.fetch(issuer, state, ports).await
        {
            ports.defer(BackgroundTask::StoreKeys(issuer));
        }
        // Another request of this isolate may be fetching right now.
        let begun = ports.now();
        while !is_usable() && state.holding.borrow().is_asking(ports.now()) {
            let is_late = ports.now().since(begun) > limits::KEY_WAIT_MS;
            if is_late || !self.waiters.pause(limits::KEY_WAIT_STEP_MAX_MS, ports).await {
                break;
            }
        }
        is_usable()
    }

    /// Fetches an issuer's set unless another request has since, and stores it.
    pub(super) async fn refresh(&self, issuer: usize, ports: &impl KeyPorts) {
        let Some(state) = self.issuers.get(issuer) else { return };
        if state.holding.borrow().is_refresh_due(ports.now()) && self.fetch(issuer, state, ports).await {
            state.write_store(ports).await;
        }
    }

    /// Fetches an issuer's set although it is fresh, and stores it.
    pub(super) async fn renew(&self, issuer: usize, ports: &impl KeyPorts) {
        let Some(state) = self.issuers.get(issuer) else { return };
        let is_due = state.holding.borrow().is_scheduled_refresh_due(ports.now());
        if is_due && self.fetch(issuer, state, ports).await {
            state.write_store(ports).await;
        }
    }

    /// Writes an issuer's set to the store.
    pub(super) async fn store(&self, issuer: usize, ports: &impl KeyPorts) {
        if let Some(state) = self.issuers.get(issuer) {
            state.write_store(ports).await;
        }
    }

    /// Renews every issuer's set, so that requests rarely wait for keys.
    pub(super) async fn renew_all(&self, ports: &impl KeyPorts) {
        for (issuer, state) in self.issuers.iter().enumerate() {
            state.read_store(ports).await;
            self.renew(issuer, ports).await;
        }
    }

    /// Returns what this isolate knows of an issuer's keys.
    pub(super) fn status(&self, issuer: usize, now: UnixMillis) -> Option<KeyStatus> {
        let holding = self.issuers.get(issuer)?.holding.borrow();
        let record = holding.record.as_ref();
        Some(KeyStatus {
            keys: record.map_or(0, |record| record.set.keys().len()),
            passed_over: record.map_or(0, |record| record.set.passed_over()),
            age_ms: record.map(|record| now.since(record.fetched_at)),
            last_attempt_ms_ago: holding.last_attempt_at().map(|at| now.since(at)),
            last_error: holding.last_error,
            is_usable: holding.is_usable(now),
        })
    }

    /// Fetches an issuer's set and counts the result. Returns whether to store the set.
    async fn fetch(&self, issuer: usize, state: &IssuerKeySet, ports: &impl KeyPorts) -> bool {
        let is_news = state.fetch(ports).await;
        let result = state.holding.borrow().last_error.unwrap_or("ok");
        self.metrics.count_key_refresh(issuer, result);
        is_news
    }
}

impl IssuerKeySet {
    fn new(
        issuer: &portcullis_policy::Issuer,
        target_of: impl Fn(&str) -> Option<String>,
        settings: &Settings<'_>,
    ) -> Result<Self, Misconfiguration> {
        let unusable = || Misconfiguration::unusable_issuer(&issuer.name);
        let url = match issuer.jwks().ok_or_else(unusable)? {
            JwksSource::Url(url) => KeySetUrl::Direct(url),
            JwksSource::Discovery => KeySetUrl::Discovery(keys::discovery_url(&issuer.issuer)),
            JwksSource::Upstream { upstream, path } => {
                let base = target_of(&upstream).ok_or_else(unusable)?;
                KeySetUrl::Direct(format!("{base}{path}"))
            }
        };
        let (KeySetUrl::Direct(text) | KeySetUrl::Discovery(text)) = &url;
        settings.check_https(
            text,
            || format!("the keys of issuer {:?} are at a plain http:// URL", issuer.name),
            "its https:// URL",
        )?;
        let place = Sha256::digest(format!("{}\n{text}", issuer.issuer));
        Ok(Self {
            issuer: issuer.issuer.clone(),
            algorithms: algorithms(issuer)?,
            store_name: format!("keys/3/{}/{}", issuer.name, URL_SAFE_NO_PAD.encode(place)),
            url,
            is_development: settings.is_development,
            holding: RefCell::default(),
            stored: RefCell::default(),
        })
    }

    fn plan(&self, wanted: &KeyQuery<'_>, now: UnixMillis) -> Step {
        match keys::plan(&self.holding.borrow(), wanted, now) {
            KeyPlan::Use(key) => Step::Use { key: Rc::clone(key), refresh: false },
            KeyPlan::UseAndRefresh(key) => Step::Use { key: Rc::clone(key), refresh: true },
            KeyPlan::ReadCache => Step::ReadStore,
            KeyPlan::Fetch => Step::Fetch,
            KeyPlan::Wait => Step::Wait,
            KeyPlan::Unknown => Step::Fail(KeyError::Unknown),
            KeyPlan::Unavailable { retry_ms } => Step::Fail(KeyError::Unavailable { retry_ms }),
        }
    }

    async fn read_store(&self, ports: &impl KeyPorts) {
        let text = ports.read_keys(&self.store_name).await;
        let now = ports.now();
        let found = text.and_then(|text| FetchedKeySet::from_json(&text, &self.algorithms, now));
        self.stored.borrow_mut().clone_from(&found);
        self.holding.borrow_mut().adopt(found, now);
    }

    async fn write_store(&self, ports: &impl KeyPorts) {
        let record = self.holding.borrow().record.clone();
        let Some(record) = record else { return };
        if let Some(text) = record.to_json() {
            // Recorded before the write: two requests must not both write.
            let before = self.stored.replace(Some(record));
            if !ports.write_keys(&self.store_name, &text).await {
                *self.stored.borrow_mut() = before;
            }
        }
    }

    /// Fetches the set. Returns whether to store it.
    async fn fetch(&self, ports: &impl KeyPorts) -> bool {
        self.holding.borrow_mut().begin(ports.now());
        let answer = self.fetch_set(ports).await;
        let now = ports.now();
        match answer {
            Ok((set, fresh_ms)) => {
                let record = FetchedKeySet { set, fetched_at: now, fresh_ms };
                let is_news = record.should_replace(self.stored.borrow().as_ref());
                self.holding.borrow_mut().succeed(record);
                is_news
            }
            Err(code) => {
                let [jitter, ..] = ports.random();
                self.holding.borrow_mut().fail(code, now, jitter);
                false
            }
        }
    }

    /// Fetches the set and returns it with the milliseconds for which it is fresh.
    async fn fetch_set(&self, fetcher: &impl KeyFetcher) -> Result<(KeySet, u64), &'static str> {
        let fetch = async |url: &str| fetcher.fetch_document(url).await.map_err(code);
        let document = match &self.url {
            KeySetUrl::Direct(url) => fetch(url).await?,
            KeySetUrl::Discovery(url) => {
                let found = fetch(url).await?;
                let url = keys::parse_discovery(&found.body, &self.issuer).map_err(keys::KeySetError::code)?;
                // An attacker on the network could replace keys that come over plain HTTP.
                if check_url(&url).is_err() || (is_plain_http(&url) && !self.is_development) {
                    return Err("discovery_url_refused");
                }
                fetch(&url).await?
            }
        };
        let set = KeySet::parse(&document.body, &self.algorithms).map_err(keys::KeySetError::code)?;
        Ok((set, keys::fresh_ms(document.cache_control.as_deref())))
    }
}

/// Returns the code of a fault for operators.
fn code(fault: Fault) -> &'static str {
    let codes = [
        (Fault::TimedOut, "jwks_timeout"),
        (Fault::Redirected, "jwks_redirect"),
        (Fault::BadStatus, "jwks_status"),
        (Fault::TooLarge, "jwks_too_large"),
    ];
    codes.iter().find(|(known, _)| *known == fault).map_or("jwks_unreachable", |(_, code)| code)
}

/// Returns an issuer's algorithms.
///
/// # Errors
/// [`Misconfiguration`] when one does not exist or there is none.
fn algorithms(issuer: &portcullis_policy::Issuer) -> Result<Vec<Algorithm>, Misconfiguration> {
    let known = issuer.algorithms.iter().flatten().map(|name| Algorithm::from_name(name)).collect::<Option<Vec<_>>>();
    known.filter(|algorithms| !algorithms.is_empty()).ok_or_else(|| Misconfiguration::unusable_issuer(&issuer.name))
}
