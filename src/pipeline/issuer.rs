//! An issuer: what its tokens must be, and its key set. Carries out the plans of
//! [`portcullis_token::keys`] with the ports, for one request at a time. No borrow of a cell outlives a
//! synchronous step.

use std::{
    cell::{Ref, RefCell},
    rc::Rc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::{
    api_keys::ApiKeyVerifier,
    denial::Denial,
    event_receiver::EventReceiver,
    introspector::Introspector,
    limits,
    metrics::Metrics,
    permits::Permits,
    ports::{BackgroundTask, KeyOwner, KeySource, KeyTask, RecordStore, Runtime, SignatureVerifier},
    settings::{Misconfiguration, Settings, is_plain_http},
    upstream::Upstream,
    wire::Fault,
};
use portcullis_policy::{JwksSource, Proof, check_url};
use portcullis_token::{
    Algorithm, ClaimNames, ClaimRule, IssuerMatch, SignatureOutcome, TokenError, TokenPolicy, UnixMillis,
    UnverifiedToken,
    keys::{self, FetchedKeySet, IssuerKeys, Key, KeyPlan, KeyQuery, KeySet},
};

/// An issuer of the policy.
pub(super) struct Issuer {
    /// Index in the policy.
    pub(super) index: usize,
    /// Name in the policy.
    pub(super) name: String,
    /// Policy of access tokens.
    pub(super) token: TokenPolicy,
    /// The header that holds its access tokens, in lower case; `None` for `Authorization` and the cookie.
    pub(super) token_header: Option<String>,
    /// What its clients must prove.
    pub(super) proof: Option<Proof>,
    /// Whether its tokens can be revoked.
    pub(super) is_revocable: bool,
    /// Policy of the service tokens that revoke its tokens; `None` when it pushes no revocations.
    pub(super) pusher: Option<TokenPolicy>,
    /// Of security events that revoke its tokens.
    pub(super) receivers: Vec<EventReceiver>,
    /// Who says what its opaque tokens mean, if it has any.
    pub(super) introspector: Option<Introspector>,
    /// Who finds the records of its API keys, if its tokens are those.
    pub(super) api_keys: Option<ApiKeyVerifier>,
    /// `issuer` that a discovery document must have.
    issuer: String,
    /// URL of the key set or, with `has_discovery`, of the document that names it. Empty if the policy holds the keys.
    url: String,
    has_discovery: bool,
    /// Whether a discovery document may name a key set over plain HTTP on loopback.
    is_development: bool,
    /// Name of the stored set. It changes with issuer and URL, so a set of one place is never
    /// taken for another's.
    store_name: String,
    keys: RefCell<IssuerKeys>,
    /// The set in the store, as far as this isolate knows.
    stored: RefCell<Option<FetchedKeySet>>,
    waiters: Permits,
    metrics: Rc<Metrics>,
}

const UNAVAILABLE: Denial = Denial::KeysUnavailable { retry_ms: keys::limits::BACKOFF.first_ms };

impl Issuer {
    /// Builds the issuer with this index, whose `token` is its policy of access tokens. At most `waiters`
    /// requests wait for its keys.
    ///
    /// # Errors
    /// [`Misconfiguration`]: the issuer's upstream does not exist, a key of the policy cannot be used, or its keys are
    /// at a plain HTTP URL outside development.
    pub(super) fn new(
        (index, issuer): (usize, &portcullis_policy::Issuer),
        token: TokenPolicy,
        upstreams: &[Upstream],
        settings: &Settings<'_>,
        waiters: u32,
        metrics: Rc<Metrics>,
    ) -> Result<Self, Misconfiguration> {
        let unusable = || Misconfiguration::unusable_issuer(&issuer.name);
        let introspection = issuer.introspection.as_ref();
        let introspector =
            introspection.map(|config| Introspector::new(&issuer.name, config, settings, &metrics)).transpose()?;
        let mut keys = IssuerKeys::default();
        let source = if issuer.has_opaque_tokens() { Some(None) } else { issuer.jwks().map(Some) };
        let (url, has_discovery) = match source.ok_or_else(unusable)? {
            None => {
                keys.is_fixed = true;
                (String::new(), false)
            }
            Some(JwksSource::Policy(text)) => {
                let set = KeySet::parse_strict(text.as_bytes(), &token.algorithms);
                keys = IssuerKeys::fixed(set.map_err(|_| unusable())?);
                (String::new(), false)
            }
            Some(JwksSource::Url(url)) => (url, false),
            Some(JwksSource::Discovery) => (keys::discovery_url(&issuer.issuer), true),
            Some(JwksSource::Upstream { upstream, path }) => {
                let upstream = upstreams.iter().find(|known| known.config.name == upstream);
                let base = upstream.and_then(|upstream| upstream.urls().next()).ok_or_else(unusable)?;
                (format!("{base}{path}"), false)
            }
        };
        let what = || format!("the keys of issuer {:?} are at a plain http:// URL", issuer.name);
        settings.check_https(&url, what, "its https:// URL")?;
        let place = Sha256::digest(format!("{}\n{url}", issuer.issuer));
        Ok(Self {
            index,
            name: issuer.name.clone(),
            issuer: issuer.issuer.clone(),
            proof: issuer.proof,
            is_revocable: issuer.revocable,
            receivers: EventReceiver::of_issuer(issuer, &token, settings),
            introspector,
            api_keys: issuer.api_keys.as_ref().map(|config| ApiKeyVerifier::new(&issuer.name, config, &metrics)),
            pusher: issuer.revocations_from.as_ref().map(|from| pusher_policy(&token, from)),
            token,
            token_header: issuer.token_header.clone(),
            store_name: format!("keys/3/{}/{}", issuer.name, URL_SAFE_NO_PAD.encode(place)),
            url,
            has_discovery,
            is_development: settings.is_development,
            keys: RefCell::new(keys),
            stored: RefCell::default(),
            waiters: Permits::new(waiters),
            metrics,
        })
    }

    /// Checks a token's signature by the keys of the issuer or tenant that it names. Returns the key and a valid outcome.
    /// Sets `source` also when the token is refused.
    pub(super) async fn check_signature(
        &self,
        unverified: &UnverifiedToken<'_>,
        (algorithm, origin): (Algorithm, IssuerMatch<'_>),
        source: &mut Option<&'static str>,
        ports: &(impl KeySource + SignatureVerifier),
    ) -> Result<(Rc<Key>, SignatureOutcome), Denial> {
        let (input, signature) = (unverified.signing_input(), unverified.signature());
        // One key in nearly all cases, several where the issuer leaves no other way to tell.
        let mut tried = Vec::new();
        while tried.len() < keys::limits::CANDIDATES {
            let query = KeyQuery { kid: unverified.unverified_kid(), algorithm, issuer: origin, tried: &tried };
            let (key, place) = self.key_for(&query, ports).await?;
            *source = Some(place);
            let checked = ports.check_signature((&key, KeyOwner::Issuer), algorithm, input, signature).await;
            match checked.map_err(|_| Denial::BackendUnavailable)? {
                SignatureOutcome::Invalid => tried.push(key),
                SignatureOutcome::Valid => return Ok((key, SignatureOutcome::Valid)),
            }
        }
        Err(TokenError::BadSignature.into())
    }

    /// Returns the next key that may verify a token, and where it was: `memory`, `kv` or `issuer`.
    pub(super) async fn key_for(
        &self,
        query: &KeyQuery<'_>,
        ports: &impl KeySource,
    ) -> Result<(Rc<Key>, &'static str), Denial> {
        let begun = ports.now();
        let mut source = "memory";
        let mut pauses = 0;
        loop {
            let now = ports.now();
            let is_late = now.abs_diff(begun) > limits::KEY_WAIT_MS;
            // A statement of its own: the borrow must not last over a wait.
            let plan = keys::plan(&self.keys.borrow(), query, now);
            match plan {
                KeyPlan::Use(key) => return Ok((key, source)),
                KeyPlan::UseAndRefresh(key) => {
                    if query.tried.is_empty() {
                        ports.defer(BackgroundTask::Keys(self.index, KeyTask::Refresh));
                    }
                    return Ok((key, source));
                }
                KeyPlan::Unknown if query.tried.is_empty() => return Err(TokenError::UnknownKey.into()),
                KeyPlan::Unknown => return Err(TokenError::BadSignature.into()),
                KeyPlan::Unavailable { retry_ms } => return Err(Denial::KeysUnavailable { retry_ms }),
                KeyPlan::ReadCache | KeyPlan::Fetch | KeyPlan::Wait if is_late => return Err(UNAVAILABLE),
                KeyPlan::ReadCache => {
                    self.read_store(ports).await;
                    source = "kv";
                }
                KeyPlan::Fetch => {
                    self.fetch_and_store_later(ports).await;
                    source = "issuer";
                }
                KeyPlan::Wait => {
                    pauses = u32::saturating_add(pauses, 1);
                    if !self.waiters.pause(limits::KEY_PAUSE.delay_ms(pauses), ports).await {
                        return Err(UNAVAILABLE);
                    }
                }
            }
        }
    }

    /// Returns whether a key that verified a token is still the issuer's, and schedules a refresh of
    /// a set that is past its freshness.
    pub(super) fn still_vouches(&self, key: &Rc<Key>, now: UnixMillis, background: &impl Runtime) -> bool {
        let keys = self.keys.borrow();
        let is_published = keys.publishes(key, now);
        if is_published && keys.is_refresh_due(now) {
            background.defer(BackgroundTask::Keys(self.index, KeyTask::Refresh));
        }
        is_published
    }

    /// Milliseconds for which a verified token is used at most.
    pub(super) fn token_cache_ms(&self) -> u64 {
        self.introspector.as_ref().map_or(limits::TOKEN_CACHE_MS, Introspector::cache_ms)
    }

    /// Returns why its tokens cannot be checked, for a readiness check that has `begun`.
    pub(super) async fn readiness_fault(
        &self,
        begun: UnixMillis,
        ports: &(impl KeySource + RecordStore),
    ) -> Option<String> {
        if let Some(keys) = &self.api_keys {
            let is_ready = keys.is_ready(ports).await;
            return (!is_ready).then(|| ["the API keys of issuer ", &self.name, " cannot be read"].concat());
        }
        if let Some(introspector) = &self.introspector {
            let resting = || ["the introspection endpoint of issuer ", &self.name, " does not answer"].concat();
            let fault = introspector.fault().map(str::to_owned);
            return fault.or_else(|| (!introspector.may_ask(ports.now())).then(resting));
        }
        let has_keys = self.has_keys(begun, ports).await;
        (!has_keys).then(|| format!("the keys of issuer {} cannot be fetched", self.name))
    }

    /// Returns whether there is a usable set. Reads or fetches one if that is due: anyone may ask.
    async fn has_keys(&self, begun: UnixMillis, ports: &impl KeySource) -> bool {
        let is_usable = || self.known().usable(ports.now()).is_some();
        let may_ask = || !is_usable() && ports.now().abs_diff(begun) <= limits::KEY_WAIT_MS;
        let is_recent = |at: UnixMillis| ports.now().abs_diff(at) < keys::limits::CACHE_LOOK_MS;
        if may_ask() && !self.known().cache_read_at.is_some_and(is_recent) {
            self.read_store(ports).await;
        }
        if may_ask() && self.known().is_refresh_due(ports.now()) {
            self.fetch_and_store_later(ports).await;
        }
        // Another request of this isolate may be fetching right now.
        while may_ask() && self.known().is_asking(ports.now()) {
            if !self.waiters.pause(limits::KEY_PAUSE.longest_ms, ports).await {
                return false;
            }
        }
        is_usable()
    }

    /// Carries out a task behind an answer.
    pub(super) async fn run(&self, task: KeyTask, ports: &impl KeySource) {
        let is_due = match task {
            KeyTask::Refresh => self.known().is_refresh_due(ports.now()),
            KeyTask::Renew => self.known().is_scheduled_refresh_due(ports.now()),
            KeyTask::Store => return self.write_store(ports).await,
        };
        if is_due && self.fetch(ports).await {
            self.write_store(ports).await;
        }
    }

    /// Returns what this isolate knows of the issuer's keys.
    pub(super) fn known(&self) -> Ref<'_, IssuerKeys> {
        self.keys.borrow()
    }

    /// Reads the set that another isolate may have stored, unless the policy holds the keys.
    pub(super) async fn read_store(&self, ports: &impl KeySource) {
        if self.known().is_fixed {
            return;
        }
        let text = ports.read_keys(&self.store_name).await;
        let now = ports.now();
        // Checked like an answer of the issuer: the store may hold garbage.
        let found = text.and_then(|text| FetchedKeySet::from_json(&text, &self.token.algorithms, now));
        self.stored.borrow_mut().clone_from(&found);
        self.keys.borrow_mut().adopt(found, now);
    }

    async fn write_store(&self, ports: &impl KeySource) {
        let record = self.known().record.clone();
        let Some(text) = record.as_ref().map(FetchedKeySet::to_json) else { return };
        // Recorded before the write: two requests must not both write.
        let before = self.stored.replace(record);
        if !ports.write_keys(&self.store_name, &text).await {
            self.stored.replace(before);
        }
    }

    async fn fetch_and_store_later(&self, ports: &impl KeySource) {
        if self.fetch(ports).await {
            ports.defer(BackgroundTask::Keys(self.index, KeyTask::Store));
        }
    }

    /// Fetches the set and counts the result. Returns whether to store the set.
    async fn fetch(&self, ports: &impl KeySource) -> bool {
        self.keys.borrow_mut().begin(ports.now());
        let answer = self.fetch_set(ports).await;
        let now = ports.now();
        let result = answer.as_ref().map_or_else(|code| *code, |_| "ok");
        let issuer = &self.name;
        self.metrics.count(format_args!("gateway_key_refresh_total{{issuer=\"{issuer}\",result=\"{result}\"}}"));
        let mut keys = self.keys.borrow_mut();
        match answer {
            Ok((set, fresh_ms)) => {
                let record = FetchedKeySet { set, fetched_at: now, fresh_ms };
                let is_news = record.should_replace(self.stored.borrow().as_ref());
                keys.succeed(record);
                is_news
            }
            Err(code) => {
                let [jitter, ..] = ports.random();
                keys.fail(code, now, jitter);
                false
            }
        }
    }

    /// Fetches the set and returns it with the milliseconds for which it is fresh.
    async fn fetch_set(&self, source: &impl KeySource) -> Result<(KeySet, u64), &'static str> {
        let mut document = source.fetch_document(&self.url).await.map_err(code)?;
        if self.has_discovery {
            let url = keys::parse_discovery(&document.body, &self.issuer).map_err(keys::KeySetError::code)?;
            // An attacker on the network could replace keys that come over plain HTTP.
            if check_url(&url).is_err() || (is_plain_http(&url) && !self.is_development) {
                return Err("discovery_url_refused");
            }
            document = source.fetch_document(&url).await.map_err(code)?;
        }
        let set = KeySet::parse(&document.body, &self.token.algorithms).map_err(keys::KeySetError::code)?;
        Ok((set, keys::fresh_ms(document.cache_control.as_deref())))
    }
}

/// Returns the code of a fault for operators.
fn code(fault: Fault) -> &'static str {
    let codes = [
        (Fault::TimedOut, "jwks_timeout"),
        (Fault::Redirected, "jwks_redirect"),
        (Fault::BadStatus, "jwks_status"),
        (Fault::TooLarge, "jwks_too_large"),
    ];
    codes.iter().find(|(known, _)| *known == fault).map_or("jwks_unreachable", |(_, code)| code)
}

/// Returns the policy of a service token for this gateway, of the one service that may revoke.
/// An access token has another type and audience, so neither passes as the other.
fn pusher_policy(token: &TokenPolicy, from: &str) -> TokenPolicy {
    TokenPolicy {
        audience: vec!["portcullis".to_owned()],
        audience_claim: vec!["aud".to_owned()],
        types: vec!["service+jwt".to_owned()],
        token_type: Some("service".to_owned()),
        claims: ClaimNames::default(),
        require: vec![ClaimRule { claim: vec!["sub".to_owned()], equals: Some(from.into()), ..ClaimRule::default() }],
        ..token.clone()
    }
}
