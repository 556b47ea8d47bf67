//! The ids of a request: its own (UUIDv7, RFC 9562) and its place in a trace
//! (W3C Trace Context, level 1).

use super::{head::Head, limits};
use portcullis_token::UnixMillis;

/// The ids of one request.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) request_id: String,
    pub(super) trace_id: String,
    pub(super) span_id: String,
    /// Id of the client's span, if its trace is continued.
    pub(super) parent_id: Option<String>,
    /// Id of the span of the call to the upstream.
    client_span: [u8; 8],
    flags: u8,
    /// Whether this gateway's spans are exported.
    pub(super) is_sampled: bool,
    /// `tracestate` of a continued trace; it belongs to no other.
    pub(super) tracestate: Option<String>,
}

/// Flag of a trace whose spans are exported (section 3.2.2.5.1).
const SAMPLED: u8 = 1;

impl Ids {
    pub(super) fn new(head: &Head, now: UnixMillis, random: [u8; 48]) -> Self {
        let mut random = random.as_slice();
        let for_id = take(&mut random);
        let request_id = head
            .header("x-request-id")
            // A client's own id is kept only in the hyphenated form, because logs and headers hold it.
            .filter(|text| text.len() == 36)
            .and_then(|text| uuid::Uuid::try_parse(text).ok())
            .unwrap_or_else(|| uuid::Builder::from_unix_timestamp_millis(now.0, &for_id).into_uuid());
        let own_trace: [u8; 16] = take(&mut random);
        let (span, client_span): ([u8; 8], _) = (take(&mut random), take(&mut random));
        let continued = head.header("traceparent").and_then(parse_traceparent);
        let is_valid = |state: &&str| {
            state.len() <= limits::TRACESTATE_BYTES && state.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        };
        let tracestate = continued.and_then(|_| head.header("tracestate").filter(is_valid)).map(str::to_owned);
        let (trace_id, parent_id, flags) = match continued {
            Some((trace_id, parent_id, flags)) => (trace_id.to_owned(), Some(parent_id.to_owned()), flags),
            None => (hex(&own_trace), None, SAMPLED),
        };
        Self {
            request_id: request_id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).to_owned(),
            trace_id,
            span_id: hex(&span),
            parent_id,
            client_span,
            flags,
            is_sampled: false,
            tracestate,
        }
    }

    /// Decides whether the request's spans are exported, and sets the flag for the upstream. A client
    /// may ask not to be sampled, and cannot raise the share that is.
    pub(super) fn sample(&mut self, ratio: f64) {
        self.is_sampled = self.flags & SAMPLED != 0 && self.is_within(ratio);
        self.flags = u8::from(self.is_sampled);
    }

    /// Returns whether the request is within a share (0 to 1), by an id that no client chose: the trace's
    /// where it begins here, so that its log line and its spans are decided by one number; the gateway's
    /// own span's where the trace is a client's, who could choose an id that is always, or never, within it.
    pub(super) fn is_within(&self, share: f64) -> bool {
        let id = if self.parent_id.is_some() { &self.span_id } else { &self.trace_id };
        let end = id.len().checked_sub(8).and_then(|at| id.get(at..));
        let number = end.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        number.is_some_and(|number| f64::from(number) < share * (f64::from(u32::MAX) + 1.0))
    }

    /// Returns the id of the span of the call to the upstream.
    pub(super) fn client_span_id(&self) -> String {
        hex(&self.client_span)
    }

    /// Returns `traceparent` for the upstream, whose spans are children of the call's span if that is
    /// exported.
    pub(super) fn traceparent(&self) -> String {
        let parent = if self.is_sampled { &self.client_span_id() } else { &self.span_id };
        ["00-", &self.trace_id, "-", parent, "-", &hex(&[self.flags])].concat()
    }
}

/// Parses a `traceparent`: the ids of the trace and of the client's span, and the flags.
fn parse_traceparent(text: &str) -> Option<(&str, &str, u8)> {
    let mut parts = text.split('-');
    let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |part: &str, length: usize| is_hex(part, length) && part.bytes().any(|byte| byte != b'0');
    // A later version begins with the four fields of this one (section 4.3).
    let is_version = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    let is_valid = is_version && is_id(trace_id, 32) && is_id(parent_id, 16) && is_hex(flags, 2);
    let flags = u8::from_str_radix(flags, 16).ok()?;
    is_valid.then_some((trace_id, parent_id, flags))
}

/// Writes bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')).collect()
}

/// Takes the first bytes; zeros if there are too few.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    bytes.split_off(..N).and_then(|taken| taken.try_into().ok()).unwrap_or([0; N])
}
