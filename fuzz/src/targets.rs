//! Properties that hold for every input. The fuzzers call these functions with generated inputs,
//! `tests/native/corpus.rs` with the kept ones.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_policy::Target;
use portcullis_token::{
    Algorithm, ClaimNames, SignatureOutcome, TokenError, TokenPolicy, UnixMillis, explain,
    keys::{KeyQuery, KeySet},
    parse,
};

/// The time of `tests/vectors`.
const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);

fn policy() -> TokenPolicy {
    TokenPolicy {
        issuer: "auth-service".into(),
        tenants: vec![],
        audience: vec!["api".into()],
        audience_claim: vec!["aud".to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        types: vec!["at+jwt".into()],
        token_type: Some("access".into()),
        claims: ClaimNames::default(),
        require: vec![],
        kept: vec![vec!["tenant".to_owned()], vec!["a".to_owned(), "b".to_owned()]],
        asserted: Vec::new(),
        leeway_s: 30,
        max_lifetime_s: 3600,
    }
}

/// A token's text has one spelling, and is never admitted without a valid signature.
pub fn compact(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let parsed = parse(text);
    let explained = explain(text, &[policy()], None, NOW);
    let token = match parsed {
        Ok(token) => token,
        Err(error) => return assert_eq!(explained.error(), Some(error), "another explanation"),
    };
    let signature = URL_SAFE_NO_PAD.encode(token.signature());
    let input = std::str::from_utf8(token.signing_input()).expect("a part of a text");
    assert_eq!(format!("{input}.{signature}"), text, "a token with two spellings");
    let _ = token.select_algorithm(&policy());
    let _ = token.unverified_issuer();
    for now in [UnixMillis(0), NOW, UnixMillis(u64::MAX)] {
        assert_eq!(
            token.clone().admit(SignatureOutcome::Invalid, &policy(), now).err(),
            Some(TokenError::BadSignature)
        );
        let _ = token.clone().admit(SignatureOutcome::Valid, &policy(), now);
    }
}

/// Every string of an identity fits into a header.
pub fn claims(input: &[u8]) {
    let text =
        format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"at+jwt"}"#), URL_SAFE_NO_PAD.encode(input));
    let Ok(token) = parse(&text) else { return };
    let Ok(verified) = token.admit(SignatureOutcome::Valid, &policy(), NOW) else { return };
    let identity = verified.identity();
    assert_eq!(identity.issuer, "auth-service");
    let options = [&identity.email, &identity.session_id, &identity.token_id];
    let texts = std::iter::once(&identity.user_id).chain(options.into_iter().flatten()).chain(&identity.roles);
    for text in texts {
        assert!(!text.is_empty() && !text.chars().any(char::is_control), "a header could be split");
    }
    assert!(identity.expires_at.plus(30_000) > NOW);
}

/// What is kept of a key set is the same when it is read again.
pub fn jwks(input: &[u8]) {
    let Ok(set) = KeySet::parse(input, Algorithm::ALL) else { return };
    assert!(!set.keys().is_empty());
    let again = KeySet::parse(set.to_json().as_bytes(), Algorithm::ALL).expect("our own text");
    assert!(set.same_keys(&again), "a set that changes on its way through KV");
    for key in set.keys() {
        let name = key.issuer.as_deref().unwrap_or_default();
        let issuer_policy = TokenPolicy { issuer: name.to_owned(), ..policy() };
        let issuer = issuer_policy.match_issuer(name).expect("its own name");
        let wanted = KeyQuery { kid: key.kid.as_deref(), algorithm: key.algorithm, issuer, tried: &[] };
        let found = again.select(&wanted).expect("a key that is in the set");
        assert_eq!((&found.kid, found.algorithm), (&key.kid, key.algorithm), "another key than the one that is named");
        assert!(!key.canonical_jwk().contains("\"d\""), "a private member was kept");
    }
}

fn decode_once(bytes: &[u8]) -> Vec<u8> {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).expect("two digits"));
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

/// The canonical form of a request target is stable and hides nothing.
pub fn target(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(target) = Target::parse(text) else { return };
    assert_eq!(Target::parse(target.as_str()).as_ref(), Ok(&target), "not stable");
    let path = target.path();
    assert!(path.starts_with('/') && !path.starts_with("//") && !path.contains(['?', '#', '\\']));
    for segment in path.split('/') {
        assert!(!matches!(segment, "." | ".."), "a dot segment is left");
        // However often a service decodes it.
        let mut layer = segment.as_bytes().to_vec();
        for _ in 0..4 {
            let next = decode_once(&layer);
            // A service that decodes first may read what follows `?` or `#` as the query or fragment.
            let is_dots = |part: &[u8]| matches!(part.split(|byte| b"?#".contains(byte)).next(), Some(b"." | b".."));
            assert!(!next.split(|byte| *byte == b'/').any(is_dots), "a dot segment is hidden");
            assert!(
                !next.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\'),
                "a control character is hidden"
            );
            let splits = next.iter().any(|byte| b"/;?#".contains(byte));
            assert!(!target.is_plain() || !splits, "a plain path splits when it is decoded");
            layer = next;
        }
    }
    assert!(target.as_str().is_ascii());
}
