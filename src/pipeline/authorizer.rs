//! Authorizers: policy decision points that routes ask whether a caller may enter (AuthZEN Authorization API 1.0,
//! access evaluation). Owns the cache of decisions. Only `"decision": true` lets a request
//! pass; whatever else happens, it does not.

use std::{cell::RefCell, net::IpAddr, rc::Rc};

use portcullis_resilience::BreakerState;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    backchannel::{AskFault, Backchannel, RETRY_MS},
    credentials,
    denial::Denial,
    limited_cache::LimitedCache,
    limits,
    metrics::Metrics,
    permits::Lease,
    ports::{Backchannels, QuestionBody},
    settings::{Misconfiguration, Settings},
};

/// One authorizer as this isolate knows it.
pub(super) struct Authorizer {
    config: portcullis_policy::Authorizer,
    backchannel: Backchannel,
    /// Decisions by the digest of the whole question: a decision about one caller, path or address is never one about
    /// another.
    decisions: RefCell<LimitedCache<[u8; 32], bool>>,
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
        let token = settings.non_empty(&secret);
        if token.as_ref().is_some_and(|token| !credentials::is_token(token)) {
            return Err(Misconfiguration(format!(
                "secret {secret} has other characters than letters, digits and -._~+/="
            )));
        }
        let authorization = token.map(|token| ["Bearer ", &token].concat());
        let what = format!("authorizer {:?}", config.name);
        let place = (config.url.as_str(), variable.as_str(), what.as_str());
        Ok(Self {
            backchannel: Backchannel::new(place, authorization, (config.timeout_ms, &config.breaker), settings)?,
            decisions: RefCell::new(LimitedCache::new(limits::AUTHORIZER_DECISIONS)),
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
        ports: &impl Backchannels,
    ) -> Result<(), Denial> {
        let digest = question.map(|question| <[u8; 32]>::from(Sha256::digest(question)));
        let now = ports.now();
        let known = digest.and_then(|digest| self.decisions.borrow().find(&digest, now).copied());
        let decision = match (known, question) {
            (Some(decision), _) => Ok(decision),
            (None, Some(question)) => self.ask((question, client), request_id, ports).await,
            (None, None) => Err(("claims", RETRY_MS)),
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

    async fn ask(
        &self,
        (question, client): (&str, Option<IpAddr>),
        request_id: &str,
        ports: &impl Backchannels,
    ) -> Result<bool, AskFault> {
        let answer = self.backchannel.ask((QuestionBody::Json(question), client), request_id, ports).await?;
        // A text or a number is no decision.
        let decision = answer.member("decision").and_then(Value::as_bool);
        decision.ok_or_else(|| self.backchannel.note_bad_answer())
    }

    /// Returns the state of its circuit, and why the last question has no decision.
    pub(super) fn state(&self) -> (BreakerState, Option<&'static str>) {
        self.backchannel.state()
    }

    /// Returns how many decisions are cached.
    pub(super) fn cached(&self) -> usize {
        self.decisions.borrow().usage().0
    }
}
