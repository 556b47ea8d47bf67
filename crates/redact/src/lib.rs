//! Removes possible secrets from untrusted text before it is logged: people paste tokens into
//! paths, and services echo what they received.

/// Bytes of a word that is kept. A UUID has 36 and a refresh token of Portcullis 43: a longer
/// word may be a token.
pub const WORD_BYTES: usize = 36;

/// Bytes of a redacted text.
pub const TEXT_BYTES: usize = 256;

/// What replaces a longer word.
const MARK: &str = "[long]";

/// What ends a word. None of these is in base64, so no token is cut in two. In a path, `/`
/// also ends a word, because base64url does not contain it.
const SEPARATORS: [char; 5] = [' ', ';', ',', '(', ')'];

/// Returns the text without control characters, with each word of more than [`WORD_BYTES`]
/// replaced, and cut to [`TEXT_BYTES`]. A text that begins with `/` is a path.
///
/// ```
/// use portcullis_redact::redact;
///
/// assert_eq!(redact("/users/7"), "/users/7");
/// assert_eq!(redact(&format!("/login/eyJ{}/7", "x".repeat(40))), "/login/[long]/7");
/// ```
pub fn redact(text: &str) -> String {
    let is_path = text.starts_with('/');
    let is_separator = |character: char| SEPARATORS.contains(&character) || (is_path && character == '/');
    let mut word_bytes = 0_usize;
    let is_kept = |byte: u8| {
        word_bytes = if is_separator(char::from(byte)) { 0 } else { word_bytes.saturating_add(1) };
        word_bytes <= WORD_BYTES && matches!(byte, b' '..=b'~')
    };
    if text.len() <= TEXT_BYTES && text.bytes().all(is_kept) {
        return text.to_owned();
    }
    let mut redacted = String::new();
    for piece in text.split_inclusive(is_separator) {
        let word = piece.trim_end_matches(is_separator);
        let kept = if word.len() > WORD_BYTES {
            redacted.push_str(MARK);
            piece.trim_start_matches(|character| !is_separator(character))
        } else {
            piece
        };
        redacted.extend(kept.chars().filter(|character| !character.is_control()));
        if redacted.len() >= TEXT_BYTES {
            redacted.truncate(redacted.floor_char_boundary(TEXT_BYTES));
            break;
        }
    }
    redacted
}
