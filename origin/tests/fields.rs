//! Names of services and e-mail addresses.

use portcullis_origin::fields::{is_service_name, normal_email};

#[test]
fn names_of_services_fit_tokens_headers_and_credentials() {
    let (longest, longer) = ("a".repeat(63), "a".repeat(64));
    for (text, is_one) in [
        ("billing", true),
        ("b2", true),
        ("stock-keeper", true),
        (longest.as_str(), true),
        (longer.as_str(), false),
        ("", false),
        ("b", false),
        ("Billing", false),
        ("2b", false),
        ("-b", false),
        ("b_b", false),
        ("b:b", false),
        ("b b", false),
        ("bänk", false),
    ] {
        assert_eq!(is_service_name(text), is_one, "{text:?}");
    }
}

#[test]
fn email_addresses_have_one_normal_form_or_are_invalid() {
    let long = format!("{}@example.com", "a".repeat(65));
    let longer = format!("a@{}.com", "b.".repeat(130));
    for (text, expected) in [
        ("ada@example.com", Some("ada@example.com")),
        ("  Ada@Example.COM ", Some("ada@example.com")),
        ("ada+tag@mail.example.co.uk", Some("ada+tag@mail.example.co.uk")),
        ("o'brien@example.com", Some("o'brien@example.com")),
        ("", None),
        ("ada", None),
        ("@example.com", None),
        ("ada@", None),
        ("ada@localhost", None),
        ("ada@@example.com", None),
        ("ada@example..com", None),
        (".ada@example.com", None),
        ("ada.@example.com", None),
        ("ada b@example.com", None),
        ("ada@-example.com", None),
        ("ada\r\n@example.com", None),
        ("ada\0@example.com", None),
        ("\u{430}da@example.com", None),
        ("ada@exämple.com", Some("ada@xn--exmple-cua.com")),
        ("ada@EXÄMPLE.com", Some("ada@xn--exmple-cua.com")),
        ("ada@exa\u{308}mple.com", Some("ada@xn--exmple-cua.com")),
        ("Ada@XN--Exmple-Cua.com", Some("ada@xn--exmple-cua.com")),
        ("ada@例え.テスト", Some("ada@xn--r8jz45g.xn--zckzah")),
        ("ada@例え。テスト", Some("ada@xn--r8jz45g.xn--zckzah")),
        ("ada@straße.de", Some("ada@xn--strae-oqa.de")),
        ("ada@\u{200d}.com", None),
        ("ada@exä mple.com", None),
        ("ada@ex\u{e4}mple.com/x", None),
        ("ada@ä", None),
        ("ada@-ä.com", None),
        ("<ada@example.com>", None),
        ("\"ada\"@example.com", None),
        (&long, None),
        (&longer, None),
    ] {
        assert_eq!(normal_email(text).as_deref(), expected, "{text:?}");
    }
}
