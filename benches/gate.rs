//! How long each case takes on this machine: `cargo bench --bench gate`, with a part of a
//! case's name behind `--` to run only some. Times vary with the machine and its mood;
//! `counts.rs` has what can be compared from one day to another.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a benchmark that panics has failed, as a test has"
)]
#![allow(missing_docs, reason = "criterion's macros make functions that have none")]

mod cases;

use std::cell::RefCell;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn gate(criterion: &mut Criterion) {
    for (name, make) in cases::CASES {
        criterion.bench_function(name, |bencher| {
            let case = RefCell::new(make());
            bencher.iter_batched(|| case.borrow_mut().prepare(1), |()| case.borrow_mut().run(), BatchSize::SmallInput);
        });
    }
}

criterion_group!(benches, gate);
criterion_main!(benches);
