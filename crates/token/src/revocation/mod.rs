//! Which tokens stopped being good before they expired.
//!
//! Owns what a revocation is, the log's pages as they travel, and one isolate's copy
//! of the log with the plan for keeping it young. Touches nothing: no I/O, no clock
//! (`now` is an argument). The log itself is a Durable Object at the rim, which stores
//! what is decided here.
//!
//! A copy says how old it is by the log's own clock, so that whatever lies between the
//! log and an isolate (a cache that keeps things for too long, say) makes it older and
//! never wrong: a copy past its limit lets nobody in.

mod cache;
mod key;
pub mod limits;
mod page;
mod push;

pub use cache::{Applied, RevocationCache, RevocationPlan};
pub use key::{RevocationKey, RevocationKeys, RevocationKind};
pub use page::{LogPage, RevocationEntry};
pub use push::{BadPush, Revocation, parse_push};
