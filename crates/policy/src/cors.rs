//! Origins whose pages may read answers (Fetch standard, CORS protocol).

use crate::model::Cors;

/// Returns whether a policy lists an origin, exactly or by a wildcard for its first labels. The opaque
/// origin `null` is never listed.
pub fn allows(cors: &Cors, origin: &str) -> bool {
    cors.origins.iter().any(|pattern| matches(pattern, origin))
}

fn matches(pattern: &str, origin: &str) -> bool {
    let Some((scheme, suffix)) = pattern.split_once("://*") else {
        return pattern == origin || (pattern == "*" && origin != "null");
    };
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    // `suffix` begins with a dot: `evilexample.com` does not end with it.
    origin
        .strip_prefix(scheme)
        .and_then(|rest| rest.strip_prefix("://"))
        .and_then(|rest| rest.strip_suffix(suffix))
        .is_some_and(|labels| labels.split('.').all(|label| !label.is_empty() && label.chars().all(is_plain)))
}
