//! The forms of single values.

use portcullis_token::{ClaimRule, TENANT_PLACEHOLDER};
use serde_json::Value;

use crate::{access::values_of, limits, model::COOKIE_PREFIX, url::host_and_port};

/// Words that stand at the place of a tenant in URLs for several tenants.
const NO_TENANTS: &[&str] = &["common", "organizations", "consumers"];

pub(super) fn is_name(text: &str) -> bool {
    let is_plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    !text.is_empty() && text.len() <= limits::NAME_BYTES && is_plain
}

/// An `iss`: a template if there are tenants, and plain otherwise.
pub(super) fn is_template(issuer: &str, has_tenants: bool) -> bool {
    match issuer.split_once(TENANT_PLACEHOLDER) {
        Some((before, behind)) => has_tenants && !before.contains(['{', '}']) && !behind.contains(['{', '}']),
        None => !has_tenants,
    }
}

pub(super) fn is_tenant(text: &str) -> bool {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    !text.is_empty() && text.len() <= limits::TENANT_BYTES && is_plain && !NO_TENANTS.contains(&text)
}

/// Returns what is wrong with the path of a claim.
pub(super) fn claim_path_fault(names: &[String]) -> Option<String> {
    let is_name = |name: &String| (1..=limits::TEXT_BYTES).contains(&name.len());
    let is_path = (1..=limits::CLAIM_DEPTH).contains(&names.len()) && names.iter().all(is_name);
    (!is_path).then(|| {
        format!(
            "a claim is a name of 1 to {} bytes, or a list of 1 to {} names from the outermost in, such as \
             [\"realm_access\", \"roles\"]",
            limits::TEXT_BYTES,
            limits::CLAIM_DEPTH
        )
    })
}

/// Returns what is wrong with a rule for a claim.
pub(super) fn claim_rule_fault(rule: &ClaimRule) -> Option<String> {
    let is_plain = |value: &Value| {
        value.as_str().is_some_and(|text| text.len() <= limits::CLAIM_VALUE_BYTES)
            || value.is_boolean()
            || value.is_i64()
    };
    if let Some(fault) = claim_path_fault(&rule.claim) {
        return Some(fault);
    }
    if rule.equals.is_some() && rule.one_of.is_some() {
        return Some(
            "a claim has both equals and one_of; keep one of them, or none if it must only be present".to_owned(),
        );
    }
    let is_comparable =
        values_of(rule).is_none_or(|values| (1..=limits::NAMES).contains(&values.len()) && values.iter().all(is_plain));
    (!is_comparable).then(|| {
        format!(
            "a claim is compared with a string of up to {} bytes, an integer, true or false, or by one_of with at least \
             one of these and at most {}",
            limits::CLAIM_VALUE_BYTES,
            limits::NAMES
        )
    })
}

/// Whether a text is a country's code (ISO 3166-1 alpha-2) in upper case. The platform writes `XX` for an unknown
/// country and `T1` for Tor, which are none; `UK` and `EU` are reserved, and no country has them.
pub(super) fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase()) && !["XX", "UK", "EU"].contains(&text)
}

/// Whether a text is a host in lower case whose first label is a placeholder: `{tenant}.api.example.com`.
pub(super) fn is_host_pattern(text: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_host = |host: &str| {
        !host.ends_with('.')
            && !host.contains(|c: char| c.is_ascii_uppercase() || c == ':')
            && host_and_port(host).is_ok()
    };
    text.len() <= limits::TEXT_BYTES
        && text
            .strip_prefix('{')
            .and_then(|rest| rest.split_once("}."))
            .is_some_and(|(name, host)| is_name(name) && is_host(host))
}

/// Whether a segment of letters, digits and `marks` has one reading. Services resolve `.` and `..`, and
/// some resolve more dots.
pub(super) fn is_segment(text: &str, marks: &str) -> bool {
    !text.chars().all(|c| c == '.') && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}

/// One or more whole segments that have one reading.
pub(super) fn is_fixed_path(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|segment| is_segment(segment, "-._~")))
}

pub(super) fn is_header_name(text: &str) -> bool {
    (1..=limits::HEADER_NAME_BYTES).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

pub(super) fn header_name_advice() -> String {
    format!("write a name of 1 to {} letters, digits, - and _", limits::HEADER_NAME_BYTES)
}

/// Whether a value fits into a header line: no control characters, and no spaces at its ends.
pub(super) fn is_header_value(text: &str) -> bool {
    text.len() <= limits::HEADER_VALUE_BYTES
        && text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
        && text.trim() == text
}

/// Whether a scope has the characters of RFC 6749, section 3.3, which cannot end the quotes of a challenge.
pub(super) fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

pub(super) fn is_binding_name(text: &str) -> bool {
    (1..=limits::BINDING_BYTES).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

pub(super) fn is_cookie_name(text: &str) -> bool {
    text.len() <= limits::NAME_BYTES && text.strip_prefix(COOKIE_PREFIX).is_some_and(is_header_name)
}
