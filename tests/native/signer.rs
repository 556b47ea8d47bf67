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

/// A private key of P-256 as a JWK, with its seed as its `kid`.
pub(crate) fn p256_jwk(seed: u8) -> Value {
    let key = p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap();
    let point = key.verifying_key().to_encoded_point(false);
    let [x, y] = [point.x(), point.y()].map(|part| URL_SAFE_NO_PAD.encode(part.unwrap()));
    let d = URL_SAFE_NO_PAD.encode([seed; 32]);
    json!({ "kty": "EC", "crv": "P-256", "kid": format!("p{seed}"), "x": x, "y": y, "d": d })
}

/// The same of Ed25519.
pub(crate) fn ed25519_jwk(seed: u8) -> Value {
    with(Signer::new(seed).jwk(), &json!({ "kid": format!("e{seed}"), "d": URL_SAFE_NO_PAD.encode([seed; 32]) }))
}

/// Signs with a private key as WebCrypto does.
pub(crate) fn sign_with(jwk: &Value, input: &[u8]) -> Vec<u8> {
    let secret: [u8; 32] = URL_SAFE_NO_PAD.decode(jwk["d"].as_str().unwrap()).unwrap().try_into().unwrap();
    if jwk["kty"] == "OKP" {
        return SigningKey::from_bytes(&secret).sign(input).to_bytes().to_vec();
    }
    let key = p256::ecdsa::SigningKey::from_slice(&secret).unwrap();
    let signature: p256::ecdsa::Signature = key.sign(input);
    signature.to_bytes().to_vec()
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
