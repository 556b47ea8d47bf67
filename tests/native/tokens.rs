//! Every token of `tests/vectors` through the whole gate, and what no list can
//! hold: no changed byte of a good token ever verifies.

use proptest::prelude::*;

use portcullis_token::{TokenError, UnixMillis, explain, keys::KeySet};

use crate::fakes::{Vectors, World, shipped_gate, verdict};

const ME: &str = "/api/v1/auth/me";

#[test]
fn every_vector_is_judged_as_its_table_says() {
    let vectors = Vectors::load();
    for case in &vectors.cases {
        let (gate, world) = (shipped_gate(), World::new(&vectors));
        let handled = world.send_token(&gate, "GET", ME, &case.token);
        let status = if case.expected == "ok" { 200 } else { 401 };
        assert_eq!(verdict(&handled), (status, case.expected.as_str()), "{}", case.name);
        assert_eq!(world.forwarded.borrow().len(), usize::from(status == 200), "{}: reached the origin", case.name);
        let line = handled.record.to_json();
        assert!(!line.contains(&case.token) || case.token.len() < 3, "{}: the log holds the token", case.name);
    }
}

#[test]
fn an_explanation_refuses_every_vector_for_the_reason_of_the_gateway() {
    let vectors = Vectors::load();
    let policy = portcullis_policy::check(include_str!("../../gateway.toml")).unwrap();
    let policies: Vec<_> = policy.issuers.iter().map(|issuer| issuer.token_policy(&[]).unwrap()).collect();
    let keys = KeySet::parse(vectors.jwks.to_string().as_bytes(), &policies[0].algorithms).unwrap();
    for case in &vectors.cases {
        let found = explain(&case.token, &policies, Some(&keys), UnixMillis::from_secs(vectors.now));
        let said = found.error().map_or("ok", TokenError::code);
        assert_eq!(said, case.expected, "{}", case.name);
        assert_eq!(found.identity().is_some(), said == "ok", "{}", case.name);
    }
}

#[test]
fn hostile_tokens_cost_at_most_one_fetch_and_spoil_nothing() {
    let vectors = Vectors::load();
    let (gate, world) = (shipped_gate(), World::new(&vectors));
    for case in &vectors.cases {
        let handled = world.send_token(&gate, "GET", ME, &case.token);
        assert_eq!(verdict(&handled).1, case.expected, "{}", case.name);
    }
    assert_eq!(world.fetches.get(), 1);
}

#[test]
fn expiry_is_exact_to_the_second() {
    let vectors = Vectors::load();
    let token = vectors.token("a good token");
    for (after_exp, expected) in
        [(0, (200, "ok")), (29, (200, "ok")), (30, (401, "token_expired")), (31, (401, "token_expired"))]
    {
        let (gate, world) = (shipped_gate(), World::new(&vectors));
        world.pass((900 + after_exp) * 1000);
        assert_eq!(verdict(&world.send_token(&gate, "GET", ME, token)), expected, "{after_exp} s after exp");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_changed_byte_of_a_good_token_ever_verifies(position: prop::sample::Index, byte in 0x21_u8..0x7f) {
        let vectors = Vectors::load();
        let (gate, world) = (shipped_gate(), World::new(&vectors));
        let mut token = vectors.token("a good token").as_bytes().to_vec();
        let position = position.index(token.len());
        prop_assume!(token[position] != byte);
        token[position] = byte;
        let token = String::from_utf8(token).unwrap();
        prop_assert_eq!(world.send_token(&gate, "GET", ME, &token).record.status, 401);
        prop_assert!(world.forwarded.borrow().is_empty());
    }

    #[test]
    fn no_text_at_all_panics_or_verifies(token in ".{0,200}|[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}") {
        let vectors = Vectors::load();
        let (gate, world) = (shipped_gate(), World::new(&vectors));
        prop_assert_eq!(world.send_token(&gate, "GET", ME, &token).record.status, 401);
    }
}
