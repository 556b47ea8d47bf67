//! The JOSE header (RFC 7515, section 4), read strictly.
//!
//! `jwk`, `jku`, `x5c` and `x5u` are never looked at: a key comes from the
//! issuer's key set or from nowhere, so a token cannot bring its own.

use super::{TokenError, TokenPolicy, json::StrictObject, limits};

/// What the gateway reads of a header before any signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Header, TokenError> {
    let object = StrictObject::parse(bytes).ok_or(TokenError::HeaderMalformed)?;
    // `crit` announces semantics that must be understood; `b64:false` changes
    // what is signed; `zip` is a decompression bomb. We implement none, and a
    // library that ignores them verifies something other than what was meant.
    for extension in ["crit", "b64", "zip"] {
        if object.has(extension) {
            return Err(TokenError::HeaderExtension);
        }
    }
    let string =
        |name: &str| object.string(name).map(|text| text.map(str::to_owned)).map_err(|_| TokenError::HeaderMalformed);
    let alg = string("alg")?.ok_or(TokenError::HeaderMalformed)?;
    let kid = string("kid")?;
    let typ = string("typ")?;
    if let Some(kid) = &kid
        && (kid.is_empty() || kid.len() > limits::KID_BYTES || kid.chars().any(char::is_control))
    {
        return Err(TokenError::UnknownKey);
    }
    Ok(Header { alg, kid, typ })
}

impl Header {
    /// `typ` keeps one kind of JWT from standing in for another (RFC 8725,
    /// section 3.11; RFC 9068, section 4).
    pub(super) fn check_type(&self, policy: &TokenPolicy) -> Result<(), TokenError> {
        if policy.types.is_empty() {
            return Ok(());
        }
        let typ = self.typ.as_deref().ok_or(TokenError::WrongType)?;
        let short = |text: &str| {
            let lower = text.to_ascii_lowercase();
            lower.strip_prefix("application/").map_or(lower.clone(), str::to_owned)
        };
        if policy.types.iter().any(|taken| short(taken) == short(typ)) { Ok(()) } else { Err(TokenError::WrongType) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_taken_or_refused_by_rule() {
        use TokenError::{HeaderExtension, HeaderMalformed, UnknownKey};
        let long_kid = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(limits::KID_BYTES + 1));
        for (text, expected) in [
            (r#"{"alg":"RS256"}"#, None),
            (r#"{"alg":"RS256","kid":"a","typ":"at+jwt"}"#, None),
            (r#"{"alg":"RS256","jwk":{"kty":"RSA"},"jku":"https://evil.example"}"#, None),
            (r#"{}"#, Some(HeaderMalformed)),
            (r#"{"alg":["RS256"]}"#, Some(HeaderMalformed)),
            (r#"{"alg":null}"#, Some(HeaderMalformed)),
            (r#"{"alg":"RS256","alg":"none"}"#, Some(HeaderMalformed)),
            (r#"{"alg":"RS256","kid":7}"#, Some(HeaderMalformed)),
            (r#"{"alg":"RS256","typ":{}}"#, Some(HeaderMalformed)),
            (r#"{"alg":"RS256","crit":[]}"#, Some(HeaderExtension)),
            (r#"{"alg":"RS256","crit":null}"#, Some(HeaderExtension)),
            (r#"{"alg":"RS256","b64":false}"#, Some(HeaderExtension)),
            (r#"{"alg":"RS256","b64":true}"#, Some(HeaderExtension)),
            (r#"{"alg":"RS256","zip":"DEF"}"#, Some(HeaderExtension)),
            (r#"{"alg":"RS256","kid":""}"#, Some(UnknownKey)),
            (r#"{"alg":"RS256","kid":"a\u0000"}"#, Some(UnknownKey)),
            (&long_kid, Some(UnknownKey)),
            (r#"["RS256"]"#, Some(HeaderMalformed)),
        ] {
            assert_eq!(parse(text.as_bytes()).err(), expected, "{text}");
        }
    }
}
