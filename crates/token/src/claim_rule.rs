//! Rules on claims.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::json::StrictObject;

/// Names of members from the outermost in: `["realm_access", "roles"]`.
pub type ClaimPath = Vec<String>;

/// A rule on one claim: that it is present and not `null`, and equal to what `equals` or `one_of`
/// says, where they are set. Values compare by type and exactly: `"1"` is not `1`.
///
/// The same type states what an issuer's tokens must say and who may enter a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRule {
    /// The claim.
    #[serde(deserialize_with = "deserialize_claim_path")]
    pub claim: ClaimPath,
    /// The one value that it may have.
    #[serde(default, deserialize_with = "deserialize_set", skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// The values that it may have.
    #[serde(default, deserialize_with = "deserialize_set", skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<Value>>,
}

impl ClaimRule {
    /// Whether a claim of this value satisfies the rule; `None` stands for an absent claim.
    pub fn is_met_by(&self, value: Option<&Value>) -> bool {
        let Some(value) = value.filter(|value| !value.is_null()) else { return false };
        self.equals.as_ref().is_none_or(|expected| value == expected)
            && self.one_of.as_ref().is_none_or(|expected| expected.contains(value))
    }
}

/// Deserializes a claim path from one name or a list of names. A name may hold dots (many are
/// URLs), so `"a.b"` is one name.
///
/// # Errors
/// Anything but a string or an array of strings.
pub fn deserialize_claim_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ClaimPath, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a claim's name, or the names that lead to it")]
    enum Written {
        Name(String),
        Names(ClaimPath),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Name(name) => vec![name],
        Written::Names(names) => names,
    })
}

/// An option that is `Some` whenever it is written: `null` must not turn a comparison into a test for presence.
fn deserialize_set<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Finds the value at a path.
pub(crate) fn find<'a>(claims: &'a StrictObject, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.member(first)?, |value, name| value.as_object()?.get(name))
}
