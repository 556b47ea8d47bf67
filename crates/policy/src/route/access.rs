//! Who may enter: the policy's access rules over a principal. This is where a
//! 403 is decided, and nowhere else.

use serde_json::Value;

use crate::config::{Access, ClaimPath, RequireRule};

/// A path's parameters by name, percent-decoded once.
pub type Params = Vec<(String, String)>;

/// What the rules look at of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal<'a> {
    /// The verified user id.
    pub user_id: &'a str,
    /// The verified roles.
    pub roles: &'a [String],
    /// The verified scopes.
    pub scopes: &'a [String],
    /// The verified claims that rules ask for.
    pub claims: &'a [(ClaimPath, Value)],
}

/// Whether `rule` lets `principal` in on a path with `params`.
///
/// In doubt no: an owner rule without its parameter and an empty list let
/// nobody in.
pub fn permits(rule: &Access, principal: Principal<'_>, params: &Params) -> bool {
    match rule {
        Access::Public | Access::User => true,
        Access::Roles(roles) => roles.iter().any(|role| principal.roles.contains(role)),
        Access::Scopes(scopes) => scopes.iter().any(|scope| principal.scopes.contains(scope)),
        Access::Claim(require) => {
            let value = principal.claims.iter().find(|(path, _)| *path == require.claim).map(|(_, value)| value);
            value.is_some_and(|value| match &require.rule {
                RequireRule::Present => true,
                RequireRule::Equals(wanted) => value == wanted,
                RequireRule::OneOf(wanted) => wanted.contains(value),
            })
        }
        // Such a character was escaped, or the slash is the rest's, or it begins a parameter: a
        // service that decodes the path before it splits it, or takes parameters away, would
        // take the part before it for the owner.
        Access::Owner(name) => params
            .iter()
            .any(|(param, value)| param == name && value == principal.user_id && !value.contains(['/', ';', '?', '#'])),
        Access::Any(rules) => rules.iter().any(|rule| permits(rule, principal, params)),
        Access::All(rules) => !rules.is_empty() && rules.iter().all(|rule| permits(rule, principal, params)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_let_in_whom_they_name() {
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
        let claim = |rule| Access::Claim(crate::config::Require { claim: vec!["tenant".to_owned()], rule });
        let scopes = |names: &[&str]| Access::Scopes(names.iter().map(|name| (*name).to_owned()).collect());
        let value = |text: &str| Value::from(text);
        // rule, scopes of the token, its tenant, let in
        for (rule, held, tenant, expected) in [
            (scopes(&["read", "write"]), &["write"][..], None, true),
            (scopes(&["read"]), &["READ", "reader"], None, false),
            (scopes(&[]), &["read"], None, false),
            (claim(RequireRule::Present), &[], Some(value("shop")), true),
            (claim(RequireRule::Present), &[], None, false),
            (claim(RequireRule::Equals(value("shop"))), &[], Some(value("shop")), true),
            (claim(RequireRule::Equals(value("shop"))), &[], Some(value("Shop")), false),
            (claim(RequireRule::Equals(Value::from(1))), &[], Some(value("1")), false),
            (claim(RequireRule::OneOf(vec![value("a"), value("shop")])), &[], Some(value("shop")), true),
            (claim(RequireRule::OneOf(vec![value("a")])), &[], Some(value("shop")), false),
        ] {
            let scopes: Vec<String> = held.iter().map(|scope: &&str| (*scope).to_owned()).collect();
            let claims: Vec<_> = tenant.iter().map(|tenant| (vec!["tenant".to_owned()], tenant.clone())).collect();
            let principal = Principal { user_id: "u", roles: &[], scopes: &scopes, claims: &claims };
            assert_eq!(permits(&rule, principal, &Vec::new()), expected, "{rule:?} {held:?} {tenant:?}");
        }
    }
}
