//! References in an upstream's answer: `Location`, `Content-Location`, `Refresh` and `Link`. A
//! reference to the upstream becomes an absolute URL on the gateway's origin, so that no client
//! learns the upstream's address, and no path such as `//evil.example` becomes a reference to
//! another host. Other references are the upstream's decision and stay unchanged. Bodies and other
//! headers are not read.

use std::borrow::Cow;

use super::{head::Head, upstream::Upstream};
use portcullis_policy::Route;

/// Response headers with references, in lower case.
pub(super) const REFERENCE_HEADERS: [&str; 4] = ["location", "content-location", "refresh", "link"];

/// What the references of one answer are resolved against.
pub(super) struct References<'a> {
    /// URL that answered.
    asked: &'a str,
    /// Authorities of the upstream's targets, as [`split`] returns them.
    upstream: Vec<String>,
    /// The gateway's own origin, as the client wrote it.
    own_origin: String,
    /// The prefix of paths that clients write, and the upstream's in its place.
    rewrite: Option<(&'a str, &'a str)>,
}

impl<'a> References<'a> {
    pub(super) fn new(asked: &'a str, head: &Head, route: &'a Route, upstream: &Upstream) -> Self {
        let authorities = upstream.urls().chain([asked]).filter_map(|url| Some(split(url)?.0));
        Self {
            asked,
            upstream: authorities.collect(),
            own_origin: format!("{}://{}", head.scheme, head.host),
            rewrite: route.rewrite(),
        }
    }

    /// Rewrites the value of a header that leads a client somewhere; `None` leaves it unchanged.
    pub(super) fn rewrite_header(
        &self,
        (name, value): (&str, &str),
        resolve: impl Fn(&str, &str) -> Option<String>,
    ) -> Option<String> {
        let publish = |reference: &str| self.publish(reference, &resolve);
        match name {
            "refresh" => publish_refresh(value, publish),
            "link" => publish_links(value, publish),
            _ => publish(value),
        }
    }

    /// Returns the reference for a client, if it differs from the upstream's.
    fn publish(&self, reference: &str, resolve: impl Fn(&str, &str) -> Option<String>) -> Option<String> {
        let is_plain = is_plain(reference);
        // The reference means the same relative to the gateway as relative to the upstream.
        if is_plain && self.rewrite.is_none() {
            return None;
        }
        let absolute = resolve(reference, self.asked)?;
        let (authority, rest) = split(&absolute)?;
        if !self.upstream.contains(&authority) {
            return None;
        }
        let public = self.restore_prefix(rest);
        if is_plain && public == rest {
            return None;
        }
        Some(format!("{}{public}", self.own_origin))
    }

    /// Undoes `strip_prefix` and `replace_prefix`. An upstream that reads `X-Forwarded-Prefix` has
    /// restored the client's prefix already; of two prefixes that fit, the longer one decides.
    fn restore_prefix<'r>(&self, rest: &'r str) -> Cow<'r, str> {
        let Some((from, to)) = self.rewrite else { return rest.into() };
        let behind = |prefix: &str| {
            let behind = rest.strip_prefix(prefix)?;
            (behind.is_empty() || behind.starts_with(['/', '?', '#'])).then_some(behind)
        };
        if from.len() >= to.len() && behind(from).is_some() {
            return rest.into();
        }
        match behind(to) {
            // The prefix without a slash stands for the root.
            Some(behind) if to.is_empty() && matches!(behind.strip_prefix('/'), Some("")) => from.to_owned().into(),
            Some(behind) => format!("{from}{behind}").into(),
            None => rest.into(),
        }
    }
}

/// Rewrites `<delay>; url=<reference>`, as browsers read it (HTML standard, section 4.2.5.3, which the
/// header shares): a blank separates as well as a semicolon or a comma.
fn publish_refresh(value: &str, publish: impl Fn(&str) -> Option<String>) -> Option<String> {
    let value = value.trim_start();
    let at = value.find(|sign: char| !sign.is_ascii_digit() && sign != '.')?;
    let (delay, rest) = value.split_at_checked(at)?;
    let text = rest.trim_start_matches([';', ',', ' ', '\t']);
    if text.len() == rest.len() {
        return None;
    }
    let named = text.get(..3).filter(|name| name.eq_ignore_ascii_case("url"));
    let named = named.and_then(|_| text.get(3..)?.trim_start().strip_prefix('='));
    let reference = named.unwrap_or(text).trim_start();
    let quoted = ['"', '\''].into_iter().find_map(|quote| reference.strip_prefix(quote)?.split(quote).next());
    publish(quoted.unwrap_or(reference)).map(|public| format!("{delay}; url={public}"))
}

/// Rewrites `<reference>; …, <reference>; …` (RFC 8288, section 3), except within quotes.
fn publish_links(value: &str, publish: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (mut published, mut is_changed, mut is_quoted) = (String::with_capacity(value.len()), false, false);
    let mut rest = value;
    while let Some(at) = rest.find(['<', '"', '\\']) {
        let (before, found) = rest.split_at_checked(at)?;
        published.push_str(before);
        if let Some((reference, behind)) =
            found.strip_prefix('<').filter(|_| !is_quoted).and_then(|inner| inner.split_once('>'))
        {
            let public = publish(reference);
            is_changed |= public.is_some();
            published.extend(["<", public.as_deref().unwrap_or(reference), ">"]);
            rest = behind;
            continue;
        }
        // A backslash in quotes keeps the next character from ending them (RFC 9110, section 5.6.4).
        let taken = if is_quoted && found.starts_with('\\') { 2 } else { 1 };
        is_quoted ^= found.starts_with('"');
        let end = found.char_indices().nth(taken).map_or(found.len(), |(end, _)| end);
        let (signs, behind) = found.split_at_checked(end)?;
        published.push_str(signs);
        rest = behind;
    }
    published.push_str(rest);
    is_changed.then_some(published)
}

/// Splits an absolute URL into its authority, in one spelling for both schemes, and the rest. An
/// upstream that is asked by http:// may believe that it is https://, because `X-Forwarded-Proto`
/// says so: the same host with the same port, or with each scheme's own port, is the same place.
fn split(url: &str) -> Option<(String, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let place = place.strip_suffix(default_port).unwrap_or(place).to_ascii_lowercase();
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        Some(_) | None => (place.as_str(), ""),
    };
    // A name with a dot at its end is the same name.
    Some((format!("{}:{port}", host.strip_suffix('.').unwrap_or(host)), rest))
}

/// Returns whether every parser reads a reference as a path, a query or a fragment.
fn is_plain(reference: &str) -> bool {
    let first = reference.split(['/', '?', '#']).next().unwrap_or_default();
    !reference.starts_with("//")
        && !first.contains(':')
        && !reference.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\')
}
