//! Verifies bearer tokens (RFC 7515, 7519, 9068), reads and plans key sets (RFC 7517), and looks
//! tokens up among revoked ones.
//!
//! No I/O, no clock (`now` is an argument), no environment, no log; no error holds a token's text.
//!
//! - [`parse`] decodes a token's text to an [`UnverifiedToken`], whose claims cannot be read.
//! - [`UnverifiedToken::select_algorithm`] chooses how to check its signature, by its issuer's
//!   [`TokenPolicy`].
//! - [`UnverifiedToken::admit`] makes a [`VerifiedToken`] of a JWT. [`admit_introspected`] and [`admit_stated`] make one of
//!   what the authority of an opaque token states.
//! - [`UnverifiedToken::admit_event`] is the only constructor of a [`SecurityEvent`].
//! - [`explain`] runs the same checks without stopping at the first failure, for a person to read.
//! - [`ApiKey`] makes and recognises the text of an API key, [`admit_api_key`] admits it by its record, and
//!   [`parse_api_key_push`] reads what creates and ends records.
//! - [`parse_proof`] reads a proof that its sender owns a token (RFC 9449).
//! - [`keys`] reads an issuer's key set and decides when to fetch it.
//! - [`revocation`] keeps an isolate's copy of the revocation log.
//!
//! [`Check`] lists the checks in their order, which is the argument for trusting the result: size,
//! form, header, issuer, algorithm, key, signature, and only then a claim. The one claim read before
//! the signature is `iss`, because it names the policy that the token is checked against.

mod algorithm;
mod api_key;
mod api_key_push;
mod check;
mod claim_rule;
mod claims;
mod compact;
mod confirmation;
mod deserializer;
mod error;
mod event;
mod explain;
mod header;
mod json;
pub mod keys;
pub mod limits;
mod named_enum;
mod opaque;
mod policy;
mod proof;
pub mod revocation;
mod signature;
mod time;

pub use algorithm::Algorithm;
pub use api_key::ApiKey;
pub use api_key_push::{ApiKeyChange, ApiKeyPush, ENDED_RECORD, admit_api_key, parse_api_key_push};
pub use check::Check;
pub use claim_rule::{ClaimPath, ClaimRule, deserialize_claim_path};
pub use claims::{Identity, VerifiedToken, date};
pub use compact::{UnverifiedToken, is_jwt, parse};
pub use confirmation::Confirmation;
pub use deserializer::{ValueDeserializer, ValueError};
pub use error::TokenError;
pub use event::{EventError, EventFault, EventForm, EventPolicy, EventResult, SecurityEvent};
pub use explain::{Explanation, explain};
pub use json::{StrictObject, deserialize_strict, object, parse_strict};
pub use opaque::{admit_introspected, admit_stated};
pub use policy::{ClaimNames, IssuerMatch, TENANT_PLACEHOLDER, TokenPolicy};
pub use proof::{ExpectedProof, PROOF_ALGORITHMS, ProofError, ProofId, UnverifiedProof, VerifiedProof, parse_proof};
pub use signature::{PublicKey, SignatureOutcome, check_signature};
pub use time::UnixMillis;
