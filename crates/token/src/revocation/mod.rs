//! Tokens that are revoked before they expire: revocations, pages of the revocation log, and an isolate's copy of it.
//!
//! The log itself is a Durable Object of the host. A copy's age is measured by the log's clock, so a
//! cache between the log and an isolate can make the copy older but never wrong. A copy past its limit admits no token.

mod cache;
mod key;
pub mod limits;
mod page;
mod push;

pub use cache::{RevocationCache, RevocationPlan};
pub use key::{RevocationKey, RevocationKeys, RevocationKind};
pub use page::{LogPage, RevocationEntry};
pub use push::{Push, keep_until, latest_issue, parse_push};
