//! Where a token may be, which cookies a service gets, and which headers `Connection` removes.

use crate::fakes::{setup, verdict};

const POLICY: &str = r#"
[issuers.id]
issuer = "https://id.example"
audience = ["api"]
algorithms = ["EdDSA"]
jwks_url = "https://id.example/jwks"

[token_cookie]
name = "__Host-token"

[cors.app]
origins = ["https://app.example"]

[upstreams.app]
url = "https://app.example"

[[routes]]
path = "/me"
methods = ["GET", "POST"]
upstream = "app"
access = "user"
token_cookie = true
cors = "app"

[[routes]]
path = "/open"
methods = ["GET"]
upstream = "app"
access = "public"
"#;

/// A credential was found: what follows is about the token.
const FOUND: (u16, &str) = (401, "token_malformed");
const MALFORMED: (u16, &str) = (401, "credentials_malformed");
const MISSING: (u16, &str) = (401, "credentials_missing");
const CROSS_SITE: (u16, &str) = (403, "cross_site");

/// What a service gets under a header's name.
fn forwarded(headers: &[(&str, &str)], name: &str) -> Option<String> {
    let (gateway, ports) = setup(POLICY);
    assert_eq!(verdict(&ports.send(&gateway, "GET", "/open", headers)), (200, "ok"));
    let sent = ports.forwarded.borrow();
    sent[0].headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

#[test]
fn only_a_single_bearer_token_is_accepted() {
    let (gateway, ports) = setup(POLICY);
    for (value, expected) in [
        ("Bearer a.b", FOUND),
        ("bearer a.b", FOUND),
        ("BEARER  a.b", FOUND),
        ("", MALFORMED),
        ("Bearer", MALFORMED),
        ("Bearer ", MALFORMED),
        ("Bearer a.b c", MALFORMED),
        ("Bearer a.b,c", MALFORMED),
        ("Bearer\ta.b", MALFORMED),
        ("Bearer a.b\u{e9}", MALFORMED),
    ] {
        assert_eq!(verdict(&ports.send(&gateway, "GET", "/me", &[("authorization", value)])), expected, "{value:?}");
    }
}

#[test]
fn a_token_holds_the_characters_of_rfc_6750_and_no_other() {
    let (gateway, ports) = setup(POLICY);
    for character in (0..=u8::MAX).map(char::from) {
        let fits = character.is_ascii_alphanumeric() || "-._~+/=".contains(character);
        let value = format!("Bearer a{character}b");
        let expected = if fits { FOUND } else { MALFORMED };
        assert_eq!(verdict(&ports.send(&gateway, "GET", "/me", &[("authorization", &value)])), expected, "{value:?}");
    }
}

/// The rows that `edge/cookies.test.js` does not have.
#[test]
fn a_cookies_token_needs_a_request_of_an_allowed_page() {
    let (gateway, ports) = setup(POLICY);
    let (own, cross, none) = ("https://edge.example", ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "none"));
    let cookie = "a=1; __Host-token=x.y";
    for (method, cookie, headers, expected) in [
        ("POST", cookie, &[none][..], FOUND),
        ("POST", cookie, &[("origin", "https://edge.example:444")], CROSS_SITE),
        ("POST", cookie, &[("origin", "http://edge.example")], CROSS_SITE),
        ("POST", cookie, &[("origin", "https://edge.example.evil")], CROSS_SITE),
        // `Sec-Fetch-Site` comes before a comparison of hosts.
        ("POST", cookie, &[cross, ("origin", own)], CROSS_SITE),
        ("POST", cookie, &[cross, ("sec-fetch-mode", "navigate")], CROSS_SITE),
        // Listed without credentials.
        ("POST", cookie, &[cross, ("origin", "https://app.example")], CROSS_SITE),
        ("GET", cookie, &[], FOUND),
        ("GET", cookie, &[("sec-fetch-site", "same-site")], FOUND),
        ("GET", cookie, &[cross, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "embed")], CROSS_SITE),
        ("GET", cookie, &[("upgrade", "websocket")], CROSS_SITE),
        ("GET", cookie, &[("upgrade", "websocket"), ("origin", own)], FOUND),
        // The header comes before the cookie, and shows intent by itself.
        ("POST", cookie, &[("authorization", "Basic x")], MALFORMED),
        ("GET", "a=1; __Host-token2=x", &[], MISSING),
        ("GET", "__Host-token=a b", &[], MALFORMED),
        ("GET", "\u{b}__Host-token=b", &[], MISSING),
        ("GET", "a=1; \u{c}__Host-token=b", &[], MISSING),
        ("GET", "a=1;\t __Host-token=x.y", &[], FOUND),
    ] {
        let handled = ports.send(&gateway, method, "/me", &[&[("cookie", cookie)], headers].concat());
        assert_eq!(verdict(&handled), expected, "{method} {cookie} {headers:?}");
    }
}

#[test]
fn the_tokens_cookie_is_for_the_gateway_alone() {
    for (sent, expected) in [
        ("a=1; __Host-token=x.y.z; b=2", Some("a=1; b=2")),
        ("__Host-token=x.y.z", None),
        ("a=1;__Host-token=x.y.z;", Some("a=1; ")),
        ("__Host-token =x; a=1", None),
        ("a=1, __Host-token=x.y.z", None),
        ("a=__Host-token", Some("a=__Host-token")),
        ("__Host-token2=1; a=1", Some("__Host-token2=1; a=1")),
        ("__Host-token; a=1", None),
        ("a=1; b=2", Some("a=1; b=2")),
        ("__host-token=x", Some("__host-token=x")),
        // Bytes that are not UTF-8: they arrive unchanged with an unchanged header alone.
        ("a=1; __Host-token=x; b=\u{fffd}; c=2", Some("a=1; c=2")),
        ("__Host-token=x; b=\u{fffd}", None),
        ("a=1, b=\u{fffd}", Some("a=1")),
        ("a=1; b=\u{fffd}", Some("a=1; b=\u{fffd}")),
    ] {
        assert_eq!(forwarded(&[("cookie", sent)], "cookie").as_deref(), expected, "{sent}");
    }
}

#[test]
fn cookies_of_several_lines_are_joined_by_semicolons() {
    for (sent, expected) in [
        ("a=1, b=2", "a=1; b=2"),
        ("a=1; b=2, c=3, d=4", "a=1; b=2; c=3; d=4"),
        ("a=1, b=", "a=1; b="),
        ("a={\"x\":1, \"y\":2}", "a={\"x\":1, \"y\":2}"),
        ("a=Mon, 28 Nov 2026", "a=Mon, 28 Nov 2026"),
        ("a=1,b=2", "a=1,b=2"),
        // Another host of the domain can write the value of `a`.
        ("a=1, __Host-session=x", "a=1, __Host-session=x"),
        ("a=1, __Secure-session=x; b=2", "a=1, __Secure-session=x; b=2"),
    ] {
        assert_eq!(forwarded(&[("cookie", sent)], "cookie").as_deref(), Some(expected), "{sent}");
    }
}

#[test]
fn connection_cannot_remove_headers_of_the_gateway() {
    let sent = [
        ("connection", "X-Gateway-Assertion, x-request-id, x-forwarded-proto, X-Custom"),
        ("x-custom", "1"),
        ("accept", "*/*"),
    ];
    for name in ["x-gateway-assertion", "x-request-id", "x-forwarded-proto", "accept"] {
        assert!(forwarded(&sent, name).is_some(), "{name}");
    }
    for name in ["x-custom", "connection"] {
        assert_eq!(forwarded(&sent, name), None, "{name}");
    }
}
