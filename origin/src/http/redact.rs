//! Redaction of text from clients before it is logged or stored.

use crate::limits;

/// Truncates a text to [`limits::LOG_TEXT_CHARS`] and replaces each word longer than an id, because
/// people paste tokens into paths.
pub(super) fn redact(text: &str) -> String {
    let separators = ['/', ' ', ';', ',', '(', ')'];
    text.chars()
        .take(limits::LOG_TEXT_CHARS)
        .collect::<String>()
        .split_inclusive(separators)
        .map(|word| if word.trim_end_matches(separators).len() > limits::LOG_WORD_BYTES { "[long]" } else { word })
        .collect()
}
