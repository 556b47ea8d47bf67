//! Signing keys and signed tokens: generation of keys, their encryption at rest, and compact JWS.

mod jws;
mod key;
mod seal;

pub use jws::{BadToken, PublicKeys, sign, verify};
pub use key::{Key, KeyFault};
pub use seal::{MasterKey, SealFault};

/// `iss` of every token, unless `TOKEN_ISSUER` sets another.
pub const DEFAULT_ISSUER: &str = "auth-service";
