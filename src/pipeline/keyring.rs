//! Getting a key: carries out the plans of [`crate::keys`] with the ports, for
//! one request at a time. Holds no cell's borrow across a wait.

use std::rc::Rc;

use super::{
    Chore, Denial, Gate, limits,
    ports::Ports,
    settings::{IssuerState, JwksPlace, is_plain},
};
use crate::{
    config::check_url,
    keys::{self, FetchedKeySet, Key, KeyPlan, KeyQuery, KeySet},
    token::TokenError,
};

/// Where a request had its key from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyOrigin {
    Memory,
    Store,
    Issuer,
}

impl KeyOrigin {
    /// For the log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Store => "kv",
            Self::Issuer => "issuer",
        }
    }
}

/// A plan with nothing borrowed.
enum Step {
    Use { key: Rc<Key>, refresh: bool },
    ReadCache,
    Fetch,
    Wait,
    Deny(Denial),
}

impl Gate {
    /// The next key by which a token may verify, from memory, the store or the issuer.
    pub(super) async fn key_for<P: Ports>(
        &self,
        issuer: usize,
        wanted: &KeyQuery<'_>,
        ports: &P,
        chores: &mut Vec<Chore>,
    ) -> Result<(Rc<Key>, KeyOrigin), Denial> {
        let state = self.issuers.get(issuer).ok_or(Denial::Token(TokenError::UnknownIssuer))?;
        let begun = ports.now();
        let mut origin = KeyOrigin::Memory;
        let mut pause = limits::KEY_WAIT_STEP_MS;
        loop {
            let now = ports.now();
            if now.since(begun) > limits::KEY_WAIT_MS {
                return Err(Denial::KeysUnavailable { retry_ms: keys::limits::BACK_OFF_MS });
            }
            let step = match keys::plan(&state.holding.borrow(), wanted, now) {
                KeyPlan::Use(key) => Step::Use { key: Rc::clone(key), refresh: false },
                KeyPlan::UseAndRefresh(key) => Step::Use { key: Rc::clone(key), refresh: true },
                KeyPlan::ReadCache => Step::ReadCache,
                KeyPlan::Fetch => Step::Fetch,
                KeyPlan::Wait => Step::Wait,
                KeyPlan::Unknown if wanted.tried.is_empty() => Step::Deny(Denial::Token(TokenError::UnknownKey)),
                KeyPlan::Unknown => Step::Deny(Denial::Token(TokenError::BadSignature)),
                KeyPlan::Unavailable { retry_ms } => Step::Deny(Denial::KeysUnavailable { retry_ms }),
            };
            match step {
                Step::Use { key, refresh } => {
                    if refresh && wanted.tried.is_empty() {
                        chores.push(Chore::Refresh(issuer));
                    }
                    return Ok((key, origin));
                }
                Step::ReadCache => {
                    read_store(state, ports).await;
                    origin = KeyOrigin::Store;
                }
                Step::Fetch => {
                    origin = KeyOrigin::Issuer;
                    if self.fetch(issuer, ports).await {
                        chores.push(Chore::Store(issuer));
                    }
                }
                Step::Wait => {
                    if !self.wait_for_another(pause, ports).await {
                        return Err(Denial::KeysUnavailable { retry_ms: keys::limits::BACK_OFF_MS });
                    }
                    pause = pause.saturating_mul(2).min(limits::KEY_WAIT_STEP_MAX_MS);
                }
                Step::Deny(denial) => return Err(denial),
            }
        }
    }

    /// Lets time pass in which another request of this isolate may bring what this one waits
    /// for. False at once when too many wait.
    pub(super) async fn wait_for_another<P: Ports>(&self, millis: u64, ports: &P) -> bool {
        let now = ports.now();
        let until = now.plus(millis.saturating_add(limits::WAITER_LOST_MS));
        let Some(place) = self.waiting.enter(limits::WAITERS, until, false, now) else { return false };
        ports.sleep(millis).await;
        self.waiting.leave(place);
        true
    }

    /// Whether an issuer has a usable set, fetching one if it may.
    pub(super) async fn has_keys<P: Ports>(&self, issuer: usize, ports: &P, chores: &mut Vec<Chore>) -> bool {
        let Some(state) = self.issuers.get(issuer) else { return false };
        let usable = |state: &IssuerState| state.holding.borrow().is_usable(ports.now());
        if usable(state) {
            return true;
        }
        read_store(state, ports).await;
        if !usable(state) && state.holding.borrow().is_refresh_due(ports.now()) && self.fetch(issuer, ports).await {
            chores.push(Chore::Store(issuer));
        }
        // Another request of this isolate may be asking right now.
        let begun = ports.now();
        while !usable(state) && state.holding.borrow().is_asking(ports.now()) {
            let is_late = ports.now().since(begun) > limits::KEY_WAIT_MS;
            if is_late || !self.wait_for_another(limits::KEY_WAIT_STEP_MAX_MS, ports).await {
                break;
            }
        }
        usable(state)
    }

    /// Asks an issuer and counts what came of it. True when the store should be told.
    async fn fetch<P: Ports>(&self, issuer: usize, ports: &P) -> bool {
        let Some(state) = self.issuers.get(issuer) else { return false };
        let is_news = ask(state, ports).await;
        let result = state.holding.borrow().last_error.unwrap_or("ok");
        self.metrics.borrow_mut().note_refresh(issuer, result);
        is_news
    }

    /// Asks an issuer again, unless another request has since.
    pub(super) async fn refresh<P: Ports>(&self, issuer: usize, ports: &P) {
        let Some(state) = self.issuers.get(issuer) else { return };
        if state.holding.borrow().is_refresh_due(ports.now()) && self.fetch(issuer, ports).await {
            store(state, ports).await;
        }
    }

    /// Asks an issuer again although its set is fresh, and stores what it says.
    pub(super) async fn renew<P: Ports>(&self, issuer: usize, ports: &P) {
        let Some(state) = self.issuers.get(issuer) else { return };
        if state.holding.borrow().is_scheduled_refresh_due(ports.now()) && self.fetch(issuer, ports).await {
            store(state, ports).await;
        }
    }

    /// Writes an issuer's set to the store.
    pub(super) async fn store<P: Ports>(&self, issuer: usize, ports: &P) {
        if let Some(state) = self.issuers.get(issuer) {
            store(state, ports).await;
        }
    }

    /// The scheduled refresh: asks every issuer and stores what changed, so
    /// that requests hardly ever wait for keys.
    pub async fn refresh_all<P: Ports>(&self, ports: &P) {
        for (issuer, state) in self.issuers.iter().enumerate() {
            read_store(state, ports).await;
            if state.holding.borrow().is_scheduled_refresh_due(ports.now()) && self.fetch(issuer, ports).await {
                store(state, ports).await;
            }
        }
        self.flush(ports).await;
    }
}

async fn read_store<P: Ports>(state: &IssuerState, ports: &P) {
    let text = ports.read_keys(&state.store_name).await;
    let now = ports.now();
    let found = text.and_then(|text| FetchedKeySet::from_json(&text, &state.token.algorithms, now));
    state.stored.borrow_mut().clone_from(&found);
    state.holding.borrow_mut().adopt(found, now);
}

/// Asks the issuer. True when the store should be told.
async fn ask<P: Ports>(state: &IssuerState, ports: &P) -> bool {
    state.holding.borrow_mut().begin(ports.now());
    let answer = fetch_set(state, ports).await;
    let now = ports.now();
    match answer {
        Ok((set, fresh_ms)) => {
            let record = FetchedKeySet { set, fetched_at: now, fresh_ms };
            let worth_storing = record.should_replace(state.stored.borrow().as_ref());
            state.holding.borrow_mut().succeed(record);
            worth_storing
        }
        Err(code) => {
            let [jitter, ..] = ports.random();
            state.holding.borrow_mut().fail(code, now, jitter);
            false
        }
    }
}

/// The issuer's set, and for how long it is fresh.
async fn fetch_set<P: Ports>(state: &IssuerState, ports: &P) -> Result<(KeySet, u64), &'static str> {
    let document = match &state.jwks {
        JwksPlace::Url(url) => ports.fetch_document(url).await?,
        JwksPlace::Discovery(url) => {
            let found = ports.fetch_document(url).await?;
            let url = keys::parse_discovery(&found.body, &state.token.issuer).map_err(keys::DiscoveryError::code)?;
            // Keys that came over plain HTTP are whoever's is on the wire.
            if check_url(&url).is_err() || (is_plain(&url) && !state.is_development) {
                return Err("discovery_url_refused");
            }
            ports.fetch_document(&url).await?
        }
    };
    let set = KeySet::parse(&document.body, &state.token.algorithms).map_err(keys::JwksError::code)?;
    Ok((set, keys::fresh_ms(document.cache_control.as_deref())))
}

async fn store<P: Ports>(state: &IssuerState, ports: &P) {
    let record = state.holding.borrow().record.clone();
    let Some(record) = record else { return };
    if let Some(text) = record.to_json() {
        // Noted before the write: two requests must not both write.
        let before = state.stored.replace(Some(record));
        if !ports.write_keys(&state.store_name, &text).await {
            *state.stored.borrow_mut() = before;
        }
    }
}
