//! The queue in front of password hashing: a few hashes at once, known callers first, and an
//! early refusal of callers who would wait too long.
//!
//! A flood of logins from many addresses fills the queue of unknown callers. Owners who log in
//! from a network that their account knows overtake it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::limits;

/// Which callers are served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A user with a session, or an owner in a network that the account knows.
    Known,
    /// Everyone else.
    Unknown,
}

/// No permit in time, or hashing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// The queue. Clones share it.
#[derive(Clone)]
pub(super) struct HashQueue(Arc<Mutex<State>>);

struct State {
    free: usize,
    known: VecDeque<oneshot::Sender<Permit>>,
    unknown: VecDeque<oneshot::Sender<Permit>>,
    /// Known callers served in a row while unknown ones waited.
    known_in_a_row: usize,
    /// Moving average of the time for one hash.
    hash_time: Duration,
}

/// Allows its holder to hash until it is dropped.
pub(super) struct Permit {
    queue: Option<HashQueue>,
}

impl Permit {
    /// Adds the time of a hash to the average from which the expected wait is computed.
    pub(super) fn record(&self, used: Duration) {
        let Some(queue) = &self.queue else { return };
        let mut state = queue.lock();
        // The newest hash counts an eighth, so that one stall does not refuse every caller.
        state.hash_time = state.hash_time.saturating_mul(7).saturating_add(used).checked_div(8).unwrap_or(used);
    }
}

impl HashQueue {
    /// Makes a queue that gives out `permits` at once.
    pub(super) fn new(permits: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: permits,
            known: VecDeque::new(),
            unknown: VecDeque::new(),
            known_in_a_row: 0,
            hash_time: limits::HASH_EXPECTED,
        })))
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// [`Busy`] at once when the expected wait is longer than [`limits::HASH_WAIT`], and after
    /// that time.
    pub(super) async fn acquire(&self, priority: Priority) -> Result<Permit, Busy> {
        let waiting = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free = state.free.saturating_sub(1);
                return Ok(self.permit());
            }
            let ahead = state.ahead_of(priority);
            if ahead >= limits::HASH_QUEUE || state.expected_wait(ahead) > limits::HASH_WAIT {
                return Err(Busy);
            }
            let (sender, waiting) = oneshot::channel();
            match priority {
                Priority::Known => state.known.push_back(sender),
                Priority::Unknown => state.unknown.push_back(sender),
            }
            waiting
        };
        // A permit that arrives after the time-out is dropped with its receiver, which releases it.
        tokio::time::timeout(limits::HASH_WAIT, waiting).await.map_err(|_| Busy)?.map_err(|_| Busy)
    }

    fn permit(&self) -> Permit {
        Permit { queue: Some(self.clone()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a permit that is no longer used to the next caller.
    fn release(&self) {
        let mut state = self.lock();
        while let Some(next) = state.next() {
            match next.send(self.permit()) {
                Ok(()) => return,
                // The caller has gone. Dropping the returned permit must not release it again.
                Err(mut permit) => permit.queue = None,
            }
        }
        state.free = state.free.saturating_add(1);
    }
}

impl State {
    /// Number of callers that are served before the next caller of a priority.
    fn ahead_of(&mut self, priority: Priority) -> usize {
        self.known.retain(|waiter| !waiter.is_closed());
        self.unknown.retain(|waiter| !waiter.is_closed());
        match priority {
            Priority::Known => self.known.len(),
            // The order of `next`: at most so many known callers before each unknown one.
            Priority::Unknown => {
                let unknown = self.unknown.len();
                let known = limits::KNOWN_IN_A_ROW.saturating_mul(unknown.saturating_add(1));
                unknown.saturating_add(self.known.len().min(known))
            }
        }
    }

    /// Expected wait with so many callers ahead.
    fn expected_wait(&self, ahead: usize) -> Duration {
        let rounds = u32::try_from(ahead.saturating_add(1).div_ceil(limits::HASHES)).unwrap_or(u32::MAX);
        self.hash_time.saturating_mul(rounds)
    }

    /// Takes the next caller off the queue: known callers first, but unknown ones are not starved.
    fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        let serves_unknown = self.known_in_a_row >= limits::KNOWN_IN_A_ROW && !self.unknown.is_empty();
        if !serves_unknown && let Some(known) = self.known.pop_front() {
            self.known_in_a_row = if self.unknown.is_empty() { 0 } else { self.known_in_a_row.saturating_add(1) };
            return Some(known);
        }
        self.known_in_a_row = 0;
        self.unknown.pop_front()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of callers in the order in which they are served; they arrive in the order given.
    async fn serve(queue: &HashQueue, callers: &[(&'static str, Priority)]) -> Vec<&'static str> {
        let first = queue.acquire(Priority::Unknown).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for (name, priority) in callers.iter().copied() {
            let (queue, order) = (queue.clone(), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                let permit = queue.acquire(priority).await.unwrap();
                order.lock().unwrap().push(name);
                drop(permit);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for one in waiting {
            one.await.unwrap();
        }
        Arc::into_inner(order).unwrap().into_inner().unwrap()
    }

    #[tokio::test]
    async fn known_callers_are_served_first_and_unknown_ones_are_not_starved() {
        use Priority::{Known, Unknown};
        let queue = HashQueue::new(1);
        let callers = [
            ("u1", Unknown),
            ("u2", Unknown),
            ("k1", Known),
            ("k2", Known),
            ("k3", Known),
            ("k4", Known),
            ("k5", Known),
        ];
        assert_eq!(serve(&queue, &callers).await, ["k1", "k2", "k3", "u1", "k4", "k5", "u2"]);
        assert_eq!(queue.lock().free, 1, "every permit was released");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_would_wait_too_long_is_refused_at_once_and_a_known_caller_is_not() {
        let queue = HashQueue::new(1);
        let _held = queue.acquire(Priority::Unknown).await.unwrap();
        queue.lock().hash_time = limits::HASH_WAIT / 2;
        let mut unknown = Vec::new();
        let begun = tokio::time::Instant::now();
        loop {
            let mut waiting = Box::pin(queue.acquire(Priority::Unknown));
            let refused = poll_once(&mut waiting).await;
            match refused {
                Some(outcome) => {
                    assert!(outcome.is_err());
                    break;
                }
                None => unknown.push(waiting),
            }
        }
        assert_eq!(begun.elapsed(), Duration::ZERO, "at once");
        assert!(!unknown.is_empty(), "the queue has room");
        let mut known = Box::pin(queue.acquire(Priority::Known));
        assert!(poll_once(&mut known).await.is_none(), "waits, ahead of all unknown callers");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_caller_waits_only_for_the_known_callers_that_are_served_before() {
        let queue = HashQueue::new(1);
        let held = queue.acquire(Priority::Unknown).await.unwrap();
        // Time for four callers and one unknown one, however few hash at once.
        queue.lock().hash_time = limits::HASH_WAIT / 8;
        let mut known = Vec::new();
        loop {
            let mut waiting = Box::pin(queue.acquire(Priority::Known));
            match poll_once(&mut waiting).await {
                Some(outcome) => break assert!(outcome.is_err()),
                None => known.push(waiting),
            }
        }
        assert!(known.len() > limits::KNOWN_IN_A_ROW * 2, "known callers fill their queue");
        let mut unknown = Box::pin(queue.acquire(Priority::Unknown));
        assert!(poll_once(&mut unknown).await.is_none(), "waits");
        drop(held);
        for served in &mut known[..limits::KNOWN_IN_A_ROW] {
            drop(poll_once(served).await.unwrap().unwrap());
        }
        drop(poll_once(&mut unknown).await.unwrap().unwrap());
    }

    #[test]
    fn the_callers_ahead_are_those_that_are_served_before() {
        for (known, unknown, priority, expected) in [
            (0, 0, Priority::Known, 0),
            (5, 9, Priority::Known, 5),
            (0, 0, Priority::Unknown, 0),
            (2, 0, Priority::Unknown, 2),
            (3, 0, Priority::Unknown, 3),
            (500, 0, Priority::Unknown, 3),
            (500, 1, Priority::Unknown, 7),
            (500, 9, Priority::Unknown, 39),
            (4, 9, Priority::Unknown, 13),
        ] {
            let queue = HashQueue::new(1);
            let (mut state, mut waiting) = (queue.lock(), Vec::new());
            let mut wait = |waiters: &mut VecDeque<oneshot::Sender<Permit>>, count| {
                for _ in 0..count {
                    let (sender, receiver) = oneshot::channel();
                    waiters.push_back(sender);
                    waiting.push(receiver);
                }
            };
            wait(&mut state.known, known);
            wait(&mut state.unknown, unknown);
            assert_eq!(state.ahead_of(priority), expected, "{known} known, {unknown} unknown, {priority:?}");
        }
    }

    #[tokio::test]
    async fn the_expected_wait_follows_the_time_of_hashes_and_not_permits_without_a_hash() {
        let queue = HashQueue::new(1);
        let expected = queue.lock().hash_time;
        for _ in 0..100 {
            drop(queue.acquire(Priority::Unknown).await.unwrap());
        }
        assert_eq!(queue.lock().hash_time, expected, "no permit hashed");
        queue.acquire(Priority::Unknown).await.unwrap().record(expected * 9);
        assert_eq!(queue.lock().hash_time, expected * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_whose_caller_has_gone_goes_to_the_next() {
        let queue = HashQueue::new(1);
        let held = queue.acquire(Priority::Known).await.unwrap();
        let mut gone = Box::pin(queue.acquire(Priority::Unknown));
        assert!(poll_once(&mut gone).await.is_none());
        let mut next = Box::pin(queue.acquire(Priority::Unknown));
        assert!(poll_once(&mut next).await.is_none());
        drop(gone);
        drop(held);
        drop(next.await.unwrap());
        assert_eq!(queue.lock().free, 1);
        let held = queue.acquire(Priority::Known).await.unwrap();
        assert!(queue.acquire(Priority::Unknown).await.is_err(), "after the wait");
        drop(held);
        assert_eq!(queue.lock().free, 1);
    }

    /// Polls a future once.
    async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
