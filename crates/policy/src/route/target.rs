//! The canonical request target (RFC 3986, section 6; RFC 9110, section 7.1).
//!
//! The string that a rule is decided on is the string that is forwarded. A path that
//! two parsers could read in two ways is refused, not repaired: `/a/..;/admin` is
//! one thing to us and another to a servlet behind us. Each path that is left has one
//! spelling, which a URL parser does not change:
//!
//! - An escape of a character that needs none in a path (`pchar` of RFC 3986: letters,
//!   digits, `-._~!$&'()*+,=:@`) is decoded: `/jobs%3Apurge` is `/jobs:purge`.
//! - Every other escape stays, with digits in upper case.
//! - A raw character that RFC 3986 forbids in a path is refused; clients escape it.
//!
//! Some paths are well-formed, but only safe behind a service that splits a path before
//! it decodes it, and decodes it once: those with `%2F`, `%23`, `%3F`, `%3B`, `;`, raw
//! brackets, or a second layer of escapes that hides such a character or a plain one
//! (`%2561`). They are parsed, but [`Target::is_plain`] is false, and only routes with
//! `encoded_path = "forward"` take them. `.` and `..` are refused in every layer, on
//! every route.

use std::fmt::Write as _;

use super::limits;

/// A path and query in canonical spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    text: String,
    path_len: usize,
    is_plain: bool,
}

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadTarget {
    /// Longer than the bounds in [`limits`].
    TooLong,
    /// Not a path, or one with more than one reading.
    Ambiguous,
}

impl Target {
    /// Canonicalises what follows the authority of a URL: path, and `?query`.
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
        let (mut text, is_plain) = canonical_path(path)?;
        let path_len = text.len();
        if let Some(query) = query {
            text.push('?');
            push_query(&mut text, query)?;
            // Again: escapes make three bytes of one, and an origin has bounds, too.
            if text.len().saturating_sub(path_len) > limits::QUERY_BYTES.saturating_add(1) {
                return Err(BadTarget::TooLong);
            }
        }
        Ok(Self { text, path_len, is_plain })
    }

    /// The same with other first segments; `from` and `to` are whole ones, in canonical
    /// spelling. `None` when it does not begin with `from`.
    pub fn with_prefix(&self, from: &str, to: &str) -> Option<Self> {
        let rest = self.text.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']))?;
        let path_len = self.path_len.checked_sub(from.len())?.checked_add(to.len())?;
        if path_len == 0 {
            return Some(Self { text: format!("/{rest}"), path_len: 1, is_plain: self.is_plain });
        }
        Some(Self { text: format!("{to}{rest}"), path_len, is_plain: self.is_plain })
    }

    /// Path and query, exactly as forwarded.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path alone, exactly as decided on.
    pub fn path(&self) -> &str {
        self.text.get(..self.path_len).unwrap_or_default()
    }

    /// Whether every service reads the path alike. If not, only a route that forwards
    /// encoded paths may take it.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }
}

/// Decodes percent-encoding once. `escaped` is called with the value of each escape.
pub(super) fn decode(bytes: &[u8], mut escaped: impl FnMut(u8)) -> Vec<u8> {
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

/// The path in canonical spelling, and whether it is plain.
fn canonical_path(path: &str) -> Result<(String, bool), BadTarget> {
    let rest = path.strip_prefix('/').ok_or(BadTarget::Ambiguous)?;
    let mut canonical = String::with_capacity(path.len());
    let mut is_plain = true;
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        canonical.push('/');
        let last = segments.peek().is_none();
        // `//` is dropped by some servers and kept by others. A single trailing
        // slash is one thing to all; it names another path than without it.
        if segment.is_empty() && !last {
            return Err(BadTarget::Ambiguous);
        }
        is_plain &= push_segment(&mut canonical, segment)?;
    }
    Ok((canonical, is_plain))
}

/// Appends a segment in canonical spelling and returns whether it is plain.
fn push_segment(canonical: &mut String, segment: &str) -> Result<bool, BadTarget> {
    let mut is_plain = true;
    let mut decoded: Vec<u8> = Vec::with_capacity(segment.len());
    let mut bytes = segment.as_bytes().iter();
    while let Some(byte) = bytes.next() {
        match *byte {
            b'%' => {
                let value = escape_value(&mut bytes).ok_or(BadTarget::Ambiguous)?;
                is_plain &= !is_reserved(value)?;
                // RFC 3986, section 6.2.2.2: one spelling for what needs no escape.
                if is_path_char(value) {
                    canonical.push(char::from(value));
                } else {
                    push_escaped(canonical, value);
                }
                decoded.push(value);
            }
            // A parameter to some servers, a part of the name to others; brackets
            // are what only URL parsers of browsers leave as they are.
            byte @ (b';' | b'[' | b']') => {
                is_plain = false;
                canonical.push(char::from(byte));
                decoded.push(byte);
            }
            byte if is_path_char(byte) => {
                canonical.push(char::from(byte));
                decoded.push(byte);
            }
            _ => return Err(BadTarget::Ambiguous),
        }
    }
    // Overlong forms and stray bytes are not UTF-8: `%c0%af` is a slash to a
    // careless decoder.
    if std::str::from_utf8(&decoded).is_err() {
        return Err(BadTarget::Ambiguous);
    }
    for _ in 0..limits::ESCAPE_LAYERS {
        if decoded.split(|byte| *byte == b'/').any(is_dots) {
            return Err(BadTarget::Ambiguous);
        }
        if !decoded.contains(&b'%') {
            return Ok(is_plain);
        }
        // What a service reads that decodes once more. A second layer that hides
        // a plain character has no honest use: `%2561dmin`.
        let mut values = Vec::new();
        let next = decode(&decoded, |value| values.push(value));
        if values.is_empty() {
            return Ok(is_plain);
        }
        for value in values {
            is_plain &= !is_reserved(value)? && !is_unreserved(value);
        }
        is_plain &= std::str::from_utf8(&next).is_ok();
        decoded = next;
    }
    Err(BadTarget::Ambiguous)
}

/// Whether a decoded character would end or split a segment if a service decoded the
/// path before it reads it.
///
/// # Errors
/// Backslashes and control characters belong in no path.
fn is_reserved(value: u8) -> Result<bool, BadTarget> {
    match value {
        b'\\' | 0..=0x1f | 0x7f => Err(BadTarget::Ambiguous),
        _ => Ok(matches!(value, b'/' | b'?' | b'#' | b';')),
    }
}

/// `.`, `..`, with servlet parameters behind (`..;x`), with blanks that some file
/// systems drop (`..%20`), and `...`, which was a grandparent to some; and parameters
/// of no name.
fn is_dots(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
    let is_dots = name.contains(&b'.') && name.iter().all(|byte| matches!(byte, b'.' | b' '));
    is_dots || (name.is_empty() && !segment.is_empty())
}

/// The query decides nothing here, so it is only made safe to forward: what a
/// URL parser would escape is escaped now, so that the string stays the same.
fn push_query(text: &mut String, query: &str) -> Result<(), BadTarget> {
    for byte in query.bytes() {
        match byte {
            0..=0x1f | 0x7f => return Err(BadTarget::Ambiguous),
            b' ' | b'"' | b'#' | b'<' | b'>' | b'\'' | 0x80..=0xff => push_escaped(text, byte),
            _ => text.push(char::from(byte)),
        }
    }
    Ok(())
}

/// The value of an escape, of which the `%` is taken already.
fn escape_value(bytes: &mut std::slice::Iter<'_, u8>) -> Option<u8> {
    let high = char::from(*bytes.next()?).to_digit(16)?;
    let low = char::from(*bytes.next()?).to_digit(16)?;
    u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()
}

fn push_escaped(text: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(text, "%{byte:02X}");
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// `pchar` of RFC 3986 without the escape, and without the parameter's `;`.
fn is_path_char(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_one_spelling_or_none() {
        for (raw, expected) in [
            ("/", Some("/")),
            ("", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/", Some("/a/")),
            ("/a/b?x=1", Some("/a/b?x=1")),
            ("/a?", Some("/a?")),
            ("/a#fragment", Some("/a")),
            ("/%61dmin", Some("/admin")),
            ("/%7euser", Some("/~user")),
            ("/caf%c3%a9", Some("/caf%C3%A9")),
            ("/a%20b", Some("/a%20b")),
            ("/a/..%20/b", None),
            ("/a/%20../b", None),
            ("/a/%20", Some("/a/%20")),
            ("/a/.../b", None),
            ("/a/...x/b", Some("/a/...x/b")),
            ("/jobs%3Apurge", Some("/jobs:purge")),
            ("/ada%40example.com", Some("/ada@example.com")),
            ("/%21%24%26%27%28%29%2a%2B%2c%3d", Some("/!$&'()*+,=")),
            ("/ada%2540example.com", Some("/ada%2540example.com")),
            ("/zo%25c3%25AB", Some("/zo%25c3%25AB")),
            ("/100%25", Some("/100%25")),
            ("/100%2525", Some("/100%2525")),
            ("/auth0%7c64f", Some("/auth0%7C64f")),
            ("/a.b/..c", Some("/a.b/..c")),
            ("/a?q='x' \"y\"<z>", Some("/a?q=%27x%27%20%22y%22%3Cz%3E")),
            ("/a?q=a|b[]{}", Some("/a?q=a|b[]{}")),
            ("/a?q=%zz&u=//../", Some("/a?q=%zz&u=//../")),
            ("/a?q=é", Some("/a?q=%C3%A9")),
            ("//admin", None),
            ("/a//b", None),
            ("/a/./b", None),
            ("/a/../admin", None),
            ("/a/..", None),
            ("/a/%2e%2e/admin", None),
            ("/a/%2E./admin", None),
            ("/a/..;/admin", None),
            ("/a/.;x/admin", None),
            ("/a/;/admin", None),
            ("/a/..%3b/admin", None),
            ("/%2Fadmin", None),
            ("/%2fadmin", None),
            ("/%5Cadmin", None),
            ("/\\admin", None),
            ("/admin%00", None),
            ("/admin%23", None),
            ("/admin%3fx", None),
            ("/admin%0d%0aX:y", None),
            ("/%252e%252e/admin", None),
            ("/%c0%af", None),
            ("/%c0%ae%c0%ae/admin", None),
            ("/%ff", None),
            ("/a%", None),
            ("/a%4", None),
            ("/a%zz", None),
            ("/a b", None),
            ("/a|b", None),
            ("/é", None),
            ("/a?x=\u{1}", None),
            ("admin", None),
            ("http://evil.example/", None),
        ] {
            let target = Target::parse(raw).ok().filter(Target::is_plain);
            assert_eq!(target.as_ref().map(Target::as_str), expected, "{raw}");
            if let Some(target) = target {
                assert_eq!(Target::parse(target.as_str()), Ok(target.clone()), "{raw} is not stable");
                assert!(target.as_str().starts_with(target.path()));
                assert!(!target.path().contains('?'));
            }
        }
    }

    #[test]
    fn paths_that_services_read_differently_are_for_routes_that_forward_them() {
        for (raw, expected) in [
            ("/C%23.pdf", Some("/C%23.pdf")),
            ("/what%3f.pdf", Some("/what%3F.pdf")),
            ("/group%2fproject", Some("/group%2Fproject")),
            ("/%2Fadmin", Some("/%2Fadmin")),
            ("/https%3A%2F%2Fa.example", Some("/https:%2F%2Fa.example")),
            ("/[slug].js", Some("/[slug].js")),
            ("/a;v=1", Some("/a;v=1")),
            ("/a%3bv", Some("/a%3Bv")),
            ("/%2561dmin", Some("/%2561dmin")),
            ("/a%252fb", Some("/a%252fb")),
            ("/%25c0%25af", Some("/%25c0%25af")),
            ("/a%2F..%2Fadmin", None),
            ("/a%2f%2e%2e", None),
            ("/a%2F..;x%2Fadmin", None),
            ("/..%2Fadmin", None),
            ("/a%2F.%2Fb", None),
            ("/a%252F..%252Fadmin", None),
            ("/%252e%252e/admin", None),
            ("/%25252e%25252e/admin", None),
            ("/%2525252525252e", None),
            ("/a%5Cb", None),
            ("/a%255cb", None),
            ("/a%2500", None),
            ("/a/..;/admin", None),
            ("/a%2F;/admin", None),
            ("/{slug}.js", None),
            ("/a|b", None),
        ] {
            let target = Target::parse(raw);
            assert_eq!(target.as_ref().map(Target::as_str).ok(), expected, "{raw}");
            if let Ok(target) = target {
                assert!(!target.is_plain(), "{raw}");
                assert_eq!(Target::parse(target.as_str()), Ok(target.clone()), "{raw} is not stable");
            }
        }
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
}
