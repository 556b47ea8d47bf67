//! A policy and a deployment's own settings, to a [`Gate`] that can be used.

use std::cell::RefCell;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_resilience::{BreakerSettings, RetryBudget};
use sha2::{Digest as _, Sha256};

use super::{
    AssertionKeys,
    failures::Failures,
    limits,
    metrics::Metrics,
    remembered::Remembered,
    spans::{Exporter, Spans},
    upstream::{TargetState, UpstreamState, Waiting},
};
use crate::{
    config::{self, Access, JwksSource, Policy, RequireRule},
    keys::{self, FetchedKeySet, IssuerKeys},
    revocation::RevocationCache,
    route::Table,
    token::{Algorithm, ClaimNames, ClaimPath, ClaimRule, TENANT_PLACEHOLDER, TokenPolicy},
};

/// Setting that says that this is a developer's machine.
const DEVELOPMENT: &str = "DEVELOPMENT";

/// Plain HTTP, which the policy's checks allow for on loopback alone.
pub(super) fn is_plain(url: &str) -> bool {
    url.starts_with("http://")
}

/// Setting for how many of a hundred successes are logged.
const LOG_SUCCESSES: &str = "LOG_SUCCESSES";

/// Secret that opens `/metrics` and the details of `/status` and `/ready`.
const METRICS_TOKEN: &str = "METRICS_TOKEN";

/// Where OpenTelemetry's collector is, what to send it along, what to call the gateway, and
/// which share of the traces to sample; by the names that all its exporters have.
const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const OTLP_HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const OTEL_SERVICE: &str = "OTEL_SERVICE_NAME";
const OTEL_RATIO: &str = "OTEL_TRACES_SAMPLER_ARG";

/// `aud` of tokens that are for the gateway itself.
const AUDIENCE: &str = "portcullis";

/// Where the audience is (RFC 7519, section 4.1.3), unless the policy says otherwise.
const AUDIENCE_CLAIM: &str = "aud";

/// What stands at a tenant's place in the URL of what is the same for all tenants.
const ALL_TENANTS: &str = "common";

/// `typ` of service tokens.
const SERVICE_TYPE: &str = "service+jwt";

/// Everything that one isolate knows: the policy ready for use, and what it has
/// learnt of issuers and upstreams. One thread uses it; no borrow of a cell
/// outlives a synchronous step.
#[derive(Debug)]
pub struct Gate {
    pub(super) version: String,
    pub(super) policy: Policy,
    pub(super) table: Table,
    pub(super) issuers: Vec<IssuerState>,
    pub(super) upstreams: Vec<UpstreamState>,
    pub(super) remembered: RefCell<Remembered>,
    pub(super) failures: RefCell<Failures>,
    /// Requests that wait for what another one brings.
    pub(super) waiting: Waiting,
    pub(super) revocations: RefCell<RevocationCache>,
    pub(super) metrics: RefCell<Metrics>,
    /// Where the policy is from, and what is wrong with a newer one.
    pub(super) origin: RefCell<(PolicyOrigin, Option<String>)>,
    /// How many of a hundred successes are logged.
    pub(super) log_successes: u8,
    /// Shown by operators, who may read the metrics and details of the status; `None` when
    /// nobody may.
    pub(super) metrics_token: Option<String>,
    /// Whether this is a developer's machine, whose own user sees details without a token.
    pub(super) is_development: bool,
    /// Where spans go; `None` when nowhere.
    pub(super) exporter: Option<Exporter>,
    pub(super) spans: RefCell<Spans>,
}

#[derive(Debug)]
pub(super) struct IssuerState {
    pub(super) name: String,
    pub(super) token: TokenPolicy,
    /// Whether its tokens can be revoked.
    pub(super) revocable: bool,
    /// What the service tokens must be that revoke them; `None` when nobody may.
    pub(super) pusher: Option<TokenPolicy>,
    pub(super) jwks: JwksPlace,
    /// Whether its discovery document may name a key set over plain HTTP on loopback.
    pub(super) is_development: bool,
    /// Name of the stored key set; changes with issuer and URL, so keys of one
    /// place are never taken for another's.
    pub(super) store_name: String,
    pub(super) holding: RefCell<IssuerKeys>,
    /// What the store holds, as far as this isolate knows.
    pub(super) stored: RefCell<Option<FetchedKeySet>>,
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JwksPlace {
    /// Here.
    Url(String),
    /// Where the document at this URL says.
    Discovery(String),
}

/// The policy or a setting cannot be worked with; the text says which, and
/// holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misconfiguration(pub String);

impl Gate {
    /// Builds a gate from the compiled policy's JSON and the deployment's
    /// settings, looked up by name: `UPSTREAM_<NAME>_URL` replaces an
    /// upstream's URL, `ASSERTION_KEYS_<NAME>` is its secret (`-` in a name is
    /// `_` there), `DEVELOPMENT` with the value `true` allows for plain HTTP on
    /// loopback, `METRICS_TOKEN` opens `/metrics`,
    /// `LOG_SUCCESSES` is how many of a hundred successes are logged, and
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` (with `_HEADERS`, `OTEL_SERVICE_NAME` and
    /// `OTEL_TRACES_SAMPLER_ARG`) is where spans go.
    ///
    /// # Errors
    /// [`Misconfiguration`].
    pub fn new(policy_json: &str, setting: impl Fn(&str) -> Option<String>) -> Result<Self, Misconfiguration> {
        let policy: Policy = serde_json::from_slice(policy_json.as_bytes())
            .map_err(|_| Misconfiguration("the policy cannot be read; build the worker or push it again".to_owned()))?;
        // Written again it must be the same, or it says something that this worker does not
        // know: a restriction, say, of a newer tool's.
        if serde_json::to_string(&policy).ok().as_deref() != Some(policy_json) {
            return Err(Misconfiguration(
                "the policy is not in this worker's form; push it again with this version".to_owned(),
            ));
        }
        if let Some(fault) = policy.find_fault() {
            return Err(Misconfiguration(format!("the policy cannot be used: {fault}")));
        }
        let table = Table::build(&policy).map_err(|_| {
            Misconfiguration(
                "two routes of the policy collide, or name no upstream; build the worker or push it again".to_owned(),
            )
        })?;
        let is_development = setting(DEVELOPMENT).is_some_and(|value| value == "true");
        let mut upstreams = Vec::new();
        for upstream in &policy.upstreams {
            upstreams.push(upstream_state(upstream, &setting, is_development)?);
        }
        let kept = claims_in_rules(&policy);
        let mut issuers = Vec::new();
        for issuer in &policy.issuers {
            issuers.push(issuer_state(issuer, &upstreams, &kept, is_development)?);
        }
        let log_successes = match setting(LOG_SUCCESSES) {
            None => 100,
            Some(text) => text.parse().ok().filter(|percent| *percent <= 100).ok_or_else(|| {
                Misconfiguration(format!("{LOG_SUCCESSES} is no whole number from 0 to 100; it says how many of a hundred successes are logged"))
            })?,
        };
        let metrics_token = setting(METRICS_TOKEN);
        if metrics_token.as_ref().is_some_and(|token| token.len() < limits::METRICS_TOKEN_CHARS) {
            let least = limits::METRICS_TOKEN_CHARS;
            return Err(Misconfiguration(format!(
                "{METRICS_TOKEN} is shorter than {least} characters; make a longer one"
            )));
        }
        let version = Self::version_of(policy_json);
        Ok(Self {
            version,
            policy,
            table,
            issuers,
            upstreams,
            remembered: RefCell::default(),
            failures: RefCell::default(),
            waiting: Waiting::default(),
            revocations: RefCell::default(),
            metrics: RefCell::default(),
            origin: RefCell::new((PolicyOrigin::BuiltIn, None)),
            log_successes,
            metrics_token,
            is_development,
            exporter: exporter(&setting, is_development)?,
            spans: RefCell::default(),
        })
    }
}

/// Where a policy is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyOrigin {
    /// The build.
    BuiltIn,
    /// Pushed, the newest.
    Pushed,
    /// Pushed, the one before the newest, which cannot be used.
    PushedBefore,
}

impl PolicyOrigin {
    /// For `/status`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Pushed => "pushed",
            Self::PushedBefore => "pushed before",
        }
    }
}

impl Gate {
    /// Notes where the policy is from, for `/status`.
    pub fn came_from(&self, origin: PolicyOrigin) {
        self.origin.borrow_mut().0 = origin;
    }

    /// Where the policy is from.
    pub fn origin(&self) -> PolicyOrigin {
        self.origin.borrow().0
    }

    /// Notes what is wrong with a newer policy, which is therefore not used.
    pub fn newer_is_bad(&self, fault: Option<String>) {
        self.origin.borrow_mut().1 = fault;
    }

    /// How many of a hundred successes are logged.
    pub const fn log_successes(&self) -> u8 {
        self.log_successes
    }

    /// Version of the policy: the beginning of its digest.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The version that a policy's text has.
    pub fn version_of(policy_json: &str) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(policy_json)).chars().take(12).collect()
    }
}

fn upstream_state(
    upstream: &config::Upstream,
    setting: &impl Fn(&str) -> Option<String>,
    is_development: bool,
) -> Result<UpstreamState, Misconfiguration> {
    let suffix = upstream.name.to_ascii_uppercase().replace('-', "_");
    let variable = format!("UPSTREAM_{suffix}_URL");
    let targets = match setting(&variable) {
        Some(urls) => given_targets(&urls).map_err(|mend| Misconfiguration(format!("{variable} {mend}")))?,
        None => upstream.targets.clone(),
    };
    if !is_development && targets.iter().any(|target| is_plain(&target.url)) {
        // Shown to strangers by /status: not where it is.
        return Err(Misconfiguration(format!(
            "upstream {:?} is at a plain http:// URL, which only a development machine has; set {variable} to its https:// URL, or {DEVELOPMENT} to true on your own machine",
            upstream.name
        )));
    }
    let secret = format!("ASSERTION_KEYS_{suffix}");
    let assertion = match setting(&secret) {
        None => Err(format!("secret {secret} is not set")),
        Some(text) => AssertionKeys::parse(&text)
            .map_err(|_| format!("secret {secret} is not kid:base64url-of-32-bytes, one or two with a comma between")),
    };
    Ok(UpstreamState {
        name: upstream.name.clone(),
        targets: targets
            .into_iter()
            .map(|target| TargetState { url: target.url, weight: target.weight, breaker: RefCell::default() })
            .collect(),
        timeout_ms: upstream.timeout_ms,
        body_timeout_ms: upstream.body_timeout_ms,
        idle_timeout_ms: upstream.idle_timeout_ms,
        maintenance_s: upstream.maintenance_s,
        on_down: upstream.on_down,
        retries: upstream.retries,
        max_concurrent: upstream.max_concurrent,
        breaker_settings: BreakerSettings {
            failures: upstream.breaker_failures,
            longest_open_ms: upstream.breaker_open_ms,
            probe_timeout_ms: upstream.timeout_ms.saturating_add(limits::PROBE_LOST_MS),
        },
        assertion,
        seen: RefCell::default(),
        retry_budget: RefCell::new(RetryBudget::new(limits::FIRST_RETRIES)),
        waiting: Waiting::default(),
    })
}

fn exporter(
    setting: &impl Fn(&str) -> Option<String>,
    is_development: bool,
) -> Result<Option<Exporter>, Misconfiguration> {
    let Some(endpoint) = setting(OTLP_ENDPOINT).filter(|endpoint| !endpoint.is_empty()) else { return Ok(None) };
    config::check_url(&endpoint).map_err(|mend| Misconfiguration(format!("{OTLP_ENDPOINT} {mend}")))?;
    if is_plain(&endpoint) && !is_development {
        return Err(Misconfiguration(format!(
            "{OTLP_ENDPOINT} is a plain http:// URL, which only a development machine has; write its https:// URL, or set {DEVELOPMENT} to true on your own machine"
        )));
    }
    if endpoint.contains(['?', '#']) {
        return Err(Misconfiguration(format!(
            "{OTLP_ENDPOINT} has a query or a fragment; /v1/traces is put behind it, so write scheme, host and path alone"
        )));
    }
    let ratio = match setting(OTEL_RATIO).filter(|text| !text.is_empty()) {
        None => 1.0,
        Some(text) => ratio_of(&text).filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(|| {
            Misconfiguration(format!(
                "{OTEL_RATIO} is no number from 0 to 1; it says which share of the traces is sampled"
            ))
        })?,
    };
    Ok(Some(Exporter {
        url: format!("{}/v1/traces", endpoint.trim_end_matches('/')),
        headers: setting(OTLP_HEADERS).unwrap_or_default(),
        service: setting(OTEL_SERVICE).filter(|name| !name.is_empty()).unwrap_or_else(|| "portcullis".to_owned()),
        ratio,
    }))
}

/// A decimal number as people write one: beside JSON's forms `.5`, `1.`, `+0.1` and `01`.
fn ratio_of(text: &str) -> Option<f64> {
    let begins = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let text = text.strip_prefix('+').unwrap_or(text);
    if !begins(text.strip_prefix('.').unwrap_or(text)) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    let before = if begins(digits) { "" } else { "0" };
    let behind = if digits.ends_with('.') { "0" } else { "" };
    serde_json::from_slice([before, digits, behind].concat().as_bytes()).ok()
}

/// Targets as a variable gives them: URLs with commas between, of one weight.
fn given_targets(urls: &str) -> Result<Vec<config::UpstreamTarget>, &'static str> {
    urls.split(',')
        .map(str::trim)
        .map(|url| {
            config::check_base_url(url)?;
            Ok(config::UpstreamTarget { url: url.trim_end_matches('/').to_owned(), weight: 1 })
        })
        .collect()
}

fn claim_names(claims: &config::Claims) -> ClaimNames {
    let usual = ClaimNames::default();
    let or = |path: &Option<ClaimPath>, usual: ClaimPath| path.clone().unwrap_or(usual);
    ClaimNames {
        user_id: or(&claims.user_id, usual.user_id),
        email: or(&claims.email, usual.email),
        roles: or(&claims.roles, usual.roles),
        scopes: or(&claims.scopes, usual.scopes),
        session_id: or(&claims.session, usual.session_id),
    }
}

fn claim_rule(require: &config::Require) -> ClaimRule {
    let claim = require.claim.clone();
    match &require.rule {
        RequireRule::Present => ClaimRule { claim, ..ClaimRule::default() },
        RequireRule::Equals(value) => ClaimRule { claim, equals: Some(value.clone()), one_of: None },
        RequireRule::OneOf(values) => ClaimRule { claim, equals: None, one_of: Some(values.clone()) },
    }
}

/// The claims that routes ask for.
fn claims_in_rules(policy: &Policy) -> Vec<ClaimPath> {
    fn collect(access: &Access, kept: &mut Vec<ClaimPath>) {
        match access {
            Access::Claim(require) if !kept.contains(&require.claim) => kept.push(require.claim.clone()),
            Access::Any(rules) | Access::All(rules) => rules.iter().for_each(|rule| collect(rule, kept)),
            Access::Claim(_)
            | Access::Public
            | Access::User
            | Access::Roles(_)
            | Access::Scopes(_)
            | Access::Owner(_) => {}
        }
    }
    let mut kept = Vec::new();
    policy.routes.iter().for_each(|route| collect(&route.access, &mut kept));
    kept
}

/// A service token for this gateway, of the one service that may revoke. No access
/// token is one, and it passes as none: type and audience differ.
fn pusher_policy(token: &TokenPolicy, from: &str) -> TokenPolicy {
    TokenPolicy {
        audience: vec![AUDIENCE.to_owned()],
        audience_claim: vec![AUDIENCE_CLAIM.to_owned()],
        types: vec![SERVICE_TYPE.to_owned()],
        token_type: Some("service".to_owned()),
        claims: ClaimNames::default(),
        require: vec![ClaimRule {
            claim: vec!["sub".to_owned()],
            equals: Some(serde_json::Value::from(from)),
            one_of: None,
        }],
        ..token.clone()
    }
}

fn issuer_state(
    issuer: &config::Issuer,
    upstreams: &[UpstreamState],
    kept: &[ClaimPath],
    is_development: bool,
) -> Result<IssuerState, Misconfiguration> {
    let unusable = || Misconfiguration(format!("issuer {:?} cannot be used; build the worker again", issuer.name));
    let algorithms = issuer
        .algorithms
        .iter()
        .map(|name| Algorithm::from_name(name))
        .collect::<Option<Vec<_>>>()
        .filter(|algorithms| !algorithms.is_empty())
        .ok_or_else(unusable)?;
    let jwks = match &issuer.jwks {
        JwksSource::Url(url) => JwksPlace::Url(url.clone()),
        JwksSource::Discovery => {
            JwksPlace::Discovery(keys::discovery_url(&issuer.issuer.replacen(TENANT_PLACEHOLDER, ALL_TENANTS, 1)))
        }
        JwksSource::Upstream { upstream, path } => {
            let base = upstreams.iter().find(|known| known.name == *upstream).ok_or_else(unusable)?;
            let target = base.targets.first().ok_or_else(unusable)?;
            JwksPlace::Url(format!("{}{path}", target.url))
        }
    };
    let (JwksPlace::Url(url) | JwksPlace::Discovery(url)) = &jwks;
    if !is_development && is_plain(url) {
        return Err(Misconfiguration(format!(
            "the keys of issuer {:?} are at a plain http:// URL, which only a development machine has; write its https:// URL, or set {DEVELOPMENT} to true on your own machine",
            issuer.name
        )));
    }
    let place = Sha256::digest(format!("{}\n{url}", issuer.issuer));
    let store_name = format!("keys/3/{}/{}", issuer.name, URL_SAFE_NO_PAD.encode(place));
    let token = TokenPolicy {
        issuer: issuer.issuer.clone(),
        tenants: issuer.tenants.clone(),
        audience: issuer.audience.clone(),
        audience_claim: issuer.audience_claim.clone().unwrap_or_else(|| vec![AUDIENCE_CLAIM.to_owned()]),
        algorithms,
        types: issuer.types.clone(),
        token_type: issuer.token_type.clone(),
        claims: claim_names(&issuer.claims),
        require: issuer.require.iter().map(claim_rule).collect(),
        kept: kept.to_vec(),
        leeway_s: issuer.leeway_s,
        max_lifetime_s: issuer.max_lifetime_s,
    };
    let pusher = issuer.revocations_from.as_ref().map(|from| pusher_policy(&token, from));
    Ok(IssuerState {
        name: issuer.name.clone(),
        token,
        revocable: issuer.revocable,
        pusher,
        jwks,
        is_development,
        store_name,
        holding: RefCell::default(),
        stored: RefCell::default(),
    })
}
