//! Rules on claims.

use std::slice;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use crate::json::{StrictObject, deserialize_strict};

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
    #[serde(default, deserialize_with = "deserialize_list", skip_serializing_if = "Option::is_none")]
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
    let written = deserialize_strict(deserializer)?;
    let names = written.as_array().map_or(slice::from_ref(&written), Vec::as_slice);
    let path: Option<ClaimPath> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
    path.ok_or_else(|| D::Error::custom("a claim's name, or the names that lead to it"))
}

/// An option that is `Some` whenever it is written: `null` must not turn a comparison into a test for presence.
fn deserialize_set<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    deserialize_strict(deserializer).map(Some)
}

fn deserialize_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Value>>, D::Error> {
    let written = deserialize_strict(deserializer)?;
    if let Value::Array(values) = written { Ok(Some(values)) } else { Err(D::Error::custom("one_of is a list")) }
}

/// Finds the value at a path.
pub(crate) fn find<'a>(claims: &'a StrictObject, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.member(first)?, |value, name| value.as_object()?.get(name))
}
