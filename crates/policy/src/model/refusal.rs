//! The options of one template of refusals (`[refusals.NAME]`).

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::issuer::strict_value;

/// The bodies of refusals: JSON for programs, a page for people. Without one of them, the gateway's own is sent. Status
/// and headers stay the same. Placeholders: `{status}`, `{title}`, `{detail}`, `{code}`, `{type}`, `{request_id}`,
/// `{retry_after_s}` and `{operation}` (the route's path). Each body shows `{code}` and `{request_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RefusalTemplate {
    /// Name, by which routes refer to it.
    #[serde(skip)]
    pub name: String,
    /// The JSON, with placeholders in its strings. A string that is `{status}` or `{retry_after_s}` alone becomes a number,
    /// and a member with `{retry_after_s}` alone is left out if there is no such time.
    /// Example: `json = { error = { code = "{code}", message = "{detail}", id = "{request_id}" } }`
    #[serde(default, deserialize_with = "strict_value", skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// Media type of `json`: `application/json`, or one with the suffix `+json`.
    #[serde(default = "json_type")]
    pub json_type: String,
    /// The page, with placeholders in text and in attributes: plain HTML without scripts, forms, frames, comments and `style`
    /// attributes. `<style>` is allowed, and images as `data:` URLs.
    pub html: Option<String>,
    /// File of the page: a relative path inside the policy file's folder. The build and `npm run policy:push` copy it to `html`.
    pub html_file: Option<String>,
    /// Content of `html_file`, if the file could be read.
    #[serde(skip)]
    pub(crate) html_file_text: Option<String>,
}

impl RefusalTemplate {
    /// Returns the page.
    pub fn page(&self) -> Option<&str> {
        self.html.as_deref().or(self.html_file_text.as_deref())
    }
}

fn json_type() -> String {
    "application/json".to_owned()
}
