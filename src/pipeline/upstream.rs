//! Upstreams: which target gets a request, how often it is tried, and what its answers say about
//! the target. No borrow of a cell outlives a synchronous step.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_resilience::{
    Breaker, BreakerDecision, BreakerSettings, BreakerState, FIRST_OPEN_MS, Observation, RetryBudget, full_jitter,
};
use sha2::{Digest as _, Sha256};

use super::{
    assertion::{AssertionKeys, Caller, Claims, HeldKey},
    denial::Denial,
    head::Head,
    limits,
    permits::{Lease, Permits},
    ports::{AssertionSigner, Forwarded, RequestValidator, Runtime, UpstreamClient},
    settings::{Misconfiguration, Settings},
    validation,
    wire::{AnswerFacts, BodyPlan, Fault, Forward},
};
use portcullis_policy::{OnDown, UpstreamTarget, check_base_url, check_bound_url, is_same_header};
use portcullis_token::{UnixMillis, keys::key_set};

/// Header with the digest of a body (RFC 9530).
const CONTENT_DIGEST: &str = "content-digest";

/// Scheme of a service that rejects the gateway's assertion.
const ASSERTION_SCHEME: &str = "Gateway-Assertion";

/// One upstream as this isolate knows it.
pub(super) struct Upstream {
    pub(super) config: portcullis_policy::Upstream,
    targets: Vec<Target>,
    breaker: BreakerSettings,
    /// The keys, or what is wrong with the secret. Without keys nothing is forwarded, because an
    /// origin accepts no request without an assertion.
    assertion: Result<AssertionKeys, String>,
    /// The last answer, or its absence, that said something about the upstream.
    pub(super) last: Cell<Option<LastAnswer>>,
    retry_budget: RefCell<RetryBudget>,
    /// Permits of the requests that wait for the upstream.
    pub(super) permits: Permits,
    /// Further permits that requests with a body need: half as many, so that clients that send
    /// slowly leave room for requests without one. One network's clients get a share of them.
    body_permits: Permits,
}

/// One place where an upstream is.
struct Target {
    config: UpstreamTarget,
    breaker: RefCell<Breaker>,
}

/// What an upstream's last answer says about it.
#[derive(Clone, Copy)]
pub(super) struct LastAnswer {
    pub(super) at: UnixMillis,
    pub(super) took_ms: u64,
    /// Code of the denial, if the call failed.
    pub(super) error: Option<&'static str>,
}

impl Upstream {
    /// # Errors
    /// [`Misconfiguration`]: a URL in the settings is not one, or a target is at a plain HTTP URL
    /// outside development.
    pub(super) fn new(config: &portcullis_policy::Upstream, settings: &Settings<'_>) -> Result<Self, Misconfiguration> {
        let suffix = config.name.to_ascii_uppercase().replace('-', "_");
        let variable = format!("UPSTREAM_{suffix}_URL");
        let may_be_plain = config.binding.is_some() || settings.is_network_private;
        let check_url = if may_be_plain { check_bound_url } else { check_base_url };
        let targets = match settings.value(&variable) {
            Some(urls) => {
                parse_targets(&urls, check_url).map_err(|fault| Misconfiguration(format!("{variable} {fault}")))?
            }
            // Without a URL, only the binding's service sees the host.
            None if config.targets.is_empty() => {
                vec![UpstreamTarget { url: format!("https://{}.internal", config.name), weight: 1 }]
            }
            None => config.targets.clone(),
        };
        for target in targets.iter().filter(|_| config.binding.is_none()) {
            // /status shows the text to strangers: it does not say which URL.
            let what = || format!("upstream {:?} is at a plain http:// URL", config.name);
            settings.check_https(&target.url, what, &format!("its https:// URL into {variable}"))?;
        }
        let secret = format!("ASSERTION_KEYS_{suffix}");
        let assertion = match settings.value(&secret) {
            None => Err(format!("secret {secret} is not set")),
            Some(text) => AssertionKeys::parse(&text, config).map_err(|fault| format!("secret {secret} {fault}")),
        };
        Ok(Self {
            config: config.clone(),
            targets: targets.into_iter().map(|config| Target { config, breaker: RefCell::default() }).collect(),
            breaker: BreakerSettings {
                failures: config.breaker.failures,
                longest_open_ms: u64::from(config.breaker.open_s).saturating_mul(1000),
                probe_timeout_ms: config.timeout_ms.saturating_add(limits::PROBE_LOST_MS),
            },
            assertion,
            last: Cell::new(None),
            retry_budget: RefCell::new(RetryBudget::new(limits::FIRST_RETRIES)),
            permits: Permits::new(config.max_concurrent),
            body_permits: Permits::new((config.max_concurrent / 2).max(1)),
        })
    }

    /// Takes the permits of a request for as long as all its tries may take.
    fn acquire(&self, has_body: bool, client: Option<IpAddr>, since: UnixMillis) -> Option<impl Sized> {
        let timeout_ms = self.config.timeout_ms;
        if has_body {
            let lease = Lease { since, lasts_ms: timeout_ms.saturating_add(self.config.body_timeout_ms) };
            let body_permit = self.body_permits.acquire(lease, client)?;
            return Some((self.permits.acquire(lease, None)?, Some(body_permit)));
        }
        let tries = u64::from(self.config.retries).saturating_add(1);
        let try_ms = timeout_ms.saturating_add(limits::RETRY_BACKOFF.longest_ms);
        Some((self.permits.acquire(Lease { since, lasts_ms: try_ms.saturating_mul(tries) }, None)?, None))
    }

    /// Sends a request of the client at this address, whose `url` is still the target's path and query alone.
    /// Sets `times` to the start of the first call and the end of the last.
    pub(super) async fn forward<P: UpstreamClient + AssertionSigner + RequestValidator>(
        &self,
        mut request: Forward<'_>,
        (caller, claims): (Option<Caller<'_>>, &Claims<'_>),
        client: Option<IpAddr>,
        times: &mut Option<(UnixMillis, UnixMillis)>,
        ports: &P,
    ) -> Result<Forwarded<P::Reply>, Denial> {
        let keys = self.assertion.as_ref().map_err(|fault| Denial::Misconfigured { fault: fault.clone() })?;
        let (begun, has_body) = (ports.now(), request.body.is_some());
        let _permits = self.acquire(has_body, client, begun).ok_or(Denial::UpstreamBusy)?;
        // With the permits, which bound the bodies that are held.
        if request.is_validated {
            // Apart, so that other requests do not carry its state.
            Box::pin(self.validate(&request, ports)).await?;
        }
        let digest = if self.config.assertion.content_digest {
            // Apart, so that other requests do not carry its state.
            let digest = Box::pin(digest_of(request.body.as_ref(), ports)).await;
            Some(digest.map_err(|fault| self.judge(fault).1)?)
        } else {
            None
        };
        if let Some(digest) = &digest {
            // In every spelling: a service that follows CGI would take the client's for the gateway's.
            request.headers.retain(|(name, _)| !is_same_header(name, CONTENT_DIGEST));
            request.headers.push((CONTENT_DIGEST.into(), digest.clone().into()));
        }
        let claims = &claims.with_digest(digest.as_deref());
        self.retry_budget.borrow_mut().deposit();
        let path = std::mem::take(&mut request.url);
        let mut settings = self.breaker;
        if has_body {
            // The client decides how long it takes to send its body, and must not keep the others out.
            settings.probe_timeout_ms = settings.probe_timeout_ms.min(FIRST_OPEN_MS);
        }
        let mut tried = Vec::new();
        loop {
            let chance = if self.targets.len() > 1 { random(ports) } else { 0 };
            // Before a breaker admits a probe, whose result would otherwise stay open.
            let assertion = keys.sign(caller, claims, ports).await?;
            let now = ports.now();
            let (index, target, decision) = self.choose(&tried, chance, settings, now).map_err(|retry_ms| {
                self.denial(Denial::AuthenticationBreakerOpen { retry_ms }, Denial::BreakerOpen { retry_ms })
            })?;
            request.url = [&target.config.url, path.as_str()].concat();
            request.headers.push(("x-gateway-assertion".into(), assertion.into()));
            let answer = ports.forward(&request).await;
            request.headers.pop();
            let then = ports.now();
            times.get_or_insert((now, then)).1 = then;
            let (observation, answer) = match answer {
                Ok(forwarded) if is_rejection(&forwarded, ports) => {
                    ports.discard(forwarded.reply);
                    (Observation::Success, Err(Denial::UpstreamRejectedAssertion))
                }
                Ok(forwarded) => (observe(&forwarded.facts), Ok(forwarded)),
                Err(fault) => {
                    let (observation, denial) = self.judge(fault);
                    (observation, Err(denial))
                }
            };
            target.breaker.borrow_mut().record(decision, observation, self.breaker, then.0);
            if observation != Observation::Unknown {
                let error = answer.as_ref().err().map(Denial::code);
                self.last.set(Some(LastAnswer { at: then, took_ms: then.since(now), error }));
            }
            tried.push(index);
            let failures = u32::try_from(tried.len()).unwrap_or(u32::MAX);
            let may_retry = observation == Observation::Failure
                && Head::is_safe(request.method)
                // Bounds how long a client waits for all tries together.
                && then.abs_diff(begun).saturating_add(self.config.timeout_ms) < limits::RETRY_TOTAL_MS
                && failures <= self.config.retries
                && self.retry_budget.borrow_mut().withdraw();
            if !may_retry {
                return answer;
            }
            if let Ok(forwarded) = answer {
                ports.discard(forwarded.reply);
            }
            ports.sleep(full_jitter(limits::RETRY_BACKOFF.delay_ms(failures), random(ports))).await;
        }
    }

    /// Checks a request against the document of the service.
    async fn validate<P: RequestValidator>(&self, request: &Forward<'_>, ports: &P) -> Result<(), Denial> {
        let max_bytes = request.body.as_ref().map_or(0, |body| body.max_bytes).min(limits::VALIDATED_BODY_BYTES);
        let text = ports.validate(&self.config.name, request, max_bytes).await.map_err(|_| validation::failed())?;
        validation::judge(&text)
    }

    /// Chooses a target by weight, if possible one that was not tried before. Otherwise returns
    /// the milliseconds until one may be asked.
    fn choose(
        &self,
        tried: &[usize],
        chance: u32,
        settings: BreakerSettings,
        now: UnixMillis,
    ) -> Result<(usize, &Target, BreakerDecision), u64> {
        let targets = || self.targets.iter().enumerate();
        let admitting = || targets().filter(|(_, target)| target.breaker.borrow().would_admit(settings, now.0));
        let is_new = |index: &usize| !tried.contains(index);
        let has_new = admitting().any(|(index, _)| is_new(&index));
        let candidates = || admitting().filter(|(index, _)| !has_new || is_new(index));
        let total = candidates().fold(0_u32, |sum, (_, target)| sum.saturating_add(target.config.weight));
        let mut left = chance.checked_rem(total).unwrap_or_default();
        for (index, target) in candidates() {
            match left.checked_sub(target.config.weight) {
                Some(rest) => left = rest,
                None => return Ok((index, target, target.breaker.borrow_mut().admit(settings, now.0))),
            }
        }
        // No target admits a request: returns when the first will.
        let waits = targets().filter_map(|(_, target)| match target.breaker.borrow_mut().admit(settings, now.0) {
            BreakerDecision::Refuse { retry_ms } => Some(retry_ms),
            BreakerDecision::Pass { .. } | BreakerDecision::Probe { .. } => None,
        });
        Err(waits.min().unwrap_or(settings.longest_open_ms))
    }

    /// Returns the first denial for an upstream that logs users in, and the second for others.
    fn denial(&self, authentication: Denial, other: Denial) -> Denial {
        if self.config.on_down == OnDown::AuthenticationUnavailable { authentication } else { other }
    }

    /// Returns what a missing answer says about the target, and the denial for the client. A fault of
    /// the client, or perhaps of the client, says nothing.
    fn judge(&self, fault: Fault) -> (Observation, Denial) {
        let unreachable = || self.denial(Denial::AuthenticationUnavailable, Denial::UpstreamUnreachable);
        match fault {
            Fault::Unreachable | Fault::Redirected => (Observation::Failure, unreachable()),
            // The gateway's own fault says nothing about the service.
            Fault::NotBound => {
                let fault = self.unbound(|_| false).unwrap_or_default();
                (Observation::Unknown, Denial::Misconfigured { fault })
            }
            Fault::BrokeOff => (Observation::Unknown, unreachable()),
            Fault::TimedOut => (Observation::Failure, Denial::UpstreamTimedOut),
            Fault::Stalled => (Observation::Unknown, Denial::UpstreamTimedOut),
            Fault::BadStatus => (Observation::Failure, Denial::UpstreamBadAnswer),
            Fault::BodySlow => (Observation::Unknown, Denial::BodyTooSlow),
            Fault::TooLarge => (Observation::Unknown, Denial::BodyTooLarge),
            Fault::ClientGone => (Observation::Unknown, Denial::ClientGone),
        }
    }

    /// Returns what is wrong with the upstream's binding, if it is not among those that are there.
    pub(super) fn unbound(&self, is_bound: impl Fn(&str) -> bool) -> Option<String> {
        let binding = self.config.binding.as_ref().filter(|binding| !is_bound(binding))?;
        let name = &self.config.name;
        Some(format!("binding {binding} of upstream {name} is missing or takes no requests; see wrangler.toml"))
    }

    /// Returns the URLs of all targets.
    pub(super) fn urls(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|target| target.config.url.as_str())
    }

    /// Returns the states of all targets' circuit breakers.
    pub(super) fn breakers(&self) -> impl Iterator<Item = BreakerState> {
        self.targets.iter().map(|target| target.breaker.borrow().state())
    }

    /// Returns what is wrong with the assertion's secret.
    pub(super) fn assertion_fault(&self) -> Option<&str> {
        self.assertion.as_ref().err().map(String::as_str)
    }

    /// Returns the keys of assertions that are published.
    pub(super) fn assertion_keys(&self) -> &[HeldKey] {
        self.assertion.as_ref().map(AssertionKeys::published).unwrap_or_default()
    }

    /// Returns why the upstream cannot get assertions, also of a key that does not sign yet.
    pub(super) async fn signing_fault(&self, ports: &impl AssertionSigner) -> Option<String> {
        for held in self.assertion_keys() {
            match held.prove(ports).await {
                Ok(()) => {}
                Err(Denial::Misconfigured { fault }) => return Some(fault),
                Err(_) => return Some(format!("requests to upstream {} cannot be signed", self.config.name)),
            }
        }
        self.assertion_fault().map(str::to_owned)
    }

    /// Refuses assertions of keys whose `kid` names another key of an upstream before this one: services could not tell
    /// them apart.
    fn refuse_shared_ids(&mut self, others: &[Self]) {
        let differs = |held: &HeldKey, other: &HeldKey| {
            let (key, other) = (&held.key, &other.key);
            key.kid() == other.kid() && key.public.thumbprint != other.public.thumbprint
        };
        let collides = |other: &&Self| {
            self.assertion_keys().iter().any(|held| other.assertion_keys().iter().any(|known| differs(held, known)))
        };
        if let Some(other) = others.iter().find(collides) {
            let (name, other) = (&self.config.name, &other.config.name);
            self.assertion = Err(format!("a kid in the secret of upstream {name} is that of another key of {other}"));
        }
    }
}

/// Returns the upstreams of a policy, and the public keys of their assertions as a JWKS text; `None` without any.
///
/// # Errors
/// As [`Upstream::new`].
pub(super) fn build_all(
    policy: &portcullis_policy::Policy,
    settings: &Settings<'_>,
) -> Result<(Vec<Upstream>, Option<String>), Misconfiguration> {
    let mut upstreams: Vec<Upstream> = Vec::with_capacity(policy.upstreams.len());
    let mut published: Vec<(usize, usize)> = Vec::new();
    for config in &policy.upstreams {
        let mut upstream = Upstream::new(config, settings)?;
        upstream.refuse_shared_ids(&upstreams);
        for (index, held) in upstream.assertion_keys().iter().enumerate() {
            let is_same = |other: &HeldKey| other.key.kid() == held.key.kid();
            // Upstreams may share a key.
            if !upstreams.iter().any(|known| known.assertion_keys().iter().any(is_same)) {
                published.push((upstreams.len(), index));
            }
        }
        upstreams.push(upstream);
    }
    let keys = published.iter().filter_map(|(at, index)| Some(&upstreams.get(*at)?.assertion_keys().get(*index)?.key));
    let set = (!published.is_empty()).then(|| key_set(keys));
    Ok((upstreams, set))
}

/// Reads a body and returns its digest as a header's value (RFC 9530, section 2). The fault of a body that is too long to be
/// kept is [`Fault::TooLarge`]; nothing is read of one that says so.
async fn digest_of(body: Option<&BodyPlan>, ports: &impl UpstreamClient) -> Result<String, Fault> {
    let digest = match body {
        None => Sha256::digest([]).into(),
        Some(BodyPlan { length: Some(bytes), .. }) if *bytes > limits::WHOLE_BODY_BYTES => return Err(Fault::TooLarge),
        Some(body) => ports.digest_body(body.max_bytes.min(limits::WHOLE_BODY_BYTES), body.time_ms).await?,
    };
    let digest: [u8; 32] = digest;
    Ok(["sha-256=:", &STANDARD.encode(digest), ":"].concat())
}

/// Returns what an answer says about a target. An upstream that says when to come back works and
/// sheds load. One that fails before the client has sent its body may fail because of that client.
/// Neither lets a stranger open the circuit, and neither is retried.
fn observe(facts: &AnswerFacts) -> Observation {
    match facts.status {
        502..=504 if facts.body_ended && !facts.has_header("retry-after") => Observation::Failure,
        502..=504 => Observation::Unknown,
        _ => Observation::Success,
    }
}

/// Returns whether an upstream says that the request did not come from the gateway. It did, so
/// the fault is a clock or a secret, and a client that saw a 401 would log its user out.
fn is_rejection<P: UpstreamClient>(Forwarded { reply, facts, .. }: &Forwarded<P::Reply>, ports: &P) -> bool {
    let names_assertion = |text: String| names_scheme(&text, ASSERTION_SCHEME);
    facts.status == 401 && ports.header(reply, "www-authenticate").is_some_and(names_assertion)
}

/// Returns whether one of the challenges of `WWW-Authenticate` has this scheme (RFC 9110, section
/// 11.6.1). A scheme begins a member of the list; quoted text is no scheme.
fn names_scheme(challenges: &str, scheme: &str) -> bool {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let outside = |byte: char| {
        let was_escaped = std::mem::replace(&mut is_escaped, false);
        match byte {
            '"' if !was_escaped => is_quoted = !is_quoted,
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            ',' => return !is_quoted,
            _ => {}
        }
        false
    };
    challenges.split(outside).any(|member| {
        let name = member.trim_start().split([' ', '\t']).next().unwrap_or_default();
        name.eq_ignore_ascii_case(scheme)
    })
}

/// Parses targets of a setting: URLs with commas between, of equal weight.
fn parse_targets(
    urls: &str,
    check_url: fn(&str) -> Result<(), &'static str>,
) -> Result<Vec<UpstreamTarget>, &'static str> {
    urls.split(',')
        .map(str::trim)
        .map(|url| {
            check_url(url)?;
            Ok(UpstreamTarget { url: url.trim_end_matches('/').to_owned(), weight: 1 })
        })
        .collect()
}

fn random(ports: &impl Runtime) -> u32 {
    let [a, b, c, d, ..] = ports.random();
    u32::from_be_bytes([a, b, c, d])
}
