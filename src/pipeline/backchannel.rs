//! A server that the gateway asks before it admits a request: a policy decision point, or an introspection endpoint. Owns
//! its circuit breaker and the permits of questions. What an answer means is the caller's.

use std::{cell::Cell, net::IpAddr};

use portcullis_resilience::{Breaker, BreakerDecision, BreakerSettings, BreakerState, Observation};

use super::{
    limits,
    permits::{Lease, Permits},
    ports::{Backchannels, Question, QuestionBody},
    settings::{Misconfiguration, Settings},
    wire::Fault,
};
use portcullis_policy::check_url;
use portcullis_token::{StrictObject, UnixMillis};

/// Milliseconds in `Retry-After` without an answer.
pub(super) const RETRY_MS: u64 = limits::UPSTREAM_RETRY_S * 1000;

/// Why a question has no answer: a code for operators, and the milliseconds after which to try again.
pub(super) type AskFault = (&'static str, u64);

/// The code of an answer that does not say what was asked.
pub(super) const BAD_ANSWER: &str = "bad_answer";

/// One server as this isolate knows it.
pub(super) struct Backchannel {
    url: String,
    /// `Authorization` of the questions.
    authorization: Option<String>,
    timeout_ms: u64,
    breaker_settings: BreakerSettings,
    breaker: Cell<Breaker>,
    permits: Permits,
    /// Why the last question has no answer.
    last_error: Cell<Option<&'static str>>,
}

impl Backchannel {
    /// Builds the server at `url`, or at the URL in the setting `variable`. `what` names it in errors.
    ///
    /// # Errors
    /// [`Misconfiguration`]: the URL in the setting is not one, or it is plain HTTP outside development.
    pub(super) fn new(
        (url, variable, what): (&str, &str, &str),
        authorization: Option<String>,
        (timeout_ms, breaker): (u64, &portcullis_policy::Breaker),
        settings: &Settings<'_>,
    ) -> Result<Self, Misconfiguration> {
        let url = settings.non_empty(variable).unwrap_or_else(|| url.to_owned());
        check_url(&url).map_err(|fault| Misconfiguration(format!("{variable} {fault}")))?;
        let at_plain = || [what, " is at a plain http:// URL"].concat();
        settings.check_https(&url, at_plain, &["its https:// URL into ", variable].concat())?;
        Ok(Self {
            url,
            authorization,
            timeout_ms,
            breaker_settings: BreakerSettings {
                failures: breaker.failures,
                longest_open_ms: u64::from(breaker.open_s).saturating_mul(1000),
                probe_timeout_ms: timeout_ms.saturating_add(limits::PROBE_LOST_MS),
            },
            breaker: Cell::default(),
            permits: Permits::new(limits::BACKCHANNEL_QUESTIONS),
            last_error: Cell::new(None),
        })
    }

    /// Asks a question about a request of a client, and returns the object that it is answered with.
    ///
    /// # Errors
    /// [`AskFault`]: there is no such answer.
    pub(super) async fn ask(
        &self,
        (body, client): (QuestionBody<'_>, Option<IpAddr>),
        request_id: &str,
        ports: &impl Backchannels,
    ) -> Result<StrictObject, AskFault> {
        let lease = Lease { since: ports.now(), lasts_ms: self.timeout_ms.saturating_add(limits::WAITER_LOST_MS) };
        let _permit = self.permits.acquire(lease, client).ok_or(("busy", limits::BUSY_RETRY_S * 1000))?;
        let mut breaker = self.breaker.get();
        let admitted = breaker.admit(self.breaker_settings, ports.now().0);
        self.breaker.set(breaker);
        if let BreakerDecision::Refuse { retry_ms } = admitted {
            return Err(("resting", retry_ms));
        }
        let asked = Question {
            url: &self.url,
            authorization: self.authorization.as_deref(),
            request_id,
            body,
            timeout_ms: self.timeout_ms,
        };
        let (observation, answer) = match ports.ask(&asked).await {
            // Of two members, servers may understand different ones.
            Ok((200, body)) => (Observation::Success, StrictObject::parse(&body).ok_or(BAD_ANSWER)),
            Ok((status @ 502..=504, _)) => (Observation::Failure, Err(status_fault(status))),
            // Of a question or a secret, so it says nothing about other questions.
            Ok((status, _)) => (Observation::Unknown, Err(status_fault(status))),
            Err(Fault::TimedOut) => (Observation::Failure, Err("timeout")),
            Err(Fault::TooLarge) => (Observation::Unknown, Err("too_large")),
            Err(
                Fault::Unreachable
                | Fault::Redirected
                | Fault::BadStatus
                | Fault::BodySlow
                | Fault::ClientGone
                | Fault::BrokeOff
                | Fault::Stalled
                | Fault::NotBound,
            ) => (Observation::Failure, Err("unreachable")),
        };
        let mut breaker = self.breaker.get();
        breaker.record(admitted, observation, self.breaker_settings, ports.now().0);
        self.breaker.set(breaker);
        self.last_error.set(answer.as_ref().err().copied());
        answer.map_err(|fault| (fault, RETRY_MS))
    }

    /// Notes that the last answer does not say what was asked.
    pub(super) fn note_bad_answer(&self) -> AskFault {
        self.last_error.set(Some(BAD_ANSWER));
        (BAD_ANSWER, RETRY_MS)
    }

    /// Returns whether its circuit lets a question pass at `now`.
    pub(super) fn may_ask(&self, now: UnixMillis) -> bool {
        self.breaker.get().would_admit(self.breaker_settings, now.0)
    }

    /// Returns the state of its circuit, and why the last question has no answer.
    pub(super) fn state(&self) -> (BreakerState, Option<&'static str>) {
        (self.breaker.get().state(), self.last_error.get())
    }
}

fn status_fault(status: u64) -> &'static str {
    if Fault::of_status(status) == Fault::Redirected { "redirect" } else { "status" }
}
