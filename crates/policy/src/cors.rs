//! Origins whose pages may read answers (Fetch standard, CORS protocol).

use crate::Cors;

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
    use super::*;

    #[test]
    fn origins_are_listed_exactly_or_by_their_domain() {
        let cors = |origins: &[&str]| Cors {
            name: "c".into(),
            origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            credentials: false,
            headers: vec![],
            expose: vec![],
            max_age_s: 1,
        };
        let one = cors(&["https://good.example", "http://localhost:3000"]);
        let many = cors(&["https://*.good.example"]);
        let any = cors(&["*"]);
        for (policy, origin, expected) in [
            (&one, "https://good.example", true),
            (&one, "http://localhost:3000", true),
            (&one, "http://localhost:3001", false),
            (&one, "http://good.example", false),
            (&one, "https://good.example:443", false),
            (&one, "https://good.example.evil", false),
            (&one, "https://good.example/", false),
            (&one, "https://GOOD.example", false),
            (&one, "https://a.good.example", false),
            (&one, "null", false),
            (&one, "", false),
            (&many, "https://a.good.example", true),
            (&many, "https://a.b.good.example", true),
            (&many, "https://good.example", false),
            (&many, "https://.good.example", false),
            (&many, "https://evilgood.example", false),
            (&many, "https://evil.example/.good.example", false),
            (&many, "https://evil.example#.good.example", false),
            (&many, "https://user@a.good.example", false),
            (&many, "http://a.good.example", false),
            (&many, "https://a.good.example:8443", false),
            (&any, "https://whoever.example", true),
            (&any, "null", false),
        ] {
            assert_eq!(allows(policy, origin), expected, "{origin} by {:?}", policy.origins);
        }
    }
}
