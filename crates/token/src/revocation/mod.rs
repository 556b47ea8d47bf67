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

mod copy;
pub mod limits;
mod mark;
mod page;
mod push;

pub use copy::{LocalCopy, Plan, Taken};
pub use mark::{Kind, Mark, Marks};
pub use page::{Entry, Page};
pub use push::{BadPush, Revocation, parse_push};
