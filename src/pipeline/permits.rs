//! Bounds on how many requests wait for the same thing.
//!
//! Each permit expires: the runtime may end an event that takes too long, and its request never
//! returns to release what it holds.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
};

use portcullis_resilience::network;

use super::{limits, ports::Runtime};
use portcullis_token::UnixMillis;

/// A time from which something lasts. Of a clock that was days ahead for a moment, it ends when the clock is
/// set back, and not days later.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) since: UnixMillis,
    pub(super) lasts_ms: u64,
}

impl Lease {
    pub(super) const fn is_over(self, now: UnixMillis) -> bool {
        now.abs_diff(self.since) >= self.lasts_ms
    }
}

/// A bounded number of permits.
pub(super) struct Permits {
    max: u32,
    /// In the order of their numbers.
    held: RefCell<Vec<Held>>,
    next: Cell<u64>,
}

/// A permit that is held.
struct Held {
    number: u64,
    lease: Lease,
    /// The network of the client that was counted.
    client: Option<IpAddr>,
}

/// A permit, which is released when it is dropped.
pub(super) struct Permit<'a> {
    permits: &'a Permits,
    number: u64,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut held = self.permits.held.borrow_mut();
        if let Ok(index) = held.binary_search_by_key(&self.number, |one| one.number) {
            held.remove(index);
        }
    }
}

impl Permits {
    pub(super) fn new(max: u32) -> Self {
        Self { max, held: RefCell::default(), next: Cell::new(0) }
    }

    /// Takes a permit, of which the network of one client gets a share at most. Without an address or from
    /// loopback it is a developer's machine, whose clients all have the same address: no share.
    pub(super) fn acquire(&self, lease: Lease, client: Option<IpAddr>) -> Option<Permit<'_>> {
        let mut held = self.held.borrow_mut();
        let client = client.filter(|client| !client.to_canonical().is_loopback()).map(network);
        let is_below = |count: usize, max: u32| u32::try_from(count).is_ok_and(|count| count < max);
        let has_free = |held: &[Held]| {
            let of_client = || held.iter().filter(|other| other.client == client).count();
            let share = (self.max / limits::NETWORK_SHARE).max(1);
            is_below(held.len(), self.max) && (client.is_none() || is_below(of_client(), share))
        };
        if !has_free(&held) {
            held.retain(|other| !other.lease.is_over(lease.since));
            if !has_free(&held) {
                return None;
            }
        }
        let number = self.next.replace(self.next.get().wrapping_add(1));
        held.push(Held { number, lease, client });
        Some(Permit { permits: self, number })
    }

    /// Waits for `millis` milliseconds with a permit. Returns false at once when there is none.
    pub(super) async fn pause(&self, millis: u64, clock: &impl Runtime) -> bool {
        let lasts_ms = millis.saturating_add(limits::WAITER_LOST_MS);
        let permit = self.acquire(Lease { since: clock.now(), lasts_ms }, None);
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
