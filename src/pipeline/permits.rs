//! Bounds on how many requests wait for the same thing.
//!
//! Each permit expires: the runtime may end an event that takes too long, and its request never
//! returns to release what it holds.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use super::{limits, ports::Clock};
use portcullis_token::UnixMillis;

/// A bounded number of permits.
#[derive(Debug)]
pub(super) struct Permits {
    max: u32,
    /// Expiry of each permit, and whether its request has a body to send.
    held: RefCell<HashMap<u64, (UnixMillis, bool)>>,
    next: Cell<u64>,
}

/// A permit; [`Permits::release`] returns it.
#[derive(Debug)]
pub(super) struct Permit(u64);

impl Permits {
    pub(super) fn new(max: u32) -> Self {
        Self { max, held: RefCell::default(), next: Cell::new(0) }
    }

    /// Takes a permit that expires at `until`, if there is one.
    pub(super) fn acquire(&self, has_body: bool, until: UnixMillis, now: UnixMillis) -> Option<Permit> {
        let mut held = self.held.borrow_mut();
        if self.is_exhausted(&held, has_body) {
            held.retain(|_, (until, _)| now < *until);
            if self.is_exhausted(&held, has_body) {
                return None;
            }
        }
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        held.insert(id, (until, has_body));
        Some(Permit(id))
    }

    /// Returns a permit.
    pub(super) fn release(&self, Permit(id): Permit) {
        self.held.borrow_mut().remove(&id);
    }

    /// Waits for `millis` milliseconds with a permit. Returns false at once when there is none.
    pub(super) async fn pause(&self, millis: u64, clock: &impl Clock) -> bool {
        let now = clock.now();
        let until = now.plus(millis.saturating_add(limits::WAITER_LOST_MS));
        let Some(permit) = self.acquire(false, until, now) else { return false };
        clock.sleep(millis).await;
        self.release(permit);
        true
    }

    /// Returns how many permits are taken.
    pub(super) fn taken(&self) -> usize {
        self.held.borrow().len()
    }

    /// Requests with a body get half of the permits, so that clients that send slowly leave room
    /// for requests without one.
    fn is_exhausted(&self, held: &HashMap<u64, (UnixMillis, bool)>, has_body: bool) -> bool {
        let count = |permits: usize| u32::try_from(permits).unwrap_or(u32::MAX);
        let half = (self.max / 2).max(1);
        let all = count(held.len());
        all >= self.max
            || (has_body && all >= half && count(held.values().filter(|(_, has_body)| *has_body).count()) >= half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_bounded_bodies_get_half_and_lost_ones_expire() {
        let permits = Permits::new(4);
        let at = UnixMillis;
        let acquire = |has_body, now| permits.acquire(has_body, at(now + 100), at(now));
        let (first, _second) = (acquire(true, 0).unwrap(), acquire(true, 0).unwrap());
        assert!(acquire(true, 0).is_none(), "half are for requests without a body");
        let _others = (acquire(false, 0).unwrap(), acquire(false, 0).unwrap());
        assert!(acquire(false, 99).is_none());
        permits.release(first);
        assert!(acquire(false, 99).is_some());
        assert_eq!(permits.taken(), 4);
        assert!(acquire(true, 100).is_some(), "the others have expired");
        assert_eq!(permits.taken(), 2);
    }
}
