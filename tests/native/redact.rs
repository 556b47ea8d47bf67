//! Untrusted text in logs.

use portcullis_redact::{TEXT_BYTES, redact};

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl";

#[test]
fn what_could_be_a_token_is_not_logged() {
    assert_eq!(redact(&format!("/a/{TOKEN}/b")), "/a/[long]/b");
    assert_eq!(redact(TOKEN), "[long]");
    assert_eq!(redact(&format!("curl/8 {TOKEN}")), "curl/8 [long]");
    assert_eq!(
        redact("/api/v1/users/0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f"),
        "/api/v1/users/0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f"
    );
    let refresh = "k7Qe0Zr1hVw2xUy3TzA4sB5rC6qD7pE8oF9nG0mH1lI";
    assert_eq!(redact(&format!("/refresh/{refresh}/{refresh}")), "/refresh/[long]/[long]");
    // 32 bytes in base64 with a `/` inside, which ends a word only in a path.
    let base64 = "k7Qe0Zr1hVw2xUy3TzA4/B5rC6qD7pE8oF9nG0mH1lI=";
    assert_eq!(redact(&format!("key {base64}")), "key [long]");
    assert_eq!(redact(&format!("a ({refresh}) {refresh}, b;{refresh};c")), "a ([long]) [long], b;[long];c");
    assert_eq!(redact("a\nb\0c"), "abc");
    assert!(redact(&"/ab".repeat(1000)).len() <= TEXT_BYTES);
}

#[test]
fn a_token_across_the_cut_leaves_no_part_of_it() {
    for before in (TEXT_BYTES - 40)..TEXT_BYTES {
        let text = format!("{}/{TOKEN}", "/a".repeat(before / 2));
        let redacted = redact(&text);
        assert!(redacted.len() <= TEXT_BYTES && !redacted.contains("eyJ"), "{redacted}");
    }
}

#[test]
fn a_text_is_cut_between_characters() {
    assert_eq!(redact(&"ä ".repeat(100)).len(), TEXT_BYTES - 1);
}
