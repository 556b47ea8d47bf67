//! Access rules in words.

use portcullis_policy::{Access, ClaimRule, RequestClaim};
use serde_json::Value;

/// Describes a rule, such as `the user {id}, or role admin`.
pub(crate) fn describe(access: &Access) -> String {
    match access {
        Access::Public => "anybody".to_owned(),
        Access::User => "any user".to_owned(),
        Access::Roles(roles) => format!("role {}", roles.join(" or ")),
        Access::Scopes(scopes) => format!("scope {}", scopes.join(" or ")),
        Access::Owner(name) => format!("the user {{{name}}}"),
        Access::Claim(rule) => describe_claim(rule),
        Access::RequestClaim(RequestClaim { claim, equals_path, equals_host }) => {
            let path = equals_path.as_ref().map(|name| format!("{{{name}}}"));
            let parts: Vec<String> = path.into_iter().chain(equals_host.clone()).collect();
            format!("claim {} = {}", claim.join("/"), parts.join(" = "))
        }
        Access::Country(countries) => format!("country {}", countries.join(" or ")),
        Access::Network(networks) => {
            format!("network {}", networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "))
        }
        Access::MaxAge(seconds) => format!("a login at most {seconds} s ago"),
        Access::Acr(classes) => format!("acr {}", classes.join(" or ")),
        Access::Any(rules) => describe_many(rules, ", or "),
        Access::All(rules) => describe_many(rules, ", and "),
    }
}

/// Describes a rule on a claim, such as `claim org/tenant = "shop"`.
pub(crate) fn describe_claim(rule: &ClaimRule) -> String {
    let name = rule.claim.join("/");
    let values: Vec<String> = rule.equals.iter().chain(rule.one_of.iter().flatten()).map(Value::to_string).collect();
    if values.is_empty() { format!("claim {name}") } else { format!("claim {name} = {}", values.join(" or ")) }
}

fn describe_many(rules: &[Access], separator: &str) -> String {
    let described = rules.iter().map(|rule| {
        let words = describe(rule);
        if matches!(rule, Access::Any(_) | Access::All(_)) { format!("({words})") } else { words }
    });
    Vec::from_iter(described).join(separator)
}
