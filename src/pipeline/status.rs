//! `/status`: what the isolate that answers knows of upstreams, issuers and revocations, without
//! asking any of them.

use portcullis_resilience::BreakerState;
use serde_json::Value;

use super::{
    answer::Answer, authorizer::Authorizer, gateway::Gateway, introspector::Introspector, issuer::Issuer,
    ports::UpstreamClient, upstream::Upstream,
};
use portcullis_token::{EventForm, UnixMillis, object};

/// Tells callers who are not operators how to get details.
pub(super) const HINT: &str = "send Authorization: Bearer METRICS_TOKEN for details";

/// The state of the gateway or of a part of it, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    Healthy,
    Degraded,
    Unhealthy,
}

impl From<Condition> for Value {
    fn from(condition: Condition) -> Self {
        let name = match condition {
            Condition::Healthy => "healthy",
            Condition::Degraded => "degraded",
            Condition::Unhealthy => "unhealthy",
        };
        name.into()
    }
}

/// A part's condition and its document.
type Part = (Condition, Value);

impl Gateway {
    pub(super) fn answer_status(&self, is_reader: bool, request_id: &str, ports: &impl UpstreamClient) -> Answer {
        let now = ports.now();
        let upstream_part = |upstream| upstream_part(upstream, now, |binding| ports.has_service(binding));
        let upstreams: Vec<Part> = self.upstreams.iter().map(upstream_part).collect();
        let issuers: Vec<Part> = self.authenticator.issuers.iter().map(|issuer| issuer_part(issuer, now)).collect();
        let revocation = self.revocation_part(now);
        let authorizers: Vec<Part> = self.authorizers.iter().map(authorizer_part).collect();
        let fault = self.newer_fault.borrow();
        let policy = if fault.is_some() { Condition::Degraded } else { Condition::Healthy };
        let parts =
            upstreams.iter().chain(&issuers).chain(&authorizers).chain(&revocation).map(|(condition, _)| *condition);
        let worst = parts.fold(policy, Condition::max);
        let document = if is_reader {
            let documents = |parts: Vec<Part>| Value::Array(parts.into_iter().map(|(_, document)| document).collect());
            object([
                ("status", worst.into()),
                ("worker_version", ports.worker_version().into()),
                ("policy_version", self.version.as_str().into()),
                ("policy_origin", self.origin.get().name().into()),
                ("policy_fault", fault.as_deref().into()),
                ("scope", "what the isolate that answered has seen".into()),
                ("upstreams", documents(upstreams)),
                ("issuers", documents(issuers)),
                ("authorizers", documents(authorizers)),
                ("revocation", revocation.map(|(_, document)| document).into()),
                ("resources", self.resources.iter().map(|resource| resource.url.as_str()).collect()),
                ("proofs", self.proofs.as_ref().map(|proofs| proofs.status()).into()),
                ("token_cache", self.authenticator.cache_status()),
            ])
        } else {
            object([("status", worst.into()), ("hint", HINT.into())])
        };
        Answer::json(if worst == Condition::Unhealthy { 503 } else { 200 }, request_id, &document)
    }

    /// `None` when no token can be revoked.
    fn revocation_part(&self, now: UnixMillis) -> Option<Part> {
        let known = self.revocations.known();
        let condition = match (known.last_error(), known.overflows(), self.revocations.is_usable(now)) {
            (None, false, _) => Condition::Healthy,
            (None, true, _) | (Some(_), _, true) | (Some(_), true, _) => Condition::Degraded,
            (Some(_), false, false) => Condition::Unhealthy,
        };
        let document = object([
            ("status", condition.into()),
            ("entries", known.count().into()),
            ("age_ms", known.age_ms(now).into()),
            ("too_large_for_a_copy", known.overflows().into()),
            ("last_error", known.last_error().into()),
        ]);
        self.revocations.is_needed.then_some((condition, document))
    }
}

fn issuer_part(issuer: &Issuer, now: UnixMillis) -> Part {
    if let Some(introspector) = &issuer.introspector {
        return introspector_part(&issuer.name, introspector);
    }
    if let Some(keys) = &issuer.api_keys {
        let error = keys.last_error.get();
        let condition = if error.is_none() { Condition::Healthy } else { Condition::Degraded };
        let document = object([
            ("name", issuer.name.as_str().into()),
            ("status", condition.into()),
            ("api_keys", keys.prefix.as_str().into()),
            ("last_error", error.into()),
        ]);
        return (condition, document);
    }
    let known = issuer.known();
    // An isolate that has not met a token yet has no keys, which is no fault.
    let condition = match (known.usable(now).is_some(), known.last_error) {
        (_, None) => Condition::Healthy,
        (true, Some(_)) => Condition::Degraded,
        (false, Some(_)) => Condition::Unhealthy,
    };
    // Without its secret, a receiver accepts no event.
    let lacks_secret = issuer.receivers.iter().any(|receiver| receiver.fault().is_some());
    let condition = if lacks_secret { condition.max(Condition::Degraded) } else { condition };
    let record = known.record.as_ref();
    let mut document = object([
        ("name", issuer.name.as_str().into()),
        ("status", condition.into()),
        ("keys", record.map_or(0, |record| record.set.keys().len()).into()),
        ("keys_passed_over", record.map_or(0, |record| record.set.passed_over).into()),
        ("key_source", (if known.is_fixed { "policy" } else { "issuer" }).into()),
        ("keys_age_s", known.age_ms(now).map(|age_ms| age_ms / 1000).into()),
        ("last_refresh_s_ago", known.attempt.map(|(at, _)| now.since(at) / 1000).into()),
        ("last_error", known.last_error.into()),
    ]);
    for receiver in &issuer.receivers {
        let name = if receiver.form() == EventForm::Logout { "last_logout_s_ago" } else { "last_event_s_ago" };
        let ago_s = receiver.last_at.get().map(|at| now.since(at) / 1000);
        document.as_object_mut().map(|members| members.insert(name.to_owned(), ago_s.into()));
    }
    (condition, document)
}

/// The part of an issuer without keys.
fn introspector_part(name: &str, introspector: &Introspector) -> Part {
    let ((state, error), has_secret) = (introspector.state(), introspector.fault().is_none());
    let condition = match (has_secret, state, error) {
        (false, ..) => Condition::Unhealthy,
        (true, BreakerState::Closed, None) => Condition::Healthy,
        _ => Condition::Degraded,
    };
    let document = object([
        ("name", name.into()),
        ("status", condition.into()),
        ("introspection_secret", has_secret.into()),
        ("breaker", state.name().into()),
        ("last_error", error.into()),
    ]);
    (condition, document)
}

fn authorizer_part(authorizer: &Authorizer) -> Part {
    let (state, error) = authorizer.state();
    let is_healthy = state == BreakerState::Closed && error.is_none();
    let condition = if is_healthy { Condition::Healthy } else { Condition::Degraded };
    let document = object([
        ("name", authorizer.name().into()),
        ("status", condition.into()),
        ("breaker", state.name().into()),
        ("cached_decisions", authorizer.cached().into()),
        ("last_error", error.into()),
    ]);
    (condition, document)
}

fn upstream_part(upstream: &Upstream, now: UnixMillis, is_bound: impl Fn(&str) -> bool) -> Part {
    let last = upstream.last.get();
    let error = last.and_then(|last| last.error);
    let breakers: Vec<&str> = upstream.breakers().map(BreakerState::name).collect();
    let has_secret = upstream.assertion_fault().is_none();
    let unbound = upstream.unbound(is_bound);
    let condition = match error {
        _ if !has_secret || unbound.is_some() => Condition::Unhealthy,
        None if breakers.iter().all(|name| *name == "closed") => Condition::Healthy,
        _ => Condition::Degraded,
    };
    let document = object([
        ("name", upstream.config.name.as_str().into()),
        ("status", condition.into()),
        ("assertion_secret", has_secret.into()),
        ("assertion_algorithm", upstream.config.assertion.algorithm.name().into()),
        ("assertion_keys", upstream.assertion_keys().iter().map(|held| held.key.kid()).collect()),
        ("binding", upstream.config.binding.as_deref().into()),
        ("binding_missing", unbound.is_some().into()),
        ("breakers", breakers.into()),
        ("maintenance", upstream.config.maintenance.is_some().into()),
        ("waiting", upstream.permits.taken().into()),
        ("last_check_s_ago", last.map(|last| now.since(last.at) / 1000).into()),
        ("last_response_ms", last.map(|last| last.took_ms).into()),
        ("last_error", error.into()),
    ]);
    (condition, document)
}
