//! A request's head, as it arrived.

use super::limits;

/// Method, target and headers of a request; the body stays with the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// As sent, case kept.
    pub method: String,
    /// `https` or `http`.
    pub scheme: String,
    /// Host, and port if any.
    pub host: String,
    /// What follows the authority, as sent.
    pub target: String,
    /// Names in lower case. Several lines of one name arrive joined with `, `.
    pub headers: Vec<(String, String)>,
}

/// Returns whether a character is optional white space of a header (RFC 9110, section 5.6.3). A name
/// after any other white space is another name: browsers let other hosts set that cookie.
pub(super) fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t')
}

impl Head {
    /// Splits an absolute URL. A URL that is not `http(s)://host/...` has an empty target, which
    /// matches no route.
    pub fn new(method: String, url: &str, headers: Vec<(String, String)>) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        Self { method, scheme: scheme.to_owned(), host: host.to_owned(), target: target.to_owned(), headers }
    }

    /// Returns the value of a header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the value of a cookie (RFC 6265, section 4.2.1), if exactly one has the name.
    /// Parsers disagree on which of two counts.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let mut values = self.cookies(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Returns the values of all cookies of a name.
    pub(super) fn cookies(&self, name: &str) -> impl Iterator<Item = &str> {
        let cookies = self.header("cookie").into_iter().flat_map(|cookies| cookies.split(';'));
        cookies.filter_map(move |cookie| Self::cookie_value(cookie.trim_matches(is_blank), name))
    }

    /// Returns whether a parser that skips `is_blank` around names finds a cookie of this name in `Cookie`;
    /// several header lines arrive joined by commas.
    pub(super) fn has_cookie(cookies: &str, name: &str, is_blank: fn(char) -> bool) -> bool {
        cookies.split([';', ',']).any(|cookie| {
            let rest = cookie.trim_start_matches(is_blank).strip_prefix(name);
            rest.is_some_and(|rest| matches!(rest.trim_start_matches(is_blank).chars().next(), None | Some('=')))
        })
    }

    /// Returns the value of a `name=value` with this name.
    pub(super) fn cookie_value<'a>(cookie: &'a str, name: &str) -> Option<&'a str> {
        cookie.strip_prefix(name)?.strip_prefix('=')
    }

    /// Returns whether a page of the gateway's own origin, or the user through the browser's own
    /// interface, made the request. No page can write these headers (Fetch Metadata, section 2;
    /// RFC 6454, section 7).
    pub(super) fn is_of_own_page(&self) -> bool {
        match self.header("sec-fetch-site") {
            Some(site) => matches!(site, "same-origin" | "none"),
            None => {
                self.header("origin").and_then(|origin| origin.split_once("://")) == Some((&*self.scheme, &*self.host))
            }
        }
    }

    /// Returns whether the user follows a link: the browser shows the answer, and no page of
    /// another site can read it.
    pub(super) fn is_navigation(&self) -> bool {
        self.header("sec-fetch-mode") == Some("navigate")
            && !matches!(self.header("sec-fetch-dest"), Some("object" | "embed"))
    }

    /// Returns whether a request with this method may be tried again: it changes nothing (RFC 9110,
    /// section 9.2.1) and has no body, which could be sent only once.
    pub(super) fn is_safe(method: &str) -> bool {
        matches!(method, "GET" | "HEAD")
    }

    /// Returns `Content-Length`, which has no meaning with `Transfer-Encoding` (RFC 9112, section 6.3).
    pub(super) fn body_bytes(&self) -> Option<u64> {
        let is_chunked = self.header("transfer-encoding").is_some();
        self.header("content-length").filter(|_| !is_chunked).and_then(|text| text.parse().ok())
    }

    /// Returns whether the request has a body of at least one byte (RFC 9112, section 6.3).
    pub fn announces_body(&self) -> bool {
        self.header("transfer-encoding").is_some()
            || self.header("content-length").is_some_and(|text| text.parse() != Ok(0_u64))
    }

    /// Returns whether a body may follow that can be forwarded. HTTP/2 announces no body without a length.
    pub(super) fn may_have_body(&self) -> bool {
        !Self::is_safe(&self.method) && (self.body_bytes() != Some(0) || self.announces_body())
    }

    /// Returns whether there is a body that the runtime cannot forward with this method.
    pub(super) fn has_undeliverable_body(&self) -> bool {
        Self::is_safe(&self.method) && self.announces_body()
    }

    /// Returns whether the client asks for a WebSocket (RFC 6455, section 4.1).
    pub(super) fn asks_for_websocket(&self) -> bool {
        self.method == "GET" && self.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    }

    /// Returns whether the answer is for a person: browsers ask for HTML, programs for JSON or
    /// for anything.
    pub(super) fn asks_for_page(&self) -> bool {
        self.header("accept").is_some_and(|accept| accept.contains("text/html") && !accept.contains("json"))
    }

    /// Returns whether the host can be part of a URL (RFC 9112, section 3.2), because URLs are
    /// made of it. It may have a port, and no credentials.
    pub(super) fn has_valid_host(&self) -> bool {
        let count = |text: &str, sign: u8| text.bytes().filter(|byte| *byte == sign).count();
        let is_host = |text: &str| {
            let port = text.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
            // Without a name, the origin would be `https://`, and a path behind it could name another host.
            !matches!(text.bytes().next(), None | Some(b':'))
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte))
                && count(text, b'[') == count(text, b']')
                && port.is_none_or(|port| port.is_empty() || port.parse::<u16>().is_ok())
        };
        is_host(&self.host) && self.header("host").is_none_or(is_host)
    }

    /// Returns whether the headers would cost the gateway or an upstream too much memory.
    pub(super) fn is_too_large(&self) -> bool {
        let lengths = self.headers.iter().flat_map(|(name, value)| [name.len(), value.len()]);
        let bytes = lengths.fold(0, usize::saturating_add);
        self.headers.len() > limits::HEADERS || bytes > limits::HEADER_BYTES
    }
}
