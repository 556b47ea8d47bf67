//! The boundary to JavaScript: the text forms of what crosses it, each parsed and written in one
//! place. A crossing costs more than a string, so each carries one text of lines; no field can
//! hold a line break, because HTTP forbids one in all of them. Only requests with bodies have plans
//! in JSON.
//!
//! | what | direction | form |
//! |---|---|---|
//! | request head | in | method, URL, then names and values of headers in turn |
//! | [`Forward`] | out | URL, method, then names and values in turn; its [`BodyPlan`] as JSON |
//! | [`AnswerFacts`] | in | whether the client had sent its body by then, status, names of all headers |
//! | result of a validator | in | the result, then place, name or pointer, and message of each finding |
//! | failure of a [`Forward`] | in | event, what the body waited for, the client's silence in milliseconds |
//! | [`HeaderChanges`] | out | names to remove, an empty line, then names and values to append |
//! | head of an own answer | out | names and values in turn |
//! | [`EarlyAnswerPlan`], [`DrainPlan`] of an own answer | out | JSON |
//! | error of a rejected promise | in | its name |

use std::borrow::Cow;

use serde::Serialize;

use super::{head::Head, limits};

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
    /// The Worker lacks the binding.
    NotBound,
}

impl Fault {
    /// Returns the fault of a promise that was rejected with an error of this name.
    pub fn of_rejection(name: Option<&str>) -> Self {
        if name == Some("TimeoutError") { Self::TimedOut } else { Self::Unreachable }
    }

    /// Judges why a request to an upstream has no answer. An upstream that closes the connection while
    /// the client owes its body may have given up on the client.
    pub fn of_forward(failure: &str) -> Self {
        let mut lines = failure.split('\n');
        let mut line = || lines.next().unwrap_or_default();
        let (event, awaited, silent_ms) = (line(), line(), line());
        match (event, awaited) {
            ("read_failed", _) => Self::ClientGone,
            ("over_limit", _) => Self::TooLarge,
            ("late", "client") => Self::BodySlow,
            ("late", "upstream") => Self::Stalled,
            ("late", _) => Self::TimedOut,
            (_, "client") if silent_ms.parse().is_ok_and(|ms: u64| ms >= limits::CLIENT_SILENT_MS) => Self::BrokeOff,
            _ => Self::Unreachable,
        }
    }

    /// Returns the fault of an answer whose status is not the expected one.
    pub fn of_status(status: u64) -> Self {
        if matches!(status, 300..=399) { Self::Redirected } else { Self::BadStatus }
    }
}

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
    /// The binding through which it is sent, if not by the runtime's own `fetch`.
    pub binding: Option<&'a str>,
    /// The client's method.
    pub method: &'a str,
    /// All headers, in order.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Milliseconds from the request's end to the answer's headers.
    pub timeout_ms: u64,
    /// Whether the answer's body will be read on its way.
    pub is_timed: bool,
    /// How the client's body is passed on; `None` if none can follow.
    pub body: Option<BodyPlan>,
    /// Whether it is checked against the upstream's OpenAPI document first.
    pub is_validated: bool,
}

/// Writes a plan.
pub fn write_plan(plan: &impl Serialize) -> String {
    serde_json::to_string(plan).unwrap_or_default()
}

/// How the client's body is passed on to an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BodyPlan {
    /// `Content-Length`.
    pub length: Option<u64>,
    /// Whether it is read completely before it is passed on.
    pub is_short: bool,
    /// Bytes at most.
    pub max_bytes: u64,
    /// Milliseconds for the client to send it.
    pub time_ms: u64,
    /// Milliseconds to wait for an early answer before the first byte is sent.
    pub hold_ms: u64,
    /// Bytes that are read meanwhile.
    pub read_ahead_bytes: u64,
    read_ahead_parts: u32,
    /// How the rest of the body is discarded when the upstream does not want it.
    pub drain: DrainPlan,
}

impl BodyPlan {
    /// Plans a body of `length` bytes, if that is known, for which the client has `time_ms`.
    pub fn new(length: Option<u64>, max_bytes: u64, time_ms: u64) -> Self {
        let is_within = |bound| length.is_some_and(|bytes| bytes <= bound);
        Self {
            length,
            is_short: is_within(limits::WHOLE_BODY_BYTES),
            max_bytes,
            time_ms,
            hold_ms: if is_within(limits::HELD_BODY_BYTES) { 0 } else { limits::HOLD_MS },
            read_ahead_bytes: if length.is_some() { 0 } else { limits::READ_AHEAD_BYTES },
            read_ahead_parts: limits::READ_AHEAD_PARTS,
            drain: DrainPlan::new(length),
        }
    }
}

/// How an answer that refuses the rest of the client's body is read before it is passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EarlyAnswerPlan<'a> {
    /// See [`limits::EARLY_ANSWER_BYTES`]; a longer answer is streamed.
    pub max_bytes: u64,
    /// See [`limits::EARLY_ANSWER_MS`]; a slower answer is streamed.
    pub time_ms: u64,
    /// How the rest of the body is discarded meanwhile.
    pub drain: &'a DrainPlan,
}

impl<'a> EarlyAnswerPlan<'a> {
    /// Plans an answer with this `Content-Length`; `None` streams it. A compressed answer would be
    /// decoded.
    pub fn new(facts: &AnswerFacts, content_length: Option<&str>, drain: &'a DrainPlan) -> Option<Self> {
        let (max_bytes, time_ms) = (limits::EARLY_ANSWER_BYTES, limits::EARLY_ANSWER_MS);
        let is_long = content_length.and_then(|text| text.parse().ok()).is_some_and(|bytes: u64| bytes > max_bytes);
        (!is_long && !facts.has_header("content-encoding")).then_some(Self { max_bytes, time_ms, drain })
    }
}

/// How the rest of a refused body is discarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrainPlan {
    /// Bytes of one read.
    pub part_bytes: u64,
    max_bytes: u64,
    time_ms: u64,
    at_once: u32,
}

impl DrainPlan {
    fn new(length: Option<u64>) -> Self {
        Self {
            part_bytes: length.unwrap_or(limits::BODY_PART_BYTES).clamp(1, limits::BODY_PART_BYTES),
            max_bytes: limits::DRAIN_BYTES,
            time_ms: limits::DRAIN_MS,
            at_once: limits::DRAINS,
        }
    }

    /// Plans the rest of the body of a request that gets an answer of the gateway's own, if the runtime
    /// does not read it by itself.
    pub fn for_answer(head: &Head) -> Option<Self> {
        let length = head.body_bytes();
        let is_short = length.is_some_and(|bytes| bytes <= limits::UNDRAINED_BYTES);
        (head.announces_body() && !is_short).then(|| Self::new(length))
    }
}

/// Writes URL, method and headers of a request for an upstream.
pub fn write_request(request: &Forward<'_>) -> String {
    let headers = request.headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
    write_pairs([(request.url.as_str(), request.method)].into_iter().chain(headers))
}

/// Writes the headers of an answer of the gateway's own.
pub fn write_headers(headers: &[(&str, String)]) -> String {
    write_pairs(headers.iter().map(|(name, value)| (*name, value.as_str())))
}

fn write_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    pairs.flat_map(|(name, value)| [name, value]).collect::<Vec<_>>().join("\n")
}

/// What the pipeline knows of an upstream's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerFacts {
    /// Whether the client had sent its whole body by then.
    pub body_ended: bool,
    /// The status: 101, or 200 to 599.
    pub status: u16,
    /// Names of all headers in lower case, in lines.
    names: String,
}

impl AnswerFacts {
    /// Parses the facts.
    ///
    /// # Errors
    /// [`Fault::BadStatus`] when the status cannot be passed on.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut lines = text.splitn(3, '\n');
        // An empty line is a flag that is not set.
        let body_ended = lines.next() == Some("1");
        let status = lines.next().and_then(|line| line.parse().ok());
        let status = status.filter(|status| matches!(status, 101 | 200..=599)).ok_or(Fault::BadStatus)?;
        Ok(Self { body_ended, status, names: lines.next().unwrap_or_default().to_owned() })
    }

    /// Returns whether the upstream wants no more of the client's body (RFC 9112, section 9.5).
    pub fn refuses_body(&self) -> bool {
        !self.body_ended && self.status >= limits::REFUSAL_STATUS
    }

    /// Returns the names of all headers.
    pub fn header_names(&self) -> impl Iterator<Item = &str> {
        self.names.split('\n').filter(|name| !name.is_empty())
    }

    /// Returns whether the answer has a header, by its lower-case name.
    pub fn has_header(&self, name: &str) -> bool {
        self.header_names().any(|known| known == name)
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
}
