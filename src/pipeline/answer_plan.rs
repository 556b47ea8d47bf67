//! How an upstream's answer is passed on: which of its headers are removed, replaced and added,
//! and when its body is cut off. The host carries the plan out and decides nothing.

use super::{
    exchange::Exchange,
    gateway::Gateway,
    limits,
    ports::{Forwarded, UpstreamClient},
    proofs::NONCE_HEADER,
    references::{REFERENCE_HEADERS, References},
    upstream::Upstream,
    wire::{AnswerFacts, HeaderChanges},
};
use portcullis_policy::{Route, is_cors_header, is_private, is_same_header};

/// Keeps browsers from taking an answer for something other than its content type says.
const CONTENT_TYPE_OPTIONS: &str = "x-content-type-options";

const CACHE_CONTROL: &str = "cache-control";

/// How the host passes an upstream's answer on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPlan {
    /// Changes to its headers; `X-Request-Id` comes last.
    pub changes: HeaderChanges,
    /// Milliseconds without a byte after which its body is cut off.
    pub idle_timeout_ms: Option<u64>,
    /// Length of a body with an idle time-out, which the host passes on itself; `None` in chunks.
    pub body_bytes: Option<u64>,
}

impl Gateway {
    /// Plans how the answer of the exchange's upstream is passed on.
    pub(super) fn plan_answer<P: UpstreamClient>(
        &self,
        exchange: &Exchange<'_>,
        (route, upstream): (&Route, &Upstream),
        Forwarded { reply, url, facts }: &Forwarded<P::Reply>,
        ports: &P,
    ) -> AnswerPlan {
        let rules = &route.response_headers;
        let nonce = exchange.proof.filter(|proof| proof.has_old_nonce).and_then(|_| self.new_nonce(exchange));
        // A nonce out of a cache would soon be an old one (RFC 9449, section 8.2).
        let is_uncacheable = nonce.is_some();
        let rewrite = |name: &str| {
            let value = ports.header(reply, name)?;
            let references = References::new(url, exchange.head, route, upstream);
            references.rewrite_header((name, &value), |reference, base| ports.resolve(reference, base))
        };
        // Headers that would lead the client to the upstream.
        let mut replaced: Vec<(&str, String)> = Vec::new();
        let mut changes = HeaderChanges::removing(facts.header_names().filter(|name| {
            // The service's nonce would be for proofs that it checks itself.
            let is_own_nonce = *name == NONCE_HEADER && exchange.proof.is_some();
            let is_own = *name == "x-request-id" || is_own_nonce || (is_uncacheable && *name == CACHE_CONTROL);
            if is_private(name) || is_cors_header(name) || rules.covers(name) || is_own {
                return true;
            }
            let public = if REFERENCE_HEADERS.contains(name) { rewrite(name) } else { None };
            let is_replaced = public.is_some();
            replaced.extend(public.map(|public| (*name, public)));
            is_replaced
        }));
        for (name, value) in self.cors_headers(exchange.head, Some(route)) {
            changes.append(name, &value);
        }
        if let Some(header) = exchange.token_header() {
            changes.append("vary", header);
        }
        if is_uncacheable {
            changes.append(CACHE_CONTROL, "no-store");
        } else if exchange.has_hidden_credentials() {
            let is_sent = facts.has_header(CACHE_CONTROL) && !rules.covers(CACHE_CONTROL);
            let sent = if is_sent { ports.header(reply, CACHE_CONTROL) } else { None };
            let mut set = rules.set.iter().filter(|(name, _)| is_same_header(name, CACHE_CONTROL));
            let value = set.next().and_then(|(_, value)| value.text()).or(sent.as_ref());
            // A cache in front of the proxy that adds the token header does not see it, so `Vary` is not enough.
            if !value.is_some_and(|value| rules_shared_caches(value)) {
                changes.append(CACHE_CONTROL, "private");
            }
        }
        // Only requests have values of claims.
        for (name, value) in rules.set.iter().filter_map(|(name, value)| Some((name, value.text()?))) {
            if !is_uncacheable || !is_same_header(name, CACHE_CONTROL) {
                changes.append(name, value);
            }
        }
        for (name, value) in &replaced {
            changes.append(name, value);
        }
        if route.nosniff && !rules.covers(CONTENT_TYPE_OPTIONS) && !facts.has_header(CONTENT_TYPE_OPTIONS) {
            changes.append(CONTENT_TYPE_OPTIONS, "nosniff");
        }
        if let Some(nonce) = &nonce {
            changes.append(NONCE_HEADER, nonce);
        }
        changes.append("x-request-id", &exchange.ids.request_id);
        let idle_timeout_ms = upstream.config.idle_timeout_ms;
        let content_length = idle_timeout_ms.and_then(|_| ports.header(reply, "content-length"));
        let body_bytes = content_length.as_deref().and_then(|text| trusted_length(facts, text));
        AnswerPlan { changes, idle_timeout_ms, body_bytes }
    }
}

/// Returns whether `Cache-Control` says what shared caches may do with an answer (RFC 9111, section 5.2.2). `private` with
/// names of headers is about these alone.
fn rules_shared_caches(cache_control: &str) -> bool {
    // A comma in quotes separates names of headers.
    let unquoted: String = cache_control.split('"').step_by(2).collect();
    unquoted.split(',').any(|directive| {
        let (name, _) = directive.split_once('=').unwrap_or((directive, ""));
        ["public", "s-maxage", "no-store"].iter().any(|known| name.trim().eq_ignore_ascii_case(known))
            || directive.trim().eq_ignore_ascii_case("private")
    })
}

/// Returns the length of an answer's body, unless the upstream sent several or chunks as well (RFC 9112,
/// section 6.3).
fn trusted_length(facts: &AnswerFacts, content_length: &str) -> Option<u64> {
    let is_single = content_length.bytes().all(|byte| byte.is_ascii_digit()) && !facts.has_header("transfer-encoding");
    content_length.parse().ok().filter(|bytes| is_single && *bytes <= limits::STATED_LENGTH_BYTES)
}
