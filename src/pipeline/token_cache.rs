//! A cache of tokens that were verified a short while ago, by the SHA-256 of their bytes: one
//! signature check serves many requests.
//!
//! A cached token is no decision: access, revocation, and whether its key is still its issuer's
//! are checked again for each request. Bounded in entries and bytes; the oldest entry goes first.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::limits;
use portcullis_token::{Identity, UnixMillis};

/// SHA-256 of a token. A memory dump must not reveal tokens.
pub(super) type TokenDigest = [u8; 32];

#[derive(Debug)]
struct Entry<T> {
    token: Rc<T>,
    until: UnixMillis,
    bytes: usize,
}

/// The cache of one isolate.
#[derive(Debug)]
pub(super) struct TokenCache<T> {
    entries: HashMap<TokenDigest, Entry<T>>,
    order: VecDeque<TokenDigest>,
    bytes: usize,
    hits: u64,
    misses: u64,
}

impl<T> Default for TokenCache<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), bytes: 0, hits: 0, misses: 0 }
    }
}

/// Returns the digest of a token.
pub(super) fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token).into()
}

impl<T> TokenCache<T> {
    /// Returns a token, unless it has expired at `now`.
    pub(super) fn find(&self, digest: &TokenDigest, now: UnixMillis) -> Option<Rc<T>> {
        self.entries.get(digest).filter(|entry| now < entry.until).map(|entry| Rc::clone(&entry.token))
    }

    /// Counts a lookup.
    pub(super) fn count(&mut self, is_hit: bool) {
        let count = if is_hit { &mut self.hits } else { &mut self.misses };
        *count = count.saturating_add(1);
    }

    /// Caches a token of `bytes` bytes that expires at `expires_at`.
    pub(super) fn insert(
        &mut self,
        digest: TokenDigest,
        token: Rc<T>,
        bytes: usize,
        expires_at: UnixMillis,
        now: UnixMillis,
    ) {
        let until = expires_at.min(now.plus(limits::TOKEN_CACHE_MS));
        if until <= now || bytes > limits::TOKEN_CACHE_BYTES {
            return;
        }
        match self.entries.insert(digest, Entry { token, until, bytes }) {
            Some(before) => self.bytes = self.bytes.saturating_sub(before.bytes),
            None => self.order.push_back(digest),
        }
        self.bytes = self.bytes.saturating_add(bytes);
        while self.entries.len() > limits::TOKEN_CACHE_ENTRIES || self.bytes > limits::TOKEN_CACHE_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(entry.bytes);
            }
        }
    }

    /// Returns the cache's sizes and counts for `/status`.
    pub(super) fn status(&self) -> Value {
        json!({ "tokens": self.entries.len(), "bytes": self.bytes, "hits": self.hits, "misses": self.misses })
    }
}

/// Returns about how many bytes a cached identity takes: its texts, and what each of them and the
/// entry cost besides.
pub(super) fn size(identity: &Identity) -> usize {
    let options = [&identity.email, &identity.session_id, &identity.token_id];
    let lists = [&identity.roles, &identity.scopes];
    let texts = [&identity.user_id, &identity.issuer]
        .into_iter()
        .chain(options.into_iter().flatten())
        .chain(lists.into_iter().flatten())
        .map(String::len);
    let claims = identity.claims.iter().map(|(path, value)| {
        let names = path.iter().fold(0_usize, |sum, name| sum.saturating_add(name.len()));
        names.saturating_add(value.as_str().map_or(0, str::len))
    });
    texts.chain(claims).fold(limits::TOKEN_CACHE_ENTRY_BYTES, |sum, bytes| {
        sum.saturating_add(bytes).saturating_add(limits::TOKEN_CACHE_TEXT_BYTES)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);

    fn digest_of(number: usize) -> TokenDigest {
        digest(&number.to_string())
    }

    #[test]
    fn entries_and_bytes_are_bounded_and_the_oldest_go_first() {
        for (bytes, most) in [(0, limits::TOKEN_CACHE_ENTRIES), (2500, limits::TOKEN_CACHE_BYTES / 2500)] {
            let mut cache = TokenCache::default();
            for number in 0..limits::TOKEN_CACHE_ENTRIES + 100 {
                cache.insert(digest_of(number), Rc::new(()), bytes, NOW.plus(60_000), NOW);
            }
            assert_eq!((cache.entries.len(), cache.order.len()), (most, most));
            assert!(cache.bytes <= limits::TOKEN_CACHE_BYTES);
            assert!(cache.find(&digest_of(0), NOW).is_none());
            assert!(cache.find(&digest_of(limits::TOKEN_CACHE_ENTRIES + 99), NOW).is_some());
        }
    }

    #[test]
    fn a_token_that_is_inserted_again_takes_no_more_room() {
        let mut cache = TokenCache::default();
        for _ in 0..1000 {
            cache.insert(digest_of(1), Rc::new(()), 100, NOW.plus(60_000), NOW);
        }
        assert_eq!((cache.entries.len(), cache.order.len(), cache.bytes), (1, 1, 100));
    }

    #[test]
    fn a_token_expires_with_its_claims_and_after_five_minutes_at_most() {
        let mut cache = TokenCache::default();
        for (number, expires_in, found_for) in [(1, 1000, 1000), (2, u64::MAX / 2, limits::TOKEN_CACHE_MS), (3, 0, 0)] {
            cache.insert(digest_of(number), Rc::new(()), 1, NOW.plus(expires_in), NOW);
            if found_for > 0 {
                assert!(cache.find(&digest_of(number), NOW.plus(found_for - 1)).is_some(), "{number}");
            }
            assert!(cache.find(&digest_of(number), NOW.plus(found_for)).is_none(), "{number}");
        }
    }

    #[test]
    fn the_size_of_an_identity_counts_each_of_its_texts() {
        let mut identity = Identity {
            user_id: "u".repeat(10),
            email: None,
            roles: vec![],
            scopes: vec![],
            claims: vec![],
            session_id: None,
            token_id: None,
            issued_at: NOW,
            expires_at: NOW,
            issuer: "i".repeat(5),
        };
        let bare = size(&identity);
        assert_eq!(bare, limits::TOKEN_CACHE_ENTRY_BYTES + 15 + 2 * limits::TOKEN_CACHE_TEXT_BYTES);
        identity.roles = vec!["r".repeat(50); 10];
        identity.claims = vec![(vec!["tenant".to_owned()], "acme".into())];
        assert_eq!(size(&identity), bare + 500 + 10 + 11 * limits::TOKEN_CACHE_TEXT_BYTES);
    }
}
