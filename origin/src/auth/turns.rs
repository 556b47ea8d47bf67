//! Who hashes a password next: a few at a time, callers that are known first, and none waits
//! for a turn that would come too late.
//!
//! A flood of logins from many addresses fills the queue of strangers. Owners who log in from
//! a network that their account knows pass it; and whoever would wait in vain is told so at
//! once.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::password::Busy;
use crate::limits;

/// Whose turn comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A user with a session, or an owner from a network that the account knows.
    Known,
    /// Everyone else.
    Stranger,
}

/// The queue. Clones are the same one.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<Queue>>);

struct Queue {
    free: usize,
    known: VecDeque<oneshot::Sender<Permit>>,
    strangers: VecDeque<oneshot::Sender<Permit>>,
    /// Turns that known callers had in a row while strangers waited.
    known_in_a_row: usize,
    /// Time of one hash, smoothed.
    work: Duration,
}

/// The right to hash, until it is dropped.
pub(super) struct Permit {
    turns: Option<Turns>,
    since: Instant,
}

impl Turns {
    /// With so many turns at once.
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue {
            free: count,
            known: VecDeque::new(),
            strangers: VecDeque::new(),
            known_in_a_row: 0,
            work: limits::HASH_EXPECTED,
        })))
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`Busy`] at once when the queue is longer than [`limits::HASH_WAIT`], and after that time.
    pub(super) async fn take(&self, priority: Priority) -> Result<Permit, Busy> {
        let waiting = {
            let mut queue = self.lock();
            if queue.free > 0 {
                queue.free = queue.free.saturating_sub(1);
                return Ok(self.permit());
            }
            let ahead = queue.ahead_of(priority);
            if ahead >= limits::HASH_QUEUE || queue.wait(ahead) > limits::HASH_WAIT {
                return Err(Busy);
            }
            let (sender, waiting) = oneshot::channel();
            match priority {
                Priority::Known => queue.known.push_back(sender),
                Priority::Stranger => queue.strangers.push_back(sender),
            }
            waiting
        };
        // A permit that comes too late is dropped with its receiver, and so passed on.
        tokio::time::timeout(limits::HASH_WAIT, waiting).await.map_err(|_| Busy)?.map_err(|_| Busy)
    }

    fn permit(&self) -> Permit {
        Permit { turns: Some(self.clone()), since: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a turn on to whoever is next.
    fn pass_on(&self, worked: Duration) {
        let mut queue = self.lock();
        // An eighth of the newest: a moment's stall shuts nobody out.
        queue.work = queue.work.saturating_mul(7).saturating_add(worked).checked_div(8).unwrap_or(worked);
        while let Some(next) = queue.next() {
            match next.send(self.permit()) {
                Ok(()) => return,
                // Whoever waited has gone. What was sent must not be passed on from here.
                Err(mut permit) => permit.turns = None,
            }
        }
        queue.free = queue.free.saturating_add(1);
    }
}

impl Queue {
    /// How many are served before the next caller of a priority.
    fn ahead_of(&mut self, priority: Priority) -> usize {
        self.known.retain(|waiter| !waiter.is_closed());
        self.strangers.retain(|waiter| !waiter.is_closed());
        match priority {
            Priority::Known => self.known.len(),
            // As `next` serves them: so many known callers before each stranger.
            Priority::Stranger => {
                let strangers = self.strangers.len();
                let known = limits::KNOWN_IN_A_ROW.saturating_mul(strangers.saturating_add(1));
                strangers.saturating_add(self.known.len().min(known))
            }
        }
    }

    /// How long a caller waits with so many ahead.
    fn wait(&self, ahead: usize) -> Duration {
        let rounds = u32::try_from(ahead.saturating_add(1).div_ceil(limits::HASHES)).unwrap_or(u32::MAX);
        self.work.saturating_mul(rounds)
    }

    /// The next to be served: known callers first, but strangers are not starved.
    fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        let is_strangers_turn = self.known_in_a_row >= limits::KNOWN_IN_A_ROW && !self.strangers.is_empty();
        if !is_strangers_turn && let Some(known) = self.known.pop_front() {
            self.known_in_a_row = if self.strangers.is_empty() { 0 } else { self.known_in_a_row.saturating_add(1) };
            return Some(known);
        }
        self.known_in_a_row = 0;
        self.strangers.pop_front()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.pass_on(self.since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Callers that wait, in the order of their coming; each notes its name when it is served.
    async fn serve(turns: &Turns, callers: &[(&'static str, Priority)]) -> Vec<&'static str> {
        let first = turns.take(Priority::Stranger).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for (name, priority) in callers.iter().copied() {
            let (turns, order) = (turns.clone(), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                let permit = turns.take(priority).await.unwrap();
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
    async fn known_callers_are_served_first_and_strangers_are_not_starved() {
        use Priority::{Known, Stranger};
        let turns = Turns::new(1);
        let callers = [
            ("s1", Stranger),
            ("s2", Stranger),
            ("k1", Known),
            ("k2", Known),
            ("k3", Known),
            ("k4", Known),
            ("k5", Known),
        ];
        assert_eq!(serve(&turns, &callers).await, ["k1", "k2", "k3", "s1", "k4", "k5", "s2"]);
        assert_eq!(turns.lock().free, 1, "every turn was given back");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_would_wait_too_long_is_refused_at_once_and_known_callers_are_not() {
        let turns = Turns::new(1);
        let _held = turns.take(Priority::Stranger).await.unwrap();
        turns.lock().work = limits::HASH_WAIT / 2;
        let mut strangers = Vec::new();
        let begun = tokio::time::Instant::now();
        loop {
            let mut waiting = Box::pin(turns.take(Priority::Stranger));
            let refused = futures_poll(&mut waiting).await;
            match refused {
                Some(outcome) => {
                    assert!(outcome.is_err());
                    break;
                }
                None => strangers.push(waiting),
            }
        }
        assert_eq!(begun.elapsed(), Duration::ZERO, "at once");
        assert!(!strangers.is_empty(), "the queue has room");
        let mut known = Box::pin(turns.take(Priority::Known));
        assert!(futures_poll(&mut known).await.is_none(), "waits, before all strangers");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_waits_for_no_more_known_callers_than_are_served_before() {
        let turns = Turns::new(1);
        let held = turns.take(Priority::Stranger).await.unwrap();
        // Four callers and one turn of strangers have time, however few hash at once.
        turns.lock().work = limits::HASH_WAIT / 8;
        let mut known = Vec::new();
        loop {
            let mut waiting = Box::pin(turns.take(Priority::Known));
            match futures_poll(&mut waiting).await {
                Some(outcome) => break assert!(outcome.is_err()),
                None => known.push(waiting),
            }
        }
        assert!(known.len() > limits::KNOWN_IN_A_ROW * 2, "known callers fill their queue");
        let mut stranger = Box::pin(turns.take(Priority::Stranger));
        assert!(futures_poll(&mut stranger).await.is_none(), "waits");
        drop(held);
        for served in &mut known[..limits::KNOWN_IN_A_ROW] {
            drop(futures_poll(served).await.unwrap().unwrap());
        }
        drop(futures_poll(&mut stranger).await.unwrap().unwrap());
    }

    #[test]
    fn the_callers_ahead_are_those_who_are_served_before() {
        for (known, strangers, priority, expected) in [
            (0, 0, Priority::Known, 0),
            (5, 9, Priority::Known, 5),
            (0, 0, Priority::Stranger, 0),
            (2, 0, Priority::Stranger, 2),
            (3, 0, Priority::Stranger, 3),
            (500, 0, Priority::Stranger, 3),
            (500, 1, Priority::Stranger, 7),
            (500, 9, Priority::Stranger, 39),
            (4, 9, Priority::Stranger, 13),
        ] {
            let turns = Turns::new(1);
            let (mut queue, mut waiting) = (turns.lock(), Vec::new());
            let mut wait = |waiters: &mut VecDeque<oneshot::Sender<Permit>>, count| {
                for _ in 0..count {
                    let (sender, receiver) = oneshot::channel();
                    waiters.push_back(sender);
                    waiting.push(receiver);
                }
            };
            wait(&mut queue.known, known);
            wait(&mut queue.strangers, strangers);
            assert_eq!(queue.ahead_of(priority), expected, "{known} known, {strangers} strangers, {priority:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_nobody_waits_for_any_more_goes_to_the_next() {
        let turns = Turns::new(1);
        let held = turns.take(Priority::Known).await.unwrap();
        let mut gone = Box::pin(turns.take(Priority::Stranger));
        assert!(futures_poll(&mut gone).await.is_none());
        let mut next = Box::pin(turns.take(Priority::Stranger));
        assert!(futures_poll(&mut next).await.is_none());
        drop(gone);
        drop(held);
        drop(next.await.unwrap());
        assert_eq!(turns.lock().free, 1);
        let held = turns.take(Priority::Known).await.unwrap();
        assert!(turns.take(Priority::Stranger).await.is_err(), "after the wait");
        drop(held);
        assert_eq!(turns.lock().free, 1);
    }

    /// What a future says when it is looked at once.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
