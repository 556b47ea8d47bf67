//! `gateway.toml` and its checks, to a [`Policy`].
//!
//! Owns the file's syntax, what makes a policy sound, and the sentence that
//! tells its author what to mend. Runs when the worker is built (the build
//! script includes this room) and in native tests; the worker itself only reads
//! the checked result. Imports no other room, so that the build script can.

#[cfg(feature = "toml")]
mod check;
#[cfg(feature = "toml")]
mod issuers;
mod policy;
#[cfg(feature = "toml")]
mod providers;
mod reserved;
mod sound;
#[cfg(feature = "toml")]
mod source;
#[cfg(feature = "toml")]
mod suggest;
mod token_policy;
mod url;
mod variants;

#[cfg(feature = "toml")]
pub use check::{Mistake, check};
#[cfg(feature = "toml")]
pub use issuers::ALGORITHMS;
pub use policy::{
    Access, ClaimPath, Claims, Cors, EncodedPath, HeaderRules, Issuer, JwksSource, Limit, LimitBy, OWN_PATHS, OnDown,
    Policy, Require, RequireRule, RevocationCheck, Route, TENANT, Upstream, UpstreamTarget, Variants, is_own_path,
};
pub use reserved::{is_cors_header, is_private, is_replaced};
pub use token_policy::claims_in_rules;
pub use url::{check_base_url, check_url};
pub(crate) use variants::Lenient;
