//! The identity headers that a service receives.

use portcullis::pipeline::limits;
use serde_json::{Value, json};

use crate::{
    fakes::{ME_POLICY, setup, verdict},
    signer::{Signer, claims_at, with},
};

/// Returns a header that a service receives with the request of a token with these claims.
fn forwarded(claims: &Value, name: &str) -> Option<String> {
    let (gateway, ports) = setup(ME_POLICY);
    ports.publish(&[&Signer::new(7)]);
    let now = ports.now.get().secs();
    let usual = claims_at(now);
    let token = Signer::new(7).sign("at+jwt", &with(usual, claims));
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), (200, "ok"), "{claims}");
    let sent = ports.forwarded.borrow();
    sent[0].headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

#[test]
fn text_that_no_header_can_hold_is_escaped() {
    for (text, expected) in
        [("zoë%0d@example.com", "zo%C3%AB%250d@example.com"), ("ada, b@example.com", "ada, b@example.com")]
    {
        assert_eq!(forwarded(&json!({ "sub": text }), "x-user-id").as_deref(), Some(expected));
        assert_eq!(forwarded(&json!({ "email": text }), "x-user-email").as_deref(), Some(expected));
    }
}

#[test]
fn a_role_name_never_arrives_as_two_roles_or_another_role() {
    let long = "r".repeat(256);
    for (roles, expected) in [
        (vec![], ""),
        (vec!["user", "ops"], "user,ops"),
        (vec!["Domain Admins"], "Domain Admins"),
        (vec!["user,admin"], "user%2Cadmin"),
        (vec!["CN=admins,OU=groups", "user"], "CN=admins%2COU=groups,user"),
        (vec![" admin", "admin ", " ", "  a  b "], "%20admin,admin%20,%20,%20%20a  b%20"),
        (vec!["Größe", "100%"], "Gr%C3%B6%C3%9Fe,100%25"),
        (vec![long.as_str()], long.as_str()),
    ] {
        assert_eq!(forwarded(&json!({ "roles": roles }), "x-user-roles").as_deref(), Some(expected), "{roles:?}");
    }
}

#[test]
fn roles_that_are_too_long_for_a_header_are_in_the_assertion_alone() {
    let roles = |count: usize| json!({ "roles": vec!["r".repeat(63); count] });
    let most = limits::ROLES_HEADER_BYTES / 64;
    let longest = forwarded(&roles(most), "x-user-roles").map(|value| value.len());
    assert_eq!(longest, Some(limits::ROLES_HEADER_BYTES - 1));
    assert_eq!(forwarded(&roles(most + 1), "x-user-roles"), None);
}
