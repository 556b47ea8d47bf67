//! Where a token may be: the `Authorization` header (RFC 6750, section 2.1) or, if policy and route
//! allow it, one cookie. A token in a query or a form would end in logs and histories.
//!
//! Browsers send cookies with requests of any page, so a token from a cookie counts only if the
//! request comes from a page of the gateway's own origin, or of an origin that the route lists with
//! credentials.

use super::{denial::Denial, head::Head};
use portcullis_policy::{Cors, allows};

/// Returns the token of a request, unparsed. `cookie` is the cookie that may hold a browser's
/// token, `cors` the CORS policy of the route.
pub(super) fn of<'a>(head: &'a Head, cookie: Option<&str>, cors: Option<&Cors>) -> Result<&'a str, Denial> {
    let Some(name) = cookie.filter(|name| {
        head.header("authorization").is_none()
            && head.header("cookie").is_some_and(|cookies| Head::holds_cookie(cookies, name))
    }) else {
        return bearer(head);
    };
    if !is_meant(head, cors) {
        return Err(Denial::CrossSite);
    }
    match head.cookie(name) {
        // A logout leaves an empty cookie.
        Some("") => Err(Denial::CredentialsMissing),
        token => token.filter(|token| is_token(token)).ok_or(Denial::CredentialsMalformed),
    }
}

/// Returns whether the request shows that its cookie was meant for it. A client that is not a
/// browser sends `Authorization` instead.
fn is_meant(head: &Head, cors: Option<&Cors>) -> bool {
    let lists = |cors: &Cors| {
        cors.credentials && head.header("origin").is_some_and(|origin| origin != "null" && allows(cors, origin))
    };
    if head.is_of_own_page() || cors.is_some_and(lists) {
        return true;
    }
    // A link on another site may lead to a safe request, and old browsers do not say which site
    // made it. A WebSocket begins with GET and is a conversation.
    let is_safe = matches!(head.method.as_str(), "GET" | "HEAD") && !head.asks_for_websocket();
    is_safe
        && match head.header("sec-fetch-site") {
            Some(site) => site == "same-site" || head.is_navigation(),
            // A page with an origin that is neither the gateway's nor listed.
            None => head.header("origin").is_none(),
        }
}

/// The bytes that a token may have (RFC 6750, section 2.1), as a table: branches on random letters,
/// digits and signs are mispredicted, and would cost more than the rest of the check.
#[expect(clippy::indexing_slicing, clippy::as_conversions, reason = "it is built when this is compiled")]
static IN_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        let fits = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
        table[byte as usize] = fits;
        byte += 1;
    }
    table
};

fn is_token(text: &str) -> bool {
    let fits = |byte: u8| IN_TOKEN.get(usize::from(byte)).copied().unwrap_or(false);
    !text.is_empty() && text.bytes().fold(true, |fit, byte| fit & fits(byte))
}

/// Returns the bearer token of a request, unparsed.
pub(super) fn bearer(head: &Head) -> Result<&str, Denial> {
    // Two header lines arrive as one value with a comma, which no token has. Parsers disagree on
    // which of two tokens counts.
    let value = head.header("authorization").ok_or(Denial::CredentialsMissing)?;
    let (scheme, rest) = value.split_once(' ').ok_or(Denial::CredentialsMalformed)?;
    let token = rest.trim_start_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || !is_token(token) {
        return Err(Denial::CredentialsMalformed);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_single_bearer_token_is_accepted() {
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

    #[test]
    fn a_token_holds_the_characters_of_rfc_6750_and_no_other() {
        for character in (0..=u8::MAX).map(char::from) {
            let expected = character.is_ascii_alphanumeric() || "-._~+/=".contains(character);
            assert_eq!(is_token(&format!("a{character}b")), expected, "{character:?}");
        }
        assert!(!is_token(""));
    }

    #[test]
    fn a_cookies_token_needs_a_request_of_an_allowed_page() {
        use Denial::{CredentialsMalformed as Malformed, CredentialsMissing as Missing, CrossSite};
        let cors = |credentials, origin: &str| Cors {
            name: "app".into(),
            origins: vec![origin.into()],
            credentials,
            headers: vec![],
            expose: vec![],
            max_age_s: 0,
        };
        let listed = cors(true, "https://app.example");
        let without = cors(false, "https://app.example");
        let cookie = "a=1; __Host-token=x.y.z";
        let own = "https://edge.example";
        for (method, headers, cors, expected) in [
            ("POST", vec![("cookie", cookie), ("sec-fetch-site", "same-origin")], None, Ok("x.y.z")),
            ("POST", vec![("cookie", cookie), ("sec-fetch-site", "none")], None, Ok("x.y.z")),
            ("POST", vec![("cookie", cookie), ("origin", own)], None, Ok("x.y.z")),
            ("POST", vec![("cookie", cookie), ("origin", "https://edge.example:444")], None, Err(CrossSite)),
            ("POST", vec![("cookie", cookie), ("origin", "http://edge.example")], None, Err(CrossSite)),
            ("POST", vec![("cookie", cookie), ("origin", "https://edge.example.evil")], None, Err(CrossSite)),
            ("POST", vec![("cookie", cookie), ("origin", "null")], None, Err(CrossSite)),
            ("POST", vec![("cookie", cookie)], None, Err(CrossSite)),
            ("POST", vec![("cookie", cookie), ("sec-fetch-site", "same-site")], None, Err(CrossSite)),
            ("POST", vec![("cookie", cookie), ("sec-fetch-site", "cross-site")], None, Err(CrossSite)),
            // `Sec-Fetch-Site` comes before a comparison of hosts.
            ("POST", vec![("cookie", cookie), ("sec-fetch-site", "cross-site"), ("origin", own)], None, Err(CrossSite)),
            (
                "POST",
                vec![("cookie", cookie), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
                None,
                Err(CrossSite),
            ),
            (
                "POST",
                vec![("cookie", cookie), ("sec-fetch-site", "cross-site"), ("origin", "https://app.example")],
                Some(&listed),
                Ok("x.y.z"),
            ),
            (
                "POST",
                vec![("cookie", cookie), ("sec-fetch-site", "cross-site"), ("origin", "https://app.example")],
                Some(&without),
                Err(CrossSite),
            ),
            ("POST", vec![("cookie", cookie), ("origin", "https://other.example")], Some(&listed), Err(CrossSite)),
            ("get", vec![("cookie", cookie)], None, Err(CrossSite)),
            ("GET", vec![("cookie", cookie)], None, Ok("x.y.z")),
            ("GET", vec![("cookie", cookie), ("sec-fetch-site", "same-site")], None, Ok("x.y.z")),
            ("GET", vec![("cookie", cookie), ("sec-fetch-site", "cross-site")], None, Err(CrossSite)),
            (
                "GET",
                vec![("cookie", cookie), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
                None,
                Ok("x.y.z"),
            ),
            (
                "GET",
                vec![
                    ("cookie", cookie),
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "embed"),
                ],
                None,
                Err(CrossSite),
            ),
            ("GET", vec![("cookie", cookie), ("upgrade", "websocket")], None, Err(CrossSite)),
            ("GET", vec![("cookie", cookie), ("upgrade", "websocket"), ("origin", own)], None, Ok("x.y.z")),
            // The header comes before the cookie, and shows intent by itself.
            ("POST", vec![("cookie", cookie), ("authorization", "Bearer d.e.f")], None, Ok("d.e.f")),
            ("POST", vec![("cookie", cookie), ("authorization", "Basic x")], None, Err(Malformed)),
            ("GET", vec![("cookie", "a=1; __Host-token2=x")], None, Err(Missing)),
            ("GET", vec![], None, Err(Missing)),
            ("GET", vec![("cookie", "__Host-token=")], None, Err(Missing)),
            ("GET", vec![("cookie", "__Host-token=a b")], None, Err(Malformed)),
            ("GET", vec![("cookie", "__Host-token=a; __Host-token=b")], None, Err(Malformed)),
            ("GET", vec![("cookie", "a=1, __Host-token=b")], None, Err(Malformed)),
            ("GET", vec![("cookie", "\u{2000}__Host-token=b")], None, Err(Missing)),
            ("GET", vec![("cookie", "\u{b}__Host-token=b")], None, Err(Missing)),
            ("GET", vec![("cookie", "a=1; \u{c}__Host-token=b")], None, Err(Missing)),
            ("GET", vec![("cookie", "a=1;\t __Host-token=x.y.z")], None, Ok("x.y.z")),
            ("GET", vec![("cookie", "a=1;\u{a0}__Host-token=b; __Host-token=x.y.z")], None, Ok("x.y.z")),
            ("GET", vec![("cookie", cookie), ("origin", "https://evil.example")], None, Err(CrossSite)),
        ] {
            let given = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let head = Head::new(method.into(), "https://edge.example/", given);
            assert_eq!(of(&head, Some("__Host-token"), cors), expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn without_a_cookie_name_no_cookie_is_read() {
        let headers = vec![("cookie".to_owned(), "__Host-token=x.y.z".to_owned())];
        let head = Head::new("GET".into(), "https://edge.example/", headers);
        assert_eq!(of(&head, None, None), Err(Denial::CredentialsMissing));
    }
}
