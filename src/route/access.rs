//! Who may enter: the policy's access rules over a principal. This is where a
//! 403 is decided, and nowhere else.

use crate::config::Access;

/// A path's parameters, by name.
pub type Params = Vec<(String, String)>;

/// What the rules look at of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal<'a> {
    /// The verified user id.
    pub user_id: &'a str,
    /// The verified roles.
    pub roles: &'a [String],
}

/// Whether `rule` lets `principal` in on a path with `params`.
///
/// In doubt no: an owner rule without its parameter and an empty list let
/// nobody in.
pub fn permits(rule: &Access, principal: Principal<'_>, params: &Params) -> bool {
    match rule {
        Access::Public | Access::User => true,
        Access::Roles(roles) => roles.iter().any(|role| principal.roles.contains(role)),
        Access::Owner(name) => params.iter().any(|(param, value)| param == name && value == principal.user_id),
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
            let principal = Principal { user_id, roles: &held };
            assert_eq!(permits(&rule, principal, &params), expected, "{rule:?} {user_id} {held:?} {id:?}");
        }
    }
}
