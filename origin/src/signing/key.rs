//! RSA-2048 signing keys for RS256, with their public JWK and their `kid`.

use aws_lc_rs::{
    digest,
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{self, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A private key.
#[derive(Debug)]
pub struct Key {
    kid: String,
    modulus: String,
    exponent: String,
    pair: KeyPair,
}

/// A key could not be generated, decoded or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFault;

impl Key {
    /// Generates a key.
    pub fn generate() -> Result<Self, KeyFault> {
        KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyFault).map(Self::from_pair)
    }

    /// Decodes PKCS#8.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyFault> {
        KeyPair::from_pkcs8(der).map_err(|_| KeyFault).map(Self::from_pair)
    }

    fn from_pair(pair: KeyPair) -> Self {
        let public = pair.public_key();
        let modulus = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
        let exponent = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
        // RFC 7638: the required members, sorted, without white space.
        let canonical = format!(r#"{{"e":"{exponent}","kty":"RSA","n":"{modulus}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        Self { kid, modulus, exponent, pair }
    }

    /// Returns the RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Encodes the key as PKCS#8.
    pub fn to_pkcs8(&self) -> Result<Vec<u8>, KeyFault> {
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'static> = self.pair.as_der().map_err(|_| KeyFault)?;
        Ok(der.as_ref().to_vec())
    }

    /// Returns the public key as a JWK (RFC 7517).
    pub fn to_jwk(&self) -> Value {
        json!({
            "kty": "RSA", "use": "sig", "alg": "RS256",
            "kid": self.kid, "n": self.modulus, "e": self.exponent,
        })
    }

    /// Returns the public key as PEM `PUBLIC KEY` (RFC 7468, section 13).
    pub fn to_pem(&self) -> Result<String, KeyFault> {
        let der: aws_lc_rs::encoding::PublicKeyX509Der<'static> =
            self.pair.public_key().as_der().map_err(|_| KeyFault)?;
        let text = STANDARD.encode(der.as_ref());
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
            pem.push_str(line);
            pem.push('\n');
            rest = more;
        }
        pem.push_str("-----END PUBLIC KEY-----\n");
        Ok(pem)
    }

    /// Signs a message with RSASSA-PKCS1-v1_5 and SHA-256.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let mut bytes = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut bytes)
            .map_err(|_| KeyFault)?;
        Ok(bytes)
    }
}
