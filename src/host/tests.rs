//! The ports over the runtime that runs the wasm tests. `tests/edge/wycheproof.test.js` and `foreign.test.js`
//! hold the signature checks in workerd.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use wasm_bindgen::JsValue;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

use super::ports::WorkerPorts;
use crate::pipeline::ports::{KeySource as _, RevocationLog as _, Runtime as _, SignatureVerifier as _};
use portcullis_token::{Algorithm, SignatureOutcome, keys::KeySet};

wasm_bindgen_test_configure!(run_in_node_experimental);

fn ports() -> WorkerPorts {
    // An environment without bindings: no variable is set, no KV is bound.
    WorkerPorts::without_request(wasm_bindgen::JsCast::unchecked_into(JsValue::from(js_sys::Object::new())))
}

#[wasm_bindgen_test]
async fn a_signature_of_an_rfc_is_valid_and_one_of_any_other_length_is_an_answer_and_no_fault() {
    let examples: Value = serde_json::from_str(include_str!("../../tests/vectors/rfc.json")).unwrap();
    for example in examples["signatures"].as_array().unwrap() {
        let algorithm = Algorithm::from_name(example["alg"].as_str().unwrap()).unwrap();
        let jwks = json!({ "keys": [example["jwk"]] }).to_string();
        let key = KeySet::parse(jwks.as_bytes(), &[algorithm]).unwrap().keys().first().cloned().unwrap();
        let (input, signature) = example["token"].as_str().unwrap().rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let check =
            async |signature: &[u8]| ports().check_signature(&key, algorithm, input.as_bytes(), signature).await;
        assert_eq!(check(&signature).await, Ok(SignatureOutcome::Valid), "{}", example["name"]);
        for length in [0, 1, 63, 65, 255, 257, 1024] {
            let outcome = check(&vec![1; length]).await;
            assert_eq!(outcome, Ok(SignatureOutcome::Invalid), "{}: {length} bytes", example["name"]);
        }
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
