//! What callers do about a service that fails, and about a client that asks too much, as pure
//! state machines: a circuit breaker, a retry budget, back-off with jitter, and what an
//! address says about a network.
//!
//! Time and randomness are arguments, in milliseconds on any one clock and as a uniform `u32`.
//! Nothing here performs I/O, reads a clock or takes a lock, so it compiles for wasm32 too.

mod backoff;
mod breaker;
mod budget;
mod network;

pub use backoff::{Backoff, equal_jitter, full_jitter};
pub use breaker::{Breaker, BreakerDecision, BreakerSettings, BreakerState, FIRST_OPEN_MS, Observation};
pub use budget::RetryBudget;
pub use network::{is_without_public_name, network};
