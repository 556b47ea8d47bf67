//! The JOSE header (RFC 7515, section 4).
//!
//! `jwk`, `jku`, `x5c` and `x5u` of a token are ignored: a key comes from the issuer's key set, so a token cannot bring its
//! own. A proof does; see `proof.rs`.

use crate::{algorithm::Algorithm, error::TokenError, json::StrictObject, limits, policy::TokenPolicy};

/// The header members that the gateway reads.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) kid: Option<String>,
    pub(crate) typ: Option<String>,
}

/// Members that change what a signature means. A library that ignores them verifies something other
/// than what was signed: `crit` names semantics that must be understood, `b64:false` changes the
/// signed bytes, `zip` is a decompression bomb. None is implemented.
const EXTENSIONS: [&str; 3] = ["crit", "b64", "zip"];

/// Parses a header, and refuses extensions.
pub(crate) fn parse(bytes: &[u8]) -> Result<StrictObject, TokenError> {
    let object = StrictObject::parse(bytes).ok_or(TokenError::HeaderMalformed)?;
    let has_extension = EXTENSIONS.iter().any(|extension| object.member(extension).is_some());
    if has_extension { Err(TokenError::HeaderExtension) } else { Ok(object) }
}

/// Reads the members of a token's header.
pub(crate) fn read(object: &StrictObject) -> Result<Header, TokenError> {
    let string = |name: &str| match object.member(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(|text| Some(text.to_owned())).ok_or(TokenError::HeaderMalformed),
    };
    let alg = string("alg")?.ok_or(TokenError::HeaderMalformed)?;
    let (kid, typ) = (string("kid")?, string("typ")?);
    if kid.as_deref().is_some_and(|kid| !limits::is_key_id(kid)) {
        return Err(TokenError::UnknownKey);
    }
    Ok(Header { alg, kid, typ })
}

impl Header {
    /// The algorithm that `alg` names, if the policy lists it.
    pub(crate) fn algorithm(&self, policy: &TokenPolicy) -> Result<Algorithm, TokenError> {
        Algorithm::from_name(&self.alg)
            .filter(|algorithm| policy.algorithms.contains(algorithm))
            .ok_or(TokenError::AlgorithmNotAllowed)
    }

    /// Checks `typ`, which keeps one kind of JWT from being used as another (RFC 8725, section 3.11;
    /// RFC 9068, section 4).
    pub(crate) fn check_type(&self, policy: &TokenPolicy) -> Result<(), TokenError> {
        let is_accepted =
            |typ: &str| policy.types.iter().any(|accepted| short(accepted).eq_ignore_ascii_case(short(typ)));
        let is_passed = policy.types.is_empty() || self.typ.as_deref().is_some_and(is_accepted);
        is_passed.then_some(()).ok_or(TokenError::WrongType)
    }
}

/// Returns a media type without `application/`.
fn short(text: &str) -> &str {
    const PREFIX: &str = "application/";
    let parts = text.split_at_checked(PREFIX.len());
    parts.filter(|(prefix, _)| prefix.eq_ignore_ascii_case(PREFIX)).map_or(text, |(_, rest)| rest)
}
