//! `/status`: what the isolate that answers knows of upstreams, issuers and revocations, without
//! asking any of them.

use portcullis_resilience::BreakerState;
use serde_json::{Value, json};

use super::{answer::Answer, authenticator::Issuer, denial::Denial, gateway::Gateway, upstream::Upstream};
use portcullis_token::UnixMillis;

/// Where callers who are not operators find no details.
pub(super) const HINT: &str = "send Authorization: Bearer METRICS_TOKEN for details";

/// The state of the gateway or of a part of it, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    Healthy,
    Degraded,
    Unhealthy,
}

impl Condition {
    const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// A part's condition and its document.
type Part = (Condition, Value);

impl Gateway {
    pub(super) fn answer_status(&self, is_operator: bool, request_id: &str, now: UnixMillis) -> Answer {
        let upstreams: Vec<Part> = self.upstreams.iter().map(|upstream| upstream_part(upstream, now)).collect();
        let issuers = self.authenticator.issuers.iter().enumerate();
        let issuers: Vec<Part> = issuers.filter_map(|(index, issuer)| self.issuer_part(index, issuer, now)).collect();
        let revocation = self.revocation_part(now);
        let source = self.source();
        let policy = if source.newer_fault.is_some() { Condition::Degraded } else { Condition::Healthy };
        let parts = upstreams.iter().chain(&issuers).chain(&revocation).map(|(condition, _)| *condition);
        let worst = parts.fold(policy, Condition::max);
        let document = if is_operator {
            let documents = |parts: Vec<Part>| parts.into_iter().map(|(_, document)| document).collect::<Vec<_>>();
            let cache = self.authenticator.tokens.borrow().status();
            json!({
                "status": worst.name(),
                "policy_version": self.version(),
                "policy_origin": source.origin.name(),
                "policy_fault": source.newer_fault,
                "scope": "what the isolate that answered has seen",
                "upstreams": documents(upstreams),
                "issuers": documents(issuers),
                "revocation": revocation.map(|(_, document)| document),
                "token_cache": {
                    "tokens": cache.tokens,
                    "bytes": cache.bytes,
                    "hits": cache.hits,
                    "misses": cache.misses,
                },
            })
        } else {
            json!({ "status": worst.name(), "hint": HINT })
        };
        Answer::state(if worst == Condition::Unhealthy { 503 } else { 200 }, request_id, &document)
    }

    fn issuer_part(&self, index: usize, issuer: &Issuer, now: UnixMillis) -> Option<Part> {
        let keys = self.authenticator.keys.status(index, now)?;
        // An isolate that has not met a token yet has no keys, which is no fault.
        let condition = match (keys.is_usable, keys.last_error) {
            (_, None) => Condition::Healthy,
            (true, Some(_)) => Condition::Degraded,
            (false, Some(_)) => Condition::Unhealthy,
        };
        let document = json!({
            "name": issuer.name,
            "status": condition.name(),
            "keys": keys.keys,
            "keys_passed_over": keys.passed_over,
            "keys_age_s": keys.age_ms.map(|age| age / 1000),
            "last_refresh_s_ago": keys.last_attempt_ms_ago.map(|ago| ago / 1000),
            "last_error": keys.last_error,
        });
        Some((condition, document))
    }

    /// `None` when no token can be revoked.
    fn revocation_part(&self, now: UnixMillis) -> Option<Part> {
        let status = self.revocations.status(now)?;
        let condition = match (status.last_error, status.overflows, status.is_usable) {
            (None, false, _) => Condition::Healthy,
            (None, true, _) | (Some(_), _, true) | (Some(_), true, _) => Condition::Degraded,
            (Some(_), false, false) => Condition::Unhealthy,
        };
        let document = json!({
            "status": condition.name(),
            "entries": status.entries,
            "age_ms": status.age_ms,
            "too_large_for_a_copy": status.overflows,
            "last_error": status.last_error,
        });
        Some((condition, document))
    }
}

fn upstream_part(upstream: &Upstream, now: UnixMillis) -> Part {
    let last = upstream.last_answer();
    let error = last.and_then(|last| last.error).map(|error| Denial::of_upstream(error, upstream.on_down, None).code());
    let breakers: Vec<&str> = upstream.breakers().map(BreakerState::name).collect();
    let has_secret = upstream.assertion_fault().is_none();
    let condition = if !has_secret {
        Condition::Unhealthy
    } else if error.is_some() || breakers.iter().any(|name| *name != "closed") {
        Condition::Degraded
    } else {
        Condition::Healthy
    };
    let document = json!({
        "name": upstream.name,
        "status": condition.name(),
        "assertion_secret": has_secret,
        "breakers": breakers,
        "maintenance": upstream.maintenance_s.is_some(),
        "waiting": upstream.waiting(),
        "last_check_s_ago": last.map(|last| now.since(last.at) / 1000),
        "last_response_ms": last.map(|last| last.took_ms),
        "last_error": error,
    });
    (condition, document)
}
