//! The ids of a request: its own (UUIDv7, RFC 9562) and its place in a trace
//! (W3C Trace Context, level 1).

use super::head::Head;
use portcullis_token::UnixMillis;

/// The ids of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) request_id: String,
    pub(super) trace_id: String,
    pub(super) span_id: String,
    /// Id of the client's span, if its trace is continued.
    pub(super) parent_id: Option<String>,
    /// Id of the span of the call to the upstream, if spans are exported.
    pub(super) client_span_id: String,
    flags: String,
    /// Whether this gateway's spans are exported.
    is_sampled: bool,
    /// `tracestate` of a continued trace; it belongs to no other.
    pub(super) tracestate: Option<String>,
}

/// Bytes of a `tracestate` that is passed on (W3C, section 3.3.1.5, asks for at least 512).
const TRACESTATE_BYTES: usize = 512;

impl Ids {
    pub(super) fn new(head: &Head, now: UnixMillis, random: [u8; 48]) -> Self {
        let (for_id, rest) = random.split_first_chunk::<10>().map_or(([0; 10], &[][..]), |(a, b)| (*a, b));
        let (for_trace, rest) = rest.split_at_checked(16).unwrap_or((rest, &[]));
        let (for_span, for_client) = rest.split_at_checked(8).unwrap_or((rest, &[]));
        let request_id = head
            .header("x-request-id")
            // A client's own id is kept only in the hyphenated form, because logs and headers hold it.
            .filter(|text| text.len() == 36)
            .and_then(|text| uuid::Uuid::try_parse(text).ok())
            .unwrap_or_else(|| uuid::Builder::from_unix_timestamp_millis(now.0, &for_id).into_uuid())
            .hyphenated()
            .to_string();
        let span_id = hex(for_span);
        let client_span_id = hex(for_client.get(..8).unwrap_or_default());
        match head.header("traceparent").and_then(parse_traceparent) {
            Some(Parent { trace_id, parent_id, flags }) => Self {
                request_id,
                trace_id,
                span_id,
                parent_id: Some(parent_id),
                client_span_id,
                is_sampled: false,
                flags,
                tracestate: head
                    .header("tracestate")
                    .filter(|state| {
                        state.len() <= TRACESTATE_BYTES && state.chars().all(|c| c.is_ascii_graphic() || c == ' ')
                    })
                    .map(str::to_owned),
            },
            None => Self {
                request_id,
                trace_id: hex(for_trace),
                span_id,
                parent_id: None,
                client_span_id,
                is_sampled: false,
                flags: "01".to_owned(),
                tracestate: None,
            },
        }
    }

    /// Decides whether the request's spans are exported, and sets the flag for the upstream. A client
    /// may ask not to be sampled, and cannot raise the share that is.
    pub(super) fn sample(&mut self, is_in_ratio: bool) {
        let wants = u8::from_str_radix(&self.flags, 16).is_ok_and(|flags| flags & 1 == 1);
        self.is_sampled = wants && is_in_ratio;
        self.flags = if self.is_sampled { "01" } else { "00" }.to_owned();
    }

    pub(super) const fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// Returns `traceparent` for the upstream, whose spans are children of the call's span if that is
    /// exported.
    pub(super) fn traceparent(&self) -> String {
        let parent = if self.is_sampled { &self.client_span_id } else { &self.span_id };
        format!("00-{}-{parent}-{}", self.trace_id, self.flags)
    }
}

/// A parsed `traceparent`.
struct Parent {
    trace_id: String,
    parent_id: String,
    flags: String,
}

fn parse_traceparent(text: &str) -> Option<Parent> {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace_id, parent_id, flags, more @ ..] = parts.as_slice() else {
        return None;
    };
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    // A later version begins with the four fields of this one (section 4.3).
    let good = is_hex(version, 2)
        && *version != "ff"
        && (*version != "00" || more.is_empty())
        && is_hex(trace_id, 32)
        && !is_zero(trace_id)
        && is_hex(parent_id, 16)
        && !is_zero(parent_id)
        && is_hex(flags, 2);
    good.then(|| Parent {
        trace_id: (*trace_id).to_owned(),
        parent_id: (*parent_id).to_owned(),
        flags: (*flags).to_owned(),
    })
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(headers: &[(&str, &str)]) -> Ids {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Ids::new(&Head::new("GET".into(), "http://edge.example/", headers), UnixMillis(1_700_000_000_000), [7; 48])
    }

    #[test]
    fn a_well_formed_request_id_is_kept_and_any_other_replaced() {
        let own = "018bcfe5-6800-7707-8707-070707070707";
        for (sent, kept) in [
            ("0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f", "0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f"),
            ("0190B5A2-8C4E-7D3A-9F10-1C2B3A4D5E6F", "0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f"),
            ("0190b5a28c4e7d3a9f101c2b3a4d5e6f", own),
            ("{0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f}", own),
            ("eyJhbGciOiJSUzI1NiJ9.e30.c2ln", own),
            ("", own),
        ] {
            assert_eq!(ids(&[("x-request-id", sent)]).request_id, kept, "{sent}");
        }
    }

    #[test]
    fn a_client_can_lower_the_sampled_share_and_not_raise_it() {
        let sent = |flags: &str| format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        for (flags, is_in_ratio, is_sampled, passed_on) in [
            ("01", true, true, "01"),
            ("03", true, true, "01"),
            ("00", true, false, "00"),
            ("02", true, false, "00"),
            ("01", false, false, "00"),
        ] {
            let mut ids = ids(&[("traceparent", &sent(flags))]);
            ids.sample(is_in_ratio);
            assert_eq!(ids.is_sampled(), is_sampled, "{flags}");
            assert!(ids.traceparent().ends_with(passed_on), "{flags}");
            assert_eq!(ids.parent_id.as_deref(), Some("00f067aa0ba902b7"));
        }
        let mut begun = ids(&[]);
        begun.sample(true);
        assert!(begun.is_sampled() && begun.parent_id.is_none());
    }

    #[test]
    fn a_valid_trace_is_continued_and_an_invalid_one_replaced() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let continued = ids(&[("traceparent", valid), ("tracestate", "a=1")]);
        assert_eq!(continued.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0707070707070707-00");
        assert_eq!(continued.tracestate.as_deref(), Some("a=1"));
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-brings";
        assert_eq!(
            ids(&[("traceparent", later)]).traceparent(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0707070707070707-01"
        );
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01",
        ] {
            let begun = ids(&[("traceparent", bad), ("tracestate", "a=1")]);
            assert_eq!(begun.trace_id, "07".repeat(16), "{bad}");
            assert_eq!(begun.tracestate, None, "{bad}");
        }
    }
}
