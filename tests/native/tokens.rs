//! Each token of `tests/vectors` in the whole gateway, and generated tokens.

use proptest::prelude::*;

use portcullis_token::{Check, TokenError, UnixMillis, explain, keys::KeySet};

use crate::fakes::{SHIPPED, Vectors, setup, shipped_setup, verdict};

const ME: &str = "/api/v1/auth/me";

#[test]
fn each_token_of_the_table_has_its_outcome() {
    let vectors = Vectors::load();
    for case in &vectors.cases {
        let (gateway, ports) = setup(SHIPPED);
        let handled = ports.send_token(&gateway, "GET", ME, &case.token);
        let status = if case.expected == "ok" { 200 } else { 401 };
        assert_eq!(verdict(&handled), (status, case.expected.as_str()), "{}", case.name);
        assert_eq!(ports.forwarded.borrow().len(), usize::from(status == 200), "{}: reached the origin", case.name);
        let line = handled.record.to_json();
        assert!(!line.contains(&case.token) || case.token.len() < 3, "{}: the log holds the token", case.name);
    }
}

#[test]
fn explain_gives_the_error_of_the_gateway_for_each_token_of_the_table() {
    let vectors = Vectors::load();
    let policy = portcullis_policy::check(SHIPPED).unwrap();
    let policies: Vec<_> = policy.issuers.iter().map(|issuer| issuer.token_policy(&[]).unwrap()).collect();
    let keys = KeySet::parse(vectors.jwks.to_string().as_bytes(), &policies[0].algorithms).unwrap();
    for case in &vectors.cases {
        let found = explain(&case.token, &policies, Some(&keys), UnixMillis::from_secs(vectors.now));
        let actual = found.error().map_or("ok", TokenError::code);
        assert_eq!(actual, case.expected, "{}", case.name);
        assert_eq!(found.identity().is_some(), actual == "ok", "{}", case.name);
    }
}

#[test]
fn explain_does_not_blame_a_token_for_a_key_that_was_not_examined() {
    let vectors = Vectors::load();
    let policy = portcullis_policy::check(SHIPPED).unwrap();
    let policies = [policy.issuers[0].token_policy(&[]).unwrap()];
    let mut keys = KeySet::parse(vectors.jwks.to_string().as_bytes(), &policies[0].algorithms).unwrap();
    keys.is_whole = false;
    let explained = |code: &str| {
        let case = vectors.cases.iter().find(|case| case.expected == code).unwrap();
        explain(&case.token, &policies, Some(&keys), UnixMillis::from_secs(vectors.now))
    };
    let unknown = explained("token_key_unknown");
    assert_eq!((unknown.outcome(Check::Key), unknown.error(), unknown.identity()), (None, None, None));
    assert_eq!(explained("token_signature_invalid").error(), Some(TokenError::BadSignature));
    assert!(explained("ok").identity().is_some());
}

#[test]
fn the_tokens_of_the_table_cause_one_fetch_in_one_isolate() {
    let (vectors, gateway, ports) = shipped_setup();
    for case in &vectors.cases {
        let handled = ports.send_token(&gateway, "GET", ME, &case.token);
        assert_eq!(verdict(&handled).1, case.expected, "{}", case.name);
    }
    assert_eq!(ports.fetches.get(), 1);
}

#[test]
fn a_token_expires_to_the_second_cached_or_not() {
    let vectors = Vectors::load();
    let token = vectors.token("a good token");
    for (after_exp, expected) in
        [(0, (200, "ok")), (29, (200, "ok")), (30, (401, "token_expired")), (31, (401, "token_expired"))]
    {
        for is_cached in [false, true] {
            let (gateway, ports) = setup(SHIPPED);
            // Shortly before, so that the limit of the cache itself does not end it.
            ports.advance(800 * 1000);
            if is_cached {
                assert_eq!(verdict(&ports.send_token(&gateway, "GET", ME, token)), (200, "ok"));
            }
            ports.advance((100 + after_exp) * 1000);
            let actual = verdict(&ports.send_token(&gateway, "GET", ME, token));
            assert_eq!(actual, expected, "{after_exp} s after exp, cached: {is_cached}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_good_token_with_a_changed_byte_is_refused(position: prop::sample::Index, byte in 0x21_u8..0x7f) {
        let (vectors, gateway, ports) = shipped_setup();
        let mut token = vectors.token("a good token").as_bytes().to_vec();
        let position = position.index(token.len());
        prop_assume!(token[position] != byte);
        token[position] = byte;
        let token = String::from_utf8(token).unwrap();
        prop_assert_eq!(ports.send_token(&gateway, "GET", ME, &token).record.status, 401);
        prop_assert!(ports.forwarded.borrow().is_empty());
    }

    #[test]
    fn a_random_text_is_refused_without_a_panic(token in ".{0,200}|[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}") {
        let (gateway, ports) = setup(SHIPPED);
        prop_assert_eq!(ports.send_token(&gateway, "GET", ME, &token).record.status, 401);
    }
}
