//! The examples of RFC 7515, 7517, 7519 and 8037. (That of RFC 7638 is in `keys`.)

use portcullis_token::{Algorithm, ClaimNames, SignatureOutcome, TokenPolicy, check_signature, keys::KeySet, parse};
use serde_json::{Value, json};

fn examples() -> Value {
    serde_json::from_str(include_str!("../vectors/rfc.json")).unwrap()
}

/// Key, signing input and signature of an example.
fn parts(example: &Value) -> (KeySet, Algorithm, String, Vec<u8>) {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let algorithm = Algorithm::from_name(example["alg"].as_str().unwrap()).unwrap();
    let set = KeySet::parse(json!({ "keys": [example["jwk"]] }).to_string().as_bytes(), &[algorithm]).unwrap();
    let (input, signature) = example["token"].as_str().unwrap().rsplit_once('.').unwrap();
    (set, algorithm, input.to_owned(), URL_SAFE_NO_PAD.decode(signature).unwrap())
}

#[test]
fn each_example_verifies_until_a_bit_of_its_signature_changes() {
    for example in examples()["signatures"].as_array().unwrap() {
        let name = &example["name"];
        let (set, algorithm, input, signature) = parts(example);
        let key = &set.keys()[0].public;
        assert_eq!(check_signature(key, algorithm, input.as_bytes(), &signature), SignatureOutcome::Valid, "{name}");
        for bit in (0..signature.len() * 8).step_by(7) {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                check_signature(key, algorithm, input.as_bytes(), &changed),
                SignatureOutcome::Invalid,
                "{name}, bit {bit}"
            );
        }
        let other = format!("{input}x");
        assert_eq!(check_signature(key, algorithm, other.as_bytes(), &signature), SignatureOutcome::Invalid, "{name}");
    }
}

#[test]
fn examples_with_a_shared_secret_or_without_a_signature_are_refused() {
    let algorithms = ["RS256", "ES256", "EdDSA"].map(|name| Algorithm::from_name(name).unwrap()).to_vec();
    let policy = TokenPolicy {
        issuer: "joe".into(),
        tenants: vec![],
        audience: vec![],
        audience_claim: vec!["aud".to_owned()],
        algorithms,
        types: vec![],
        token_type: None,
        claims: ClaimNames::default(),
        require: vec![],
        kept: vec![],
        asserted: Vec::new(),
        leeway_s: 0,
        max_lifetime_s: 3600,
    };
    for example in examples()["refused"].as_array().unwrap() {
        let token = example["token"].as_str().unwrap();
        let outcome = parse(token).and_then(|unverified| unverified.select_algorithm(&policy));
        assert!(outcome.is_err(), "{} was accepted as {outcome:?}", example["name"]);
    }
}

#[test]
fn the_key_for_encryption_of_the_example_set_is_skipped() {
    let examples = examples();
    let rs256 = Algorithm::from_name("RS256").unwrap();
    let es256 = Algorithm::from_name("ES256").unwrap();
    let set = KeySet::parse(examples["jwks"]["set"].to_string().as_bytes(), &[rs256, es256]).unwrap();
    let kids: Vec<_> = set.keys().iter().map(|key| key.kid.clone().unwrap_or_default()).collect();
    assert_eq!(kids, ["2011-04-29"]);
    assert_eq!(set.passed_over, 1);
}
