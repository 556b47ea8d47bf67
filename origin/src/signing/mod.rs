//! The keys with which tokens are signed: made here, sealed at rest, published
//! before they sign and until the last token that they signed has expired.

mod jws;
mod key;
mod seal;

pub use jws::{BadToken, PublicKeys, sign, verify};
pub use key::{Key, KeyFault};
pub use seal::{MasterKey, SealFault};

/// `iss` of every token.
pub const ISSUER: &str = "auth-service";
