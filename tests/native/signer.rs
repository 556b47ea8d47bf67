//! Ed25519 keys of an issuer, for tokens of any time.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use portcullis_token::ClaimRule;
use serde_json::{Value, json};

/// A key; its seed is also its `kid`.
pub(crate) struct Signer(u8);

impl Signer {
    pub(crate) fn new(seed: u8) -> Self {
        Self(seed)
    }

    fn key(&self) -> SigningKey {
        SigningKey::from_bytes(&[self.0; 32])
    }

    pub(crate) fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key().verifying_key());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.0.to_string(), "x": x })
    }

    pub(crate) fn sign(&self, typ: &str, claims: &Value) -> String {
        self.sign_as(&json!({ "alg": "EdDSA", "typ": typ, "kid": self.0.to_string() }), claims)
    }

    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(header), part(claims));
        let signature = self.key().sign(input.as_bytes());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}

/// The claims of a token of `ada` by the issuer `https://id.example`, issued at this second.
pub(crate) fn claims_at(now: u64) -> Value {
    json!({ "iss": "https://id.example", "aud": "api", "sub": "ada", "iat": now, "exp": now + 900 })
}

/// The table of an issuer whose keys are in the policy, with more options.
pub(crate) fn issuer_table(name: &str, seed: u8, more: &str) -> String {
    format!(
        "[issuers.{name}]\nissuer = \"https://{name}.example\"\naudience = [\"api\"]\nalgorithms = [\"EdDSA\"]\n\
         jwks = '{}'\n{more}\n",
        jwks(&[&Signer::new(seed)])
    )
}

/// A key set's text.
pub(crate) fn jwks(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>() }).to_string()
}

/// Returns `base` with the members of `changes`; `null` removes one.
pub(crate) fn with(mut base: Value, changes: &Value) -> Value {
    let members = base.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    base
}

/// Returns a rule on the claim at a path.
pub(crate) fn claim_rule(path: &[&str], equals: Option<Value>, one_of: Option<Vec<Value>>) -> ClaimRule {
    let claim = path.iter().map(|name| (*name).to_owned()).collect();
    let mut rule = ClaimRule { claim, equals, ..ClaimRule::default() };
    rule.one_of = one_of;
    rule
}
