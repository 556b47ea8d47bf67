//! Removes possible secrets from untrusted text before it is logged: people paste tokens into
//! paths, and services echo what they received.

/// Bytes of a word that is kept. A UUID has 36 and a refresh token of Portcullis 43: a longer
/// word may be a token.
pub const WORD_BYTES: usize = 36;

/// Bytes of a redacted text.
pub const TEXT_BYTES: usize = 256;

/// What replaces a longer word.
const MARK: &str = "[long]";

/// What ends a word. None of these is in base64url, so no token is cut in two.
const SEPARATORS: [char; 6] = ['/', ' ', ';', ',', '(', ')'];

/// Returns the text without control characters, with each word of more than [`WORD_BYTES`]
/// replaced, and cut to [`TEXT_BYTES`].
///
/// ```
/// use portcullis_redact::redact;
///
/// assert_eq!(redact("/users/7"), "/users/7");
/// assert_eq!(redact(&format!("/login/eyJ{}/7", "x".repeat(40))), "/login/[long]/7");
/// ```
pub fn redact(text: &str) -> String {
    if is_clean(text) {
        return text.to_owned();
    }
    let mut redacted = String::new();
    for piece in text.split_inclusive(SEPARATORS) {
        let word = piece.trim_end_matches(SEPARATORS);
        if word.len() > WORD_BYTES {
            redacted.push_str(MARK);
            if piece.ends_with('/') {
                redacted.push('/');
            }
        } else {
            redacted.extend(piece.chars().filter(|character| !character.is_control()));
        }
        if redacted.len() >= TEXT_BYTES {
            redacted.truncate(redacted.floor_char_boundary(TEXT_BYTES));
            break;
        }
    }
    redacted
}

/// Whether a text needs no change, as most texts do.
fn is_clean(text: &str) -> bool {
    let mut word: usize = 0;
    text.len() <= TEXT_BYTES
        && text.bytes().all(|byte| {
            word = if SEPARATORS.contains(&char::from(byte)) { 0 } else { word.saturating_add(1) };
            (b' '..=b'~').contains(&byte) && word <= WORD_BYTES
        })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(redact("a\nb\0c"), "abc");
        assert!(redact(&"ab/".repeat(1000)).len() <= TEXT_BYTES);
    }

    #[test]
    fn a_token_across_the_cut_leaves_no_part_of_it() {
        for before in (TEXT_BYTES - 40)..TEXT_BYTES {
            let text = format!("{}/{TOKEN}", "a/".repeat(before / 2));
            let redacted = redact(&text);
            assert!(redacted.len() <= TEXT_BYTES && !redacted.contains("eyJ"), "{redacted}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(redact(&"ä/".repeat(100)).len(), TEXT_BYTES - 1);
    }
}
