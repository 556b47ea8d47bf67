//! The canonical request target (RFC 3986, section 6; RFC 9110, section 7.1).
//!
//! The string on which a rule is decided is the string that is forwarded. A path that two parsers
//! can read differently is refused, not repaired: `/a/..;/admin` means one path to the gateway and
//! another to a servlet. Every accepted path has one spelling, which a URL parser does not change:
//!
//! - An escape of a character that needs none in a path (`pchar` of RFC 3986: letters,
//!   digits, `-._~!$&'()*+,=:@`) is decoded: `/jobs%3Apurge` is `/jobs:purge`.
//! - Every other escape stays, with hexadecimal digits in upper case.
//! - A raw character that RFC 3986 forbids in a path is refused; clients escape it.
//!
//! Some paths are well-formed but safe only for a service that splits a path before it decodes it,
//! and decodes it once: those with `%2F`, `%23`, `%3F`, `%3B`, `;`, raw brackets, or a second layer
//! of escapes that hides one of these or a plain character (`%2561`). They are parsed, but
//! [`Target::is_plain`] is false, and only routes with `encoded_path = "forward"` accept them. `.`
//! and `..` are refused in every layer, on every route.

use std::{borrow::Cow, fmt::Write as _};

use crate::limits;

/// A path and query in canonical spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    text: String,
    path_len: usize,
    is_plain: bool,
}

/// The reason why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadTarget {
    /// Longer than the bounds in [`limits`].
    TooLong,
    /// Not a path, or a path with more than one reading.
    Ambiguous,
}

impl Target {
    /// Canonicalises the path and query of a URL.
    ///
    /// # Errors
    /// [`BadTarget`].
    pub fn parse(raw: &str) -> Result<Self, BadTarget> {
        let raw = raw.split_once('#').map_or(raw, |(before, _)| before);
        let (path, query) = match raw.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (raw, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        if path.len() > limits::PATH_BYTES || query.is_some_and(|query| query.len() > limits::QUERY_BYTES) {
            return Err(BadTarget::TooLong);
        }
        // Some servers drop `//`. A single trailing slash is unambiguous, and makes another path.
        let segments = path
            .strip_prefix('/')
            .filter(|_| !path.as_bytes().windows(2).any(|pair| pair == b"//"))
            .ok_or(BadTarget::Ambiguous)?;
        let (mut text, mut is_plain) = (String::with_capacity(raw.len()), true);
        for segment in segments.split('/') {
            text.push('/');
            is_plain &= push_segment(&mut text, segment)?;
        }
        let path_len = text.len();
        if let Some(query) = query {
            text.push('?');
            push_query(&mut text, query)?;
            // Checked again, because an escape makes three bytes of one.
            if text.len().saturating_sub(path_len) > limits::QUERY_BYTES.saturating_add(1) {
                return Err(BadTarget::TooLong);
            }
        }
        Ok(Self { text, path_len, is_plain })
    }

    /// Replaces the first segments. `from` and `to` are whole segments in canonical spelling. Returns
    /// `None` if the path does not begin with `from`.
    pub fn with_prefix(&self, from: &str, to: &str) -> Option<Self> {
        let rest = self.text.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']))?;
        let to = if to.is_empty() && !rest.starts_with('/') { "/" } else { to };
        let path_len = self.path_len.checked_sub(from.len())?.checked_add(to.len())?;
        Some(Self { text: format!("{to}{rest}"), path_len, is_plain: self.is_plain })
    }

    /// Returns path and query, exactly as forwarded.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the path, exactly as decided on.
    pub fn path(&self) -> &str {
        self.text.get(..self.path_len).unwrap_or_default()
    }

    /// Returns whether all services read the path alike. Otherwise only a route that forwards encoded
    /// paths may accept it.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }
}

/// Decodes percent-encoding once. `escaped` is called with the value of each escape.
pub(crate) fn decode(bytes: &[u8], mut escaped: impl FnMut(u8)) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        match (byte, escape_value(&mut ahead)) {
            (b'%', Some(value)) => {
                escaped(value);
                decoded.push(value);
                rest = ahead;
            }
            _ => decoded.push(*byte),
        }
    }
    decoded
}

/// Appends a segment in canonical spelling and returns whether it is plain.
fn push_segment(canonical: &mut String, segment: &str) -> Result<bool, BadTarget> {
    if segment.bytes().all(is_path_char) {
        canonical.push_str(segment);
        return if is_dots(segment.as_bytes()) { Err(BadTarget::Ambiguous) } else { Ok(true) };
    }
    let mut is_plain = true;
    let mut bytes = segment.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        let escaped = (byte == b'%').then(|| escape_value(&mut bytes).ok_or(BadTarget::Ambiguous)).transpose()?;
        match escaped.unwrap_or(byte) {
            // RFC 3986, section 6.2.2.2: one spelling for what needs no escape.
            value if is_path_char(value) => canonical.push(char::from(value)),
            value if escaped.is_some() => push_escaped(canonical, value),
            // `;` begins a parameter for some servers and is part of the name for others. Only the
            // URL parsers of browsers accept raw brackets.
            b';' | b'[' | b']' => {
                is_plain = false;
                canonical.push(char::from(byte));
            }
            _ => return Err(BadTarget::Ambiguous),
        }
    }
    Ok(has_plain_layers(segment)? && is_plain)
}

/// Decodes the layers of escapes of a segment and returns whether it is plain, as far as its escapes go.
///
/// # Errors
/// [`BadTarget::Ambiguous`]: a layer has dot segments or characters that are refused in every path, the
/// first one is not UTF-8, or there are more than [`limits::ESCAPE_LAYERS`].
fn has_plain_layers(segment: &str) -> Result<bool, BadTarget> {
    let mut is_plain = true;
    let mut layer = Cow::Borrowed(segment.as_bytes());
    for depth in 0..=limits::ESCAPE_LAYERS {
        if layer.split(|byte| *byte == b'/').any(is_dots) {
            return Err(BadTarget::Ambiguous);
        }
        if !layer.contains(&b'%') {
            return Ok(is_plain);
        }
        let (mut has_escapes, mut is_refused) = (false, false);
        let decoded = decode(&layer, |value| {
            has_escapes = true;
            is_refused |= matches!(value, b'\\' | 0..=0x1f | 0x7f);
            // These would end or split a segment for a service that decodes the path before it splits it.
            is_plain &= !matches!(value, b'/' | b'?' | b'#' | b';');
            // A second layer that hides a plain character has no honest use: `%2561dmin`.
            is_plain &= depth == 0 || !is_unreserved(value);
        });
        if !has_escapes {
            return Ok(is_plain);
        }
        // Overlong forms are not UTF-8: a careless decoder reads `%c0%af` as a slash.
        let is_text = std::str::from_utf8(&decoded).is_ok();
        if is_refused || (depth == 0 && !is_text) {
            return Err(BadTarget::Ambiguous);
        }
        is_plain &= is_text;
        layer = Cow::Owned(decoded);
    }
    Err(BadTarget::Ambiguous)
}

/// Returns whether a segment is `.` or `..`, also with servlet parameters (`..;x`) or with spaces that
/// some file systems drop (`..%20`), before what a service that decodes first reads as the query or the
/// fragment (`..%3F`), `...`, or a parameter without a name.
fn is_dots(segment: &[u8]) -> bool {
    let name = segment.split(|byte| matches!(byte, b';' | b'?' | b'#')).next().unwrap_or_default();
    let is_dots = name.contains(&b'.') && name.iter().all(|byte| matches!(byte, b'.' | b' '));
    is_dots || segment.first() == Some(&b';')
}

/// Escapes what a URL parser would escape, so that the forwarded string does not change. The query
/// decides nothing.
fn push_query(text: &mut String, query: &str) -> Result<(), BadTarget> {
    let is_escaped = |byte: u8| matches!(byte, 0..=b' ' | b'"' | b'#' | b'<' | b'>' | b'\'' | 0x7f..);
    if !query.bytes().any(is_escaped) {
        text.push_str(query);
        return Ok(());
    }
    for byte in query.bytes() {
        match byte {
            0..=0x1f | 0x7f => return Err(BadTarget::Ambiguous),
            _ if is_escaped(byte) => push_escaped(text, byte),
            _ => text.push(char::from(byte)),
        }
    }
    Ok(())
}

/// Returns the value of an escape whose `%` has been read.
fn escape_value(bytes: &mut std::slice::Iter<'_, u8>) -> Option<u8> {
    let high = char::from(*bytes.next()?).to_digit(16)?;
    let low = char::from(*bytes.next()?).to_digit(16)?;
    u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()
}

fn push_escaped(text: &mut String, byte: u8) {
    // Writing to a `String` does not fail.
    let _ = write!(text, "%{byte:02X}");
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Returns whether a byte is `pchar` of RFC 3986, without escapes and without `;`.
fn is_path_char(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b'!' | b'$' | b'&'..=b',' | b'=' | b':' | b'@')
}
