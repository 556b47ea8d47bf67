//! From the bytes a client sent to [`VerifiedToken`] claims (RFC 7515, 7519, 9068).
//!
//! Owns the compact form, the header, the claims, the algorithms and the order
//! in which they are checked. Touches nothing: no I/O, no clock (`now` is an
//! argument), no environment, no log. Nothing here keeps a token's text in an
//! error.
//!
//! The order is the argument for trusting it: size, shape, header, issuer's
//! policy, key, signature, and only then a claim. The one thing read before the
//! signature is `iss`, because it names the policy by which the token is
//! judged; it is returned by a function whose name starts with `unverified_`.

mod algorithm;
mod claim_rule;
mod claims;
mod compact;
mod error;
mod header;
mod issuer;
mod json;
pub mod keys;
pub mod limits;
pub mod revocation;
mod signature;
mod time;

pub use algorithm::{Algorithm, KeyKind};
pub use claim_rule::{ClaimNames, ClaimPath, ClaimRule, deserialize_claim_path};
pub use claims::{Identity, VerifiedToken};
pub use compact::{UnverifiedToken, parse};
pub use error::TokenError;
pub use issuer::{IssuerMatch, TENANT_PLACEHOLDER};
pub use json::StrictObject;
pub use signature::{PublicKey, SignatureOutcome, check};
pub use time::UnixMillis;

/// What one issuer's tokens must look like to be taken.
///
/// A token is judged by the policy of the issuer that its `iss` names and by
/// nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPolicy {
    /// Exact value of `iss`; no case folding, no trailing slash forgiven. With [`TENANT_PLACEHOLDER`]
    /// in it, a template for the tenants below.
    pub issuer: String,
    /// The tenants whose tokens are taken, where `issuer` is a template.
    pub tenants: Vec<String>,
    /// One of these must be a member of the audience claim.
    pub audience: Vec<String>,
    /// Where the audience is: `aud`, unless the issuer has none.
    pub audience_claim: ClaimPath,
    /// Algorithms that this issuer signs with. Never read from the token.
    pub algorithms: Vec<Algorithm>,
    /// Accepted `typ` values, compared without case and without a leading
    /// `application/` (RFC 7515, section 4.1.9). Empty means any or none.
    pub types: Vec<String>,
    /// Required value of the `token_type` claim; keeps refresh, service and ID
    /// tokens of the same issuer from passing as access tokens.
    pub token_type: Option<String>,
    /// Where identity is found in the claims.
    pub claims: ClaimNames,
    /// What else the claims must say.
    pub require: Vec<ClaimRule>,
    /// Claims that are kept in the identity, for rules on routes.
    pub kept: Vec<ClaimPath>,
    /// Clock difference forgiven on `exp`, `nbf` and `iat`, in seconds.
    pub leeway_s: u64,
    /// Longest `exp - iat` taken, in seconds: bounds what a stolen token buys.
    pub max_lifetime_s: u64,
}
