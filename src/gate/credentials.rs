//! The `Authorization` header (RFC 6750, section 2.1), and nowhere else: a
//! token in a query or a form ends in logs and histories.

use super::{Denial, Head};

/// The bearer token of a request, as text and not looked into.
pub(super) fn bearer(head: &Head) -> Result<&str, Denial> {
    // Two lines arrive as one value with a comma, which no token holds. Which
    // of two tokens counts must not depend on who parses them.
    let value = head.header("authorization").ok_or(Denial::CredentialsMissing)?;
    let (scheme, rest) = value.split_once(' ').ok_or(Denial::CredentialsMalformed)?;
    let token = rest.trim_start_matches(' ');
    let is_token68 = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || !token.chars().all(is_token68) {
        return Err(Denial::CredentialsMalformed);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_token_is_taken_and_nothing_else() {
        use Denial::{CredentialsMalformed as Malformed, CredentialsMissing as Missing};
        for (value, expected) in [
            (None, Err(Missing)),
            (Some("Bearer a.b.c"), Ok("a.b.c")),
            (Some("bearer a.b.c"), Ok("a.b.c")),
            (Some("BEARER  a.b.c"), Ok("a.b.c")),
            (Some(""), Err(Malformed)),
            (Some("Bearer"), Err(Malformed)),
            (Some("Bearer "), Err(Malformed)),
            (Some("Basic dXNlcjpwYXNz"), Err(Malformed)),
            (Some("a.b.c"), Err(Malformed)),
            (Some("Bearer a.b.c d"), Err(Malformed)),
            (Some("Bearer a.b.c, Bearer d.e.f"), Err(Malformed)),
            (Some("Bearer a.b.c,d.e.f"), Err(Malformed)),
            (Some("Bearer\ta.b.c"), Err(Malformed)),
            (Some("Bearer a.b.c\u{e9}"), Err(Malformed)),
        ] {
            let headers = value.map(|value| ("authorization".to_owned(), value.to_owned())).into_iter().collect();
            let head = Head::new("GET".into(), "http://edge.example/?access_token=a.b.c", headers);
            assert_eq!(bearer(&head), expected, "{value:?}");
        }
    }
}
