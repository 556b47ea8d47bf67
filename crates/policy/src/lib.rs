//! The policy of a gateway: its document, its checks, and what it decides about a request's path and
//! its caller. Performs no I/O.
//!
//! Each line uses only its own modules and those of the lines above it:
//!
//! - `sorted`, `limits`, `error`, `named`, `reserved`, `suggest`, `url`: lists, bounds, places of mistakes, names and URLs.
//! - `network`, `access`, `model`: the document.
//! - `template`: the bodies of refusals, with placeholders.
//! - `target`, `lenient`, `table`, `cors`: from a request's target to its route.
//! - `providers`, `token_policy`: from an issuer's options to the checks of its tokens.
//! - `token_sources`, `proof`, `resource`: where tokens arrive, whose they are, and protected resources with their metadata.
//! - `event_request`: the endpoints of security events, and the token in a request's body.
//! - `decision`, `question`: each refusal that the policy alone decides, and what authorizers are asked.
//! - `validate`: what a policy must be, wherever it comes from.
//! - `read`, `check`: a policy as JSON, and as a file with lines and columns.

mod access;
#[cfg(feature = "toml")]
mod check;
mod cors;
mod decision;
mod error;
mod event_request;
mod lenient;
pub mod limits;
mod model;
mod named;
mod network;
mod proof;
mod providers;
mod question;
mod read;
mod reserved;
mod resource;
pub mod sorted;
#[cfg(feature = "toml")]
mod suggest;
mod table;
mod target;
mod template;
mod token_policy;
mod token_sources;
mod url;
mod validate;

pub use access::{Access, Circumstances, Params, Principal, RequestClaim, StepUp};
#[cfg(feature = "toml")]
pub use check::{Spot, check, check_with, position_of, positions_of};
pub use cors::allows;
pub use decision::{Destination, Endpoint, Refusal, authorize};
pub use error::Mistake;
pub use event_request::{event_path, event_token};
pub use model::{
    ApiKeys, Assertion, AssertionAlgorithm, Authorizer, Breaker, COOKIE_PREFIX, ClaimValue, Claims, Cors, EncodedPath,
    Events, HeaderRules, HeaderValue, Introspection, Issuer, JwksSource, Limit, LimitBy, Logout, METHODS, Maintenance,
    OnDown, Policy, Proof, RefusalTemplate, ReplacePrefix, Resource, Revocation, RevocationCheck, Route, TokenCookie,
    Upstream, UpstreamTarget, Variants,
};
pub use network::Network;
pub use portcullis_token::{ClaimPath, ClaimRule};
pub use providers::provider_names;
pub use question::question;
pub use reserved::{METADATA_PATH, is_cors_header, is_private, is_replaced, is_same_header};
pub use table::{Match, Miss, Table, TableError};
pub use target::{BadTarget, Target};
pub use template::{PageTemplate, Part, Placeholder, parse_text};
pub use token_policy::{claims_in_assertions, claims_in_rules};
pub use token_sources::TokenSources;
pub use url::{check_base_url, check_bound_url, check_public_url, check_url, is_private_http};
pub use validate::is_inside_folder;
