//! Claims against an issuer's policy: where identity is found, and what else a token
//! must say. Signatures are beside the point here, so the check's outcome is given.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis::token::{
    Algorithm, ClaimNames, ClaimRule, Identity, Requirement, SignatureOutcome, TokenError, TokenPolicy, UnixMillis,
    parse,
};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

fn policy() -> TokenPolicy {
    TokenPolicy {
        issuer: "https://id.example/".into(),
        audience: vec!["api".into()],
        algorithms: vec![Algorithm::Rs256],
        types: vec![],
        token_type: None,
        claims: ClaimNames::default(),
        require: vec![],
        kept: vec![],
        leeway_s: 30,
        max_lifetime_s: 3600,
    }
}

fn judge(policy: &TokenPolicy, more: Value) -> Result<Identity, TokenError> {
    let mut claims = json!({ "iss": policy.issuer, "aud": "api", "iat": NOW, "exp": NOW + 60, "sub": "u1" });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.AA", part(&json!({ "alg": "RS256" })), part(&claims));
    let verified = parse(&token)?.admit(SignatureOutcome::Valid, policy, UnixMillis::from_secs(NOW))?;
    Ok(verified.identity().clone())
}

fn path(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn identity_is_found_where_each_provider_puts_it() {
    let usual = ClaimNames::default;
    // provider's habit, mapping, claims, (user id, e-mail, roles, scopes)
    let cases = [
        (
            "our own auth service",
            usual(),
            json!({ "email": "a@b.c", "roles": ["user"] }),
            ("u1", Some("a@b.c"), vec!["user"], vec![]),
        ),
        (
            "Keycloak: roles nested, scope as text",
            ClaimNames { roles: path(&["realm_access", "roles"]), ..usual() },
            json!({ "realm_access": { "roles": ["ops", "user"] }, "scope": "openid  email" }),
            ("u1", None, vec!["ops", "user"], vec!["openid", "email"]),
        ),
        (
            "Auth0: names that are URLs",
            ClaimNames { roles: path(&["https://shop.example/roles"]), ..usual() },
            json!({ "https://shop.example/roles": ["admin"], "roles": ["not these"] }),
            ("u1", None, vec!["admin"], vec![]),
        ),
        (
            "Entra ID: oid, preferred_username, scp",
            ClaimNames {
                user_id: path(&["oid"]),
                email: path(&["preferred_username"]),
                scopes: path(&["scp"]),
                ..usual()
            },
            json!({ "oid": "o-7", "preferred_username": "ada@corp.example", "scp": "read write" }),
            ("o-7", Some("ada@corp.example"), vec![], vec!["read", "write"]),
        ),
        (
            "Okta: scp as a list",
            ClaimNames { scopes: path(&["scp"]), ..usual() },
            json!({ "scp": ["read"] }),
            ("u1", None, vec![], vec!["read"]),
        ),
        (
            "a path that leads nowhere is no role",
            ClaimNames { roles: path(&["a", "b"]), ..usual() },
            json!({ "a": "text", "roles": ["admin"] }),
            ("u1", None, vec![], vec![]),
        ),
    ];
    for (name, claims, more, (user_id, email, roles, scopes)) in cases {
        let identity =
            judge(&TokenPolicy { claims, ..policy() }, more).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(identity.user_id, user_id, "{name}");
        assert_eq!(identity.email.as_deref(), email, "{name}");
        assert_eq!(identity.roles, roles, "{name}");
        assert_eq!(identity.scopes, scopes, "{name}");
    }
}

#[test]
fn a_mapped_claim_is_judged_as_strictly_as_a_usual_one() {
    let mapped = |claims: ClaimNames| TokenPolicy { claims, ..policy() };
    let user = mapped(ClaimNames { user_id: path(&["user", "id"]), ..ClaimNames::default() });
    let roles = mapped(ClaimNames { roles: path(&["r"]), ..ClaimNames::default() });
    for (policy, more) in [
        (&user, json!({})),
        (&user, json!({ "user": "u2" })),
        (&user, json!({ "user": { "id": 7 } })),
        (&user, json!({ "user": { "id": "a\r\nX-User-Roles: admin" } })),
        (&user, json!({ "user": [{ "id": "u2" }] })),
        (&roles, json!({ "r": "admin" })),
        (&roles, json!({ "r": ["user,admin"] })),
        (&roles, json!({ "r": null })),
        (&roles, json!({ "scope": 7 })),
        (&roles, json!({ "scope": ["read", 7] })),
        (&roles, json!({ "scope": "a ".repeat(129) })),
    ] {
        assert_eq!(judge(policy, more.clone()).err(), Some(TokenError::BadIdentity), "{more}");
    }
}

#[test]
fn requirements_are_met_exactly_or_the_token_is_refused() {
    let azp = |rule: ClaimRule| Requirement { claim: path(&["azp"]), rule };
    let nested = Requirement { claim: path(&["tenant", "id"]), rule: ClaimRule::Equals(json!(7)) };
    for (requirement, more, met) in [
        (azp(ClaimRule::Present), json!({ "azp": "x" }), true),
        (azp(ClaimRule::Present), json!({ "azp": false }), true),
        (azp(ClaimRule::Present), json!({ "azp": null }), false),
        (azp(ClaimRule::Present), json!({}), false),
        (azp(ClaimRule::Equals(json!("shop"))), json!({ "azp": "shop" }), true),
        (azp(ClaimRule::Equals(json!("shop"))), json!({ "azp": "Shop" }), false),
        (azp(ClaimRule::Equals(json!("shop"))), json!({ "azp": ["shop"] }), false),
        (azp(ClaimRule::Equals(json!("1"))), json!({ "azp": 1 }), false),
        (azp(ClaimRule::Equals(json!(true))), json!({ "azp": true }), true),
        (azp(ClaimRule::Equals(json!(true))), json!({ "azp": "true" }), false),
        (azp(ClaimRule::OneOf(vec![json!("a"), json!("b")])), json!({ "azp": "b" }), true),
        (azp(ClaimRule::OneOf(vec![json!("a"), json!("b")])), json!({ "azp": "c" }), false),
        (azp(ClaimRule::OneOf(vec![])), json!({ "azp": "c" }), false),
        (nested.clone(), json!({ "tenant": { "id": 7 } }), true),
        (nested.clone(), json!({ "tenant": { "id": 7.0 } }), false),
        (nested, json!({ "tenant.id": 7 }), false),
    ] {
        let policy = TokenPolicy { require: vec![requirement.clone()], ..policy() };
        let expected = (!met).then_some(TokenError::RequirementUnmet);
        assert_eq!(judge(&policy, more.clone()).err(), expected, "{requirement:?} {more}");
    }
    let both = vec![
        Requirement { claim: path(&["a"]), rule: ClaimRule::Present },
        Requirement { claim: path(&["b"]), rule: ClaimRule::Present },
    ];
    let policy = TokenPolicy { require: both, ..policy() };
    assert_eq!(judge(&policy, json!({ "a": 1 })).err(), Some(TokenError::RequirementUnmet));
    assert!(judge(&policy, json!({ "a": 1, "b": 1 })).is_ok());
}
