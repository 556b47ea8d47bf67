//! What a validator finds in a request that its OpenAPI document does not describe.

use serde::Serialize;

use super::{denial::Denial, limits};

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

/// Judges what a validator returned: a line with the result, then three lines for each finding.
///
/// # Errors
/// Anything but an empty line: the request is refused.
pub(super) fn judge(text: &str) -> Result<(), Denial> {
    let mut lines = text.split('\n').map(|line| {
        let end = line.floor_char_boundary(limits::FINDING_BYTES);
        line.get(..end).unwrap_or_default().to_owned()
    });
    let result = lines.next().unwrap_or_default();
    let mut findings = Vec::new();
    while let (Some(place), Some(name), Some(message)) = (lines.next(), lines.next(), lines.next()) {
        if findings.len() < limits::FINDINGS {
            let (name, pointer) = if place == "body" { (None, Some(name)) } else { (Some(name), None) };
            findings.push(Finding { place, name: name.filter(|name| !name.is_empty()), pointer, message });
        }
    }
    Err(match result.as_str() {
        "" => return Ok(()),
        "400" => Denial::RequestInvalid { findings },
        "415" => Denial::ContentUnsupported { findings },
        "over_limit" => Denial::BodyTooLarge,
        "late" => Denial::BodyTooSlow,
        "read_failed" => Denial::ClientGone,
        _ => failed(),
    })
}

/// The validator itself failed: nothing is forwarded unchecked.
pub(super) fn failed() -> Denial {
    Denial::Misconfigured { fault: "the validator of requests failed".to_owned() }
}
