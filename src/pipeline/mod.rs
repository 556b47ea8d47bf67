//! The one order of things: decide, deny, forward.
//!
//! Owns the sequence of checks, every denial and its answer, what is removed
//! from and added to a request, the assertion, and the memory of one isolate
//! (key sets, revoked tokens, what upstreams last did). Sees the world through [`ports`] alone:
//! native tests run the whole gate with fakes behind them.

mod answer;
mod assertion;
mod challenge;
mod chore;
mod cors;
mod credentials;
mod denial;
mod failures;
mod flow;
mod head;
mod headers;
mod keyring;
mod limiter;
pub mod limits;
mod log;
mod metrics;
mod own;
pub mod ports;
mod references;
mod remembered;
mod revocations;
mod scrape;
mod settings;
mod spans;
mod trace;
mod upstream;

pub use answer::Answer;
pub use assertion::{AssertionKeys, BadAssertionKeys};
pub use chore::Chore;
pub use cors::CorsHeaders;
pub use denial::Denial;
pub use flow::{Handled, Outcome, Passing, handle_refused};
pub use head::Head;
pub use log::{AuditEvent, LogLine};
pub use settings::{Gate, Misconfiguration, PolicyOrigin};
