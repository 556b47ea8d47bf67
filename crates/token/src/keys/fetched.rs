//! A key set with the time of its fetch, as the store holds it.

use serde_json::json;

use super::{jwks::KeySet, limits};
use crate::{algorithm::Algorithm, json::StrictObject, time::UnixMillis};

/// A key set with the time of its fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedKeySet {
    /// The usable keys.
    pub set: KeySet,
    /// When the issuer sent them.
    pub fetched_at: UnixMillis,
    /// Milliseconds for which the set is fresh from then on.
    pub fresh_ms: u64,
}

impl FetchedKeySet {
    /// Returns JSON text for the store.
    pub fn to_json(&self) -> String {
        let Self { set, fetched_at, fresh_ms } = self;
        json!({ "fetched_at": fetched_at, "fresh_ms": fresh_ms, "is_whole": set.is_whole, "jwks": set.to_json() })
            .to_string()
    }

    /// Reads the store's text with the checks of an issuer's response. `None` for malformed text and
    /// for a set from the future, which would never expire.
    pub fn from_json(text: &str, algorithms: &[Algorithm], now: UnixMillis) -> Option<Self> {
        if text.len() > limits::JWKS_BYTES.saturating_mul(2) {
            return None;
        }
        let stored = StrictObject::parse(text.as_bytes())?;
        let number = |name: &str| stored.member(name)?.as_u64();
        let (fetched_at, fresh_ms) = (UnixMillis(number("fetched_at")?), number("fresh_ms")?);
        if fetched_at > now.plus(limits::COOL_DOWN_MS) {
            return None;
        }
        let mut set = KeySet::parse(stored.string("jwks")?.as_bytes(), algorithms).ok()?;
        set.is_whole = stored.member("is_whole")?.as_bool()?;
        Some(Self { set, fetched_at, fresh_ms: fresh_ms.clamp(limits::FRESH_MIN_MS, limits::FRESH_MAX_MS) })
    }

    /// Whether `self`, just fetched, should replace `previous` in the store: if the keys changed, or
    /// `previous` is old. KV allows one write per second and key.
    pub fn should_replace(&self, previous: Option<&Self>) -> bool {
        previous.is_none_or(|previous| {
            !self.set.same_keys(&previous.set) || self.fetched_at.abs_diff(previous.fetched_at) >= limits::REWRITE_MS
        })
    }
}

/// Returns the milliseconds for which a key set is fresh, from the `Cache-Control` of its
/// response (RFC 9111, section 5.2.2). Bounded, so that an issuer can neither cause constant fetches nor
/// keep a removed key for days.
pub fn fresh_ms(cache_control: Option<&str>) -> u64 {
    let directives = || {
        let parts = cache_control.unwrap_or_default().split(',').map(str::trim);
        parts.map(|part| part.split_once('=').unwrap_or((part, "")))
    };
    if directives().any(|(name, _)| ["no-store", "no-cache"].iter().any(|none| name.eq_ignore_ascii_case(none))) {
        return limits::FRESH_MIN_MS;
    }
    let mut ages = directives().filter(|(name, _)| name.eq_ignore_ascii_case("max-age"));
    let max_age = ages.find_map(|(_, value)| value.trim_matches('"').parse::<u64>().ok());
    let fresh_ms = max_age.map_or(limits::FRESH_MS, |seconds| seconds.saturating_mul(1000));
    fresh_ms.clamp(limits::FRESH_MIN_MS, limits::FRESH_MAX_MS)
}
