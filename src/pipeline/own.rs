//! The gateway's own endpoints: `/health`, `/ready`, `/status`, `/metrics`, and where
//! issuers push revocations. They answer before any route is looked at, and name no URL.
//! Names and details are for operators alone: strangers learn from `/status` and `/ready`
//! only how the gateway is.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{
    Answer, Chore, Denial, Gate, Head, LogLine, headers::client_address, limiter, ports::Ports, revocations::PUSH_PATH,
    scrape::check_operator,
};
use crate::{config::is_own_path, route::Target, token::UnixMillis};

/// What this isolate last saw of an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    at: Option<UnixMillis>,
    took_ms: u64,
    fault: Option<&'static str>,
}

impl Seen {
    pub(super) fn note(&mut self, at: UnixMillis, took_ms: u64, fault: Option<&'static str>) {
        *self = Self { at: Some(at), took_ms, fault };
    }
}

/// How well the gateway is, worst last.
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

/// Where strangers find no details.
const HINT: &str = "send Authorization: Bearer METRICS_TOKEN for details";

/// Liveness: always 200 while the worker runs.
pub(super) fn health(request_id: &str) -> Answer {
    Answer::json(200, request_id, &json!({ "status": "ok" }))
}

impl Gate {
    /// The answer of an own endpoint, or `None` when the path is not one.
    pub(super) async fn answer_own<P: Ports>(
        &self,
        head: &Head,
        target: &Target,
        request_id: &str,
        ports: &P,
        line: &mut LogLine,
        chores: &mut Vec<Chore>,
    ) -> Option<Result<Answer, Denial>> {
        let path = target.path();
        if !is_own_path(path) {
            return None;
        }
        let answer = self.answer_at(path, head, request_id, ports, line, chores).await;
        // A guess is a guess wherever it is tried.
        Some(answer.map_err(|denial| self.limit_failure(denial, head, ports, chores)))
    }

    async fn answer_at<P: Ports>(
        &self,
        path: &str,
        head: &Head,
        request_id: &str,
        ports: &P,
        line: &mut LogLine,
        chores: &mut Vec<Chore>,
    ) -> Result<Answer, Denial> {
        if path == PUSH_PATH && self.issuers.iter().any(|issuer| issuer.pusher.is_some()) {
            return self.answer_push(head, request_id, ports, line, chores).await;
        }
        if path == "/metrics" && matches!(head.method.as_str(), "GET" | "HEAD") {
            return self.answer_metrics(head, request_id, ports).await;
        }
        if !matches!(path, "/health" | "/ready" | "/status") {
            return Err(Denial::RouteUnknown);
        }
        if !matches!(head.method.as_str(), "GET" | "HEAD") {
            return Err(Denial::MethodNotAllowed { allow: "GET, HEAD".to_owned() });
        }
        if path == "/health" {
            return Ok(health(request_id));
        }
        let is_operator = self.is_operator(head)?;
        if path == "/ready" {
            return Ok(self.answer_ready(is_operator, request_id, ports, chores).await);
        }
        Ok(self.answer_status(is_operator, request_id, ports.now()))
    }

    /// Whether names and details may be shown: to the bearer of `METRICS_TOKEN`, and on a
    /// developer's machine to its own user.
    fn is_operator(&self, head: &Head) -> Result<bool, Denial> {
        match &self.metrics_token {
            Some(expected) if head.header("authorization").is_some() => check_operator(head, expected).map(|()| true),
            Some(_) | None => {
                let address = client_address(head).and_then(|text| text.parse::<IpAddr>().ok());
                Ok(self.is_development && address.is_some_and(|address| address.to_canonical().is_loopback()))
            }
        }
    }

    /// Ready means: every secret is set, every rate limit is bound, and every issuer's
    /// tokens can be checked.
    async fn answer_ready<P: Ports>(
        &self,
        is_operator: bool,
        request_id: &str,
        ports: &P,
        chores: &mut Vec<Chore>,
    ) -> Answer {
        let mut missing: Vec<String> =
            self.upstreams.iter().filter_map(|upstream| upstream.assertion.as_ref().err().cloned()).collect();
        for limit in &self.policy.limits {
            let binding = limiter::binding(&limit.name);
            if !ports.has_limit(&binding) {
                missing.push(format!("rate limit {binding} is not bound; see wrangler.toml"));
            }
        }
        for index in 0..self.issuers.len() {
            if !self.has_keys(index, ports, chores).await {
                let name = self.issuers.get(index).map(|issuer| issuer.name.as_str()).unwrap_or_default();
                missing.push(format!("keys of issuer {name} cannot be had"));
            }
        }
        if !self.knows_revoked(ports, chores).await {
            missing.push("the revocation log cannot be read".to_owned());
        }
        let ready = missing.is_empty();
        let status = if ready { 200 } else { 503 };
        let document = match (ready, is_operator) {
            (false, false) => json!({ "ready": false, "hint": HINT }),
            (_, true) => json!({ "ready": ready, "missing": missing }),
            (true, false) => json!({ "ready": true }),
        };
        let mut answer = Answer::json(status, request_id, &document);
        if !ready {
            answer.headers.push(("retry-after", super::limits::UPSTREAM_RETRY_S.to_string()));
        }
        answer
    }

    /// What this isolate knows, without asking anybody.
    fn answer_status(&self, is_operator: bool, request_id: &str, now: UnixMillis) -> Answer {
        let mut worst = Condition::Healthy;
        let upstreams: Vec<Value> = self
            .upstreams
            .iter()
            .map(|upstream| {
                let seen = *upstream.seen.borrow();
                let breakers: Vec<&str> =
                    upstream.targets.iter().map(|target| target.breaker.borrow().state().name()).collect();
                let closed = breakers.iter().filter(|name| **name == "closed").count();
                let condition = match (&upstream.assertion, seen.fault) {
                    (Err(_), _) => Condition::Unhealthy,
                    (Ok(_), Some(_)) => Condition::Degraded,
                    (Ok(_), None) if closed < breakers.len() => Condition::Degraded,
                    (Ok(_), None) => Condition::Healthy,
                };
                worst = worst.max(condition);
                json!({
                    "name": upstream.name,
                    "status": condition.name(),
                    "assertion_secret": upstream.assertion.is_ok(),
                    "breakers": breakers,
                    "maintenance": upstream.maintenance_s.is_some(),
                    "waiting": upstream.waiting.len(),
                    "last_check_s_ago": seen.at.map(|at| now.since(at) / 1000),
                    "last_response_ms": seen.at.map(|_| seen.took_ms),
                    "last_error": seen.fault,
                })
            })
            .collect();
        let issuers: Vec<Value> = self
            .issuers
            .iter()
            .map(|issuer| {
                let holding = issuer.holding.borrow();
                // An isolate that has not met a token yet has no keys, and that
                // is no fault.
                let condition = match (holding.is_usable(now), holding.last_error) {
                    (true, None) => Condition::Healthy,
                    (true, Some(_)) => Condition::Degraded,
                    (false, None) => Condition::Healthy,
                    (false, Some(_)) => Condition::Unhealthy,
                };
                worst = worst.max(condition);
                json!({
                    "name": issuer.name,
                    "status": condition.name(),
                    "keys": holding.record.as_ref().map_or(0, |record| record.set.keys().len()),
                    "keys_passed_over": holding.record.as_ref().map_or(0, |record| record.set.passed_over()),
                    "keys_age_s": holding.record.as_ref().map(|record| now.since(record.fetched_at) / 1000),
                    "last_refresh_s_ago": holding.last_attempt_at().map(|at| now.since(at) / 1000),
                    "last_error": holding.last_error,
                })
            })
            .collect();
        let revocation = self.revocation_status(now);
        if let Some((condition, _)) = &revocation {
            worst = worst.max(*condition);
        }
        let remembered = self.remembered.borrow();
        let origin = self.origin.borrow().clone();
        if origin.1.is_some() {
            worst = worst.max(Condition::Degraded);
        }
        let status = if worst == Condition::Unhealthy { 503 } else { 200 };
        let public = json!({ "status": worst.name(), "hint": HINT });
        let details = json!({
            "status": worst.name(),
            "policy_version": self.version,
            "policy_origin": origin.0.name(),
            "policy_fault": origin.1,
            "scope": "what the isolate that answered has seen",
            "upstreams": upstreams,
            "issuers": issuers,
            "revocation": revocation.map(|(_, document)| document),
            "token_cache": {
                "tokens": remembered.len(),
                "bytes": remembered.bytes(),
                "hits": remembered.hits,
                "misses": remembered.misses,
            },
        });
        let mut answer = Answer::json(status, request_id, if is_operator { &details } else { &public });
        if status == 503 {
            answer.headers.push(("retry-after", super::limits::UPSTREAM_RETRY_S.to_string()));
        }
        answer
    }

    /// What this isolate knows of revoked tokens; `None` where no token can be revoked.
    fn revocation_status(&self, now: UnixMillis) -> Option<(Condition, Value)> {
        if !self.issuers.iter().any(|issuer| issuer.revocable) {
            return None;
        }
        let copy = self.revocations.borrow();
        let age_ms = copy.age_ms(now);
        let is_usable = age_ms.is_some_and(|age| age <= self.policy.revocation_max_age_ms);
        let condition = match (copy.last_error(), is_usable || copy.overflows()) {
            (None, _) if copy.overflows() => Condition::Degraded,
            (None, _) => Condition::Healthy,
            (Some(_), true) => Condition::Degraded,
            (Some(_), false) => Condition::Unhealthy,
        };
        let document = json!({
            "status": condition.name(),
            "entries": copy.len(),
            "age_ms": age_ms,
            "too_large_for_a_copy": copy.overflows(),
            "last_error": copy.last_error(),
        });
        Some((condition, document))
    }
}
