//! The policy: its one definition, its checks, and its access rules.
//!
//! `model` and `access` define the document, `limits` the bounds. [`validate()`] says what a policy
//! must be; [`check`] does so for the text of a file, with lines and columns; [`Policy::read`] for a
//! JSON document.

mod access;
#[cfg(feature = "toml")]
mod check;
mod error;
pub mod limits;
mod model;
mod named;
mod own_paths;
mod providers;
mod reserved;
mod resolve;
#[cfg(feature = "schema")]
pub mod schema;
mod suggest;
mod token_policy;
mod url;
mod validate;
mod variants;

pub use access::{Access, Params, Principal, permits};
#[cfg(feature = "toml")]
pub use check::check;
pub use error::{Mistake, Path, Step, Violation};
pub use model::{
    Breaker, Claims, Cors, EncodedPath, HeaderRules, Issuer, JwksSource, Limit, LimitBy, Maintenance, OnDown, Policy,
    ReplacePrefix, Revocation, RevocationCheck, Route, TokenCookie, Upstream, UpstreamTarget, Variants,
};
pub use own_paths::{OWN_PATHS, PUSH_PATH, is_own_path};
pub use portcullis_token::{ClaimPath, ClaimRule};
pub use reserved::{is_cors_header, is_private, is_replaced};
pub use token_policy::claims_in_rules;
pub use url::{check_base_url, check_url};
pub use validate::validate;
pub(crate) use variants::Lenient;
