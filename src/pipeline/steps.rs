//! The pipeline: the steps that each request passes, in their order. Read [`Gateway::decide`]
//! first; each step is one of the functions below it.

use std::{net::IpAddr, rc::Rc};

use portcullis_redact::redact;

use super::{
    answer::Answer,
    answer_plan::AnswerPlan,
    assertion::Claims,
    authenticator::{AuthenticatedToken, ShownToken},
    credentials,
    denial::Denial,
    endpoints,
    exchange::Exchange,
    gateway::Gateway,
    head::Head,
    headers,
    log::LogRecord,
    ports::{Forwarded, Ports, Runtime},
    proofs::{NONCE_HEADER, ProofVerifier, is_thumbprint_of, note_everywhere},
    rate_limiter::Caller,
    upstream::Upstream,
    wire::{BodyPlan, Forward},
};
use portcullis_policy::{
    Access, Circumstances, Destination, Match, Miss, Params, Proof, Refusal, RevocationCheck, Route, Target, authorize,
    question,
};
use portcullis_token::{
    ProofError,
    limits::DATE_SECS,
    revocation::{self, RevocationEntry},
};

/// The result of a request.
#[derive(Debug)]
pub struct Handled<R> {
    /// The answer for the client.
    pub outcome: Outcome<R>,
    /// `X-Request-Id` of the answer.
    pub request_id: String,
    /// The log record, if it is written.
    pub record: Option<LogRecord>,
}

/// An answer for the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// An upstream's answer.
    Forwarded {
        /// The host's handle of the answer.
        reply: R,
        /// How the host passes it on.
        plan: AnswerPlan,
    },
    /// The gateway's own.
    Answered(Answer),
}

impl Gateway {
    /// Handles one request from its head to the answer's head. Background tasks are deferred
    /// through the ports.
    pub async fn handle<P: Ports>(&self, head: &Head, ports: &P) -> Handled<P::Reply> {
        let mut exchange = Exchange::new(head, ports.now(), ports.random());
        if let Some(spans) = &self.spans {
            exchange.ids.sample(spans.ratio);
        }
        let decided = self.decide(&mut exchange, ports).await;
        self.finish(exchange, decided, ports)
    }

    /// The steps in their order. Each either goes on, answers, or denies.
    async fn decide<'a, P: Ports>(
        &'a self,
        exchange: &mut Exchange<'a>,
        ports: &P,
    ) -> Result<Outcome<P::Reply>, Denial> {
        check_head(exchange.head)?;
        let target = Target::parse(&exchange.head.target).map_err(Refusal::from)?;
        exchange.path = redact(target.path());
        if self.operators.is_host(&exchange.head.host) && !self.table.is_own_path(target.path()) {
            // No template of the policy either.
            exchange.is_endpoint = true;
            return Err(Refusal::RouteUnknown.into());
        }
        if let Some(answer) = self.answer_preflight(exchange.head, &target, &exchange.ids.request_id) {
            return answer.map(Outcome::Answered);
        }
        let Destination::Route(found) = self.find_destination(exchange, &target)? else {
            return self.answer_endpoint(exchange, target.path(), ports).await.map(Outcome::Answered);
        };
        let route = exchange.route.ok_or(Refusal::RouteUnknown)?;
        let upstream = self.upstreams.get(found.upstream).ok_or(Refusal::RouteUnknown)?;
        check_body(exchange.head, route)?;
        self.limiter.count(route, Caller::Unknown(exchange.address()), ports).await?;
        if route.access != Access::Public {
            self.admit(exchange, route, (target.path(), &found.params), ports).await?;
        }
        if let Some(maintenance) = &upstream.config.maintenance {
            return Err(Denial::Maintenance { retry_s: maintenance.retry_after_s });
        }
        let target = rewrite(target, route)?;
        exchange.upstream = Some(upstream);
        let forwarded = self.forward(exchange, &target, (route, upstream), ports).await?;
        exchange.upstream_status = forwarded.facts.status;
        if route.ends_session && matches!(forwarded.facts.status, 200..=299) {
            self.end_session(exchange, ports).await;
        }
        let plan = self.plan_answer(exchange, (route, upstream), &forwarded, ports);
        Ok(Outcome::Forwarded { reply: forwarded.reply, plan })
    }

    /// Finds the destination, and keeps the route for the log and the CORS headers, also if it does
    /// not support the method.
    fn find_destination<'a>(&'a self, exchange: &mut Exchange<'a>, target: &Target) -> Result<Destination, Refusal> {
        let found = Destination::find(&self.table, &exchange.head.method, target);
        if let Ok(Destination::Route(Match { route, .. })) | Err(Miss::Method { route, .. }) = &found {
            exchange.route = self.policy.routes.get(*route);
        }
        Ok(found?)
    }

    /// Decides whether the caller may make the request. What costs more comes later: a caller without a right, or
    /// beyond a limit, can load neither the authorizer nor the revocation log.
    async fn admit<P: Ports>(
        &self,
        exchange: &mut Exchange<'_>,
        route: &Route,
        (path, params): (&str, &Params),
        ports: &P,
    ) -> Result<(), Denial> {
        let (token, asks_log) = self.authenticate(exchange, (route, path), ports).await?;
        exchange.token = Some(Rc::clone(&token));
        let identity = token.verified.identity();
        let circumstances = Circumstances {
            params,
            host: &exchange.head.host,
            address: exchange.address(),
            country: &|| ports.country(),
            now: exchange.begun,
            leeway_s: token.issuer.token.leeway_s,
        };
        authorize(route, &circumstances, &token.issuer.name, identity.into())?;
        // Before the limits: a replayed request must not use up the limits of its first sender.
        if let (Some(proofs), Some(proof)) = (&self.proofs, exchange.proof) {
            proofs.check_unused(proof, ports.now())?;
        }
        self.limiter.count(route, Caller::Permitted(identity), ports).await?;
        if let Some(name) = &route.authorizer {
            let asked = (route, exchange.head.method.as_str(), path);
            let question = question(asked, &circumstances, &identity.issuer, identity.into());
            let authorizer = self.authorizers.iter().find(|authorizer| authorizer.name() == name);
            // Validation finds an unknown name first.
            let unknown = Denial::AuthorizationUnavailable { retry_ms: 0, fault: "unknown" };
            // Boxed, so that requests to other routes have no room for it.
            let asked = (question.as_deref(), exchange.address());
            Box::pin(authorizer.ok_or(unknown)?.authorize(asked, &exchange.ids.request_id, ports)).await?;
        }
        // Only now: callers who are refused must not fill the memory.
        if let (Some(proofs), Some(proof)) = (&self.proofs, exchange.proof) {
            proofs.note(proof, (&identity.issuer, &identity.user_id), ports.now())?;
            if route.revocation == RevocationCheck::Strict {
                Box::pin(note_everywhere(proof, ports)).await?;
            }
        }
        if asks_log {
            self.revocations.check_log(token.revocation_keys.as_ref(), ports).await?;
        }
        Ok(())
    }

    /// Finds the request's token, verifies it, and checks that it was not revoked. Returns it, and
    /// whether the revocation log has to be asked as well. A guess counts against the client's
    /// address.
    async fn authenticate<P: Ports>(
        &self,
        exchange: &mut Exchange<'_>,
        (route, path): (&Route, &str),
        ports: &P,
    ) -> Result<(Rc<AuthenticatedToken>, bool), Denial> {
        let (head, address) = (exchange.head, exchange.address());
        let admitted = async {
            let cookie = self.policy.token_cookie_name().filter(|_| route.token_cookie);
            let (sources, takes_dpop) = (self.token_sources(route), self.proofs.is_some());
            let (text, header) = credentials::of(head, sources, cookie, self.cors_of(route), takes_dpop)?;
            let issuers = route.issuers.as_deref();
            let request_id = &exchange.ids.request_id;
            let shown = ShownToken { text, header, issuers, client: address, limiter: &self.limiter, request_id };
            let token = self.authenticator.authenticate(shown, &mut exchange.key_source, ports).await?;
            // For cached tokens, too: a token of one source must not open another.
            if token.issuer.token_header.as_deref() != header {
                return Err(Denial::TokenMisplaced);
            }
            let is_dpop = takes_dpop && header.is_none() && credentials::has_dpop_scheme(head);
            let certificate = || ports.client_certificate();
            if let Some((proofs, key)) = self.proof_for(route, &token, is_dpop, certificate)? {
                // Apart, so that requests without proofs do not carry its state.
                let verified = Box::pin(proofs.verify((head, path), (text, &token, key), ports));
                exchange.proof = Some(verified.await?);
            }
            let asks_log = self.revocations.check(token.revocation_keys.as_ref(), route.revocation, ports).await?;
            Ok((token, asks_log))
        };
        admitted.await.map_err(|denial| self.count_guess(denial, address, ports))
    }

    /// Returns who verifies the proof of a token's sender, and the thumbprint of the key that the proof must have;
    /// `None` for a bearer token, and for one whose certificate the client has shown (RFC 8705, section 3).
    fn proof_for<'a>(
        &'a self,
        route: &Route,
        token: &'a AuthenticatedToken,
        is_dpop: bool,
        certificate: impl FnOnce() -> Option<String>,
    ) -> Result<Option<(&'a ProofVerifier, &'a str)>, ProofError> {
        let wanted = token.issuer.proof.max(route.proof);
        let Some(confirmation) = token.verified.identity().confirmation.as_deref() else {
            let is_bearer = !is_dpop && wanted != Some(Proof::Required);
            return if is_bearer { Ok(None) } else { Err(ProofError::TokenUnbound) };
        };
        // A bound token is never a bearer token (RFC 9449, section 7.1), also where no proofs are checked.
        let Some(proofs) = self.proofs.as_deref().filter(|_| wanted.is_some()) else {
            return Err(ProofError::TokenBound);
        };
        if let Some(thumbprint) = &confirmation.certificate
            && !certificate().is_some_and(|shown| is_thumbprint_of(thumbprint, &shown))
        {
            return Err(ProofError::WrongCertificate);
        }
        match &confirmation.key {
            Some(key) if is_dpop => Ok(Some((proofs, key))),
            Some(_) => Err(ProofError::TokenBound),
            None if is_dpop => Err(ProofError::TokenUnbound),
            None => Ok(None),
        }
    }

    /// Counts a denial against the client's address if the token was a guess. Returns the denial,
    /// or that of the rate limit when the address is beyond it.
    pub(super) fn count_guess<P: Ports>(&self, denial: Denial, address: Option<IpAddr>, ports: &P) -> Denial {
        if denial.is_guess() { self.limiter.record_failed_auth(address, ports).unwrap_or(denial) } else { denial }
    }

    /// Signs the assertion and forwards the request.
    async fn forward<P: Ports>(
        &self,
        exchange: &mut Exchange<'_>,
        target: &Target,
        (route, upstream): (&Route, &Upstream),
        ports: &P,
    ) -> Result<Forwarded<P::Reply>, Denial> {
        let (head, identity) = (exchange.head, exchange.identity());
        // The assertion covers exactly what is forwarded.
        let claims = Claims::new(&exchange.ids.request_id, (&head.method, target.as_str()));
        let config = &upstream.config;
        let body = BodyPlan::new(head.body_bytes(), route.max_body_bytes, config.body_timeout_ms);
        let request = Forward {
            url: target.as_str().to_owned(),
            binding: config.binding.as_deref(),
            method: &head.method,
            headers: headers::compose(exchange, identity, route, &self.token_places, config.timeout_ms),
            timeout_ms: config.timeout_ms,
            is_timed: config.idle_timeout_ms.is_some(),
            body: head.may_have_body().then_some(body),
            is_validated: route.validate,
        };
        let mut times = None;
        let caller = exchange.token.as_deref().map(AuthenticatedToken::caller);
        let answer = upstream.forward(request, (caller, &claims), exchange.address(), &mut times, ports).await;
        exchange.upstream_times = times;
        answer
    }

    /// Revokes the session, or the token without one, of a caller who has logged out.
    async fn end_session<P: Ports>(&self, exchange: &mut Exchange<'_>, ports: &P) {
        let Some(token) = &exchange.token else { return };
        let key = token.revocation_keys.as_ref().and_then(|keys| keys.end());
        // An API key is ended by the service that has created it, for good.
        let is_api_key = token.issuer.api_keys.is_some();
        let key = key.filter(|_| !is_api_key);
        exchange.fault = key.is_none().then_some(if is_api_key {
            "the logout revoked nothing: the token is an API key"
        } else {
            "the logout revoked nothing: the token has neither sid nor jti"
        });
        let Some(key) = key else { return };
        let (policy, identity) = (&token.issuer.token, token.verified.identity());
        // The session's youngest token may have been issued this moment.
        let youngest = revocation::latest_issue(policy, ports.now().secs());
        // The server of an opaque token may state no `exp`, or a later one tomorrow.
        let is_exact = identity.session_id.is_none() && !token.is_opaque();
        let expires_at = is_exact.then_some(identity.expires_at.secs());
        let keep_until = revocation::keep_until(policy, youngest, expires_at);
        let entry = RevocationEntry { key, issued_until: DATE_SECS, keep_until };
        self.revocations.revoke(entry, ports).await;
    }

    fn deny(&self, exchange: &Exchange<'_>, denial: &Denial) -> Answer {
        let request_id = &exchange.ids.request_id;
        if let Denial::Event { form, error } = denial {
            return Answer::event_refusal(denial, (*form, *error), request_id);
        }
        let is_page = exchange.head.asks_for_page();
        let templates = self.refusals.as_ref().filter(|_| !exchange.is_endpoint);
        let own = templates.and_then(|templates| templates.answer(exchange.route, is_page, denial, request_id));
        let mut answer = own.unwrap_or_else(|| match (is_page, exchange.route) {
            (true, _) => Answer::page(denial, request_id),
            (false, route) => Answer::problem(denial, route.map_or("gateway", |route| &route.path), request_id),
        });
        if let Some(route) = exchange.route
            && let Some(index) = self.resource_of(route)
            && let (Some(metadata), Some(resource)) = (self.resources.get(index), self.policy.resources.get(index))
            && let Some((_, challenge)) = answer.headers.iter_mut().find(|(name, _)| *name == "www-authenticate")
        {
            metadata.extend_challenge(challenge, (route, resource), denial);
        }
        if let Some(route) = exchange.route
            && let Some(proofs) = &self.proofs
            && let Some((_, challenge)) = answer.headers.iter_mut().find(|(name, _)| *name == "www-authenticate")
        {
            proofs.extend_challenge(challenge, exchange.head, self.policy.proofs_of(route));
        }
        if *denial == Denial::Proof(ProofError::NonceNeeded) {
            answer.headers.extend(self.new_nonce(exchange).map(|nonce| (NONCE_HEADER, nonce)));
        }
        answer
    }

    /// Makes the answer of a denial, and writes the log record, the metrics and the spans.
    fn finish<P: Ports>(
        &self,
        exchange: Exchange<'_>,
        decided: Result<Outcome<P::Reply>, Denial>,
        ports: &P,
    ) -> Handled<P::Reply> {
        let (mut outcome, denial) = match decided {
            Ok(outcome) => (outcome, None),
            Err(denial) => (Outcome::Answered(self.deny(&exchange, &denial)), Some(denial)),
        };
        let status = match &mut outcome {
            Outcome::Forwarded { .. } => exchange.upstream_status,
            Outcome::Answered(answer) => {
                answer.headers.extend(self.cors_headers(exchange.head, exchange.route));
                answer.status
            }
        };
        let record = self.observe(&exchange, status, denial.as_ref(), ports);
        Handled { outcome, request_id: exchange.ids.request_id, record }
    }
}

/// Answers a request without a gateway: its settings are wrong, or too many requests wait in the
/// isolate. Only `/health` succeeds.
pub fn handle_refused<R>(head: &Head, denial: Denial, ports: &impl Runtime) -> Handled<R> {
    let exchange = Exchange::new(head, ports.now(), ports.random());
    let request_id = &exchange.ids.request_id;
    let denial = Some(&denial).filter(|_| head.target != "/health");
    let problem = |denial| Answer::problem(denial, "gateway", request_id);
    let answer = denial.map_or_else(|| endpoints::health(request_id), problem);
    let record = exchange.record(answer.status, denial, exchange.begun);
    Handled { outcome: Outcome::Answered(answer), request_id: exchange.ids.request_id, record: Some(record) }
}

fn check_head(head: &Head) -> Result<(), Denial> {
    if head.is_too_large() {
        return Err(Denial::HeadersTooLarge);
    }
    if head.has_valid_host() { Ok(()) } else { Err(Denial::HostInvalid) }
}

fn check_body(head: &Head, route: &Route) -> Result<(), Denial> {
    if head.has_undeliverable_body() {
        return Err(Denial::BodyUnexpected);
    }
    if head.body_bytes().is_some_and(|bytes| bytes > route.max_body_bytes) {
        return Err(Denial::BodyTooLarge);
    }
    Ok(())
}

/// Replaces the prefix of the path as the route says.
fn rewrite(target: Target, route: &Route) -> Result<Target, Refusal> {
    match route.rewrite() {
        Some((from, to)) => target.with_prefix(from, to).ok_or(Refusal::RouteUnknown),
        None => Ok(target),
    }
}
