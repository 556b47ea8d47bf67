//! Polls a request's future without an executor: when the request arrives, and whenever the promise
//! that it waits for settles. Each wait costs one `then`, and a request that waits for nothing needs
//! no promise. An executor would put each step into the microtask queue through several calls, which
//! cost 60 of 960 µs of a request (docs/decisions/0013-request-lifetime.md).
//!
//! A future that waits for anything but a registered promise is passed to the executor.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use js_sys::{Function, Promise};
use wasm_bindgen::{JsCast as _, JsValue, prelude::Closure};
use wasm_bindgen_futures::JsFuture;

use super::js;
use crate::pipeline::limits;

/// The result of a request or a background task, or of the promise that it waits for.
pub(super) type Settled = Result<JsValue, JsValue>;

/// What a request's future and the code that polls it share.
#[derive(Default)]
pub(super) struct PromisePoller {
    /// Whether an executor polls.
    left_to_executor: Cell<bool>,
    /// The promise that the future waits for. Shared, because a copy of the runtime's handle is a call
    /// into the runtime.
    promise: RefCell<Option<Rc<Promise>>>,
    /// When this wait began, in milliseconds since 1970, and after how many the runtime has ended it.
    wait: Cell<(f64, f64)>,
    /// The promise's outcome.
    outcome: RefCell<Option<Settled>>,
    /// The time. It does not advance between two waits, as in the runtime.
    now: Cell<Option<f64>>,
}

impl PromisePoller {
    /// Creates one for a future that the executor polls from the beginning.
    pub(super) fn of_executor() -> Rc<Self> {
        Rc::new(Self { left_to_executor: Cell::new(true), ..Self::default() })
    }

    /// Waits for a promise that settles within `may_take_ms` milliseconds. One promise at a time is
    /// registered; a second one is left to the executor.
    pub(super) async fn wait(&self, promise: Promise, may_take_ms: u64) -> Settled {
        let promise = Rc::new(promise);
        if !self.left_to_executor.get() && self.promise.borrow().is_none() {
            let lost_ms = may_take_ms.saturating_add(limits::WAITING_LOST_MS);
            self.wait.set((self.now(), f64::from(u32::try_from(lost_ms).unwrap_or(u32::MAX))));
            self.promise.replace(Some(Rc::clone(&promise)));
            let mut is_resumed = false;
            poll_fn(|_| if mem::replace(&mut is_resumed, true) { Poll::Ready(()) } else { Poll::Pending }).await;
            if let Some(outcome) = self.outcome.take() {
                return outcome;
            }
        }
        JsFuture::from(Promise::clone(&promise)).await
    }

    /// Also true for a wait that began on a clock that was ahead and is set back.
    fn is_lost(&self, now: f64) -> bool {
        let (since, lost_ms) = self.wait.get();
        (now - since).abs() > lost_ms
    }

    /// Milliseconds since 1970.
    pub(super) fn now(&self) -> f64 {
        if self.left_to_executor.get() {
            return js_sys::Date::now();
        }
        let now = self.now.get().unwrap_or_else(js_sys::Date::now);
        self.now.set(Some(now));
        now
    }
}

/// A request or a background task.
struct Run {
    work: Pin<Box<dyn Future<Output = Settled>>>,
    poller: Rc<PromisePoller>,
}

/// Those that wait, each with an id that this wait alone has, so that a late `resume` never finds another.
#[derive(Default)]
struct Waiting {
    /// In the order of their ids, which begin at 0 again after [`u32::MAX`].
    runs: Vec<(u32, Run)>,
    last_id: u32,
    /// Where to look for a lost run next.
    next_check: usize,
}

thread_local! {
    static WAITING: RefCell<Waiting> = RefCell::default();
    static RESUME: Function = Closure::<dyn FnMut(u32, bool, JsValue) -> Settled>::new(resume)
        .into_js_value()
        .unchecked_into();
}

impl Waiting {
    fn insert(&mut self, run: Run) -> u32 {
        self.drop_one_that_is_lost(run.poller.now());
        self.last_id = self.last_id.wrapping_add(1);
        self.runs.push((self.last_id, run));
        self.last_id
    }

    fn remove(&mut self, id: u32) -> Option<Run> {
        let &(first, _) = self.runs.first()?;
        let index = self.runs.binary_search_by_key(&id.wrapping_sub(first), |(id, _)| id.wrapping_sub(first)).ok()?;
        Some(self.runs.remove(index).1)
    }

    /// Checks one run per call, so that all are checked in turn at little cost.
    fn drop_one_that_is_lost(&mut self, now: f64) {
        let Some((_, run)) = self.runs.get(self.next_check) else {
            self.next_check = 0;
            return;
        };
        if run.poller.is_lost(now) {
            self.runs.remove(self.next_check);
        } else {
            self.next_check = self.next_check.saturating_add(1);
        }
    }
}

/// Returns whether [`limits::WAITING`] requests wait, after dropping lost ones.
pub(super) fn is_full(now: f64) -> bool {
    WAITING.with_borrow_mut(|Waiting { runs, .. }| {
        if runs.len() >= limits::WAITING {
            runs.retain(|(_, run)| !run.poller.is_lost(now));
        }
        runs.len() >= limits::WAITING
    })
}

/// Starts a request or a background task. Returns its result, or a promise of it, until which the event
/// is kept alive: the runtime may never resume a request after its client disconnects, and what the
/// request holds (a permit, a fetch that others wait for) would be lost.
pub(super) fn run(
    work: impl Future<Output = Settled> + 'static,
    poller: Rc<PromisePoller>,
    context: &js::Context,
) -> Settled {
    advance(Run { work: Box::pin(work), poller }).unwrap_or_else(|promise| {
        context.wait_until(&promise);
        Ok(promise.into())
    })
}

/// Polls once. Returns the result, or as an error the promise of it.
fn advance(mut run: Run) -> Result<Settled, Promise> {
    if let Poll::Ready(outcome) = run.work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return Ok(outcome);
    }
    let Some(promise) = run.poller.promise.take() else {
        // It waits for something other than a registered promise.
        run.poller.left_to_executor.set(true);
        return Err(wasm_bindgen_futures::future_to_promise(run.work));
    };
    let id = WAITING.with_borrow_mut(|waiting| waiting.insert(run));
    Err(RESUME.with(|resume| js::then(&promise, id, resume)))
}

fn resume(id: u32, is_fulfilled: bool, value: JsValue) -> Settled {
    let run = WAITING.with_borrow_mut(|waiting| waiting.remove(id)).ok_or(JsValue::UNDEFINED)?;
    run.poller.now.set(None);
    run.poller.outcome.replace(Some(if is_fulfilled { Ok(value) } else { Err(value) }));
    advance(run).unwrap_or_else(|promise| Ok(promise.into()))
}

#[cfg(test)]
#[path = "../../tests/wasm/poll_promise.rs"]
mod tests;
