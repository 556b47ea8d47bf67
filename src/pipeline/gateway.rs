//! A gateway that is ready for requests: the policy, and the services that its pipeline uses.

use std::{cell::RefCell, rc::Rc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::{
    authenticator::Authenticator,
    background::BackgroundTask,
    failed_auth_limiter::FailedAuthLimiter,
    key_cache::KeyCache,
    metrics::Metrics,
    ports::Ports,
    rate_limiter::RateLimiter,
    revocation_checker::RevocationChecker,
    settings::{Misconfiguration, Settings},
    spans::SpanExporter,
    upstream::Upstream,
};
use portcullis_policy::{Cors, Policy, Route, Table};

/// Everything that one isolate knows: the policy, and the services with their state. One thread
/// uses it; no borrow of a cell outlives a synchronous step.
#[derive(Debug)]
pub struct Gateway {
    version: String,
    source: RefCell<PolicySource>,
    pub(super) policy: Policy,
    pub(super) table: Table,
    pub(super) authenticator: Authenticator,
    pub(super) revocations: RevocationChecker,
    pub(super) limiter: RateLimiter,
    pub(super) failed_auth: FailedAuthLimiter,
    /// By upstream index.
    pub(super) upstreams: Vec<Upstream>,
    pub(super) metrics: Rc<Metrics>,
    pub(super) spans: Option<SpanExporter>,
    log_successes: u8,
    /// Token of operators; `None` without operators.
    pub(super) metrics_token: Option<String>,
    /// Whether this is a developer's machine, whose own user is an operator without a token.
    pub(super) is_development: bool,
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
    /// Returns the name for `/status`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Pushed => "pushed",
            Self::PushedBefore => "pushed before",
        }
    }
}

/// Where the policy in use came from, and what is wrong with a newer one.
#[derive(Debug, Clone)]
pub(super) struct PolicySource {
    pub(super) origin: PolicyOrigin,
    pub(super) newer_fault: Option<String>,
}

impl Gateway {
    /// Builds a gateway from the compiled policy's JSON and the deployment's settings, looked up
    /// by name: `UPSTREAM_<NAME>_URL` replaces an upstream's URL, `ASSERTION_KEYS_<NAME>` is its
    /// secret (`-` in a name is `_` there), `DEVELOPMENT` with the value `true` allows plain HTTP
    /// on loopback, `METRICS_TOKEN` opens `/metrics`, `LOG_SUCCESSES` is the percentage of
    /// successes that are logged, and `OTEL_EXPORTER_OTLP_ENDPOINT` (with `_HEADERS`,
    /// `OTEL_SERVICE_NAME` and `OTEL_TRACES_SAMPLER_ARG`) is where spans go.
    ///
    /// # Errors
    /// [`Misconfiguration`].
    pub fn new(policy_json: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Misconfiguration> {
        let policy = Policy::read(policy_json).map_err(Misconfiguration)?;
        let table = Table::build(&policy).map_err(|_| {
            Misconfiguration(
                "two routes of the policy collide, or name no upstream; build the worker or push it again".to_owned(),
            )
        })?;
        let settings = Settings::new(&lookup)?;
        let upstreams = policy
            .upstreams
            .iter()
            .map(|upstream| Upstream::new(upstream, &settings))
            .collect::<Result<Vec<_>, _>>()?;
        let target_of =
            |name: &str| upstreams.iter().find(|upstream| upstream.name == name)?.urls().next().map(str::to_owned);
        let (waiters, metrics) = (Rc::default(), Rc::new(Metrics::new(&policy, settings.metrics_token.is_some())));
        let keys = KeyCache::new(&policy.issuers, target_of, &settings, Rc::clone(&waiters), Rc::clone(&metrics))?;
        Ok(Self {
            version: Self::version_of(policy_json),
            source: RefCell::new(PolicySource { origin: PolicyOrigin::BuiltIn, newer_fault: None }),
            table,
            authenticator: Authenticator::new(&policy, keys)?,
            revocations: RevocationChecker::new(&policy, waiters),
            limiter: RateLimiter::new(&policy, Rc::clone(&metrics)),
            failed_auth: FailedAuthLimiter::new(&policy, Rc::clone(&metrics)),
            upstreams,
            metrics,
            spans: SpanExporter::new(&settings)?,
            log_successes: settings.log_successes,
            is_development: settings.is_development,
            metrics_token: settings.metrics_token,
            policy,
        })
    }

    /// Carries out a task behind an answer.
    pub async fn run<P: Ports>(&self, task: BackgroundTask, ports: &P) {
        let keys = &self.authenticator.keys;
        match task {
            BackgroundTask::RefreshKeys(issuer) => keys.refresh(issuer, ports).await,
            BackgroundTask::RenewKeys(issuer) => keys.renew(issuer, ports).await,
            BackgroundTask::StoreKeys(issuer) => keys.store(issuer, ports).await,
            BackgroundTask::ReadRevocationLog => self.revocations.read_log_if_due(ports).await,
            BackgroundTask::AppendRevocation(entry) => self.revocations.append_again(entry, ports).await,
            BackgroundTask::CountFailedAuth => self.failed_auth.count(ports).await,
            BackgroundTask::FlushMetrics => self.metrics.flush_later(ports).await,
            BackgroundTask::SendSpansLater => {
                if let Some(spans) = &self.spans {
                    spans.send_later(ports).await;
                }
            }
            BackgroundTask::SendSpans => {
                if let Some(spans) = &self.spans {
                    spans.send(ports).await;
                }
            }
        }
    }

    /// The scheduled event: renews every issuer's keys and flushes the metrics.
    pub async fn run_scheduled<P: Ports>(&self, ports: &P) {
        self.authenticator.keys.renew_all(ports).await;
        self.metrics.flush(ports).await;
    }

    /// Records where the policy came from, for `/status`.
    pub fn set_origin(&self, origin: PolicyOrigin) {
        self.source.borrow_mut().origin = origin;
    }

    /// Returns where the policy came from.
    pub fn origin(&self) -> PolicyOrigin {
        self.source.borrow().origin
    }

    /// Records what is wrong with a newer policy, which is therefore not used.
    pub fn set_newer_fault(&self, fault: Option<String>) {
        self.source.borrow_mut().newer_fault = fault;
    }

    pub(super) fn source(&self) -> PolicySource {
        self.source.borrow().clone()
    }

    /// Returns the percentage of successes that are logged.
    pub const fn log_successes(&self) -> u8 {
        self.log_successes
    }

    /// Returns the policy's version: the beginning of its digest.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the version of a policy's text.
    pub fn version_of(policy_json: &str) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(policy_json)).chars().take(12).collect()
    }

    pub(super) fn route(&self, index: Option<usize>) -> Option<&Route> {
        index.and_then(|index| self.policy.routes.get(index))
    }

    pub(super) fn upstream(&self, index: Option<usize>) -> Option<&Upstream> {
        index.and_then(|index| self.upstreams.get(index))
    }

    /// Returns the CORS policy of a route.
    pub(super) fn cors_of(&self, route: &Route) -> Option<&Cors> {
        let name = route.cors.as_ref()?;
        self.policy.cors.iter().find(|cors| cors.name == *name)
    }
}
