//! Where an issuer's tokens say what, and what they must say beside the registered
//! claims: providers agree on neither.

use serde_json::Value;

use super::StrictObject;

/// Names of members from the outermost in: `["realm_access", "roles"]`.
pub type ClaimPath = Vec<String>;

/// Where identity is found in the claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNames {
    /// The user's id; a token without one is refused.
    pub user_id: ClaimPath,
    /// E-mail address.
    pub email: ClaimPath,
    /// Role names, an array.
    pub roles: ClaimPath,
    /// Scopes: an array, or one text with blanks between (RFC 8693, section 4.2).
    pub scopes: ClaimPath,
    /// The session, by which its tokens are revoked together.
    pub session_id: ClaimPath,
}

impl Default for ClaimNames {
    fn default() -> Self {
        let top = |name: &str| vec![name.to_owned()];
        Self {
            user_id: top("sub"),
            email: top("email"),
            roles: top("roles"),
            scopes: top("scope"),
            session_id: top("sid"),
        }
    }
}

/// What a claim must be for a token to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Which claim.
    pub claim: ClaimPath,
    /// What of it.
    pub rule: ClaimRule,
}

/// A rule on one claim. Values compare by type and exactly: `"1"` is not `1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimRule {
    /// It is there, and not `null`.
    Present,
    /// It is this value.
    Equals(Value),
    /// It is one of these.
    OneOf(Vec<Value>),
}

impl Requirement {
    pub(super) fn is_met(&self, claims: &StrictObject) -> bool {
        let Some(value) = find(claims, &self.claim) else { return false };
        match &self.rule {
            ClaimRule::Present => !value.is_null(),
            ClaimRule::Equals(wanted) => value == wanted,
            ClaimRule::OneOf(wanted) => wanted.contains(value),
        }
    }
}

/// The member that a path leads to.
pub(super) fn find<'a>(claims: &'a StrictObject, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.member(first)?, |value, name| value.as_object()?.get(name))
}
