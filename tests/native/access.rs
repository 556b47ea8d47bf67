//! Who is let in: access rules, and the origins of pages.

use portcullis_policy::{Access, Circumstances, Cors, Params, Principal, Route, allows, authorize};
use portcullis_token::UnixMillis;
use serde_json::{Value, json};

use crate::signer::claim_rule;

fn permits(rule: &Access, principal: Principal<'_>, params: &Params) -> bool {
    let route = json!({ "path": "/", "methods": ["GET"], "upstream": "shop", "access": "user" });
    let mut route: Route = serde_json::from_value(route).unwrap();
    route.access = rule.clone();
    authorize(&route, &circumstances(params), "company", principal).is_ok()
}

/// A request of which only the path is known.
pub(crate) fn circumstances(params: &Params) -> Circumstances<'_> {
    Circumstances {
        params,
        host: "edge.example",
        address: None,
        country: &|| None,
        now: UnixMillis::from_secs(1_000_000),
        leeway_s: 30,
    }
}

#[test]
fn each_rule_admits_exactly_the_callers_that_it_names() {
    let roles = |names: &[&str]| Access::Roles(names.iter().map(|name| (*name).to_owned()).collect());
    let owner = || Access::Owner("id".to_owned());
    let both = || vec![owner(), roles(&["admin"])];
    // rule, user id, roles, {id}, let in
    for (rule, user_id, held, id, expected) in [
        (Access::User, "u1", &[][..], None, true),
        (roles(&["admin"]), "u1", &["admin"][..], None, true),
        (roles(&["admin"]), "u1", &["Admin"][..], None, false),
        (roles(&["admin"]), "u1", &["user"][..], None, false),
        (roles(&["admin", "ops"]), "u1", &["ops"][..], None, true),
        (roles(&[]), "u1", &["admin"][..], None, false),
        (owner(), "u1", &[][..], Some("u1"), true),
        (owner(), "u1", &[][..], Some("u2"), false),
        (owner(), "u1", &[][..], Some("U1"), false),
        (owner(), "u1", &["admin"][..], None, false),
        (owner(), "auth0|64f", &[][..], Some("auth0|64f"), true),
        (owner(), "zoë", &[][..], Some("zoë"), true),
        (owner(), "zo%C3%AB", &[][..], Some("zoë"), false),
        (owner(), "ada/files", &[][..], Some("ada/files"), false),
        (owner(), "ada;files", &[][..], Some("ada;files"), false),
        (owner(), "ada?files", &[][..], Some("ada?files"), false),
        (owner(), "ada#files", &[][..], Some("ada#files"), false),
        (Access::Any(both()), "u1", &[][..], Some("u1"), true),
        (Access::Any(both()), "u1", &["admin"][..], Some("u2"), true),
        (Access::Any(both()), "u1", &["user"][..], Some("u2"), false),
        (Access::All(both()), "u1", &["admin"][..], Some("u1"), true),
        (Access::All(both()), "u1", &["admin"][..], Some("u2"), false),
        (Access::Any(vec![]), "u1", &["admin"][..], None, false),
        (Access::All(vec![]), "u1", &["admin"][..], None, false),
    ] {
        let held: Vec<String> = held.iter().map(|role: &&str| (*role).to_owned()).collect();
        let params: Params = id.map(|id| ("id".to_owned(), id.to_owned())).into_iter().collect();
        let principal = Principal { user_id, roles: &held, scopes: &[], claims: &[] };
        assert_eq!(permits(&rule, principal, &params), expected, "{rule:?} {user_id} {held:?} {id:?}");
    }
}

#[test]
fn scopes_and_claims_let_in_what_the_token_says() {
    let claim =
        |equals: Option<Value>, one_of: Option<Vec<Value>>| Access::Claim(claim_rule(&["tenant"], equals, one_of));
    let scopes = |names: &[&str]| Access::Scopes(names.iter().map(|name| (*name).to_owned()).collect());
    let value = |text: &str| Value::from(text);
    // rule, scopes of the token, its tenant, let in
    for (rule, held, tenant, expected) in [
        (scopes(&["read", "write"]), &["write"][..], None, true),
        (scopes(&["read"]), &["READ", "reader"], None, false),
        (scopes(&[]), &["read"], None, false),
        (claim(None, None), &[], Some(value("shop")), true),
        (claim(None, None), &[], None, false),
        (claim(Some(value("shop")), None), &[], Some(value("shop")), true),
        (claim(Some(value("shop")), None), &[], Some(value("Shop")), false),
        (claim(Some(Value::from(1)), None), &[], Some(value("1")), false),
        (claim(None, Some(vec![value("a"), value("shop")])), &[], Some(value("shop")), true),
        (claim(None, Some(vec![value("a")])), &[], Some(value("shop")), false),
    ] {
        let scopes: Vec<String> = held.iter().map(|scope: &&str| (*scope).to_owned()).collect();
        let claims: Vec<_> = tenant.iter().map(|tenant| (vec!["tenant".to_owned()], tenant.clone())).collect();
        let principal = Principal { user_id: "u", roles: &[], scopes: &scopes, claims: &claims };
        assert_eq!(permits(&rule, principal, &Vec::new()), expected, "{rule:?} {held:?} {tenant:?}");
    }
}

#[test]
fn origins_are_listed_exactly_or_by_their_domain() {
    let cors = |origins: &[&str]| -> Cors { serde_json::from_value(json!({ "origins": origins })).unwrap() };
    let one = cors(&["https://good.example", "http://localhost:3000"]);
    let many = cors(&["https://*.good.example"]);
    let any = cors(&["*"]);
    for (policy, listed, others) in [
        (
            &one,
            "https://good.example http://localhost:3000",
            "http://localhost:3001 http://good.example https://good.example:443 https://good.example.evil \
             https://good.example/ https://GOOD.example https://a.good.example null",
        ),
        (
            &many,
            "https://a.good.example https://a.b.good.example",
            "https://good.example https://.good.example https://evilgood.example \
             https://evil.example/.good.example https://evil.example#.good.example https://user@a.good.example \
             http://a.good.example https://a.good.example:8443",
        ),
        (&any, "https://other.example", "null"),
    ] {
        listed.split(' ').for_each(|origin| assert!(allows(policy, origin), "{origin} by {:?}", policy.origins));
        others.split(' ').for_each(|origin| assert!(!allows(policy, origin), "{origin} by {:?}", policy.origins));
    }
    assert!(!allows(&one, ""));
}
