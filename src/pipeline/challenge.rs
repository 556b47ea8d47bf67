//! Challenges of `WWW-Authenticate` (RFC 9110, section 11.6.1): the schemes that an upstream names.

/// Scheme of a service that rejects the gateway's assertion.
pub(super) const ASSERTION: &str = "Gateway-Assertion";

/// Returns whether one of the challenges has this scheme. A scheme begins a member of the list;
/// quoted text is no scheme.
pub(super) fn names_scheme(challenges: &str, scheme: &str) -> bool {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let outside = |byte: char| {
        let was_escaped = std::mem::replace(&mut is_escaped, false);
        match byte {
            '"' if !was_escaped => is_quoted = !is_quoted,
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            ',' => return !is_quoted,
            _ => {}
        }
        false
    };
    challenges.split(outside).any(|member| {
        let name = member.trim_start().split([' ', '\t']).next().unwrap_or_default();
        name.eq_ignore_ascii_case(scheme)
    })
}
