//! Valid policies: defaults, access rules, the form as JSON, and the shipped policy.

use portcullis_policy::{Access, check};
use serde_json::Value;

use crate::{fakes::SHIPPED, signer::claim_rule};

pub(crate) const VALID: &str = r#"[issuers.id]
issuer = "https://id.example.com/"
audience = ["api"]
algorithms = ["RS256"]
jwks_url = "https://id.example.com/jwks"

[upstreams.shop]
url = "https://shop.example.com"

[[routes]]
path = "/items/{id}"
methods = ["GET"]
upstream = "shop"
access = "user"
"#;

#[test]
fn a_valid_policy_gets_its_defaults() {
    let policy = check(VALID).unwrap();
    assert_eq!(policy.issuers[0].leeway_s, 30);
    assert_eq!(policy.issuers[0].max_lifetime_s, 86_400);
    assert_eq!(policy.upstreams[0].timeout_ms, 15_000);
    assert_eq!(policy.routes[0].access, Access::User);
    assert!(!policy.routes[0].forward_authorization);
}

#[test]
fn access_rules_are_read_as_written() {
    let claim = |names: &[&str], equals: Option<Value>, one_of: Option<Vec<Value>>| {
        Access::Claim(claim_rule(names, equals, one_of))
    };
    for (text, expected) in [
        (r#""public""#, Access::Public),
        (r#"{ roles = ["a", "b"] }"#, Access::Roles(vec!["a".into(), "b".into()])),
        (r#"{ owner = "id" }"#, Access::Owner("id".into())),
        (r#"{ scopes = ["a", "b"] }"#, Access::Scopes(vec!["a".into(), "b".into()])),
        (r#"{ claim = "tenant" }"#, claim(&["tenant"], None, None)),
        (r#"{ claim = ["org", "id"], equals = 7 }"#, claim(&["org", "id"], Some(7.into()), None)),
        (r#"{ claim = "plan", one_of = ["a", true] }"#, claim(&["plan"], None, Some(vec!["a".into(), true.into()]))),
        (
            r#"{ any = [{ owner = "id" }, { all = ["user", { roles = ["x"] }] }] }"#,
            Access::Any(vec![
                Access::Owner("id".into()),
                Access::All(vec![Access::User, Access::Roles(vec!["x".into()])]),
            ]),
        ),
    ] {
        let policy = check(&VALID.replace(r#"access = "user""#, &format!("access = {text}"))).unwrap();
        assert_eq!(policy.routes[0].access, expected, "{text}");
    }
}

#[test]
fn a_policy_read_back_from_json_is_the_same() {
    let short = VALID
        .replace(
            "algorithms = [\"RS256\"]\njwks_url = \"https://id.example.com/jwks\"",
            "provider = \"keycloak\"\nrevocations_from = \"x\"",
        )
        .replace("https://shop.example.com", "https://shop.example.com/")
        + "variants = { allow = \"why\" }\nrequest_headers = { set = { X-A = \"1\" }, remove = [\"X-B\"] }\n";
    for text in [VALID, &short, SHIPPED, &crate::reference::examples()] {
        let policy = check(text).unwrap();
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(portcullis_policy::Policy::read(&json).as_ref(), Ok(&policy), "{json}");
        let without_nulls = without_nulls(serde_json::from_str(&json).unwrap()).to_string();
        assert_ne!(without_nulls, json);
        assert_eq!(portcullis_policy::Policy::read(&without_nulls), Ok(policy), "{without_nulls}");
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Object(members) => {
            let present = members.into_iter().filter(|(_, value)| !value.is_null());
            present.map(|(name, value)| (name, without_nulls(value))).collect()
        }
        scalar => scalar,
    }
}

#[test]
fn a_json_policy_that_is_no_policy_is_refused_with_the_reason() {
    for (json, reason) in [
        ("", "EOF while parsing a value"),
        ("{} {}", "trailing characters"),
        (r#"{ "version": 1, "version": 1 }"#, "an object has a repeated member"),
        (r#"{ "limits": { "a": { "by": "ip" }, "a": { "by": "user" } } }"#, "an object has a repeated member"),
        ("[1]", "invalid type: sequence, expected struct Policy"),
        (r#"{ "revocation": [60] }"#, "invalid type: sequence, expected struct Revocation"),
        (r#"{ "revocation": null }"#, "invalid type: unit value, expected struct Revocation"),
        (r#"{ "revocation": { "max_age": 60 } }"#, "unknown field `max_age`, expected `max_age_s`"),
        (r#"{ "revocation": { "max_age_s": "60" } }"#, r#"invalid type: string "60", expected u64"#),
        (r#"{ "revocation": { "max_age_s": -1 } }"#, "expected u64"),
        (r#"{ "version": 4294967296 }"#, "expected u32"),
        (r#"{ "limits": { "a": {} } }"#, "missing field `by`"),
        (r#"{ "limits": { "a": { "by": "planet" } } }"#, "unknown variant `planet`"),
        (r#"{ "limits": { "a": { "by": 1 } } }"#, "expected enum LimitBy"),
        (r#"{ "limits": { "a": { "by": { "ip": 1 } } } }"#, "expected unit variant"),
        (r#"{ "cors": { "a": { "origins": "https://a.example" } } }"#, "expected a sequence"),
        (r#"{ "cors": { "a": { "origins": [], "credentials": 1 } } }"#, "expected a boolean"),
    ] {
        let refused = portcullis_policy::Policy::read(json).unwrap_err();
        assert!(refused.starts_with("the policy cannot be read: ") && refused.contains(reason), "{json}: {refused}");
    }
}

#[test]
fn a_document_of_another_version_is_refused() {
    assert!(check(&format!("version = 1\n{VALID}")).is_ok());
    let mistakes = check(&format!("version = 2\n{VALID}")).unwrap_err();
    assert_eq!((mistakes.len(), mistakes[0].line, mistakes[0].column), (1, 1, 11));
}

#[test]
fn the_shipped_policy_has_exactly_these_public_routes() {
    let policy = check(SHIPPED).unwrap();
    let public: Vec<&str> =
        policy.routes.iter().filter(|route| route.access == Access::Public).map(|route| route.path.as_str()).collect();
    assert_eq!(
        public,
        [
            "/.well-known/jwks.json",
            "/.well-known/oauth-authorization-server",
            "/api/v1/auth/public-key",
            "/api/v1/auth/register",
            "/api/v1/auth/login",
            "/api/v1/auth/refresh",
            "/api/v1/auth/revoke",
        ]
    );
    assert!(!policy.routes.iter().any(|route| route.path.contains("/internal/") || route.path.ends_with("/token")));
}
