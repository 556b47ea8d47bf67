//! The options of one policy decision point (`[authorizers.NAME]`).

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Breaker, number};

/// A policy decision point (AuthZEN Authorization API 1.0) that routes ask by `authorizer` whether a caller may enter.
/// The variable `AUTHORIZER_<NAME>_URL` replaces `url` at run time; the secret `AUTHORIZER_TOKEN_<NAME>`, if there is
/// one, is its bearer token. Without an answer, requests get 503. See docs/standards/fine-grained-control.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Authorizer {
    /// Name, by which routes refer to it; part of the secret's name.
    #[serde(skip)]
    pub name: String,
    /// Its access evaluation endpoint. `http://` is for loopback on a development machine.
    pub url: String,
    /// Milliseconds to its answer; then 503.
    #[serde(default = "number::<1_000, u64>")]
    pub timeout_ms: u64,
    /// Seconds for which an isolate uses a decision for the same question. A permission that is taken away lasts as
    /// long.
    #[serde(default)]
    pub cache_s: u64,
    /// Circuit breaker. It opens after consecutive outages (no connection, no answer in time, or 502, 503 or 504).
    #[serde(default)]
    pub breaker: Breaker,
}
