//! Access rules: who may enter a route.

use std::{cell::Cell, collections::BTreeSet};

use portcullis_token::{ClaimPath, ClaimRule};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

/// Who may enter a route. A rule is a word, a table with one key, or a [`ClaimRule`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum Access {
    /// Everyone; no token is looked at.
    #[serde(skip_deserializing)]
    Public,
    /// Any verified token.
    #[serde(skip_deserializing)]
    User,
    /// Tokens with at least one of these roles.
    Roles(Vec<String>),
    /// Tokens with at least one of these scopes.
    Scopes(Vec<String>),
    /// Tokens with a claim that meets this rule.
    #[serde(skip)]
    Claim(ClaimRule),
    /// Tokens of the user whose id is the value of this path parameter.
    Owner(String),
    /// Tokens that at least one of these rules lets in.
    Any(Vec<Access>),
    /// Tokens that all of these rules let in.
    All(Vec<Access>),
}

/// A path's parameters by name, percent-decoded once.
pub type Params = Vec<(String, String)>;

/// What the rules know of a caller with a verified token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal<'a> {
    /// User id.
    pub user_id: &'a str,
    /// Roles.
    pub roles: &'a [String],
    /// Scopes.
    pub scopes: &'a [String],
    /// The claims that rules ask for.
    pub claims: &'a [(ClaimPath, Value)],
}

/// Whether `rule` lets `principal` in on a path with `params`.
///
/// In doubt it does not: an owner rule without its parameter and an empty list let no one in.
pub(crate) fn permits(rule: &Access, principal: Principal<'_>, params: &Params) -> bool {
    match rule {
        Access::Public | Access::User => true,
        Access::Roles(roles) => roles.iter().any(|role| principal.roles.contains(role)),
        Access::Scopes(scopes) => scopes.iter().any(|scope| principal.scopes.contains(scope)),
        Access::Claim(rule) => {
            let value = principal.claims.iter().find(|(path, _)| *path == rule.claim).map(|(_, value)| value);
            rule.is_met_by(value)
        }
        // These characters were escaped in the path, or the slash belongs to the rest. A service
        // that decodes the path before it splits it, or removes parameters, would take the part
        // before them for the owner.
        Access::Owner(name) => params
            .iter()
            .any(|(param, value)| param == name && value == principal.user_id && !value.contains(['/', ';', '?', '#'])),
        Access::Any(rules) => rules.iter().any(|rule| permits(rule, principal, params)),
        Access::All(rules) => !rules.is_empty() && rules.iter().all(|rule| permits(rule, principal, params)),
    }
}

impl Access {
    /// Whether the rule asks for more than a token: for rights, or for one user. Their meaning is
    /// the issuer's.
    pub(crate) fn names_rights(&self) -> bool {
        match self {
            Self::Public | Self::User => false,
            Self::Roles(_) | Self::Scopes(_) | Self::Claim(_) | Self::Owner(_) => true,
            Self::Any(rules) | Self::All(rules) => rules.iter().any(Self::names_rights),
        }
    }

    /// Adds each scope that the rule names.
    pub(crate) fn add_scopes<'a>(&'a self, scopes: &mut BTreeSet<&'a str>) {
        match self {
            Self::Scopes(names) => scopes.extend(names.iter().map(String::as_str)),
            Self::Any(rules) | Self::All(rules) => rules.iter().for_each(|rule| rule.add_scopes(scopes)),
            Self::Public | Self::User | Self::Roles(_) | Self::Claim(_) | Self::Owner(_) => {}
        }
    }

    /// Returns the scopes that a token needs for this rule, with spaces between (RFC 6749, section 3.3): the
    /// fewest that suffice and, of equal ones, the first. A `caller` that is not known yet counts as one who
    /// meets all other rules. Empty if no scope is needed, or if scopes do not suffice.
    pub fn needed_scopes(&self, caller: Option<(Principal<'_>, &Params)>) -> String {
        Vec::from_iter(self.fewest_scopes(caller).unwrap_or_default()).join(" ")
    }

    fn fewest_scopes(&self, caller: Option<(Principal<'_>, &Params)>) -> Option<BTreeSet<&str>> {
        match self {
            Self::Scopes(names) => {
                let has = |name: &&String| caller.is_some_and(|(principal, _)| principal.scopes.contains(name));
                let name = names.iter().find(has).or(names.first())?;
                Some(BTreeSet::from_iter([name.as_str()]))
            }
            Self::Any(rules) => rules.iter().filter_map(|rule| rule.fewest_scopes(caller)).min_by_key(BTreeSet::len),
            Self::All(rules) => rules.iter().try_fold(BTreeSet::new(), |mut scopes, rule| {
                scopes.extend(rule.fewest_scopes(caller)?);
                Some(scopes)
            }),
            Self::Public | Self::User | Self::Roles(_) | Self::Claim(_) | Self::Owner(_) => {
                let is_met = caller.is_none_or(|(principal, params)| permits(self, principal, params));
                is_met.then(BTreeSet::new)
            }
        }
    }

    /// Whether every caller that this rule lets in is let in by `other`, too. `is_same_owner` tells
    /// whether a parameter of this rule's path and one of the other's have the same value. After `left`
    /// comparisons the answer is no, which reports the two rules and hides none.
    pub(crate) fn implies(&self, other: &Self, is_same_owner: &dyn Fn(&str, &str) -> bool, left: &Cell<u32>) -> bool {
        let implies = |one: &Self, other: &Self| one.implies(other, is_same_owner, left);
        let Some(rest) = left.get().checked_sub(1) else { return false };
        left.set(rest);
        match (self, other) {
            (_, Self::Public) => true,
            (Self::Public, _) => false,
            (_, Self::User) => true,
            (_, Self::All(rules)) => rules.iter().all(|rule| implies(self, rule)),
            (Self::Any(rules), _) => rules.iter().all(|rule| implies(rule, other)),
            (_, Self::Any(rules)) if rules.iter().any(|rule| implies(self, rule)) => true,
            (Self::All(rules), _) => rules.iter().any(|rule| implies(rule, other)),
            (Self::Roles(fewer), Self::Roles(more)) | (Self::Scopes(fewer), Self::Scopes(more)) => {
                fewer.iter().all(|name| more.contains(name))
            }
            (Self::Claim(one), Self::Claim(other)) if one.claim == other.claim => {
                match (values_of(one), values_of(other)) {
                    (_, None) => true,
                    (Some(fewer), Some(more)) => fewer.iter().all(|value| more.contains(value)),
                    (None, Some(_)) => false,
                }
            }
            (Self::Owner(one), Self::Owner(other)) => is_same_owner(one, other),
            _ => false,
        }
    }
}

/// The values that a claim may have; `None` stands for any.
pub(crate) fn values_of(rule: &ClaimRule) -> Option<&[Value]> {
    rule.equals.as_ref().map(std::slice::from_ref).or(rule.one_of.as_deref())
}

const FORMS: &str = "\"public\", \"user\", { roles = [\"admin\"] }, { scopes = [\"read\"] }, \
                     { owner = \"id\" }, { claim = \"tenant\", equals = \"shop\" }, { any = [...] } or { all = [...] }";

impl Serialize for Access {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Self::Claim(rule) = self { rule.serialize(serializer) } else { Self::serialize(self, serializer) }
    }
}

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Value::deserialize(deserializer)?;
        let access = match (written.as_str(), written.as_object()) {
            (Some("public"), _) => return Ok(Self::Public),
            (Some("user"), _) => return Ok(Self::User),
            (Some(other), _) => return Err(D::Error::custom(format!("access {other:?} is not known; write {FORMS}"))),
            (None, Some(table)) if table.contains_key("claim") => ClaimRule::deserialize(&written).map(Self::Claim),
            (None, Some(table)) if table.len() == 1 => Self::deserialize(&written),
            (None, _) => return Err(D::Error::custom(format!("access takes one key; write {FORMS}"))),
        };
        access.map_err(D::Error::custom)
    }
}
