//! Parsers of untrusted text: JSON, token headers, discovery documents, `Cache-Control`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_token::{
    StrictObject, TokenError,
    keys::{KeySetError, discovery_url, fresh_ms, limits, parse_discovery},
    limits::{JSON_DEPTH, KID_BYTES},
    parse,
};

#[test]
fn strict_json_is_one_object_without_repeated_names_and_deep_nesting() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    for (text, is_accepted) in [
        (r#" {"a":1,"b":[{"c":null}]} "#, true),
        (r#"{"a":1,"a":1}"#, false),
        (r#"[{"b":1,"b":2}]"#, false),
        (r#""text""#, false),
        (r#"{} {}"#, false),
        ("\u{feff}{}", false),
        (&nested(JSON_DEPTH - 1), true),
        (&nested(JSON_DEPTH), false),
        (&nested(10_000), false),
    ] {
        assert_eq!(StrictObject::parse(text.as_bytes()).is_some(), is_accepted, "{text:.80}");
    }
}

#[test]
fn the_lenient_json_parser_drops_the_invalid_part_only() {
    let deep = format!(r#"{{"a":[{}{},{{"b":1}}]}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let kept = format!(r#"[{}null{},{{"b":1}}]"#, "[".repeat(JSON_DEPTH - 2), "]".repeat(JSON_DEPTH - 2));
    for (text, expected) in [
        (r#"{"a":[{"b":1,"b":2},{"b":3}]}"#, Some(r#"[null,{"b":3}]"#)),
        (r#"{"a":[{"b":{"c":1,"c":2}},{"b":3}]}"#, Some(r#"[{"b":null},{"b":3}]"#)),
        (&deep, Some(&kept)),
        (r#"{"a":1,"a":2}"#, None),
        (r#"{"a":[}"#, None),
        (r#"[]"#, None),
    ] {
        let object = StrictObject::parse_lenient(text.as_bytes());
        let member = object.and_then(|object| object.member("a").map(ToString::to_string));
        assert_eq!(member.as_deref(), expected, "{text:.80}");
    }
}

/// What the table of tokens does not have.
#[test]
fn a_header_is_an_object_without_extensions_and_with_a_bounded_kid() {
    let kid = |bytes: usize| format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(bytes));
    for (header, expected) in [
        (r#"{"alg":"RS256"}"#, None),
        (r#"{"alg":"RS256","crit":null}"#, Some(TokenError::HeaderExtension)),
        (r#"{"alg":"RS256","b64":true}"#, Some(TokenError::HeaderExtension)),
        (r#"{"alg":"RS256","typ":{}}"#, Some(TokenError::HeaderMalformed)),
        (r#"["RS256"]"#, Some(TokenError::HeaderMalformed)),
        (&kid(KID_BYTES), None),
        (&kid(KID_BYTES + 1), Some(TokenError::UnknownKey)),
    ] {
        let token = format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode("{}"));
        assert_eq!(parse(&token).err(), expected, "{header}");
    }
}

#[test]
fn a_discovery_document_names_the_keys_of_its_own_issuer_only() {
    use KeySetError::{DiscoveryMalformed, WrongIssuer};
    const ISSUER: &str = "https://id.example";
    let long = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"https://{}"}}"#, "a".repeat(limits::URL_BYTES));
    let large = " ".repeat(limits::JWKS_BYTES + 1);
    for (body, expected) in [
        (
            r#"{"issuer":"https://id.example","jwks_uri":"https://keys.example/jwks","scopes_supported":["openid"]}"#,
            Ok("https://keys.example/jwks"),
        ),
        (r#"{"issuer":"https://id.example/","jwks_uri":"https://keys.example"}"#, Err(WrongIssuer)),
        (r#"{"issuer":"https://ID.example","jwks_uri":"https://keys.example"}"#, Err(WrongIssuer)),
        (r#"{"issuer":["https://id.example"],"jwks_uri":"https://keys.example"}"#, Err(DiscoveryMalformed)),
        (r#"{"issuer":"https://id.example"}"#, Err(DiscoveryMalformed)),
        (r#"{"issuer":"https://id.example","jwks_uri":7}"#, Err(DiscoveryMalformed)),
        (r#"{"issuer":"https://id.example","issuer":"x","jwks_uri":"https://keys.example"}"#, Err(DiscoveryMalformed)),
        ("", Err(DiscoveryMalformed)),
        (&long, Err(DiscoveryMalformed)),
        (&large, Err(DiscoveryMalformed)),
    ] {
        assert_eq!(parse_discovery(body.as_bytes(), ISSUER), expected.map(str::to_owned), "{body:.80}");
    }
    for (issuer, url) in [
        (ISSUER, "https://id.example/.well-known/openid-configuration"),
        ("https://id.example/", "https://id.example/.well-known/openid-configuration"),
        ("https://id.example/{tenantid}/v2.0", "https://id.example/common/v2.0/.well-known/openid-configuration"),
        ("https://id.example/realms/shop", "https://id.example/realms/shop/.well-known/openid-configuration"),
    ] {
        assert_eq!(discovery_url(issuer), url);
    }
}

#[test]
fn cache_control_sets_the_freshness_of_a_key_set_within_bounds() {
    for (text, seconds) in [
        (None, 600),
        (Some(""), 600),
        (Some("public"), 600),
        (Some("max-age=300"), 300),
        (Some("public, Max-Age=900, must-revalidate"), 900),
        (Some("max-age=\"120\""), 120),
        (Some("max-age=0"), 60),
        (Some("max-age=1"), 60),
        (Some("max-age=31536000"), 3600),
        (Some("max-age=99999999999999999999"), 600),
        (Some("max-age=-1"), 600),
        (Some("max-age=x"), 600),
        (Some("no-store"), 60),
        (Some("max-age=900, no-cache"), 60),
        (Some("s-maxage=900"), 600),
    ] {
        assert_eq!(fresh_ms(text), seconds * 1000, "{text:?}");
    }
}
