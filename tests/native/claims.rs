//! Claims against an issuer's policy: where the identity is, and what else is required. The signature
//! counts as valid.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_token::{
    Algorithm, ClaimNames, ClaimRule, Identity, SignatureOutcome, TokenError, TokenPolicy, UnixMillis, parse,
};
use serde_json::{Value, json};

use crate::signer::claim_rule;

const NOW: u64 = 1_800_000_000;

pub(crate) fn policy() -> TokenPolicy {
    TokenPolicy {
        issuer: "https://id.example/".into(),
        tenants: vec![],
        audience: vec!["api".into()],
        audience_claim: vec!["aud".to_owned()],
        algorithms: vec![Algorithm::Rs256],
        types: vec![],
        token_type: None,
        claims: ClaimNames::default(),
        require: vec![],
        kept: vec![],
        asserted: Vec::new(),
        leeway_s: 30,
        max_lifetime_s: 3600,
    }
}

fn verify(policy: &TokenPolicy, more: Value) -> Result<Identity, TokenError> {
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
fn the_mapping_finds_the_identity_of_each_provider() {
    let usual = ClaimNames::default;
    // provider, mapping, claims, (user id, e-mail, roles, scopes)
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
            "a path without a value has no role",
            ClaimNames { roles: path(&["a", "b"]), ..usual() },
            json!({ "a": "text", "roles": ["admin"] }),
            ("u1", None, vec![], vec![]),
        ),
    ];
    for (name, claims, more, (user_id, email, roles, scopes)) in cases {
        let identity =
            verify(&TokenPolicy { claims, ..policy() }, more).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(identity.user_id, user_id, "{name}");
        assert_eq!(identity.email.as_deref(), email, "{name}");
        assert_eq!(identity.roles, roles, "{name}");
        assert_eq!(identity.scopes, scopes, "{name}");
    }
}

#[test]
fn a_mapped_claim_is_checked_like_the_default_one() {
    let mapped = |claims: ClaimNames| TokenPolicy { claims, ..policy() };
    let user = mapped(ClaimNames { user_id: path(&["user", "id"]), ..ClaimNames::default() });
    let roles = mapped(ClaimNames { roles: path(&["r"]), ..ClaimNames::default() });
    for (policy, more) in [
        (&user, json!({})),
        (&user, json!({ "user": "u2" })),
        (&user, json!({ "user": { "id": 7 } })),
        (&user, json!({ "user": { "id": "a\r\nX-User-Roles: admin" } })),
        (&user, json!({ "user": [{ "id": "u2" }] })),
        (&user, json!({ "user": { "id": "" } })),
        (&user, json!({ "user": { "id": null } })),
        (&roles, json!({ "r": { "admin": true } })),
        (&roles, json!({ "r": ["user\r\nx-user-roles: admin"] })),
        (&roles, json!({ "r": [["admin"]] })),
        (&roles, json!({ "r": "r".repeat(1025) })),
        (&roles, json!({ "scope": 7 })),
        (&roles, json!({ "scope": ["read", 7] })),
        (&roles, json!({ "scope": "a ".repeat(513) })),
    ] {
        assert_eq!(verify(policy, more.clone()).err(), Some(TokenError::BadIdentity), "{more}");
    }
}

#[test]
fn a_token_is_refused_unless_it_meets_each_requirement_exactly() {
    let present = || claim_rule(&["azp"], None, None);
    let equals = |value| claim_rule(&["azp"], Some(value), None);
    let one_of = |values| claim_rule(&["azp"], None, Some(values));
    let nested = claim_rule(&["tenant", "id"], Some(json!(7)), None);
    for (requirement, more, met) in [
        (present(), json!({ "azp": "x" }), true),
        (present(), json!({ "azp": false }), true),
        (present(), json!({ "azp": null }), false),
        (present(), json!({}), false),
        (equals(json!("shop")), json!({ "azp": "shop" }), true),
        (equals(json!("shop")), json!({ "azp": "Shop" }), false),
        (equals(json!("shop")), json!({ "azp": ["shop"] }), false),
        (equals(json!("1")), json!({ "azp": 1 }), false),
        (equals(json!(true)), json!({ "azp": true }), true),
        (equals(json!(true)), json!({ "azp": "true" }), false),
        (one_of(vec![json!("a"), json!("b")]), json!({ "azp": "b" }), true),
        (one_of(vec![json!("a"), json!("b")]), json!({ "azp": "c" }), false),
        (one_of(vec![]), json!({ "azp": "c" }), false),
        (equals(json!(null)), json!({ "azp": null }), false),
        (claim_rule(&["azp"], Some(json!("a")), Some(vec![json!("b")])), json!({ "azp": "a" }), false),
        (nested.clone(), json!({ "tenant": { "id": 7 } }), true),
        (nested.clone(), json!({ "tenant": { "id": 7.0 } }), false),
        (nested, json!({ "tenant.id": 7 }), false),
    ] {
        let policy = TokenPolicy { require: vec![requirement.clone()], ..policy() };
        let expected = (!met).then_some(TokenError::RequirementUnmet);
        assert_eq!(verify(&policy, more.clone()).err(), expected, "{requirement:?} {more}");
    }
    let both = vec![claim_rule(&["a"], None, None), claim_rule(&["b"], None, None)];
    let policy = TokenPolicy { require: both, ..policy() };
    assert_eq!(verify(&policy, json!({ "a": 1 })).err(), Some(TokenError::RequirementUnmet));
    assert!(verify(&policy, json!({ "a": 1, "b": 1 })).is_ok());
}

#[test]
fn a_claim_rule_is_read_back_as_it_is_written() {
    let rule = |path: &[&str], equals, one_of| Some(claim_rule(path, equals, one_of));
    for (text, expected) in [
        (r#"{"claim":"a.b"}"#, rule(&["a.b"], None, None)),
        (r#"{"claim":["a","b"],"equals":7}"#, rule(&["a", "b"], Some(json!(7)), None)),
        (r#"{"claim":["a"],"one_of":["x",true]}"#, rule(&["a"], None, Some(vec![json!("x"), json!(true)]))),
        // `null` must not turn a comparison into a test for presence.
        (r#"{"claim":["a"],"equals":null}"#, rule(&["a"], Some(Value::Null), None)),
        (r#"{"claim":["a"],"one_of":null}"#, None),
        (r#"{"claim":["a"],"equal":7}"#, None),
        (r#"{"claim":7}"#, None),
        (r#"{"equals":7}"#, None),
    ] {
        let read: Option<ClaimRule> = serde_json::from_str(text).ok();
        assert_eq!(read, expected, "{text}");
        if let Some(rule) = read {
            assert_eq!(serde_json::from_value(serde_json::to_value(&rule).unwrap()).ok(), Some(rule), "{text}");
        }
    }
}

#[test]
fn an_empty_optional_claim_counts_as_absent() {
    for nothing in [json!(null), json!(""), json!([])] {
        let texts = if nothing.is_array() { json!(null) } else { nothing.clone() };
        let more = json!({ "email": texts, "sid": texts, "jti": texts, "roles": nothing, "scope": nothing });
        let identity = verify(&policy(), more).unwrap();
        assert_eq!((identity.email, identity.session_id, identity.token_id), (None, None, None), "{nothing}");
        assert!(identity.roles.is_empty() && identity.scopes.is_empty(), "{nothing}");
    }
}

#[test]
fn a_string_is_one_role_and_scopes_are_read_from_scope_or_scp() {
    let mapped =
        TokenPolicy { claims: ClaimNames { scopes: path(&["permissions"]), ..ClaimNames::default() }, ..policy() };
    for (policy, more, roles, scopes) in [
        (policy(), json!({ "roles": "admin" }), vec!["admin"], vec![]),
        (policy(), json!({ "roles": "Domain Admins" }), vec!["Domain Admins"], vec![]),
        (policy(), json!({ "roles": "user,admin" }), vec!["user,admin"], vec![]),
        (policy(), json!({ "roles": ["user", "", null, " a "] }), vec!["user", " a "], vec![]),
        (policy(), json!({ "scope": "read write" }), vec![], vec!["read", "write"]),
        (policy(), json!({ "scope": ["read", "write"] }), vec![], vec!["read", "write"]),
        (policy(), json!({ "scp": "read write" }), vec![], vec!["read", "write"]),
        (policy(), json!({ "scp": ["read", "write"] }), vec![], vec!["read", "write"]),
        (policy(), json!({ "scope": "", "scp": ["read"] }), vec![], vec!["read"]),
        (policy(), json!({ "scope": "read", "scp": "write" }), vec![], vec!["read"]),
        (mapped.clone(), json!({ "scope": "read", "scp": "write" }), vec![], vec![]),
        (mapped, json!({ "permissions": ["read"], "scp": "write" }), vec![], vec!["read"]),
    ] {
        let identity = verify(&policy, more.clone()).unwrap();
        assert_eq!(
            (identity.roles, identity.scopes),
            (roles.into_iter().map(str::to_owned).collect(), scopes.into_iter().map(str::to_owned).collect()),
            "{more}"
        );
    }
}

#[test]
fn dates_are_compared_with_their_fractions() {
    use TokenError::{BadDates, Expired, LifetimeTooLong, NotYetValid};
    let ago = |seconds: f64| f64::from(u32::try_from(NOW).unwrap()) - seconds;
    for (more, expected) in [
        (json!({ "iat": ago(0.25), "exp": ago(-0.25) }), None),
        (json!({ "iat": ago(900.5), "exp": ago(29.999) }), None),
        (json!({ "iat": ago(900.5), "exp": ago(30.0) }), Some(Expired)),
        (json!({ "iat": ago(900.5), "exp": ago(30.001) }), Some(Expired)),
        (json!({ "nbf": ago(-29.5) }), None),
        (json!({ "nbf": ago(-30.5) }), Some(NotYetValid)),
        (json!({ "iat": ago(-30.5), "exp": ago(-60.0) }), Some(NotYetValid)),
        (json!({ "iat": ago(0.5), "exp": ago(-3599.5) }), None),
        (json!({ "iat": ago(0.5), "exp": ago(-3599.75) }), Some(LifetimeTooLong)),
        (json!({ "iat": ago(0.5), "exp": ago(0.5) }), Some(BadDates)),
        (json!({ "iat": -0.5 }), Some(BadDates)),
        (json!({ "exp": 1e308 }), Some(BadDates)),
        (json!({ "exp": 253_402_300_800.0 }), Some(BadDates)),
        (json!({ "nbf": -8_334_601_228_800.5 }), Some(BadDates)),
        (json!({ "exp": "1800000900.5" }), Some(BadDates)),
    ] {
        assert_eq!(verify(&policy(), more.clone()).err(), expected, "{more}");
    }
    let identity = verify(&policy(), json!({ "iat": ago(0.25), "exp": ago(-0.25) })).unwrap();
    assert_eq!((identity.issued_at.0, identity.expires_at.0), (NOW * 1000 - 250, NOW * 1000 + 250));
}

#[test]
fn the_audience_is_read_from_the_claim_that_the_policy_names() {
    let client = TokenPolicy { audience_claim: path(&["client_id"]), ..policy() };
    for (policy, more, expected) in [
        (&client, json!({ "aud": null, "client_id": "api" }), None),
        (&client, json!({ "aud": "other", "client_id": ["x", "api"] }), None),
        (&client, json!({ "client_id": "other" }), Some(TokenError::WrongAudience)),
        (&client, json!({}), Some(TokenError::WrongAudience)),
        (&policy(), json!({ "aud": "other", "client_id": "api" }), Some(TokenError::WrongAudience)),
    ] {
        assert_eq!(verify(policy, more.clone()).err(), expected, "{more}");
    }
}

#[test]
fn a_template_accepts_the_listed_tenants_only() {
    let policy = TokenPolicy {
        issuer: "https://login.example/{tenantid}/v2.0".into(),
        tenants: vec!["t1".into(), "t2".into()],
        ..policy()
    };
    let of = |tenant: &str| format!("https://login.example/{tenant}/v2.0");
    for (more, expected) in [
        (json!({ "iss": of("t1") }), None),
        (json!({ "iss": of("t2"), "tid": "t2" }), None),
        (json!({ "iss": of("t1"), "tid": "t2" }), Some(TokenError::RequirementUnmet)),
        (json!({ "iss": of("t1"), "tid": null }), Some(TokenError::RequirementUnmet)),
        (json!({ "iss": of("t3") }), Some(TokenError::UnknownIssuer)),
        (json!({ "iss": of("T1") }), Some(TokenError::UnknownIssuer)),
        (json!({ "iss": of("") }), Some(TokenError::UnknownIssuer)),
        (json!({ "iss": of("{tenantid}") }), Some(TokenError::UnknownIssuer)),
        (json!({ "iss": of("t1/v2.0/t2") }), Some(TokenError::UnknownIssuer)),
        (json!({ "iss": format!("{}/", of("t1")) }), Some(TokenError::UnknownIssuer)),
        (json!({ "iss": "t1" }), Some(TokenError::UnknownIssuer)),
        (json!({ "iss": null }), Some(TokenError::UnknownIssuer)),
    ] {
        assert_eq!(verify(&policy, more.clone()).err(), expected, "{more}");
    }
    let identity = verify(&policy, json!({ "iss": of("t1") })).unwrap();
    assert_eq!(identity.issuer, of("t1"), "users of two tenants differ, whatever their id");
}
