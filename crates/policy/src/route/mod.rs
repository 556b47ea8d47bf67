//! From a request's head to the route it asks for, and who may enter it.
//!
//! Owns the one canonical spelling of a request target, the matching of it
//! against the policy's patterns, and the access rules. Touches nothing: no
//! I/O, no clock, no log.

mod access;
mod cors;
pub mod limits;
mod table;
mod target;

pub use access::{Params, Principal, permits};
pub use cors::allows;
pub use table::{Match, Miss, Table, TableError};
pub use target::{BadTarget, Target};
