//! Runs one case so many times, for valgrind to count the instructions: `counts CASE RUNS`.
//! With anything else (such as what `cargo bench` says) it lists the cases. `npm run counts`
//! builds and runs it, and compares.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a benchmark that panics has failed, as a test has"
)]

mod cases;

use cases::Case;

/// Runs before counting begins: what grows or is made on first use has done so by then.
const WARM_UP: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, runs] = arguments.as_slice() else {
        return list();
    };
    let Some((_, make)) = cases::CASES.iter().find(|(known, _)| known == name) else {
        return list();
    };
    let runs = runs.parse().unwrap();
    let mut case = make();
    case.prepare(WARM_UP + runs);
    for _ in 0..WARM_UP {
        case.run();
    }
    counted_runs(case.as_mut(), runs);
}

fn list() {
    for (name, _) in cases::CASES {
        println!("{name}");
    }
}

/// What is counted: `scripts/lib/callgrind.js` tells valgrind this function's name.
#[inline(never)]
fn counted_runs(case: &mut dyn Case, runs: usize) {
    for _ in 0..runs {
        case.run();
    }
}
