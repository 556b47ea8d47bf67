//! A key set as it lies in KV: the set, and when it came from the issuer.

use serde::{Deserialize, Serialize};

use super::{KeySet, limits};
use crate::{Algorithm, UnixMillis};

/// A key set with the time of its fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedKeySet {
    /// The usable keys.
    pub set: KeySet,
    /// When the issuer answered with them.
    pub fetched_at: UnixMillis,
    /// Milliseconds for which it is fresh from then on.
    pub fresh_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    fetched_at: UnixMillis,
    fresh_ms: u64,
    is_whole: bool,
    jwks: String,
}

impl FetchedKeySet {
    /// JSON text for KV.
    pub fn to_json(&self) -> Option<String> {
        serde_json::to_string(&Stored {
            fetched_at: self.fetched_at,
            fresh_ms: self.fresh_ms,
            is_whole: self.set.is_whole(),
            jwks: self.set.to_json(),
        })
        .ok()
    }

    /// Reads what KV held, as distrustfully as an issuer's answer. Garbage, and
    /// a record from the future (which would never grow old), are `None`: the
    /// issuer is asked instead.
    pub fn from_json(text: &str, algorithms: &[Algorithm], now: UnixMillis) -> Option<Self> {
        if text.len() > limits::JWKS_BYTES.saturating_mul(2) {
            return None;
        }
        let stored: Stored = serde_json::from_slice(text.as_bytes()).ok()?;
        if stored.fetched_at > now.plus(limits::COOL_DOWN_MS) {
            return None;
        }
        let set = KeySet::parse(stored.jwks.as_bytes(), algorithms).ok()?.with_whole(stored.is_whole);
        let fresh_ms = stored.fresh_ms.clamp(limits::FRESH_MIN_MS, limits::FRESH_MAX_MS);
        Some(Self { set, fetched_at: stored.fetched_at, fresh_ms })
    }

    /// Whether its issuer need not be asked yet.
    pub fn is_fresh(&self, now: UnixMillis) -> bool {
        now.since(self.fetched_at) < self.fresh_ms
    }

    /// Whether `self`, just fetched, is worth a KV write over `previous`. KV
    /// takes one write a second a key, so only a change or old age is.
    pub fn should_replace(&self, previous: Option<&Self>) -> bool {
        previous.is_none_or(|previous| {
            !self.set.same_keys(&previous.set) || self.fetched_at.since(previous.fetched_at) >= limits::REWRITE_MS
        })
    }
}
