//! The canonical spelling of a request's target.

use portcullis_policy::{BadTarget, Target, limits};

/// Asserts the canonical spelling of a target that is plain, or is not. `None`: it is refused, or not
/// plain as wanted.
fn assert_spelling(raw: &str, is_plain: bool, expected: Option<&str>) {
    let target = Target::parse(raw).ok().filter(|target| !is_plain || target.is_plain());
    assert_eq!(target.as_ref().map(Target::as_str), expected, "{raw}");
    let Some(target) = target else { return };
    assert_eq!(target.is_plain(), is_plain, "{raw}");
    assert_eq!(Target::parse(target.as_str()), Ok(target.clone()), "{raw} is not stable");
    assert!(target.as_str().starts_with(target.path()) && !target.path().contains('?'), "{raw}");
}

#[test]
fn targets_have_one_spelling_or_none() {
    for (raw, expected) in [
        ("", "/"),
        ("/a#fragment", "/a"),
        ("/%61dmin", "/admin"),
        ("/%7euser", "/~user"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/jobs%3Apurge", "/jobs:purge"),
        ("/ada%40example.com", "/ada@example.com"),
        ("/%21%24%26%27%28%29%2a%2B%2c%3d", "/!$&'()*+,="),
        ("/auth0%7c64f", "/auth0%7C64f"),
        ("/a?q='x' \"y\"<z>", "/a?q=%27x%27%20%22y%22%3Cz%3E"),
        ("/a?q=é", "/a?q=%C3%A9"),
    ] {
        assert_spelling(raw, true, Some(expected));
    }
    let unchanged = "\
        / /a/b /a/ /a/b?x=1 /a? /a%20b /a/%20 /a/...x/b /ada%2540example.com /zo%25c3%25AB /100%25 /100%2525 \
        /a.b/..c /a?q=a|b[]{} /a?q=%zz&u=//../";
    unchanged.split(' ').for_each(|raw| assert_spelling(raw, true, Some(raw)));
    let refused = "\
        /a/..%20/b /a/%20../b /a/.../b //admin /a//b /a/./b /a/../admin /a/.. /a/%2e%2e/admin /a/%2E./admin \
        /a/..;/admin /a/.;x/admin /a/;/admin /a/..%3b/admin /%2Fadmin /%2fadmin /%5Cadmin /\\admin /admin%00 \
        /admin%23 /admin%3fx /admin%0d%0aX:y /%252e%252e/admin /%c0%af /%c0%ae%c0%ae/admin /%ff /a% /a%4 /a%zz \
        /a|b /é admin http://evil.example/";
    refused.split(' ').chain(["/a b", "/a?x=\u{1}"]).for_each(|raw| assert_spelling(raw, true, None));
}

#[test]
fn paths_that_services_read_differently_are_for_routes_that_forward_them() {
    for (raw, expected) in [
        ("/what%3f.pdf", "/what%3F.pdf"),
        ("/group%2fproject", "/group%2Fproject"),
        ("/https%3A%2F%2Fa.example", "/https:%2F%2Fa.example"),
        ("/a%3bv", "/a%3Bv"),
    ] {
        assert_spelling(raw, false, Some(expected));
    }
    let unchanged = "/C%23.pdf /%2Fadmin /[slug].js /a;v=1 /%3Fx /%231 /%2561dmin /a%252fb /%25c0%25af";
    unchanged.split(' ').for_each(|raw| assert_spelling(raw, false, Some(raw)));
    let refused = "\
        /a/..%3F /a/%2e.%23x /a%2F..%3Fb /a/..%253F /a%2F..%2Fadmin /a%2f%2e%2e /a%2F..;x%2Fadmin /..%2Fadmin \
        /a%2F.%2Fb /a%252F..%252Fadmin /%252e%252e/admin /%25252e%25252e/admin /%2525252525252e /a%5Cb \
        /a%255cb /a%2500 /a/..;/admin /a%2F;/admin /{slug}.js /a|b";
    refused.split(' ').for_each(|raw| assert_spelling(raw, false, None));
}

#[test]
fn long_targets_are_refused() {
    let path = |length: usize| format!("/{}", "a".repeat(length.saturating_sub(1)));
    assert!(Target::parse(&path(limits::PATH_BYTES)).is_ok());
    assert_eq!(Target::parse(&path(limits::PATH_BYTES + 1)), Err(BadTarget::TooLong));
    let escaped = format!("/?{}", "'".repeat(limits::QUERY_BYTES / 2));
    assert_eq!(Target::parse(&escaped), Err(BadTarget::TooLong), "the canonical form counts");
    let query = format!("/?{}", "a".repeat(limits::QUERY_BYTES + 1));
    assert_eq!(Target::parse(&query), Err(BadTarget::TooLong));
}

#[test]
fn a_prefix_is_replaced_and_the_rest_stays() {
    for (sent, from, to, expected) in [
        ("/shop/items?x=/shop", "/shop", "", Some("/items?x=/shop")),
        ("/shop", "/shop", "", Some("/")),
        ("/shop?a", "/shop", "", Some("/?a")),
        ("/shop/", "/shop", "", Some("/")),
        ("/shop/items", "/shop", "/v2/store", Some("/v2/store/items")),
        ("/shop/items", "/shop/items", "/x", Some("/x")),
        ("/other", "/shop", "", None),
        ("/shopping", "/shop", "", None),
        ("/shopping", "/shop", "/v2", None),
    ] {
        let target = Target::parse(sent).unwrap().with_prefix(from, to);
        assert_eq!(target.as_ref().map(Target::as_str), expected, "{sent} {from} {to}");
        if let Some(target) = target {
            assert_eq!(Target::parse(target.as_str()), Ok(target));
        }
    }
}
