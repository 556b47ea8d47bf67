//! Keys with which the gateway signs assertions: a JSON Web Key Set (RFC 7517) whose keys have their private member
//! (RFC 7518, section 6.2.2; RFC 8037, section 2). The host signs; here is only text.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::{
    jwk::{self, Key},
    jwks::entries_of,
    limits,
};
use crate::algorithm::Algorithm;

/// A key of assertions. Has no `Debug`, because it holds a private key.
pub struct SigningKey {
    /// The public key. It has a `kid`.
    pub public: Key,
    /// The private key as a JWK with the defining members only; `None` if the key is only published.
    private_jwk: Option<String>,
}

impl SigningKey {
    /// Returns its id.
    pub fn kid(&self) -> &str {
        self.public.kid.as_deref().unwrap_or_default()
    }

    /// Returns the private key for `importKey`, if there is one.
    pub fn private_jwk(&self) -> Option<&str> {
        self.private_jwk.as_deref()
    }

    fn parse(mut jwk: Map<String, Value>, algorithm: Algorithm) -> Result<Self, &'static str> {
        let (kty, crv) = algorithm.key_type();
        if jwk.get("kty").and_then(Value::as_str) != Some(kty) || jwk.get("crv").and_then(Value::as_str) != crv {
            return Err("is not of the type and the curve of the algorithm");
        }
        // WebCrypto exports a private key with its own operations.
        let signs = |names: &Value| names.as_array().is_some_and(|names| names.contains(&"sign".into()));
        if jwk.remove("key_ops").is_some_and(|names| !signs(&names)) {
            return Err("is not for signatures; see its key_ops");
        }
        let private = jwk.remove("d");
        let mut public = Key::parse(&jwk, jwk::select_algorithm(&jwk, &[algorithm])?)?;
        public.kid.get_or_insert_with(|| public.thumbprint.clone());
        public.issuer = None;
        let write = |member: Value| {
            let text = member
                .as_str()
                .filter(|text| URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == limits::PRIVATE_BYTES));
            let members = public.canonical_jwk().strip_prefix('{');
            Some([r#"{"d":""#, text?, r#"","#, members?].concat())
        };
        let private_jwk = private.map(|member| write(member).ok_or("has a malformed private member d")).transpose()?;
        Ok(Self { public, private_jwk })
    }
}

/// Parses the keys of a secret. The first signs; the others are only published.
///
/// # Errors
/// What is wrong, in words that hold no part of the secret.
pub fn parse_signing_keys(text: &str, algorithm: Algorithm) -> Result<Vec<SigningKey>, String> {
    let entries = entries_of(text.as_bytes());
    let entries = entries.map_err(|_| "is not a key set: a JSON object with an array \"keys\"".to_owned())?;
    if !(1..=limits::SIGNING_KEYS).contains(&entries.len()) {
        return Err(format!("has {} keys; write 1 to {}", entries.len(), limits::SIGNING_KEYS));
    }
    let mut keys: Vec<SigningKey> = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let key = if let Value::Object(jwk) = entry {
            SigningKey::parse(jwk, algorithm)
        } else {
            Err("is not an object of unique members")
        };
        let is_new = |key: &SigningKey| {
            let is_other =
                |known: &SigningKey| known.kid() != key.kid() && known.public.thumbprint != key.public.thumbprint;
            keys.iter().all(is_other)
        };
        let key =
            key.and_then(|key| if is_new(&key) { Ok(key) } else { Err("is there twice, or has the kid of another") });
        let key = key.and_then(|key| {
            let can_sign = index > 0 || key.private_jwk.is_some();
            if can_sign { Ok(key) } else { Err("signs, so it needs its private member d") }
        });
        keys.push(key.map_err(|fault| format!("has a key that cannot be used: keys[{index}] {fault}"))?);
    }
    Ok(keys)
}

/// Returns the public parts of keys as a JWKS text.
pub fn key_set<'a>(keys: impl Iterator<Item = &'a SigningKey>) -> String {
    let public = keys.map(|key| {
        let mut jwk = key.public.to_jwk();
        if let Value::Object(members) = &mut jwk {
            members.insert("use".to_owned(), "sig".into());
        }
        jwk
    });
    json!({ "keys": public.collect::<Vec<_>>() }).to_string()
}
