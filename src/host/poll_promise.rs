//! Polls a request's future without an executor: when the request arrives, and whenever the promise
//! that it waits for settles. Each wait costs one `then`, and a request that waits for nothing needs
//! no promise. An executor would put each step into the microtask queue through several calls, which
//! cost 60 of 960 µs of a request (docs/decisions/0013-request-lifetime.md).
//!
//! A future that waits for anything but a registered promise is passed to the executor.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use js_sys::{Function, Promise};
use wasm_bindgen::{JsCast as _, JsValue, prelude::Closure};
use wasm_bindgen_futures::JsFuture;

use super::js;
use crate::pipeline::limits;

type Work = Pin<Box<dyn Future<Output = Result<JsValue, JsValue>>>>;

/// What a request's future and the code that polls it share.
#[derive(Default)]
pub(super) struct PromisePoller {
    /// Whether an executor polls.
    left_to_executor: Cell<bool>,
    /// The promise that the future waits for.
    promise: RefCell<Option<Rc<Promise>>>,
    /// Milliseconds after which the runtime has ended this wait.
    may_take_ms: Cell<f64>,
    /// The promise's outcome.
    outcome: RefCell<Option<Result<JsValue, JsValue>>>,
    /// The time. It does not advance between two waits, as in the runtime.
    now: Cell<Option<f64>>,
}

impl PromisePoller {
    /// Creates one for a future that the executor polls from the beginning.
    pub(super) fn of_executor() -> Rc<Self> {
        let poller = Self::default();
        poller.left_to_executor.set(true);
        Rc::new(poller)
    }

    /// Waits for a promise that settles within `may_take_ms` milliseconds.
    pub(super) fn wait(self: &Rc<Self>, promise: Promise, may_take_ms: u64) -> Wait {
        Wait::New(Rc::clone(self), Rc::new(promise), may_take_ms)
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

/// A wait for a promise. One at a time is registered with the [`PromisePoller`]; a second one is left
/// to the executor.
pub(super) enum Wait {
    // Shared, because a copy of the runtime's handle is a call into the runtime.
    New(Rc<PromisePoller>, Rc<Promise>, u64),
    Registered(Rc<PromisePoller>, Rc<Promise>),
    Executed(JsFuture),
}

impl Future for Wait {
    type Output = Result<JsValue, JsValue>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match this {
                Self::New(poller, promise, may_take_ms) => {
                    if poller.left_to_executor.get() || poller.promise.borrow().is_some() {
                        *this = Self::Executed(JsFuture::from(Promise::clone(promise)));
                        continue;
                    }
                    let promise = Rc::clone(promise);
                    let lost_ms = may_take_ms.saturating_add(limits::WAITING_LOST_MS);
                    poller.may_take_ms.set(f64::from(u32::try_from(lost_ms).unwrap_or(u32::MAX)));
                    *poller.promise.borrow_mut() = Some(Rc::clone(&promise));
                    *this = Self::Registered(Rc::clone(poller), promise);
                    return Poll::Pending;
                }
                Self::Registered(poller, promise) => {
                    if let Some(outcome) = poller.outcome.take() {
                        return Poll::Ready(outcome);
                    }
                    *this = Self::Executed(JsFuture::from(Promise::clone(promise)));
                }
                Self::Executed(future) => return Pin::new(future).poll(context),
            }
        }
    }
}

struct Run {
    work: Work,
    poller: Rc<PromisePoller>,
    /// Milliseconds since 1970 after which it is dropped.
    lost_at: f64,
}

/// Requests that wait. A slot is identified by its index and a generation, so that a late `resume`
/// never finds another request.
#[derive(Default)]
struct Waiting {
    places: Vec<(u32, Option<Run>)>,
    free: Vec<usize>,
    looked_at: usize,
}

thread_local! {
    static WAITING: RefCell<Waiting> = RefCell::default();
    static RESUME: Function = Closure::<dyn FnMut(u32, u32, bool, JsValue) -> Result<JsValue, JsValue>>::new(resume)
        .into_js_value()
        .unchecked_into();
}

impl Waiting {
    fn enter(&mut self, run: Run, now: f64) -> (usize, u32) {
        self.drop_one_that_is_lost(now);
        let index = self.free.pop().unwrap_or(self.places.len());
        match self.places.get_mut(index) {
            Some((turn, place)) => {
                *place = Some(run);
                (index, *turn)
            }
            None => {
                self.places.push((0, Some(run)));
                (index, 0)
            }
        }
    }

    fn leave(&mut self, index: usize, turn: u32) -> Option<Run> {
        let (current, place) = self.places.get_mut(index).filter(|(current, _)| *current == turn)?;
        let run = place.take()?;
        *current = current.wrapping_add(1);
        self.free.push(index);
        Some(run)
    }

    /// Checks one slot per call, so that all are checked in turn at little cost.
    fn drop_one_that_is_lost(&mut self, now: f64) {
        self.looked_at = if self.looked_at < self.places.len() { self.looked_at.wrapping_add(1) } else { 0 };
        self.drop_if_lost(self.looked_at, now);
    }

    fn drop_if_lost(&mut self, index: usize, now: f64) {
        let lost = self.places.get(index).and_then(|(turn, place)| (now > place.as_ref()?.lost_at).then_some(*turn));
        if let Some(turn) = lost {
            drop(self.leave(index, turn));
        }
    }

    /// Returns whether the bound is reached, after dropping lost requests.
    fn is_full(&mut self, now: f64) -> bool {
        let has_room = |waiting: &Self| waiting.places.len().saturating_sub(waiting.free.len()) < limits::WAITING;
        if has_room(self) {
            return false;
        }
        for index in 0..self.places.len() {
            self.drop_if_lost(index, now);
        }
        !has_room(self)
    }
}

/// Returns whether [`limits::WAITING`] requests wait.
pub(super) fn is_full(now: f64) -> bool {
    WAITING.with_borrow_mut(|waiting| waiting.is_full(now))
}

/// The state of a request or a background task after a poll.
pub(super) enum Progress {
    Done(Result<JsValue, JsValue>),
    /// It waits; the promise settles with its result.
    Waits(Promise),
}

impl From<Progress> for Result<JsValue, JsValue> {
    fn from(progress: Progress) -> Self {
        match progress {
            Progress::Done(outcome) => outcome,
            Progress::Waits(promise) => Ok(promise.into()),
        }
    }
}

/// Starts a request or a background task.
pub(super) fn run(
    work: impl Future<Output = Result<JsValue, JsValue>> + 'static,
    poller: Rc<PromisePoller>,
) -> Progress {
    go_on(Run { work: Box::pin(work), poller, lost_at: 0.0 })
}

fn go_on(mut run: Run) -> Progress {
    if let Poll::Ready(answer) = run.work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return Progress::Done(answer);
    }
    let Some(promise) = run.poller.promise.take() else {
        // It waits for something other than a registered promise.
        run.poller.left_to_executor.set(true);
        return Progress::Waits(wasm_bindgen_futures::future_to_promise(run.work));
    };
    let now = run.poller.now();
    run.lost_at = now + run.poller.may_take_ms.get();
    let (index, turn) = WAITING.with_borrow_mut(|waiting| waiting.enter(run, now));
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    Progress::Waits(RESUME.with(|resume| js::then(&promise, index, turn, resume)))
}

fn resume(index: u32, turn: u32, is_fine: bool, value: JsValue) -> Result<JsValue, JsValue> {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    let run = WAITING.with_borrow_mut(|waiting| waiting.leave(index, turn)).ok_or(JsValue::UNDEFINED)?;
    run.poller.now.set(None);
    *run.poller.outcome.borrow_mut() = Some(if is_fine { Ok(value) } else { Err(value) });
    go_on(run).into()
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    /// Begins a request that waits for a promise that is never settled.
    fn begin(may_take_ms: u64) {
        let poller = Rc::new(PromisePoller::default());
        let wait = poller.wait(Promise::new(&mut |_, _| {}), may_take_ms);
        assert!(matches!(run(wait, poller), Progress::Waits(_)));
    }

    #[wasm_bindgen_test]
    fn only_so_many_requests_wait_and_lost_ones_make_room() {
        for count in 0..limits::WAITING {
            assert!(!is_full(js_sys::Date::now()), "{count} wait");
            begin(60_000);
        }
        let now = js_sys::Date::now();
        assert!(is_full(now));
        // The first of them began some time before.
        assert!(is_full(now + 60_000.0));
        assert!(!is_full(now + 65_001.0));
        begin(0);
        // A promise that is settled too late resumes nothing.
        assert!(resume(1, 0, true, JsValue::UNDEFINED).is_err());
    }
}
