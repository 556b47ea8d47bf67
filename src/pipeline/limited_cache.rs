//! A map of bounded size whose entries expire; the oldest entry goes first.

use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash, RandomState},
};

use super::permits::Lease;
use portcullis_token::UnixMillis;

/// A cache with a bound on the sum of its entries' sizes.
pub(super) struct LimitedCache<K, V, S = RandomState> {
    max_size: usize,
    size: usize,
    entries: HashMap<K, Entry<V>, S>,
    /// The keys, in the order in which they were first inserted.
    order: VecDeque<K>,
}

struct Entry<V> {
    value: V,
    lease: Lease,
    size: usize,
}

impl<K: Clone + Eq + Hash, V, S: BuildHasher + Default> LimitedCache<K, V, S> {
    pub(super) fn new(max_size: usize) -> Self {
        Self { max_size, size: 0, entries: HashMap::default(), order: VecDeque::new() }
    }

    /// Returns a value, unless it has expired at `now`.
    pub(super) fn find<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: UnixMillis) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).filter(|entry| !entry.lease.is_over(now)).map(|entry| &entry.value)
    }

    /// Returns whether there is a value, expired or not.
    pub(super) fn contains<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.entries.contains_key(key)
    }

    /// Inserts or replaces a value, and removes the oldest entries beyond the bound.
    pub(super) fn insert(&mut self, key: K, value: V, size: usize, lease: Lease) {
        match self.entries.insert(key.clone(), Entry { value, lease, size }) {
            Some(before) => self.size = self.size.saturating_sub(before.size),
            None => self.order.push_back(key),
        }
        self.size = self.size.saturating_add(size);
        while self.size > self.max_size {
            let Some(oldest) = self.order.pop_front() else { return };
            let removed = self.entries.remove(&oldest).map_or(0, |entry| entry.size);
            self.size = self.size.saturating_sub(removed);
        }
    }

    /// Returns the number of entries, expired ones included, and the sum of their sizes.
    pub(super) fn usage(&self) -> (usize, usize) {
        (self.entries.len(), self.size)
    }
}
