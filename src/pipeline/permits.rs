//! Bounds on how many requests wait for the same thing.
//!
//! Each permit expires: the runtime may end an event that takes too long, and its request never
//! returns to release what it holds.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use super::{limits, ports::Runtime};
use portcullis_token::UnixMillis;

/// A bounded number of permits.
pub(super) struct Permits {
    max: u32,
    /// Expiry of each permit, by its number.
    held: RefCell<HashMap<u64, UnixMillis>>,
    next: Cell<u64>,
}

/// A permit, which is released when it is dropped.
pub(super) struct Permit<'a> {
    permits: &'a Permits,
    number: u64,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.permits.held.borrow_mut().remove(&self.number);
    }
}

impl Permits {
    pub(super) fn new(max: u32) -> Self {
        Self { max, held: RefCell::default(), next: Cell::new(0) }
    }

    /// Takes a permit that expires at `until`, if there is one.
    pub(super) fn acquire(&self, until: UnixMillis, now: UnixMillis) -> Option<Permit<'_>> {
        let mut held = self.held.borrow_mut();
        let has_free = |held: &HashMap<_, _>| u32::try_from(held.len()).is_ok_and(|count| count < self.max);
        if !has_free(&held) {
            held.retain(|_, until| now < *until);
            if !has_free(&held) {
                return None;
            }
        }
        let number = self.next.replace(self.next.get().wrapping_add(1));
        held.insert(number, until);
        Some(Permit { permits: self, number })
    }

    /// Waits for `millis` milliseconds with a permit. Returns false at once when there is none.
    pub(super) async fn pause(&self, millis: u64, clock: &impl Runtime) -> bool {
        let now = clock.now();
        let permit = self.acquire(now.plus(millis.saturating_add(limits::WAITER_LOST_MS)), now);
        if permit.is_some() {
            clock.sleep(millis).await;
        }
        permit.is_some()
    }

    /// Returns how many permits are taken.
    pub(super) fn taken(&self) -> usize {
        self.held.borrow().len()
    }
}
