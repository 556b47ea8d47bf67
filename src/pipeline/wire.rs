//! The boundary to JavaScript: the text forms of what crosses it, each parsed and written in one
//! place. A crossing costs more than a string, so each carries one text of lines; no field can
//! hold a line break, because HTTP forbids one in all of them.
//!
//! | what | direction | lines |
//! |---|---|---|
//! | request head | in | method, URL, then names and values of headers in turn |
//! | request for an upstream | out | URL, method, then names and values in turn |
//! | facts of an upstream's answer | in | see [`AnswerFacts`] |
//! | changes to its headers | out | names to remove, an empty line, then names and values to append |
//! | head of an own answer | out | names and values in turn |
//! | [`Fault`] | in | its name |

use std::{borrow::Cow, ops::Range};

use super::head::Head;

/// What went wrong in JavaScript. The runtime's own texts stay there: they may hold a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No connection, or the peer closed it before the answer's headers arrived.
    Unreachable,
    /// No answer within the time.
    TimedOut,
    /// A redirect, which is not followed.
    Redirected,
    /// The answer's status is not valid or not the expected one.
    BadStatus,
    /// A body is longer than allowed: the client's, or that of a document.
    TooLarge,
    /// The client did not send its body in time.
    BodySlow,
    /// The client closed the connection before the end of its body.
    ClientGone,
    /// The upstream closed the connection after the client had sent nothing for a while.
    BrokeOff,
    /// The upstream did not read what the client sent.
    Stalled,
    /// A setting is malformed.
    BadSetting,
    /// The Worker lacks the binding.
    NotBound,
}

impl Fault {
    /// All faults with their names.
    const NAMES: [(Self, &'static str); 11] = [
        (Self::Unreachable, "unreachable"),
        (Self::TimedOut, "timed_out"),
        (Self::Redirected, "redirected"),
        (Self::BadStatus, "bad_status"),
        (Self::TooLarge, "too_large"),
        (Self::BodySlow, "body_slow"),
        (Self::ClientGone, "client_gone"),
        (Self::BrokeOff, "broke_off"),
        (Self::Stalled, "stalled"),
        (Self::BadSetting, "bad_setting"),
        (Self::NotBound, "not_bound"),
    ];

    /// Parses the name of a fault. A name that is not known, or none, is [`Fault::Unreachable`].
    pub fn from_name(name: Option<&str>) -> Self {
        let known = Self::NAMES.iter().find(|(_, known)| Some(*known) == name);
        known.map_or(Self::Unreachable, |(fault, _)| *fault)
    }

    /// Parses the fault of a request to an upstream. An upstream that closes the connection while
    /// the client owes its body may have given up on the client.
    pub fn of_forward(name: Option<&str>, facts: &str) -> Self {
        let fault = Self::from_name(name);
        if fault == Self::Unreachable && !facts.starts_with(YES) { Self::BrokeOff } else { fault }
    }
}

/// A flag that is set; an empty line is one that is not.
const YES: &str = "1";

/// Parses the head of a request.
pub fn parse_head(text: &str) -> Head {
    let mut lines = text.split('\n');
    let method = lines.next().unwrap_or_default().to_owned();
    let url = lines.next().unwrap_or_default();
    let mut headers = Vec::new();
    while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
        headers.push((name.to_owned(), value.to_owned()));
    }
    Head::new(method, url, headers)
}

/// A request for an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward<'a> {
    /// Absolute URL; its path and query are the canonical target.
    pub url: String,
    /// The client's method.
    pub method: &'a str,
    /// All headers, in order.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Milliseconds from the request's end to the answer's headers.
    pub timeout_ms: u64,
    /// Milliseconds for the client to send its body.
    pub body_timeout_ms: u64,
    /// Bytes of the body, at most.
    pub max_body_bytes: u64,
    /// Whether the answer's body will be read on its way.
    pub is_timed: bool,
}

/// Writes a request for an upstream.
pub fn write_request(request: &Forward<'_>) -> String {
    let headers = request.headers.iter().flat_map(|(name, value)| [name.as_ref(), value.as_ref()]);
    let lines: Vec<&str> = [request.url.as_str(), request.method].into_iter().chain(headers).collect();
    lines.join("\n")
}

/// Writes the headers of an answer of the gateway's own.
pub fn write_headers(headers: &[(&str, String)]) -> String {
    let lines: Vec<&str> = headers.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
    lines.join("\n")
}

/// What the pipeline knows of an upstream's answer. The lines are: whether the client had sent
/// its body, the status, whether there is `Retry-After`, `WWW-Authenticate` of a 401, the URL that
/// answered, the number of headers with references, their names and values in turn, and the names
/// of all headers. Names are in lower case; a flag is `1` or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerFacts {
    /// The status: 101, or 200 to 599.
    pub status: u16,
    /// Whether the answer has `Retry-After`.
    pub asks_for_pause: bool,
    /// Whether the client had sent its whole body by then.
    pub body_ended: bool,
    text: String,
    challenge: Range<usize>,
    url: Range<usize>,
    references: Range<usize>,
    names: Range<usize>,
}

impl AnswerFacts {
    /// Parses the facts.
    ///
    /// # Errors
    /// The text, when it has no status, as with a fault.
    pub fn from_wire(text: String) -> Result<Self, String> {
        let Some((status, asks_for_pause, body_ended, [challenge, url, references, names])) = parse_facts(&text) else {
            return Err(text);
        };
        Ok(Self { status, asks_for_pause, body_ended, text, challenge, url, references, names })
    }

    /// Returns `WWW-Authenticate` of a 401.
    pub fn challenge(&self) -> Option<&str> {
        self.text.get(self.challenge.clone()).filter(|challenge| !challenge.is_empty())
    }

    /// Returns the URL that answered, if there are references.
    pub fn url(&self) -> &str {
        self.text.get(self.url.clone()).unwrap_or_default()
    }

    /// Returns names and values of the headers with references.
    pub fn references(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut lines = self.text.get(self.references.clone()).unwrap_or_default().split('\n');
        std::iter::from_fn(move || Some((lines.next()?, lines.next()?)))
    }

    /// Returns the names of all headers.
    pub fn header_names(&self) -> impl Iterator<Item = &str> {
        let names = self.text.get(self.names.clone()).unwrap_or_default();
        names.split('\n').filter(|name| !name.is_empty())
    }
}

/// Returns status, flags, and the places of challenge, URL, references and names.
fn parse_facts(text: &str) -> Option<(u16, bool, bool, [Range<usize>; 4])> {
    let mut lines = Lines { text, at: 0 };
    let body_ended = lines.next_text()? == YES;
    let status = lines.next_text()?.parse().ok()?;
    let asks_for_pause = lines.next_text()? == YES;
    let (challenge, url) = (lines.next_line()?, lines.next_line()?);
    let count: usize = lines.next_text()?.parse().ok()?;
    let from = lines.at.min(text.len());
    for _ in 0..count.checked_mul(2)? {
        lines.next_line()?;
    }
    let to = lines.at.min(text.len());
    Some((status, asks_for_pause, body_ended, [challenge, url, from..to, to..text.len()]))
}

/// The lines of a text, with their places.
struct Lines<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lines<'a> {
    /// Returns the place of the next line.
    fn next_line(&mut self) -> Option<Range<usize>> {
        let rest = self.text.get(self.at..)?;
        let end = self.at.checked_add(rest.find('\n').unwrap_or(rest.len()))?;
        let line = self.at..end;
        self.at = end.checked_add(1)?;
        Some(line)
    }

    fn next_text(&mut self) -> Option<&'a str> {
        let line = self.next_line()?;
        self.text.get(line)
    }
}

/// Changes to the headers of an upstream's answer: first headers are removed, then others are
/// appended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderChanges(String);

impl HeaderChanges {
    /// Begins with the names of headers to remove, in lower case.
    pub fn removing<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut text = String::new();
        names.for_each(|name| text.extend([name, "\n"]));
        Self(text)
    }

    /// Appends a header.
    pub fn append(&mut self, name: &str, value: &str) {
        self.0.extend(["\n", name, "\n", value]);
    }

    /// Returns the changes as they cross.
    pub fn as_wire(&self) -> &str {
        &self.0
    }

    /// Parses the changes: names to remove, and headers to append.
    pub fn parse(&self) -> (Vec<&str>, Vec<(&str, &str)>) {
        let mut lines = self.0.split('\n');
        let removed = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        (removed, std::iter::from_fn(|| Some((lines.next()?, lines.next()?))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_one_name_and_is_read_back() {
        for (fault, name) in Fault::NAMES {
            assert_eq!(Fault::from_name(Some(name)), fault, "{name}");
            assert_eq!(Fault::NAMES.iter().filter(|(_, known)| *known == name).count(), 1, "{name}");
        }
        assert_eq!(Fault::from_name(Some("another")), Fault::Unreachable);
        assert_eq!(Fault::from_name(None), Fault::Unreachable);
        for (name, facts, expected) in [
            ("unreachable", "1", Fault::Unreachable),
            ("unreachable", "", Fault::BrokeOff),
            ("timed_out", "", Fault::TimedOut),
        ] {
            assert_eq!(Fault::of_forward(Some(name), facts), expected, "{name} {facts:?}");
        }
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        for headers in [vec![], vec![("accept", "*/*"), ("x-empty", ""), ("cookie", "a=1; b=2")]] {
            let owned: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let mut text = "PATCH\nhttps://edge.example:8443/a?b".to_owned();
            headers.iter().for_each(|(name, value)| text.push_str(&format!("\n{name}\n{value}")));
            assert_eq!(parse_head(&text), Head::new("PATCH".into(), "https://edge.example:8443/a?b", owned));
        }
        assert_eq!(parse_head(""), Head::new(String::new(), "", vec![]));
    }

    #[test]
    fn facts_are_read_as_they_were_written() {
        for (challenge, references, names) in [
            ("", vec![], vec![]),
            ("", vec![], vec!["content-type"]),
            ("Bearer realm=\"x\"", vec![], vec!["www-authenticate", "date"]),
            ("", vec![("location", "/x"), ("link", "")], vec!["location", "link", "etag"]),
        ] {
            for (flag, is_set) in [("1", true), ("", false)] {
                let url = if references.is_empty() { "" } else { "https://up.example/a" };
                let pairs: Vec<&str> = references.iter().flat_map(|(name, value)| [*name, *value]).collect();
                let count = references.len().to_string();
                let mut lines = vec![flag, "401", flag, challenge, url, &count];
                lines.extend(pairs.iter().chain(&names));
                let facts = AnswerFacts::from_wire(lines.join("\n")).unwrap();
                assert_eq!((facts.status, facts.asks_for_pause, facts.body_ended), (401, is_set, is_set));
                assert_eq!((facts.challenge().unwrap_or_default(), facts.url()), (challenge, url));
                assert_eq!(facts.references().collect::<Vec<_>>(), references);
                assert_eq!(facts.header_names().collect::<Vec<_>>(), names);
            }
        }
        for text in ["", "1", "1\n", "1\n200", "1\nx\n\n\n\n0", "1\n200\n\n\n\n1\nlocation", "1\n200\n\n\n\n-1"] {
            assert_eq!(AnswerFacts::from_wire(text.to_owned()), Err(text.to_owned()));
        }
    }

    #[test]
    fn changes_are_read_as_they_were_written() {
        for (removed, appended) in [
            (vec![], vec![]),
            (vec!["server"], vec![]),
            (vec![], vec![("vary", "Origin"), ("x-empty", ""), ("x-request-id", "7")]),
            (vec!["server", "via"], vec![("x-empty", ""), ("x-request-id", "7")]),
        ] {
            let mut changes = HeaderChanges::removing(removed.iter().copied());
            appended.iter().for_each(|(name, value)| changes.append(name, value));
            assert_eq!(changes.parse(), (removed, appended));
        }
    }

    #[test]
    fn each_outgoing_field_is_one_line() {
        let request = Forward {
            url: "https://up.example/x".into(),
            method: "GET",
            headers: vec![("accept".into(), "*/*".into()), ("x-empty".into(), "".into())],
            timeout_ms: 1,
            body_timeout_ms: 1,
            max_body_bytes: 1,
            is_timed: false,
        };
        assert_eq!(write_request(&request), "https://up.example/x\nGET\naccept\n*/*\nx-empty\n");
        assert_eq!(write_headers(&[("vary", "Origin".into()), ("x-empty", String::new())]), "vary\nOrigin\nx-empty\n");
    }
}
