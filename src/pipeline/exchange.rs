//! The context of one request on its way through the pipeline.

use std::{net::IpAddr, rc::Rc};

use portcullis_redact::redact;

use super::{
    authenticator::AuthenticatedToken,
    denial::Denial,
    head::Head,
    limits,
    log::{LogRecord, Received},
    proofs::Proof,
    trace::Ids,
    upstream::Upstream,
};
use portcullis_policy::Route;
use portcullis_token::{Identity, UnixMillis};

/// One request: what arrived, and what each step has found out. The steps fill it in; the log
/// record, the metrics and the spans are written from it at the end.
pub(super) struct Exchange<'a> {
    pub(super) head: &'a Head,
    pub(super) ids: Ids,
    /// When the request arrived.
    pub(super) begun: UnixMillis,
    /// The client's address from the platform, as sent and parsed. A client-supplied
    /// `X-Forwarded-For` is untrusted and is removed.
    pub(super) client: Option<(&'a str, IpAddr)>,
    /// Canonical path, redacted; empty until the target is parsed.
    pub(super) path: String,
    pub(super) route: Option<&'a Route>,
    pub(super) upstream: Option<&'a Upstream>,
    /// The caller's token, once it is verified. The revocation log may still refuse it.
    pub(super) token: Option<Rc<AuthenticatedToken>>,
    /// The proof that the token is the client's, once it is verified.
    pub(super) proof: Option<Proof>,
    /// `token` when the token was cached; otherwise where the key that checked it came from:
    /// `memory`, `kv` or `issuer`; `introspection` for an opaque token.
    pub(super) key_source: Option<&'static str>,
    /// When the upstream was first called, and when it had answered or failed; `None` without a call.
    pub(super) upstream_times: Option<(UnixMillis, UnixMillis)>,
    /// Status of the upstream's answer.
    pub(super) upstream_status: u16,
    /// What did not happen behind a success, for the log.
    pub(super) fault: Option<&'static str>,
    /// Whether it is for one of the gateway's own endpoints.
    pub(super) is_endpoint: bool,
    /// The security event or the push of the request, if it is for the endpoint of one.
    pub(super) received: Option<Received>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(head: &'a Head, begun: UnixMillis, random: [u8; 48]) -> Self {
        Self {
            head,
            ids: Ids::new(head, begun, random),
            begun,
            client: head.header("cf-connecting-ip").and_then(|text| Some((text, text.parse().ok()?))),
            path: String::new(),
            route: None,
            upstream: None,
            token: None,
            proof: None,
            key_source: None,
            upstream_times: None,
            upstream_status: 0,
            fault: None,
            is_endpoint: false,
            received: None,
        }
    }

    /// Returns the caller's identity; `None` on a public route.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.token.as_ref().map(|token| token.verified.identity())
    }

    /// Returns the token header that held the caller's token; `None` for `Authorization` and the cookie.
    pub(super) fn token_header(&self) -> Option<&str> {
        self.token.as_ref()?.issuer.token_header.as_deref()
    }

    /// Returns whether caches cannot see that the answer is for one user: they treat only `Authorization` as a
    /// credential (RFC 9111, section 3.5).
    pub(super) fn has_hidden_credentials(&self) -> bool {
        let may_be_cookie = self.token.is_some() && self.route.is_some_and(|route| route.token_cookie);
        self.token_header().is_some() || (may_be_cookie && self.head.header("authorization").is_none())
    }

    /// Returns the client's address.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.client.map(|(_, address)| address)
    }

    /// Writes the log record of an exchange that was answered with `status`.
    pub(super) fn record(&self, status: u16, denial: Option<&Denial>, now: UnixMillis) -> LogRecord {
        let method = &self.head.method;
        LogRecord {
            timestamp: String::new(),
            level: match status {
                500.. => "error",
                400..=499 => "warn",
                _ => "info",
            },
            service: "gateway",
            worker_version: None,
            request_id: self.ids.request_id.clone(),
            trace_id: self.ids.trace_id.clone(),
            span_id: self.ids.span_id.clone(),
            user_id: self.identity().map(|identity| identity.user_id.clone()),
            method: method.get(..method.floor_char_boundary(limits::LOG_METHOD_BYTES)).unwrap_or_default().to_owned(),
            route: self.route.map(|route| route.path.clone()),
            path: self.path.clone(),
            status,
            duration_ms: now.since(self.begun),
            upstream: self.upstream.map(|upstream| upstream.config.name.clone()),
            upstream_ms: self.upstream_times.map(|(from, to)| to.since(from)),
            cache: self.key_source,
            code: denial.map(Denial::code),
            detail: denial.and_then(Denial::detail_for_log).or(self.fault).map(str::to_owned),
            user_agent: self.head.header("user-agent").map(redact),
            received: self.received,
            ip: self.client.map(|(text, _)| text.to_owned()),
        }
    }
}
