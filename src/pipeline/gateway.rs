//! A gateway that is ready for requests: the policy, and the services that its pipeline uses.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::{
    authenticator::Authenticator,
    authorizer::Authorizer,
    denial::Denial,
    exchange::Exchange,
    headers::TokenPlaces,
    limits,
    log::LogRecord,
    metrics::{CountedRequest, Metrics},
    operators::Operators,
    permits::Permits,
    ports::{BackgroundTask, KeyTask, Ports},
    proofs::ProofVerifier,
    rate_limiter::RateLimiter,
    refusals::RefusalTemplates,
    resources::ResourceMetadata,
    revocation_checker::RevocationChecker,
    settings::{Misconfiguration, Settings},
    spans::SpanExporter,
    upstream::{self, Upstream},
};
use portcullis_policy::{Cors, Policy, Route, Table, TokenSources};
use portcullis_token::UnixMillis;

/// Everything that one isolate knows: the policy, and the services with their state. One thread
/// uses it; no borrow of a cell outlives a synchronous step.
pub struct Gateway {
    /// The policy's version: the beginning of its digest.
    pub version: String,
    /// Where the policy came from.
    pub origin: Cell<PolicyOrigin>,
    /// What is wrong with a newer policy, which is therefore not used.
    pub newer_fault: RefCell<Option<String>>,
    /// Share of successes that is logged: 0 to 1.
    pub(super) log_share: f64,
    pub(super) policy: Policy,
    pub(super) table: Table,
    pub(super) authenticator: Authenticator,
    pub(super) authorizers: Vec<Authorizer>,
    pub(super) token_places: TokenPlaces,
    /// By route index; empty if no issuer has a token header.
    token_sources: Vec<Option<Rc<TokenSources>>>,
    /// `None` if the policy asks for no proofs.
    pub(super) proofs: Option<Box<ProofVerifier>>,
    pub(super) revocations: RevocationChecker,
    pub(super) limiter: RateLimiter,
    /// The resource of each route; empty without resources.
    resource_of: Vec<Option<usize>>,
    /// By index of the policy's resources.
    pub(super) resources: Vec<ResourceMetadata>,
    /// Templates of refusals, if the policy has any.
    pub(super) refusals: Option<Box<RefusalTemplates>>,
    /// By upstream index.
    pub(super) upstreams: Vec<Upstream>,
    /// The public keys of assertions as a JWKS text; `None` without any.
    pub(super) assertion_jwks: Option<String>,
    pub(super) metrics: Rc<Metrics>,
    pub(super) spans: Option<SpanExporter>,
    /// Permits of readiness checks.
    pub(super) ready_checks: Permits,
    /// When the next flush was scheduled, until it begins.
    flushing_since: Cell<Option<UnixMillis>>,
    pub(super) operators: Operators,
    /// Whether this is a developer's machine, whose own user is an operator without a token.
    pub(super) is_development: bool,
}

/// The version alone: services hold secrets and tokens.
impl fmt::Debug for Gateway {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gateway").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Where a policy came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyOrigin {
    /// The build.
    BuiltIn,
    /// The newest pushed policy.
    Pushed,
    /// The pushed policy before the newest, which cannot be used.
    PushedBefore,
}

impl PolicyOrigin {
    /// Returns its name in `/status`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Pushed => "pushed",
            Self::PushedBefore => "pushed before",
        }
    }
}

impl Gateway {
    /// Builds a gateway from the compiled policy's JSON and the deployment's settings, looked up
    /// by name. Each service reads and checks its own settings.
    pub fn new(policy_json: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Misconfiguration> {
        let policy = Policy::read(policy_json).map_err(Misconfiguration)?;
        let unusable = "two routes of the policy collide, or name no upstream; build the worker or push it again";
        let table = Table::build(&policy).map_err(|_| Misconfiguration(unusable.to_owned()))?;
        let settings = Settings::new(&lookup)?;
        let (upstreams, assertion_jwks) = upstream::build_all(&policy, &settings)?;
        let operators = Operators::new(&settings)?;
        let metrics = Rc::new(Metrics::new(operators.has_metrics()));
        let authorizers = policy.authorizers.iter().map(|config| Authorizer::new(config, &settings, &metrics));
        let token_places = TokenPlaces::new(&policy);
        let token_sources = if token_places.headers.is_empty() { Vec::new() } else { policy.token_sources() };
        let routes = policy.routes.iter().filter(|_| !policy.resources.is_empty());
        let resource_of = routes.map(|route| policy.resource_of(route)).collect();
        Ok(Self {
            version: Self::version_of(policy_json),
            origin: Cell::new(PolicyOrigin::BuiltIn),
            newer_fault: RefCell::default(),
            log_share: settings.log_share,
            table,
            authenticator: Authenticator::new(&policy, &upstreams, &settings, &metrics)?,
            authorizers: authorizers.collect::<Result<_, _>>()?,
            token_places,
            token_sources,
            resource_of,
            proofs: ProofVerifier::new(&policy, &settings)?,
            revocations: RevocationChecker::new(&policy),
            limiter: RateLimiter::new(&policy, &metrics),
            refusals: RefusalTemplates::of_policy(&policy)?,
            resources: ResourceMetadata::of_policy(&policy, &settings)?,
            upstreams,
            assertion_jwks,
            metrics,
            spans: SpanExporter::new(&settings)?,
            ready_checks: Permits::new(limits::READY_CHECKS),
            flushing_since: Cell::default(),
            is_development: settings.is_development,
            operators,
            policy,
        })
    }

    /// Returns whether operators can read what the gateway notes for their page.
    pub const fn has_page(&self) -> bool {
        self.operators.has_page()
    }

    /// Remembers the proofs that the isolate's gateway before this one has accepted.
    pub fn keep_proofs_of(&mut self, before: &Self) {
        if let (Some(proofs), Some(before)) = (&mut self.proofs, &before.proofs) {
            proofs.share_memory_of(before);
        }
    }

    /// Checks that the Worker has the validators of the documents that the policy was made with. `built` returns the
    /// digest of an upstream's.
    pub fn check_validators(&self, built: impl Fn(&str) -> Option<String>) -> Result<(), Misconfiguration> {
        let lacking = self.policy.upstreams.iter().find(|upstream| {
            upstream.openapi_digest.as_ref().is_some_and(|digest| built(&upstream.name).as_ref() != Some(digest))
        });
        lacking.map_or(Ok(()), |upstream| {
            let what = "has another OpenAPI document than the Worker was built with; deploy the Worker first";
            Err(Misconfiguration(["upstream \"", &upstream.name, "\" ", what].concat()))
        })
    }

    /// Carries out a task behind an answer.
    pub async fn run<P: Ports>(&self, task: BackgroundTask, ports: &P) {
        match task {
            BackgroundTask::Keys(issuer, task) => {
                if let Some(issuer) = self.authenticator.issuers.get(issuer) {
                    issuer.run(task, ports).await;
                }
            }
            BackgroundTask::ReadRevocationLog => self.revocations.read_log_if_due(ports).await,
            BackgroundTask::AppendRevocation(entry) => self.revocations.append_again(entry, ports).await,
            BackgroundTask::CountFailedAuth { limit, network } => {
                self.limiter.count_failed_auth(limit, network, ports).await;
            }
            BackgroundTask::Flush | BackgroundTask::SendSpans => {
                if task == BackgroundTask::Flush {
                    ports.sleep(limits::FLUSH_MS).await;
                    self.flushing_since.set(None);
                    self.metrics.flush(&self.policy, ports).await;
                }
                if let Some(spans) = &self.spans {
                    spans.send(ports).await;
                }
            }
        }
    }

    /// Counts a request that was answered, adds its spans if its trace is sampled, and schedules a flush. Returns its
    /// record if it is logged. Denials, failures and faults always are; other successes are sampled.
    pub(super) fn observe<P: Ports>(
        &self,
        exchange: &Exchange<'_>,
        status: u16,
        denial: Option<&Denial>,
        ports: &P,
    ) -> Option<LogRecord> {
        let now = ports.now();
        let route = exchange.route.and_then(|route| self.policy.routes.element_offset(route));
        let upstream = exchange.upstream.and_then(|upstream| self.upstreams.element_offset(upstream));
        self.metrics.count_request(CountedRequest {
            method: &exchange.head.method,
            route,
            upstream,
            status,
            code: denial.map(Denial::code),
            took_ms: now.since(exchange.begun),
            upstream_ms: exchange.upstream_times.map(|(from, to)| to.since(from)),
            key_source: exchange.key_source,
        });
        let spans = self.spans.as_ref().filter(|_| exchange.ids.is_sampled);
        let is_logged = status >= 400
            || exchange.fault.is_some()
            || exchange.received.is_some()
            || exchange.ids.is_within(self.log_share);
        let record = (is_logged || spans.is_some()).then(|| exchange.record(status, denial, now));
        if spans.zip(record.as_ref()).is_some_and(|(spans, record)| spans.record(exchange, record, now)) {
            ports.defer(BackgroundTask::SendSpans);
        }
        let is_scheduled = self.flushing_since.get().is_some_and(|since| now.abs_diff(since) < limits::FLUSH_LOST_MS);
        if !is_scheduled && (self.metrics.is_enabled || spans.is_some()) {
            self.flushing_since.set(Some(now));
            ports.defer(BackgroundTask::Flush);
        }
        record.filter(|_| is_logged)
    }

    /// The scheduled event: renews every issuer's keys, so that requests rarely wait for them, and
    /// flushes the metrics.
    pub async fn run_scheduled<P: Ports>(&self, ports: &P) {
        for issuer in &self.authenticator.issuers {
            issuer.read_store(ports).await;
            issuer.run(KeyTask::Renew, ports).await;
        }
        self.metrics.flush(&self.policy, ports).await;
    }

    /// Returns the version of a policy's text.
    pub fn version_of(policy_json: &str) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(policy_json)).chars().take(12).collect()
    }

    /// Returns where a route looks for tokens; `None` if `Authorization` and the token cookie are its only sources.
    pub(super) fn token_sources(&self, route: &Route) -> Option<&TokenSources> {
        if self.token_sources.is_empty() {
            return None;
        }
        self.token_sources.get(self.policy.routes.element_offset(route)?)?.as_deref()
    }

    /// Returns the index of the resource that a route belongs to.
    pub(super) fn resource_of(&self, route: &Route) -> Option<usize> {
        if self.resource_of.is_empty() {
            return None;
        }
        *self.resource_of.get(self.policy.routes.element_offset(route)?)?
    }

    /// Returns the nonce for the client's next proof.
    pub(super) fn new_nonce(&self, exchange: &Exchange<'_>) -> Option<String> {
        self.proofs.as_ref()?.nonce(exchange.begun)
    }

    /// Returns the CORS policy of a route.
    pub(super) fn cors_of(&self, route: &Route) -> Option<&Cors> {
        let name = route.cors.as_ref()?;
        self.policy.cors.iter().find(|cors| cors.name == *name)
    }
}
