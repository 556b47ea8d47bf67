//! Carries a request's future out without an executor. It is polled when the request
//! comes and again when the promise that it waits for is settled: each wait costs one
//! `then`, and a request that waits for nothing is answered with no promise at all. An
//! executor would put each step into the microtask queue, through several crossings.
//!
//! A future may wait for anything all the same: what it waits for and has not told us is
//! left to the executor from there on.

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

/// Milliseconds after which a request that nobody came back for is dropped: its client
/// has gone, and the runtime with it. Longer than any request may wait.
const LOST_MS: f64 = 30.0 * 60.0 * 1000.0;

type Work = Pin<Box<dyn Future<Output = Result<JsValue, JsValue>>>>;

/// Between a request's future and whoever polls it.
#[derive(Default)]
pub(super) struct Turns {
    /// Whether an executor polls.
    left_to_executor: Cell<bool>,
    /// What the future waits for.
    promise: RefCell<Option<Rc<Promise>>>,
    /// What came of it.
    outcome: RefCell<Option<Result<JsValue, JsValue>>>,
    /// The time, which stands still between two waits (as the runtime has it).
    now: Cell<Option<f64>>,
}

impl Turns {
    /// For a future that the executor polls from the beginning.
    pub(super) fn of_executor() -> Rc<Self> {
        let turns = Self::default();
        turns.left_to_executor.set(true);
        Rc::new(turns)
    }

    /// Waits for a promise.
    pub(super) fn wait(self: &Rc<Self>, promise: Promise) -> Wait {
        Wait::New(Rc::clone(self), Rc::new(promise))
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

/// A wait for a promise. One at a time is told to [`Turns`]; a second beside it is
/// looked at whenever the first has made the future go on.
pub(super) enum Wait {
    // Shared: a copy of the runtime's handle would be a call of the runtime's.
    New(Rc<Turns>, Rc<Promise>),
    Told(Rc<Turns>, Rc<Promise>),
    Executed(JsFuture),
}

impl Future for Wait {
    type Output = Result<JsValue, JsValue>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match this {
                Self::New(turns, promise) => {
                    if turns.left_to_executor.get() || turns.promise.borrow().is_some() {
                        *this = Self::Executed(JsFuture::from(Promise::clone(promise)));
                        continue;
                    }
                    let promise = Rc::clone(promise);
                    *turns.promise.borrow_mut() = Some(Rc::clone(&promise));
                    *this = Self::Told(Rc::clone(turns), promise);
                    return Poll::Pending;
                }
                Self::Told(turns, promise) => {
                    if let Some(outcome) = turns.outcome.take() {
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
    turns: Rc<Turns>,
    begun: f64,
}

/// Requests that wait. A place is known by its index and by how often it was given away,
/// so that whoever comes back late never finds another's request.
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
    fn enter(&mut self, run: Run) -> (usize, u32) {
        self.drop_one_that_is_lost(run.begun);
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

    /// Looks at one place each time: all are seen in turn, for next to nothing.
    fn drop_one_that_is_lost(&mut self, now: f64) {
        self.looked_at = if self.looked_at < self.places.len() { self.looked_at.wrapping_add(1) } else { 0 };
        let index = self.looked_at;
        let lost = self.places.get(index).and_then(|(turn, place)| {
            let begun = place.as_ref()?.begun;
            (now - begun > LOST_MS).then_some(*turn)
        });
        if let Some(turn) = lost {
            drop(self.leave(index, turn));
        }
    }
}

/// Begins a request: its answer, or a promise of it.
pub(super) fn run(
    work: impl Future<Output = Result<JsValue, JsValue>> + 'static,
    turns: Rc<Turns>,
) -> Result<JsValue, JsValue> {
    let begun = turns.now();
    go_on(Run { work: Box::pin(work), turns, begun })
}

fn go_on(mut run: Run) -> Result<JsValue, JsValue> {
    if let Poll::Ready(answer) = run.work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return answer;
    }
    let Some(promise) = run.turns.promise.take() else {
        // It waits for what we know nothing of.
        run.turns.left_to_executor.set(true);
        return Ok(wasm_bindgen_futures::future_to_promise(run.work).into());
    };
    let (index, turn) = WAITING.with_borrow_mut(|waiting| waiting.enter(run));
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    Ok(RESUME.with(|resume| js::then(&promise, index, turn, resume)).into())
}

fn resume(index: u32, turn: u32, is_fine: bool, value: JsValue) -> Result<JsValue, JsValue> {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    let run = WAITING.with_borrow_mut(|waiting| waiting.leave(index, turn)).ok_or(JsValue::UNDEFINED)?;
    run.turns.now.set(None);
    *run.turns.outcome.borrow_mut() = Some(if is_fine { Ok(value) } else { Err(value) });
    go_on(run)
}
