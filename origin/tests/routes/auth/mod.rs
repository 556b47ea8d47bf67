//! Routes of the auth service.

pub(crate) mod account_roles;
pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod introspection;
pub(crate) mod jwks;
pub(crate) mod keys_rotate;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod metadata;
pub(crate) mod password;
pub(crate) mod proofs;
pub(crate) mod refresh;
pub(crate) mod register;
pub(crate) mod register_idempotency;
pub(crate) mod revocation;
pub(crate) mod roles;
pub(crate) mod sessions;
pub(crate) mod token;
pub(crate) mod validate_token;
