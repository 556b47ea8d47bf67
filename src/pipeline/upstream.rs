//! Upstreams: which target gets a request, how often it is tried, and what its answers say about
//! the target. No borrow of a cell outlives a synchronous step.

use std::cell::{Cell, RefCell};

use portcullis_resilience::{
    Breaker, BreakerDecision, BreakerSettings, BreakerState, FIRST_OPEN_MS, Observation, RetryBudget, full_jitter,
};

use super::{
    assertion::{AssertionKeys, Statement},
    challenge, limits,
    permits::Permits,
    ports::{Clock, Forwarded, Random, UpstreamClient},
    settings::{Misconfiguration, Settings},
    wire::{Fault, Forward},
};
use portcullis_policy::{OnDown, UpstreamTarget};
use portcullis_token::UnixMillis;

/// Returns whether a request with this method may be tried again: it changes nothing (RFC 9110,
/// section 9.2.1) and has no body, which could be sent only once.
pub(super) fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

/// The ports of an upstream.
pub(super) trait UpstreamPorts: Clock + Random + UpstreamClient {}
impl<T: Clock + Random + UpstreamClient> UpstreamPorts for T {}

/// One upstream as this isolate knows it.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) name: String,
    targets: Vec<Target>,
    pub(super) timeout_ms: u64,
    pub(super) body_timeout_ms: u64,
    pub(super) idle_timeout_ms: Option<u64>,
    pub(super) maintenance_s: Option<u64>,
    pub(super) on_down: OnDown,
    retries: u32,
    breaker: BreakerSettings,
    /// The keys, or what is wrong with the secret. Without keys nothing is forwarded, because an
    /// origin accepts no request without an assertion.
    assertion: Result<AssertionKeys, String>,
    last: Cell<Option<LastAnswer>>,
    retry_budget: RefCell<RetryBudget>,
    permits: Permits,
}

/// One place where an upstream is.
#[derive(Debug)]
struct Target {
    url: String,
    weight: u32,
    breaker: RefCell<Breaker>,
}

/// The last answer, or its absence, that said something about an upstream.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastAnswer {
    pub(super) at: UnixMillis,
    pub(super) took_ms: u64,
    pub(super) error: Option<ForwardError>,
}

/// Why a request has no answer of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForwardError {
    /// The assertion cannot be signed; see [`Upstream::assertion_fault`].
    Unsigned,
    /// Too many requests wait for this upstream.
    Busy,
    /// The circuit breakers of all targets are open.
    Open {
        /// Milliseconds until a request may try.
        retry_ms: u64,
    },
    /// The upstream rejected the gateway's assertion.
    RejectedAssertion,
    /// The call failed.
    Fault(Fault),
}

impl Upstream {
    /// # Errors
    /// [`Misconfiguration`]: a URL in the settings is not one, or a target is at a plain HTTP URL
    /// outside development.
    pub(super) fn new(
        upstream: &portcullis_policy::Upstream,
        settings: &Settings<'_>,
    ) -> Result<Self, Misconfiguration> {
        let suffix = upstream.name.to_ascii_uppercase().replace('-', "_");
        let variable = format!("UPSTREAM_{suffix}_URL");
        let targets = match settings.value(&variable) {
            Some(urls) => parse_targets(&urls).map_err(|fault| Misconfiguration(format!("{variable} {fault}")))?,
            None => upstream.targets.clone(),
        };
        for target in &targets {
            // /status shows the text to strangers: it does not say which URL.
            let what = || format!("upstream {:?} is at a plain http:// URL", upstream.name);
            settings.check_https(&target.url, what, &format!("its https:// URL into {variable}"))?;
        }
        let secret = format!("ASSERTION_KEYS_{suffix}");
        let assertion = match settings.value(&secret) {
            None => Err(format!("secret {secret} is not set")),
            Some(text) => AssertionKeys::parse(&text).map_err(|_| {
                format!("secret {secret} is not kid:base64url-of-32-bytes, one or two with a comma between")
            }),
        };
        let target =
            |target: UpstreamTarget| Target { url: target.url, weight: target.weight, breaker: RefCell::default() };
        Ok(Self {
            name: upstream.name.clone(),
            targets: targets.into_iter().map(target).collect(),
            timeout_ms: upstream.timeout_ms,
            body_timeout_ms: upstream.body_timeout_ms,
            idle_timeout_ms: upstream.idle_timeout_ms,
            maintenance_s: upstream.maintenance.as_ref().map(|maintenance| maintenance.retry_after_s),
            on_down: upstream.on_down,
            retries: upstream.retries,
            breaker: BreakerSettings {
                failures: upstream.breaker.failures,
                longest_open_ms: u64::from(upstream.breaker.open_s).saturating_mul(1000),
                probe_timeout_ms: upstream.timeout_ms.saturating_add(limits::PROBE_LOST_MS),
            },
            assertion,
            last: Cell::new(None),
            retry_budget: RefCell::new(RetryBudget::new(limits::FIRST_RETRIES)),
            permits: Permits::new(upstream.max_concurrent),
        })
    }

    /// Sends a request, whose `url` is still the target's path and query alone.
    pub(super) async fn forward<P: UpstreamPorts>(
        &self,
        mut request: Forward<'_>,
        statement: &Statement<'_>,
        ports: &P,
    ) -> Result<Forwarded<P::Reply>, ForwardError> {
        let keys = self.assertion.as_ref().map_err(|_| ForwardError::Unsigned)?;
        let begun = ports.now();
        let has_body = request.body.is_some();
        let longest_ms = if has_body {
            self.timeout_ms.saturating_add(self.body_timeout_ms)
        } else {
            let tries = u64::from(self.retries).saturating_add(1);
            self.timeout_ms.saturating_add(limits::RETRY_BACKOFF.longest_ms).saturating_mul(tries)
        };
        let permit = self.permits.acquire(has_body, begun.plus(longest_ms), begun).ok_or(ForwardError::Busy)?;
        self.retry_budget.borrow_mut().deposit();
        let outcome = self.try_targets(&mut request, (keys, statement), ports).await;
        self.permits.release(permit);
        outcome
    }

    async fn try_targets<P: UpstreamPorts>(
        &self,
        request: &mut Forward<'_>,
        (keys, statement): (&AssertionKeys, &Statement<'_>),
        ports: &P,
    ) -> Result<Forwarded<P::Reply>, ForwardError> {
        let path = std::mem::take(&mut request.url);
        let begun = ports.now();
        let is_safe = is_safe(request.method);
        let mut settings = self.breaker;
        if !is_safe {
            // The client decides how long it takes to send its body, and must not keep the
            // others out.
            settings.probe_timeout_ms = settings.probe_timeout_ms.min(FIRST_OPEN_MS);
        }
        let mut tried = Vec::new();
        loop {
            let chance = if self.targets.len() > 1 { random(ports) } else { 0 };
            let now = ports.now();
            let (index, decision) =
                self.choose(&tried, chance, settings, now).map_err(|retry_ms| ForwardError::Open { retry_ms })?;
            let target = self.targets.get(index).ok_or(ForwardError::Unsigned)?;
            request.url = format!("{}{path}", target.url);
            let assertion = ports.random().first_chunk().and_then(|random| keys.sign(statement, now, random));
            request.headers.push(("x-gateway-assertion".into(), assertion.ok_or(ForwardError::Unsigned)?.into()));
            let answer = ports.forward(request).await;
            request.headers.pop();
            let observation = observe(&answer);
            let then = ports.now();
            target.breaker.borrow_mut().record(decision, observation, self.breaker, then.0);
            let answer = match answer {
                Ok(forwarded) if is_rejection(&forwarded, ports) => {
                    ports.discard(forwarded.reply);
                    Err(ForwardError::RejectedAssertion)
                }
                answer => answer.map_err(ForwardError::Fault),
            };
            if observation != Observation::Unknown {
                let error = answer.as_ref().err().copied();
                self.last.set(Some(LastAnswer { at: then, took_ms: then.since(now), error }));
            }
            tried.push(index);
            // An upstream that says when to come back is not asked before.
            let may_retry = observation == Observation::Failure
                && !answer.as_ref().is_ok_and(asks_for_pause)
                && is_safe
                // Bounds how long a client waits for all tries together.
                && then.since(begun).saturating_add(self.timeout_ms) < limits::RETRY_TOTAL_MS
                && u32::try_from(tried.len()).is_ok_and(|count| count <= self.retries)
                && self.retry_budget.borrow_mut().withdraw();
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

    /// Chooses a target by weight, if possible one that was not tried before. Otherwise returns
    /// the milliseconds until one may be asked.
    fn choose(
        &self,
        tried: &[usize],
        chance: u32,
        settings: BreakerSettings,
        now: UnixMillis,
    ) -> Result<(usize, BreakerDecision), u64> {
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
                None => return self.admit(index, settings, now).map(|decision| (index, decision)),
            }
        }
        // No target admits a request: returns when the first will.
        let waits = (0..self.targets.len()).filter_map(|index| self.admit(index, settings, now).err());
        Err(waits.min().unwrap_or(self.breaker.longest_open_ms))
    }

    fn admit(&self, index: usize, settings: BreakerSettings, now: UnixMillis) -> Result<BreakerDecision, u64> {
        let target = self.targets.get(index).ok_or(settings.longest_open_ms)?;
        match target.breaker.borrow_mut().admit(settings, now.0) {
            BreakerDecision::Refuse { retry_ms } => Err(retry_ms),
            decision @ (BreakerDecision::Pass | BreakerDecision::Probe { .. }) => Ok(decision),
        }
    }

    /// Returns the URLs of all targets.
    pub(super) fn urls(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|target| target.url.as_str())
    }

    /// Returns the states of all targets' circuit breakers.
    pub(super) fn breakers(&self) -> impl Iterator<Item = BreakerState> {
        self.targets.iter().map(|target| target.breaker.borrow().state())
    }

    /// Returns what is wrong with the assertion's secret.
    pub(super) fn assertion_fault(&self) -> Option<&str> {
        self.assertion.as_ref().err().map(String::as_str)
    }

    pub(super) fn last_answer(&self) -> Option<LastAnswer> {
        self.last.get()
    }

    /// Returns how many requests wait for this upstream.
    pub(super) fn waiting(&self) -> usize {
        self.permits.taken()
    }
}

/// Returns what an answer or its absence says about a target.
fn observe<R>(answer: &Result<Forwarded<R>, Fault>) -> Observation {
    match answer {
        // An upstream that says when to come back works and sheds load. One that fails before the
        // client has sent its body may fail because of that client. Neither lets a stranger open
        // the circuit.
        Ok(forwarded) if matches!(forwarded.facts.status, 502..=504) => {
            let is_failure = forwarded.facts.body_ended && !asks_for_pause(forwarded);
            if is_failure { Observation::Failure } else { Observation::Unknown }
        }
        Ok(_) => Observation::Success,
        Err(Fault::Unreachable | Fault::TimedOut | Fault::BadStatus | Fault::Redirected | Fault::NotBound) => {
            Observation::Failure
        }
        // Faults of the client, or perhaps of the client.
        Err(Fault::BodySlow | Fault::TooLarge | Fault::ClientGone | Fault::BrokeOff | Fault::Stalled) => {
            Observation::Unknown
        }
    }
}

fn asks_for_pause<R>(forwarded: &Forwarded<R>) -> bool {
    forwarded.facts.has_header("retry-after")
}

/// Returns whether an upstream says that the request did not come from the gateway. It did, so
/// the fault is a clock or a secret, and a client that saw a 401 would log its user out.
fn is_rejection<P: UpstreamClient>(Forwarded { reply, facts, .. }: &Forwarded<P::Reply>, ports: &P) -> bool {
    let names_assertion = |text: String| challenge::names_scheme(&text, challenge::ASSERTION);
    facts.status == 401 && ports.header(reply, "www-authenticate").is_some_and(names_assertion)
}

/// Parses targets of a setting: URLs with commas between, of equal weight.
fn parse_targets(urls: &str) -> Result<Vec<UpstreamTarget>, &'static str> {
    urls.split(',')
        .map(str::trim)
        .map(|url| {
            portcullis_policy::check_base_url(url)?;
            Ok(UpstreamTarget { url: url.trim_end_matches('/').to_owned(), weight: 1 })
        })
        .collect()
}

fn random(ports: &impl Random) -> u32 {
    let [a, b, c, d, ..] = ports.random();
    u32::from_be_bytes([a, b, c, d])
}
