//! Authorizers: policy decision points that routes ask whether a caller may enter (AuthZEN Authorization API 1.0,
//! access evaluation). Owns the cache of decisions and the circuit breaker. Only `"decision": true` lets a request
//! pass; whatever else happens, it does not.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::Rc,
};

use portcullis_resilience::{Breaker, BreakerDecision, BreakerSettings, BreakerState, Observation};
use sha2::{Digest as _, Sha256};

use super::{
    credentials,
    denial::Denial,
    limited_cache::LimitedCache,
    limits,
    metrics::Metrics,
    permits::{Lease, Permits},
    ports::{DecisionPoint, Question},
    settings::{Misconfiguration, Settings},
    wire::Fault,
};
use portcullis_policy::check_url;
use portcullis_token::StrictObject;

/// Milliseconds in `Retry-After` without a decision.
const RETRY_MS: u64 = limits::UPSTREAM_RETRY_S * 1000;

/// One authorizer as this isolate knows it.
pub(super) struct Authorizer {
    config: portcullis_policy::Authorizer,
    url: String,
    /// `Authorization` of the questions.
    authorization: Option<String>,
    breaker_settings: BreakerSettings,
    breaker: Cell<Breaker>,
    permits: Permits,
    /// Decisions by the digest of the whole question: a decision about one caller, path or address is never one about
    /// another.
    decisions: RefCell<LimitedCache<[u8; 32], bool>>,
    /// Why the last question has no decision.
    last_error: Cell<Option<&'static str>>,
    metrics: Rc<Metrics>,
}

impl Authorizer {
    /// # Errors
    /// [`Misconfiguration`]: the URL in the settings is not one, it is plain HTTP outside development, or the secret
    /// is no bearer token.
    pub(super) fn new(
        config: &portcullis_policy::Authorizer,
        settings: &Settings<'_>,
        metrics: &Rc<Metrics>,
    ) -> Result<Self, Misconfiguration> {
        let suffix = config.name.to_ascii_uppercase().replace('-', "_");
        let (variable, secret) = (format!("AUTHORIZER_{suffix}_URL"), format!("AUTHORIZER_TOKEN_{suffix}"));
        let url = settings.non_empty(&variable).unwrap_or_else(|| config.url.clone());
        check_url(&url).map_err(|fault| Misconfiguration(format!("{variable} {fault}")))?;
        let what = || format!("authorizer {:?} is at a plain http:// URL", config.name);
        settings.check_https(&url, what, &format!("its https:// URL into {variable}"))?;
        let token = settings.non_empty(&secret);
        if token.as_ref().is_some_and(|token| !credentials::is_token(token)) {
            return Err(Misconfiguration(format!(
                "secret {secret} has other characters than letters, digits and -._~+/="
            )));
        }
        Ok(Self {
            url,
            authorization: token.map(|token| ["Bearer ", &token].concat()),
            breaker_settings: BreakerSettings {
                failures: config.breaker.failures,
                longest_open_ms: u64::from(config.breaker.open_s).saturating_mul(1000),
                probe_timeout_ms: config.timeout_ms.saturating_add(limits::PROBE_LOST_MS),
            },
            breaker: Cell::default(),
            permits: Permits::new(limits::AUTHORIZER_QUESTIONS),
            decisions: RefCell::new(LimitedCache::new(limits::AUTHORIZER_DECISIONS)),
            last_error: Cell::new(None),
            metrics: Rc::clone(metrics),
            config: config.clone(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    /// Asks a question about a request of a client, or finds the decision about the same question. Without a question
    /// there is no decision.
    ///
    /// # Errors
    /// [`Denial::AuthorizationDenied`], or [`Denial::AuthorizationUnavailable`] without a decision.
    pub(super) async fn authorize(
        &self,
        (question, client): (Option<&str>, Option<IpAddr>),
        request_id: &str,
        ports: &impl DecisionPoint,
    ) -> Result<(), Denial> {
        let digest = question.map(|question| <[u8; 32]>::from(Sha256::digest(question)));
        let now = ports.now();
        let known = digest.and_then(|digest| self.decisions.borrow().find(&digest, now).copied());
        let decision = match (known, question) {
            (Some(decision), _) => Ok(decision),
            (None, Some(question)) => self.ask((question, client), request_id, ports).await,
            (None, None) => Err(("authorizer_claims", RETRY_MS)),
        };
        let result = match (&decision, known) {
            (Ok(_), Some(_)) => "cached",
            (Ok(true), None) => "permit",
            (Ok(false), None) => "deny",
            (Err((fault, _)), _) => fault,
        };
        let name = self.name();
        self.metrics.count(format_args!("gateway_authorizer_total{{authorizer=\"{name}\",result=\"{result}\"}}"));
        match decision {
            Ok(decision) => {
                if let (None, Some(digest)) = (known, digest)
                    && self.config.cache_s > 0
                {
                    // From before the question, so that a decision is never older than that.
                    let lease = Lease { since: now, lasts_ms: self.config.cache_s.saturating_mul(1000) };
                    self.decisions.borrow_mut().insert(digest, decision, 1, lease);
                }
                if decision { Ok(()) } else { Err(Denial::AuthorizationDenied) }
            }
            Err((fault, retry_ms)) => Err(Denial::AuthorizationUnavailable { retry_ms, fault }),
        }
    }

    /// Asks for a decision. The error is a code, and the milliseconds after which to try again.
    async fn ask(
        &self,
        (question, client): (&str, Option<IpAddr>),
        request_id: &str,
        ports: &impl DecisionPoint,
    ) -> Result<bool, (&'static str, u64)> {
        let timeout_ms = self.config.timeout_ms;
        let lease = Lease { since: ports.now(), lasts_ms: timeout_ms.saturating_add(limits::WAITER_LOST_MS) };
        let _permit = self.permits.acquire(lease, client).ok_or(("authorizer_busy", limits::BUSY_RETRY_S * 1000))?;
        let mut breaker = self.breaker.get();
        let admitted = breaker.admit(self.breaker_settings, ports.now().0);
        self.breaker.set(breaker);
        if let BreakerDecision::Refuse { retry_ms } = admitted {
            return Err(("authorizer_resting", retry_ms));
        }
        let asked = Question {
            url: &self.url,
            authorization: self.authorization.as_deref(),
            request_id,
            body: question,
            timeout_ms,
        };
        let (observation, decision) = match ports.ask(&asked).await {
            Ok((200, body)) => {
                // A text or a number is no decision, and neither is one of two members.
                let decision = StrictObject::parse(&body).and_then(|answer| answer.member("decision")?.as_bool());
                (Observation::Success, decision.ok_or("authorizer_bad_answer"))
            }
            Ok((status @ 502..=504, _)) => (Observation::Failure, Err(status_fault(status))),
            // Of a question or a secret, so it says nothing about other questions.
            Ok((status, _)) => (Observation::Unknown, Err(status_fault(status))),
            Err(Fault::TimedOut) => (Observation::Failure, Err("authorizer_timeout")),
            Err(Fault::TooLarge) => (Observation::Unknown, Err("authorizer_too_large")),
            Err(
                Fault::Unreachable
                | Fault::Redirected
                | Fault::BadStatus
                | Fault::BodySlow
                | Fault::ClientGone
                | Fault::BrokeOff
                | Fault::Stalled
                | Fault::NotBound,
            ) => (Observation::Failure, Err("authorizer_unreachable")),
        };
        let mut breaker = self.breaker.get();
        breaker.record(admitted, observation, self.breaker_settings, ports.now().0);
        self.breaker.set(breaker);
        self.last_error.set(decision.err());
        decision.map_err(|fault| (fault, RETRY_MS))
    }

    /// Returns the state of its circuit, and why the last question has no decision.
    pub(super) fn state(&self) -> (BreakerState, Option<&'static str>) {
        (self.breaker.get().state(), self.last_error.get())
    }

    /// Returns how many decisions are cached.
    pub(super) fn cached(&self) -> usize {
        self.decisions.borrow().usage().0
    }
}

fn status_fault(status: u64) -> &'static str {
    if Fault::of_status(status) == Fault::Redirected { "authorizer_redirect" } else { "authorizer_status" }
}
