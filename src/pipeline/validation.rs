//! The result of the validation of a request against its OpenAPI document.

use super::{denial::Denial, findings::Finding, limits};

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
            findings.push(Finding::new(place, name, message));
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
