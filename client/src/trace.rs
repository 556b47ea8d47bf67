//! The position of a call in a trace (W3C Trace Context, level 1). A service that runs its work in
//! [`TraceContext::scope`] sends the context with every call that the work makes, without passing it
//! as an argument. Each call has a span of its own.
//!
//! Accept a received `traceparent` only from a trusted caller, such as the gateway when its
//! assertion holds: from anyone else it is arbitrary text in the logs.

use std::{fmt, future::Future};

tokio::task_local! {
    static CURRENT: Option<TraceContext>;
}

/// The known flags: sampled, and random trace id (level 2). Others are not passed on
/// (section 3.2.2.5.2).
const FLAGS: u8 = 0b11;

/// Bytes of an accepted `traceparent`: a later version may be longer than this one.
const TEXT_BYTES: usize = 128;

/// A span in a trace.
///
/// ```
/// use portcullis_client::trace::TraceContext;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let received = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// let id = TraceContext::scope(received, async {
///     // Calls that are made here carry this trace, each with a span of its own.
///     TraceContext::current().map(|trace| trace.trace_id())
/// });
/// assert_eq!(id.await.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
/// assert_eq!(TraceContext::current(), None);
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceContext {
    /// Name of the header.
    pub const HEADER: &'static str = "traceparent";

    /// Parses a `traceparent`. Returns `None` for one that must be ignored (section 3.2.2).
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_BYTES {
            return None;
        }
        let mut parts = text.split('-');
        let version: u8 = hex(parts.next()?)?;
        let (trace, span, flags): (u128, u64, u8) = (hex(parts.next()?)?, hex(parts.next()?)?, hex(parts.next()?)?);
        // Of a later version, the four fields of this one are read (section 4.3).
        let is_version = version != u8::MAX && (version != 0 || parts.next().is_none());
        (is_version && trace != 0 && span != 0).then_some(Self { trace, span, flags: flags & FLAGS })
    }

    /// Returns a child span: same trace and flags, new id.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span: fastrand::u64(1..), ..*self }
    }

    /// Returns the id of the trace: 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Returns the id of the span: 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// Whether the trace is sampled.
    pub const fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// Runs work in a trace, or in none, whatever the caller's trace is. A spawned task does not
    /// inherit the trace; give it a scope of its own.
    pub async fn scope<F: Future>(context: Option<Self>, work: F) -> F::Output {
        CURRENT.scope(context, work).await
    }

    /// Returns the trace of the running work.
    pub fn current() -> Option<Self> {
        CURRENT.try_get().ok().flatten()
    }
}

impl fmt::Display for TraceContext {
    /// Writes a `traceparent`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// Parses a number of fixed width in lower-case hexadecimal digits; `from_str_radix` alone accepts
/// signs, too.
fn hex<N: Number>(text: &str) -> Option<N> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == N::DIGITS && text.bytes().all(is_digit) { N::parse(text) } else { None }
}

trait Number: Sized {
    const DIGITS: usize;
    fn parse(text: &str) -> Option<Self>;
}

macro_rules! number {
    ($type:ty, $digits:literal) => {
        impl Number for $type {
            const DIGITS: usize = $digits;

            fn parse(text: &str) -> Option<Self> {
                Self::from_str_radix(text, 16).ok()
            }
        }
    };
}

number!(u8, 2);
number!(u64, 16);
number!(u128, 32);

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-00ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_as_the_standard_says_or_ignored() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "00ad6b7169203331");
        for (name, text, expected) in [
            ("sampled", TEXT.to_owned(), Some(TEXT.to_owned())),
            ("not sampled", format!("00-{trace}-{span}-00"), Some(format!("00-{trace}-{span}-00"))),
            ("a random id", format!("00-{trace}-{span}-03"), Some(format!("00-{trace}-{span}-03"))),
            ("unknown flags", format!("00-{trace}-{span}-fd"), Some(format!("00-{trace}-{span}-01"))),
            ("a later version", format!("cc-{trace}-{span}-01-what-comes"), Some(TEXT.to_owned())),
            ("no version", format!("ff-{trace}-{span}-01"), None),
            ("more than this version has", format!("{TEXT}-00"), None),
            ("upper case", TEXT.to_ascii_uppercase(), None),
            ("a trace of zeros", format!("00-{}-{span}-01", "0".repeat(32)), None),
            ("a span of zeros", format!("00-{trace}-{}-01", "0".repeat(16)), None),
            ("short", format!("00-{trace}-{span}"), None),
            ("a sign for a digit", format!("00-{trace}-+0ad6b7169203331-01"), None),
            ("a digit too few", format!("00-{trace}-0ad6b7169203331-01"), None),
            ("without end", format!("cc-{trace}-{span}-01-{}", "x".repeat(4096)), None),
            ("nothing", String::new(), None),
        ] {
            assert_eq!(TraceContext::parse(&text).map(|trace| trace.to_string()), expected, "{name}");
        }
    }

    #[test]
    fn a_child_is_of_the_same_trace_with_an_id_of_its_own() {
        let parent = TraceContext::parse(TEXT).unwrap();
        let (one, two) = (parent.child(), parent.child());
        for child in [one, two] {
            assert_eq!((child.trace_id(), child.is_sampled()), (parent.trace_id(), true));
            assert_ne!(child.span_id(), parent.span_id());
            assert_eq!(TraceContext::parse(&child.to_string()), Some(child));
        }
        assert_ne!(one.span_id(), two.span_id());
        assert_eq!(parent.span_id(), "00ad6b7169203331");
    }

    #[tokio::test]
    async fn a_scope_ends_with_its_work_and_is_not_inherited_by_a_task() {
        let trace = TraceContext::parse(TEXT);
        TraceContext::scope(trace, async move {
            assert_eq!(TraceContext::current(), trace);
            assert_eq!(tokio::spawn(async { TraceContext::current() }).await.unwrap(), None);
            let spawned = TraceContext::scope(trace, async { TraceContext::current() });
            assert_eq!(tokio::spawn(spawned).await.unwrap(), trace);
            assert_eq!(TraceContext::scope(None, async { TraceContext::current() }).await, None);
            assert_eq!(TraceContext::current(), trace);
        })
        .await;
        assert_eq!(TraceContext::current(), None);
    }
}
