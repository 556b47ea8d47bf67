//! API keys: the form of their text.

use portcullis_token::ApiKey;

/// Computed with Python: `"pck_" + hex`, and the first 8 digits of its SHA-256.
const KEY: &str = "pck_000102030405060708090a0b0c0d0e0f10111213be8e0deb";
const DIGEST: &str = "CeE1laMjB90nXmsLCodjOMOKee90Vz8PVC1EcGRr_cI";

fn counting() -> [u8; 20] {
    std::array::from_fn(|index| u8::try_from(index).unwrap())
}

#[test]
fn a_key_has_the_text_and_the_digest_that_another_implementation_computes() {
    let key = ApiKey::new("pck", counting());
    assert_eq!((key.as_str(), key.digest().as_str()), (KEY, DIGEST));
    let of_zeros = ApiKey::new("pck", [0; 20]);
    assert_eq!(of_zeros.as_str(), "pck_00000000000000000000000000000000000000007e763f51");
}

#[test]
fn a_key_is_read_from_exactly_its_text() {
    for prefix in ["pck", "a1", "sixteenletters16"] {
        let key = ApiKey::new(prefix, counting());
        assert!(ApiKey::parse(key.as_str(), prefix).is_some_and(|read| read == key), "{prefix}");
    }
    // Each digit that is mistyped, and each that is left out.
    let text = KEY;
    for place in 0..text.len() {
        let mut mistyped = text.as_bytes().to_vec();
        mistyped[place] = if mistyped[place] == b'7' { b'8' } else { b'7' };
        let mistyped = String::from_utf8(mistyped).unwrap();
        assert!(ApiKey::parse(&mistyped, "pck").is_none(), "{mistyped}");
        let shortened = [&text[..place], &text[place + 1..]].concat();
        assert!(ApiKey::parse(&shortened, "pck").is_none(), "{shortened}");
    }
    for (name, wrong) in [
        ("upper case", text.to_uppercase()),
        ("digits in upper case", text.replace('b', "B")),
        ("a character more", [text, "0"].concat()),
        ("a space before it", [" ", text].concat()),
        ("a line break after it", [text, "\n"].concat()),
        ("the key twice", [text, text].concat()),
        ("the prefix alone", "pck_".to_owned()),
        ("nothing", String::new()),
        ("letters of several bytes", ["pck_", &"é".repeat(24)].concat()),
        ("letters of several bytes at the checksum", [&text[..43], "é", &text[45..]].concat()),
        ("16 KiB of digits", ["pck_", &"0".repeat(16 * 1024)].concat()),
    ] {
        assert!(ApiKey::parse(&wrong, "pck").is_none(), "{name}");
    }
    assert!(ApiKey::parse(text, "pc").is_none(), "a shorter prefix");
    assert!(ApiKey::parse(text, "pck_00").is_none(), "a longer prefix");
}

#[test]
fn a_prefix_is_known_with_its_underscore() {
    for (text, prefix, is_its) in [
        (KEY, "pck", true),
        ("pck_", "pck", true),
        ("pck_anything", "pck", true),
        (KEY, "pc", false),
        ("pck", "pck", false),
        ("PCK_00", "pck", false),
        ("eyJhbGciOiJFUzI1NiJ9.e30.c2ln", "eyj", false),
    ] {
        assert_eq!(ApiKey::has_prefix(text, prefix), is_its, "{text} {prefix}");
    }
}
