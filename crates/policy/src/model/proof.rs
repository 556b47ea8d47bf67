//! Whether clients prove that their tokens are theirs.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What clients must prove, the stricter last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// That they own the token, if it is bound.
    Optional,
    /// That they own the token, which must be bound.
    Required,
}
