//! What a validator finds in a request that its OpenAPI document does not describe.

use serde::Serialize;

/// One place of a request that the document does not allow. It holds no value of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `path`, `query`, `header` or `body`.
    #[serde(rename = "in")]
    place: String,
    /// Name of the parameter or the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// JSON pointer into the body (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// What the document wants there.
    message: String,
}

impl Finding {
    /// Creates one at a parameter or header of this name, or at this pointer into the body.
    pub(super) fn new(place: String, name: String, message: String) -> Self {
        let (name, pointer) = if place == "body" { (None, Some(name)) } else { (Some(name), None) };
        Self { place, name: name.filter(|name| !name.is_empty()), pointer, message }
    }
}
