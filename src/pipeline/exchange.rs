//! The context of one request on its way through the pipeline.

use std::rc::Rc;

use portcullis_redact::redact;

use super::{
    authenticator::AuthenticatedToken,
    denial::Denial,
    head::Head,
    headers::client_address,
    key_cache::KeySource,
    limits,
    log::{LogRecord, level},
    trace::Ids,
};
use portcullis_token::{Identity, UnixMillis};

/// One request: what arrived, and what each step has found out. The steps fill it in; the log
/// record, the metrics and the spans are written from it at the end.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) head: &'a Head,
    pub(super) ids: Ids,
    /// When the request arrived.
    pub(super) begun: UnixMillis,
    /// Canonical path, redacted; empty until the target is parsed.
    pub(super) path: String,
    /// Index of the route in the policy.
    pub(super) route: Option<usize>,
    /// Index of the upstream in the policy.
    pub(super) upstream: Option<usize>,
    /// The caller's token, once it is verified and not revoked.
    pub(super) token: Option<Rc<AuthenticatedToken>>,
    /// Where the key that checked the token came from.
    pub(super) key_source: Option<KeySource>,
    /// When the upstream was first called, and when it had answered or failed.
    pub(super) upstream_times: Option<(UnixMillis, UnixMillis)>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(head: &'a Head, begun: UnixMillis, random: [u8; 48]) -> Self {
        Self {
            head,
            ids: Ids::new(head, begun, random),
            begun,
            path: String::new(),
            route: None,
            upstream: None,
            token: None,
            key_source: None,
            upstream_times: None,
        }
    }

    /// Returns the caller's identity; `None` on a public route.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.token.as_ref().map(|token| token.identity())
    }

    /// Writes the log record of an exchange that was answered with `status`.
    pub(super) fn record(
        &self,
        status: u16,
        denial: Option<&Denial>,
        (route, upstream): (Option<&str>, Option<&str>),
        now: UnixMillis,
    ) -> LogRecord {
        let head = self.head;
        LogRecord {
            timestamp: String::new(),
            level: level(status),
            service: "gateway",
            request_id: self.ids.request_id.clone(),
            trace_id: self.ids.trace_id.clone(),
            span_id: self.ids.span_id.clone(),
            user_id: self.identity().map(|identity| identity.user_id.clone()),
            method: head.method.chars().take(limits::LOG_METHOD_BYTES).collect(),
            route: route.map(str::to_owned),
            path: self.path.clone(),
            status,
            duration_ms: now.since(self.begun),
            upstream: upstream.map(str::to_owned),
            upstream_ms: self.upstream_times.map(|(from, to)| to.since(from)),
            cache: self.key_source.map(KeySource::name),
            code: denial.map(Denial::code),
            detail: denial.and_then(Denial::detail_for_log).map(str::to_owned),
            user_agent: head.header("user-agent").map(redact),
            ip: client_address(head).map(str::to_owned),
        }
    }
}
