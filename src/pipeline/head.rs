//! A request's head, as it came in.

use super::{Denial, limits};

/// Method, target and headers of a request; the body stays with the rim.
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

/// Optional whitespace of a header (RFC 9110, section 5.6.3). Unicode has more, which
/// browsers take for parts of names.
const BLANKS: [char; 2] = [' ', '\t'];

impl Head {
    /// Splits an absolute URL and takes the rest as it is. Anything that is not
    /// `http(s)://host/...` has an empty target, which no route names.
    pub fn new(method: String, url: &str, headers: Vec<(String, String)>) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        Self { method, scheme: scheme.to_owned(), host: host.to_owned(), target: target.to_owned(), headers }
    }

    /// The value of a header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a cookie (RFC 6265, section 4.2.1), if just one has the name. Which of
    /// two counts must not depend on who parses them.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let cookies = self.header("cookie")?.split(';');
        let mut values = cookies.filter_map(|cookie| Self::cookie_value(cookie.trim_matches(BLANKS), name));
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Whether cookies hold one of this name: several header lines arrive with commas
    /// between. A name behind any other space than a blank is another name: browsers let
    /// other hosts set that one, whatever it looks like.
    pub(super) fn holds_cookie(cookies: &str, name: &str) -> bool {
        cookies.split([';', ',']).any(|cookie| {
            let rest = cookie.trim_start_matches(BLANKS).strip_prefix(name).map(|rest| rest.trim_start_matches(BLANKS));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    }

    /// Whether cookies hold what any parser at all may take for one of this name.
    pub(super) fn may_hold_cookie(cookies: &str, name: &str) -> bool {
        cookies.split([';', ',']).any(|cookie| {
            let rest = cookie.trim_start().strip_prefix(name);
            rest.is_some_and(|rest| rest.trim_start().is_empty() || rest.trim_start().starts_with('='))
        })
    }

    /// The value of a `name=value`, if it has this name.
    pub(super) fn cookie_value<'a>(cookie: &'a str, name: &str) -> Option<&'a str> {
        cookie.strip_prefix(name)?.strip_prefix('=')
    }

    /// Whether a page of the gateway's own origin asks, or the person at the browser. Only
    /// browsers say, and no page can write these headers (Fetch Metadata, section 2; RFC
    /// 6454, section 7).
    pub(super) fn is_of_own_page(&self) -> bool {
        match self.header("sec-fetch-site") {
            Some(site) => matches!(site, "same-origin" | "none"),
            None => self.header("origin").is_some_and(|origin| {
                origin.strip_prefix(self.scheme.as_str()).and_then(|rest| rest.strip_prefix("://")) == Some(&self.host)
            }),
        }
    }

    /// Whether a person follows a link: the browser shows the answer to them, and no page
    /// of another site gets at it.
    pub(super) fn is_navigation(&self) -> bool {
        self.header("sec-fetch-mode") == Some("navigate")
            && !matches!(self.header("sec-fetch-dest"), Some("object" | "embed"))
    }

    /// Bytes of the body, if the client says so beforehand.
    pub(super) fn body_bytes(&self) -> Option<u64> {
        self.header("content-length").and_then(|text| text.parse().ok())
    }

    /// Whether a body comes with the request (RFC 9112, section 6.3). One of no bytes is none.
    pub fn announces_body(&self) -> bool {
        self.header("transfer-encoding").is_some()
            || self.header("content-length").is_some_and(|text| text.parse() != Ok(0_u64))
    }

    /// Whether a body comes with a method that the runtime sends without one.
    pub(super) fn has_undeliverable_body(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD") && self.announces_body()
    }

    /// Whether the client wants the connection to become a WebSocket (RFC 6455, section
    /// 4.1).
    pub(super) fn asks_for_websocket(&self) -> bool {
        self.method == "GET" && self.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    }

    /// Whether a person is to read the answer: a browser asks for HTML, a program for JSON
    /// or for anything.
    pub(super) fn asks_for_page(&self) -> bool {
        self.header("accept").is_some_and(|accept| accept.contains("text/html") && !accept.contains("json"))
    }

    /// Refuses a Host that no URL can have (RFC 9112, section 3.2): URLs are made of it.
    /// The port is part of it; credentials are not.
    pub(super) fn check_host(&self) -> Result<(), Denial> {
        let is_host = |text: &str| {
            let port = text.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte))
                && text.matches('[').count() == text.matches(']').count()
                && port.is_none_or(|port| port.is_empty() || port.parse::<u16>().is_ok())
        };
        let has_host = is_host(&self.host) && self.header("host").is_none_or(is_host);
        if has_host { Ok(()) } else { Err(Denial::HostInvalid) }
    }

    /// Refuses what would cost us or the upstream too much memory.
    pub(super) fn check_size(&self) -> Result<(), Denial> {
        let bytes = self
            .headers
            .iter()
            .fold(0_usize, |sum, (name, value)| sum.saturating_add(name.len()).saturating_add(value.len()));
        if self.headers.len() > limits::HEADERS || bytes > limits::HEADER_BYTES {
            return Err(Denial::HeadersTooLarge);
        }
        Ok(())
    }
}
