//! From a request's target to its route: the one canonical spelling of a target, and the patterns
//! of the policy that it matches. Performs no I/O and knows no clock.

mod cors;
pub mod limits;
mod table;
mod target;

pub use crate::config::{Params, Principal, permits};
pub use cors::allows;
pub use table::{Match, Miss, Table, TableError};
pub use target::{BadTarget, Target};
