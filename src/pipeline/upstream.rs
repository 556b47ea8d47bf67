//! Sending a request to an upstream: which of its targets, how often, and what that says
//! of the target. Holds no cell's borrow across a wait.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use portcullis_resilience::{Admission, Breaker, BreakerSettings, FIRST_OPEN_MS, Outcome, RetryBudget, full_jitter};

use super::{
    AssertionKeys, Denial, Gate, LogLine,
    assertion::Statement,
    challenge, limits,
    own::Seen,
    ports::{Forward, Forwarded, Ports, UpstreamFault},
};
use crate::{config::OnDown, token::UnixMillis};

/// What one isolate knows of an upstream.
#[derive(Debug)]
pub(super) struct UpstreamState {
    pub(super) name: String,
    pub(super) targets: Vec<TargetState>,
    pub(super) timeout_ms: u64,
    pub(super) body_timeout_ms: u64,
    pub(super) idle_timeout_ms: Option<u64>,
    pub(super) maintenance_s: Option<u64>,
    pub(super) on_down: OnDown,
    pub(super) retries: u32,
    pub(super) max_concurrent: u32,
    pub(super) breaker_settings: BreakerSettings,
    /// What is wrong with the secret, where there is no good one: nothing is forwarded
    /// then, because an origin takes nothing without an assertion.
    pub(super) assertion: Result<AssertionKeys, String>,
    pub(super) seen: RefCell<Seen>,
    pub(super) retry_budget: RefCell<RetryBudget>,
    pub(super) waiting: Waiting,
}

/// One place where an upstream is.
#[derive(Debug)]
pub(super) struct TargetState {
    pub(super) url: String,
    pub(super) weight: u32,
    pub(super) breaker: RefCell<Breaker>,
}

/// Requests that wait for the same thing. Each has a time by which it is over, because the
/// runtime may end an event that takes too long, and its request never comes back to say so.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Until when each has its place, and whether it has a body to send.
    entries: RefCell<HashMap<u64, (UnixMillis, bool)>>,
    next: Cell<u64>,
}

impl Waiting {
    /// Takes a place, unless all are taken.
    pub(super) fn enter(&self, most: u32, until: UnixMillis, has_body: bool, now: UnixMillis) -> Option<u64> {
        let mut entries = self.entries.borrow_mut();
        if is_full(&entries, most, has_body) {
            entries.retain(|_, (until, _)| now < *until);
            if is_full(&entries, most, has_body) {
                return None;
            }
        }
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        entries.insert(id, (until, has_body));
        Some(id)
    }

    /// Gives the place back.
    pub(super) fn leave(&self, id: u64) {
        self.entries.borrow_mut().remove(&id);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.borrow().len()
    }
}

/// Clients that dawdle with their bodies must leave room for those that have none.
fn is_full(entries: &HashMap<u64, (UnixMillis, bool)>, most: u32, has_body: bool) -> bool {
    let all = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    // Counted only when it may matter.
    let has_too_many_bodies = |most: u32| {
        let bodies = entries.values().filter(|(_, has_body)| *has_body).count();
        u32::try_from(bodies).unwrap_or(u32::MAX) >= most
    };
    let half = (most / 2).max(1);
    all >= most || (has_body && all >= half && has_too_many_bodies(half))
}

/// Methods that may be tried again: they change nothing (RFC 9110, section 9.2.1), and
/// have no body, which could be sent only once.
const SAFE: [&str; 2] = ["GET", "HEAD"];

impl UpstreamState {
    /// Chooses a target by weight, one that was not tried before if there is any.
    /// Otherwise the milliseconds until one may be asked.
    fn choose(
        &self,
        tried: &[usize],
        chance: u32,
        settings: BreakerSettings,
        now: UnixMillis,
    ) -> Result<(usize, Admission), u64> {
        let open = |index: &usize| {
            self.targets.get(*index).is_some_and(|target| target.breaker.borrow().would_admit(settings, now.0))
        };
        let mut candidates: Vec<usize> =
            (0..self.targets.len()).filter(|index| !tried.contains(index)).filter(open).collect();
        if candidates.is_empty() {
            candidates = (0..self.targets.len()).filter(open).collect();
        }
        let weight = |index: usize| self.targets.get(index).map_or(0, |target| target.weight);
        let total = candidates.iter().fold(0_u32, |sum, index| sum.saturating_add(weight(*index)));
        let mut left = chance.checked_rem(total).unwrap_or_default();
        for index in candidates {
            match left.checked_sub(weight(index)) {
                Some(rest) => left = rest,
                None => return self.admit(index, settings, now).map(|admission| (index, admission)),
            }
        }
        // All are closed: say when the first opens.
        let waits = (0..self.targets.len()).filter_map(|index| self.admit(index, settings, now).err());
        Err(waits.min().unwrap_or(self.breaker_settings.longest_open_ms))
    }

    fn admit(&self, index: usize, settings: BreakerSettings, now: UnixMillis) -> Result<Admission, u64> {
        let target = self.targets.get(index).ok_or(settings.longest_open_ms)?;
        match target.breaker.borrow_mut().admit(settings, now.0) {
            Admission::Refuse { retry_ms } => Err(retry_ms),
            admission @ (Admission::Pass | Admission::Probe { .. }) => Ok(admission),
        }
    }

    /// Returns what an answer or its absence says about a target.
    fn outcome<R>(answer: &Result<Forwarded<R>, UpstreamFault>) -> Outcome {
        match answer {
            // An upstream that says when to come back works and sheds load. One that fails
            // before the client has sent its body may fail because of that client. Neither lets
            // a stranger open the circuit.
            Ok(forwarded) if matches!(forwarded.status, 502..=504) => {
                if forwarded.body_ended && !forwarded.asks_for_pause { Outcome::Failure } else { Outcome::Unknown }
            }
            Ok(_) => Outcome::Success,
            Err(UpstreamFault::Unreachable | UpstreamFault::TimedOut | UpstreamFault::BadAnswer) => Outcome::Failure,
            Err(
                UpstreamFault::BodySlow
                | UpstreamFault::BodyTooLarge
                | UpstreamFault::ClientGone
                | UpstreamFault::BrokeOff
                | UpstreamFault::Stalled,
            ) => Outcome::Unknown,
        }
    }

    fn denial(&self, fault: UpstreamFault) -> Denial {
        match (fault, self.on_down) {
            (UpstreamFault::TimedOut | UpstreamFault::Stalled, _) => Denial::UpstreamTimedOut,
            (UpstreamFault::BadAnswer, _) => Denial::UpstreamBadAnswer,
            (UpstreamFault::BodySlow, _) => Denial::BodyTooSlow,
            (UpstreamFault::BodyTooLarge, _) => Denial::BodyTooLarge,
            (UpstreamFault::ClientGone, _) => Denial::ClientGone,
            (UpstreamFault::Unreachable | UpstreamFault::BrokeOff, OnDown::BadGateway) => Denial::UpstreamUnreachable,
            (UpstreamFault::Unreachable | UpstreamFault::BrokeOff, OnDown::AuthenticationUnavailable) => {
                Denial::AuthenticationUnavailable
            }
        }
    }
}

impl Gate {
    /// Sends a request whose `url` is still the target's path and query alone.
    pub(super) async fn forward<P: Ports>(
        &self,
        upstream: &UpstreamState,
        mut forward: Forward<'_>,
        statement: &Statement<'_>,
        ports: &P,
        line: &mut LogLine,
    ) -> Result<Forwarded<P::Reply>, Denial> {
        let keys = upstream.assertion.as_ref().map_err(|fault| Denial::Misconfigured { fault: fault.clone() })?;
        let begun = ports.now();
        let has_body = !SAFE.contains(&forward.method);
        let most = if !has_body {
            let tries = u64::from(upstream.retries).saturating_add(1);
            upstream.timeout_ms.saturating_add(limits::RETRY_BACKOFF.longest_ms).saturating_mul(tries)
        } else {
            upstream.timeout_ms.saturating_add(upstream.body_timeout_ms)
        };
        let place = upstream
            .waiting
            .enter(upstream.max_concurrent, begun.plus(most), has_body, begun)
            .ok_or(Denial::UpstreamBusy)?;
        upstream.retry_budget.borrow_mut().deposit();
        let outcome = self.try_targets(upstream, &mut forward, (keys, statement), ports).await;
        upstream.waiting.leave(place);
        let ended = ports.now();
        line.upstream_ms = Some(ended.since(begun));
        line.upstream_times = Some((begun, ended));
        outcome
    }

    async fn try_targets<P: Ports>(
        &self,
        upstream: &UpstreamState,
        forward: &mut Forward<'_>,
        (keys, statement): (&AssertionKeys, &Statement<'_>),
        ports: &P,
    ) -> Result<Forwarded<P::Reply>, Denial> {
        let path = std::mem::take(&mut forward.url);
        let begun = ports.now();
        let may_have_body = !SAFE.contains(&forward.method);
        let mut settings = upstream.breaker_settings;
        if may_have_body {
            // The client decides how long it takes to send its body, and must not keep the
            // others out.
            settings.probe_timeout_ms = settings.probe_timeout_ms.min(FIRST_OPEN_MS);
        }
        let mut tried = Vec::new();
        loop {
            let chance = if upstream.targets.len() > 1 { random(ports) } else { 0 };
            let now = ports.now();
            let (index, admission) =
                upstream.choose(&tried, chance, settings, now).map_err(|retry_ms| match upstream.on_down {
                    OnDown::BadGateway => Denial::BreakerOpen { retry_ms, of_authentication: false },
                    OnDown::AuthenticationUnavailable => Denial::BreakerOpen { retry_ms, of_authentication: true },
                })?;
            let Some(target) = upstream.targets.get(index) else {
                return Err(Denial::Misconfigured { fault: "the upstream has no target".to_owned() });
            };
            forward.url = format!("{}{path}", target.url);
            let assertion = ports.random().first_chunk().and_then(|random| keys.sign(statement, now, random));
            let assertion = assertion
                .ok_or_else(|| Denial::Misconfigured { fault: "the assertion cannot be written".to_owned() })?;
            forward.headers.push(("x-gateway-assertion".into(), assertion.into()));
            let answer = ports.forward(forward).await;
            forward.headers.pop();
            let outcome = UpstreamState::outcome(&answer);
            let then = ports.now();
            target.breaker.borrow_mut().record(admission, outcome, upstream.breaker_settings, then.0);
            let answer = match answer {
                Ok(forwarded) if is_rejection(&forwarded) => {
                    ports.discard(forwarded.reply);
                    Err(Denial::UpstreamRejectedAssertion)
                }
                answer => answer.map_err(|fault| upstream.denial(fault)),
            };
            if outcome != Outcome::Unknown {
                let fault = answer.as_ref().err().map(Denial::code);
                upstream.seen.borrow_mut().note(then, then.since(now), fault);
            }
            tried.push(index);
            // Who says when to come back is not asked before.
            let asks_for_pause = answer.as_ref().is_ok_and(|forwarded| forwarded.asks_for_pause);
            let may_retry = outcome == Outcome::Failure
                && !asks_for_pause
                && SAFE.contains(&forward.method)
                // Bounds how long a client waits for all tries together.
                && then.since(begun).saturating_add(upstream.timeout_ms) < limits::RETRY_TOTAL_MS
                && u32::try_from(tried.len()).is_ok_and(|count| count <= upstream.retries)
                && upstream.retry_budget.borrow_mut().withdraw();
            if !may_retry {
                return answer;
            }
            if let Ok(forwarded) = answer {
                ports.discard(forwarded.reply);
            }
            let failures = u32::try_from(tried.len()).unwrap_or(u32::MAX);
            ports.sleep(full_jitter(limits::RETRY_BACKOFF.delay_ms(failures), random(ports))).await;
        }
    }
}

/// Whether an upstream says that the request did not come from the gateway. It did, so the
/// fault is ours (a clock, a secret), and a client that saw a 401 would log its user out.
fn is_rejection<R>(forwarded: &Forwarded<R>) -> bool {
    forwarded.status == 401
        && forwarded.challenge.as_deref().is_some_and(|text| challenge::names_scheme(text, challenge::ASSERTION))
}

fn random<P: Ports>(ports: &P) -> u32 {
    let [a, b, c, d, ..] = ports.random();
    u32::from_be_bytes([a, b, c, d])
}
