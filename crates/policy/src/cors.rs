//! Origins whose pages may read answers (Fetch standard, CORS protocol).

use crate::model::Cors;

/// Returns whether a policy lists an origin, exactly or by a wildcard for its first labels. The opaque
/// origin `null` is never listed.
pub fn allows(cors: &Cors, origin: &str) -> bool {
    cors.origins.iter().any(|pattern| matches(pattern, origin))
}

fn matches(pattern: &str, origin: &str) -> bool {
    if pattern == "*" {
        return origin != "null";
    }
    let Some((scheme, suffix)) = pattern.split_once("://*") else { return pattern == origin };
    // `suffix` begins with a dot: `evilexample.com` does not end with it.
    origin
        .strip_prefix(scheme)
        .and_then(|rest| rest.strip_prefix("://"))
        .and_then(|rest| rest.strip_suffix(suffix))
        .is_some_and(|labels| !labels.is_empty() && labels.split('.').all(is_label))
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn origins_are_listed_exactly_or_by_their_domain() {
        let cors = |origins: &[&str]| -> Cors { serde_json::from_value(json!({ "origins": origins })).unwrap() };
        let one = cors(&["https://good.example", "http://localhost:3000"]);
        let many = cors(&["https://*.good.example"]);
        let any = cors(&["*"]);
        for (policy, listed, others) in [
            (
                &one,
                "https://good.example http://localhost:3000",
                "http://localhost:3001 http://good.example https://good.example:443 https://good.example.evil \
                 https://good.example/ https://GOOD.example https://a.good.example null",
            ),
            (
                &many,
                "https://a.good.example https://a.b.good.example",
                "https://good.example https://.good.example https://evilgood.example \
                 https://evil.example/.good.example https://evil.example#.good.example https://user@a.good.example \
                 http://a.good.example https://a.good.example:8443",
            ),
            (&any, "https://other.example", "null"),
        ] {
            listed.split(' ').for_each(|origin| assert!(allows(policy, origin), "{origin} by {:?}", policy.origins));
            others.split(' ').for_each(|origin| assert!(!allows(policy, origin), "{origin} by {:?}", policy.origins));
        }
        assert!(!allows(&one, ""));
    }
}
