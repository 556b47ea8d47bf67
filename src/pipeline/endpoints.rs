//! The gateway's own endpoints: `/health`, `/ready`, `/status`, `/metrics`, the operators' page, the pushes of revocations and API keys, security events, the
//! public keys of assertions, and the metadata of resources. They come before any route and show no internal URL. Operators see names and details;
//! others learn from `/status` and `/ready` only the state of the gateway.

use super::{
    answer::Answer,
    authenticator::{AuthenticatedToken, Purpose},
    credentials,
    denial::Denial,
    exchange::Exchange,
    gateway::Gateway,
    limits::{JWKS_AGE_S, READY_LOST_MS},
    metrics,
    permits::Lease,
    ports::{BackgroundTask, KeyTask, Ports},
    status::HINT,
    upstream::Upstream,
    wire::Fault,
};
use portcullis_policy::{Endpoint, Refusal};
use portcullis_token::{
    ProofError, object,
    revocation::{limits, parse_push},
};

/// Liveness: always 200 while the Worker runs.
pub(super) fn health(request_id: &str) -> Answer {
    Answer::json(200, request_id, &object([("status", "ok".into())]))
}

impl Gateway {
    /// Answers a request to one of the gateway's own paths.
    pub(super) async fn answer_endpoint<P: Ports>(
        &self,
        exchange: &mut Exchange<'_>,
        path: &str,
        ports: &P,
    ) -> Result<Answer, Denial> {
        exchange.is_endpoint = true;
        if exchange.head.has_undeliverable_body() {
            return Err(Denial::BodyUnexpected);
        }
        let answer = self.dispatch(path, exchange, ports).await;
        // A guess counts on these paths like on any other.
        answer.map_err(|denial| self.count_guess(denial, exchange.address(), ports))
    }

    async fn dispatch<P: Ports>(&self, path: &str, exchange: &mut Exchange<'_>, ports: &P) -> Result<Answer, Denial> {
        let endpoint = Endpoint::find(&self.policy, &exchange.head.method, path)?;
        let request_id = &exchange.ids.request_id;
        match endpoint {
            Endpoint::Health => Ok(health(request_id)),
            Endpoint::Ready => self.answer_ready(self.is_reader(exchange)?, request_id, ports).await,
            Endpoint::Status => Ok(self.answer_status(self.is_reader(exchange)?, request_id, ports)),
            Endpoint::Metrics => self.answer_metrics(exchange, ports).await,
            Endpoint::Page | Endpoint::Operation => self.answer_page(exchange, endpoint, path, ports).await,
            Endpoint::Push => self.answer_push(exchange, ports).await,
            // Boxed, so that other requests have no room for it.
            Endpoint::ApiKeys => Box::pin(self.answer_api_keys(exchange, ports)).await,
            Endpoint::AssertionKeys => self.answer_assertion_keys(request_id),
            Endpoint::Events(form, issuer) => self.answer_event((form, issuer), exchange, ports).await,
            Endpoint::Metadata(resource) => {
                let metadata = self.resources.get(resource).ok_or(Refusal::RouteUnknown)?;
                Ok(metadata.answer(&exchange.head.method, request_id))
            }
        }
    }

    /// Returns whether the caller may see names and details: it has a token of operators, or it is the user of a
    /// developer's machine.
    fn is_reader(&self, exchange: &Exchange<'_>) -> Result<bool, Denial> {
        if self.operators.has_metrics() && exchange.head.header("authorization").is_some() {
            return self.operators.check_reader(exchange.head).map(|()| true);
        }
        let is_loopback = exchange.address().is_some_and(|address| address.to_canonical().is_loopback());
        Ok(self.is_development && is_loopback)
    }

    /// Readiness: every secret is set, every rate limit is bound, and the tokens of every issuer
    /// can be checked.
    async fn answer_ready<P: Ports>(&self, is_reader: bool, request_id: &str, ports: &P) -> Result<Answer, Denial> {
        let begun = ports.now();
        let _permit = self
            .ready_checks
            .acquire(Lease { since: begun, lasts_ms: READY_LOST_MS }, None)
            .ok_or(Denial::GatewayBusy)?;
        let mut missing = Vec::new();
        for upstream in &self.upstreams {
            missing.extend(upstream.signing_fault(ports).await);
            missing.extend(upstream.unbound(|binding| ports.has_service(binding)));
        }
        let receivers = self.authenticator.issuers.iter().flat_map(|issuer| &issuer.receivers);
        missing.extend(receivers.filter_map(|receiver| receiver.fault()).map(str::to_owned));
        let unbound = self.limiter.limits.iter().filter(|bound| !ports.has_limit(&bound.binding));
        missing.extend(unbound.map(|bound| format!("rate limit {} is not bound; see wrangler.toml", bound.binding)));
        for issuer in &self.authenticator.issuers {
            missing.extend(issuer.readiness_fault(begun, ports).await);
        }
        if !self.revocations.is_ready(ports).await {
            missing.push("the revocation log cannot be read".to_owned());
        }
        missing.extend(self.operators.fault().map(str::to_owned));
        let is_ready = missing.is_empty();
        let document = match (is_ready, is_reader) {
            (false, false) => object([("ready", false.into()), ("hint", HINT.into())]),
            (_, true) => object([("ready", is_ready.into()), ("missing", missing.into())]),
            (true, false) => object([("ready", true.into())]),
        };
        Ok(Answer::json(if is_ready { 200 } else { 503 }, request_id, &document))
    }

    /// The public keys of assertions, for everyone (RFC 7517, section 5). A set without a key would only replace a good one
    /// in caches, so it is refused. One that lacks the keys of an upstream is not kept there.
    fn answer_assertion_keys(&self, request_id: &str) -> Result<Answer, Denial> {
        let fault = || "no upstream has a key for its assertions that can be published".to_owned();
        let set = self.assertion_jwks.as_ref().ok_or_else(|| Denial::Misconfigured { fault: fault() })?;
        let lacks_keys = |upstream: &Upstream| {
            upstream.config.assertion.algorithm.asymmetric().is_some() && upstream.assertion_fault().is_some()
        };
        let is_partial = self.upstreams.iter().any(lacks_keys);
        let headers = vec![
            ("content-type", "application/jwk-set+json".to_owned()),
            ("cache-control", if is_partial { "no-store".to_owned() } else { format!("public, max-age={JWKS_AGE_S}") }),
            ("x-content-type-options", "nosniff".to_owned()),
            ("x-request-id", request_id.to_owned()),
        ];
        Ok(Answer { status: 200, headers, body: set.clone() })
    }

    /// `GET /metrics` for operators: the sums of all isolates, and the gauges of this one.
    async fn answer_metrics<P: Ports>(&self, exchange: &Exchange<'_>, ports: &P) -> Result<Answer, Denial> {
        if !self.operators.has_metrics() {
            return Err(Refusal::RouteUnknown.into());
        }
        self.operators.check_reader(exchange.head)?;
        self.metrics.flush(&self.policy, ports).await;
        let mut series = self.metrics.read(ports).await.ok_or(Denial::MetricsUnavailable)?;
        let now = ports.now();
        for upstream in &self.upstreams {
            let worst = upstream.breakers().map(|state| state.gauge()).fold(0.0, f64::max);
            series.insert(format!("gateway_breaker_state{{upstream=\"{}\"}}", upstream.config.name), worst.into());
        }
        for issuer in &self.authenticator.issuers {
            if let Some(age_ms) = issuer.known().age_ms(now) {
                let age = metrics::seconds(age_ms);
                series.insert(format!("gateway_keys_age_seconds{{issuer=\"{}\"}}", issuer.name), age.into());
            }
        }
        if let Some(age_ms) = self.revocations.known().age_ms(now) {
            series.insert("gateway_revocation_age_seconds".to_owned(), metrics::seconds(age_ms).into());
        }
        let page = metrics::page(&series);
        Ok(Answer::build(200, "text/plain; version=0.0.4; charset=utf-8", &exchange.ids.request_id, page))
    }

    /// The operators' page, or one of its operations for operators.
    async fn answer_page<P: Ports>(
        &self,
        exchange: &Exchange<'_>,
        endpoint: Endpoint,
        path: &str,
        ports: &P,
    ) -> Result<Answer, Denial> {
        if !self.operators.has_page_at(&exchange.head.host) {
            return Err(Refusal::RouteUnknown.into());
        }
        if endpoint == Endpoint::Operation {
            self.operators.check_operator(exchange.head)?;
        }
        let request_id = &exchange.ids.request_id;
        let part = ports.operate(path, request_id).await.map_err(|_| Denial::MetricsUnavailable)?;
        let mut answer = Answer::build(part.status, &part.content_type, request_id, part.body);
        if let Some(text) = part.content_policy {
            answer.headers.push(("content-security-policy", text));
            // The page that opens this one keeps no reference to its window.
            answer.headers.push(("cross-origin-opener-policy", "same-origin".to_owned()));
        }
        Ok(answer)
    }

    /// Verifies the service token of a push.
    pub(super) async fn verify_pusher<P: Ports>(
        &self,
        exchange: &mut Exchange<'_>,
        ports: &P,
    ) -> Result<AuthenticatedToken, Denial> {
        let text = credentials::bearer(exchange.head)?;
        let token = self.authenticator.verify(text, Purpose::Push, &mut exchange.key_source, ports).await?;
        if token.verified.identity().confirmation.is_some() {
            return Err(ProofError::TokenBound.into());
        }
        // The log and not the copy: the holder of a leaked key could revoke the key that replaces it.
        self.revocations.check_log(token.revocation_keys.as_ref(), ports).await?;
        Ok(token)
    }

    /// A push of an issuer, which revokes tokens of its own.
    async fn answer_push<P: Ports>(&self, exchange: &mut Exchange<'_>, ports: &P) -> Result<Answer, Denial> {
        let token = self.verify_pusher(exchange, ports).await?;
        // Not 400 `push_malformed`: an issuer does not repeat a push that is malformed.
        let body = ports
            .read_body(limits::PUSH_BYTES)
            .await
            .map_err(|fault| if fault == Fault::TooLarge { Denial::PushTooLarge } else { Denial::of_body(fault) })?;
        let push =
            parse_push(&body, &token.issuer.token, ports.now()).map_err(|detail| Denial::PushMalformed { detail })?;
        self.revocations.revoke_all(&push.entries, ports).await?;
        if push.revokes_key {
            // The key that replaces it is not in the cached set.
            ports.defer(BackgroundTask::Keys(token.issuer.index, KeyTask::Renew));
        }
        let document = object([("received", push.received.into()), ("noted", push.entries.len().into())]);
        Ok(Answer::json(200, &exchange.ids.request_id, &document))
    }
}
