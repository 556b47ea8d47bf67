//! Authentication: from a token's text to a verified identity, by the policy of the issuer that
//! the token names.

use std::{
    cell::{Cell, RefCell},
    hash::{BuildHasherDefault, Hasher},
    net::IpAddr,
    rc::Rc,
    slice,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    api_keys::ApiKeyVerifier,
    assertion::{Caller, Opening},
    denial::Denial,
    introspector::Introspector,
    issuer::Issuer,
    limited_cache::LimitedCache,
    limits,
    metrics::Metrics,
    permits::Lease,
    ports::{Backchannels, KeySource, RecordStore, SignatureVerifier},
    rate_limiter::RateLimiter,
    settings::{Misconfiguration, Settings},
    upstream::Upstream,
};
use portcullis_policy::Policy;
use portcullis_token::{
    self as token, ApiKey, TokenError, UnixMillis, VerifiedToken, keys::Key, revocation::RevocationKeys,
};

/// Verifies tokens, and caches those that it has verified for a short while: one signature check
/// serves many requests.
///
/// A cached token is no decision: access, revocation, and whether its key is still its issuer's
/// are checked again for each request.
pub(super) struct Authenticator {
    /// By issuer index.
    pub(super) issuers: Vec<Rc<Issuer>>,
    /// Those with an introspection endpoint.
    opaque: Vec<Rc<Issuer>>,
    /// Whether any issuer has opaque tokens.
    has_opaque: bool,
    /// By the token's text, which is compared in full, or by the digest of an opaque token.
    tokens: RefCell<LimitedCache<Rc<str>, Rc<AuthenticatedToken>, BuildHasherDefault<SignatureHasher>>>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

/// Hashes a token by the end of its signature, or of its digest. Only verified tokens are keys, so neither a stranger nor a user can
/// choose texts whose hashes collide. An issuer could, and would slow down the lookup of its own tokens.
#[derive(Default)]
struct SignatureHasher(u64);

impl Hasher for SignatureHasher {
    fn write(&mut self, text: &[u8]) {
        // The byte that `str` adds has no such end.
        if let Some(end) = text.last_chunk() {
            // Each bit has an effect on the upper half, and the map looks at the lower half first.
            self.0 = u64::from_le_bytes(*end).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A token as a request shows it.
#[derive(Clone, Copy)]
pub(super) struct ShownToken<'a> {
    pub(super) text: &'a str,
    /// The token header that held it; `None` for `Authorization` and the cookie.
    pub(super) header: Option<&'a str>,
    /// The issuers whose tokens the route accepts; `None` for all.
    pub(super) issuers: Option<&'a [String]>,
    /// The client that shows it.
    pub(super) client: Option<IpAddr>,
    pub(super) limiter: &'a RateLimiter,
    pub(super) request_id: &'a str,
}

/// What a token is shown for. Each purpose has a policy of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Access to a route.
    Access,
    /// A push of revocations.
    Push,
}

/// A verified token with what later steps need of it.
pub(super) struct AuthenticatedToken {
    pub(super) verified: VerifiedToken,
    pub(super) issuer: Rc<Issuer>,
    /// The key that verified it; `None` for an opaque token.
    key: Option<Rc<Key>>,
    /// Under which it may be revoked; `None` when its issuer's tokens cannot be.
    pub(super) revocation_keys: Option<RevocationKeys>,
    /// The opening for the upstream of the caller's last request.
    pub(super) opening: RefCell<Option<Rc<Opening>>>,
    /// The key of its last proof, validated.
    pub(super) proof_key: RefCell<Option<Rc<Key>>>,
}

impl AuthenticatedToken {
    fn new(verified: VerifiedToken, issuer: &Rc<Issuer>, key: Option<Rc<Key>>, is_revocable: bool) -> Self {
        let kid = key.as_ref().and_then(|key| key.kid.as_deref());
        let revocation_keys = is_revocable.then(|| RevocationKeys::of(verified.identity(), kid));
        let issuer = Rc::clone(issuer);
        Self { verified, issuer, key, revocation_keys, opening: RefCell::default(), proof_key: RefCell::default() }
    }

    /// Returns whether its authority states its claims, for each use of it afresh.
    pub(super) const fn is_opaque(&self) -> bool {
        self.key.is_none()
    }

    /// Returns the caller for an assertion.
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller { identity: self.verified.identity(), opening: &self.opening }
    }
}

impl Authenticator {
    /// # Errors
    /// [`Misconfiguration`] when an issuer has an unknown algorithm or none, or no place for its keys.
    pub(super) fn new(
        policy: &Policy,
        upstreams: &[Upstream],
        settings: &Settings<'_>,
        metrics: &Rc<Metrics>,
    ) -> Result<Self, Misconfiguration> {
        let kept = portcullis_policy::claims_in_rules(policy);
        let asserted = portcullis_policy::claims_in_assertions(policy);
        let shares = u32::try_from(policy.issuers.len()).unwrap_or(u32::MAX);
        let waiters = limits::WAITERS.checked_div(shares).unwrap_or_default().max(1);
        let build = |(index, issuer): (usize, &portcullis_policy::Issuer)| {
            let mut token =
                issuer.token_policy(&kept).ok_or_else(|| Misconfiguration::unusable_issuer(&issuer.name))?;
            token.asserted.clone_from(&asserted);
            Issuer::new((index, issuer), token, upstreams, settings, waiters, Rc::clone(metrics)).map(Rc::new)
        };
        let issuers = policy.issuers.iter().enumerate().map(build).collect::<Result<Vec<_>, _>>()?;
        let opaque = issuers.iter().filter(|issuer| issuer.introspector.is_some()).map(Rc::clone).collect();
        let tokens = RefCell::new(LimitedCache::new(limits::TOKEN_CACHE_BYTES));
        let has_opaque = policy.issuers.iter().any(portcullis_policy::Issuer::has_opaque_tokens);
        Ok(Self { issuers, opaque, has_opaque, tokens, hits: Cell::new(0), misses: Cell::new(0) })
    }

    /// Verifies a token for access, or finds it in the cache. Sets `source` also when the token is refused.
    pub(super) async fn authenticate(
        &self,
        shown: ShownToken<'_>,
        source: &mut Option<&'static str>,
        ports: &(impl Backchannels + KeySource + RecordStore + SignatureVerifier),
    ) -> Result<Rc<AuthenticatedToken>, Denial> {
        let text = shown.text;
        if text.len() > token::limits::TOKEN_BYTES {
            return Err(TokenError::TooLarge.into());
        }
        let now = ports.now();
        // By its digest: a server may ignore the end of a token, and a user could then choose texts whose hashes collide.
        let digest = (self.has_opaque && !token::is_jwt(text)).then(|| URL_SAFE_NO_PAD.encode(Sha256::digest(text)));
        let known_as = digest.as_deref().unwrap_or(text);
        let cached = self.tokens.borrow().find(known_as, now).map(Rc::clone);
        let is_current = |token: &Rc<AuthenticatedToken>| {
            token.key.as_ref().is_none_or(|key| token.issuer.still_vouches(key, now, ports))
        };
        if let Some(token) = cached.filter(is_current) {
            self.hits.set(self.hits.get().saturating_add(1));
            *source = Some("token");
            return Ok(token);
        }
        self.misses.set(self.misses.get().saturating_add(1));
        // A token that was active once is no guess.
        let may_ask = |now| {
            let is_known = self.tokens.borrow().contains(known_as);
            if is_known { Ok(()) } else { shown.limiter.check_failed_auth(shown.client, now) }
        };
        // Apart, so that requests with JWTs do not carry the state of other tokens.
        let token = Rc::new(if let Some((issuer, keys)) = self.api_key_issuer(text) {
            *source = Some("kv");
            Box::pin(verify_api_key((issuer, keys), shown, may_ask, ports)).await?
        } else if let Some((issuer, introspector)) = self.opaque_issuer(shown) {
            *source = Some("introspection");
            if Box::pin(introspector.wait_for_others(text, ports)).await
                && let Some(token) = self.tokens.borrow().find(known_as, ports.now())
            {
                return Ok(Rc::clone(token));
            }
            may_ask(ports.now())?;
            Box::pin(verify_opaque(issuer, introspector, shown, ports)).await?
        } else {
            self.verify(text, Purpose::Access, source, ports).await?
        });
        let identity = token.verified.identity();
        // An introspection is not used after `exp` (RFC 7662, section 4).
        let leeway_s = if token.is_opaque() { 0 } else { token.issuer.token.leeway_s };
        let expires_at = identity.expires_at.plus(leeway_s.saturating_mul(1000));
        let lease = Lease { since: now, lasts_ms: expires_at.since(now).min(token.issuer.token_cache_ms()) };
        // The token is the key. The texts of roles and scopes, and nearly all of an opening, are parts of a JWT, and not of
        // an opaque token. A claim of a rule is kept with the names of its path; the pair counts as two names.
        let copies = if token.is_opaque() { 3 } else { 0 };
        let names = identity.roles.iter().chain(&identity.scopes).map(|name| name.len().saturating_mul(copies));
        let stated = [Some(&identity.user_id), identity.email.as_ref(), identity.session_id.as_ref()];
        let stated = stated.into_iter().flatten().map(|text| text.len().saturating_mul(copies)).filter(|_| copies > 0);
        let claims = identity.claims.iter().flat_map(|(path, value)| {
            let values = value.as_array().map_or(slice::from_ref(value), Vec::as_slice);
            let texts = values.iter().map(|value| value.as_str().map_or(0, str::len));
            path.iter().map(String::len).chain(texts).chain([limits::TOKEN_CACHE_NAME_BYTES])
        });
        let proof_bytes = identity.confirmation.as_ref().map_or(0, |_| limits::TOKEN_CACHE_PROOF_BYTES);
        // A claim for services is in an opening as well, in base64.
        let asserted =
            identity.asserted.iter().map(|(name, json)| name.len().saturating_add(json.len().saturating_mul(3)));
        let texts = text.len().saturating_mul(3).saturating_add(proof_bytes);
        let bytes = names
            .chain(stated)
            .chain(claims)
            .chain(asserted)
            .fold(limits::TOKEN_CACHE_ENTRY_BYTES.saturating_add(texts), |sum, text| {
                sum.saturating_add(limits::TOKEN_CACHE_NAME_BYTES).saturating_add(text)
            });
        self.tokens.borrow_mut().insert(known_as.into(), Rc::clone(&token), bytes, lease);
        Ok(token)
    }

    /// Returns who says what a token means, if it is opaque. It is shown to no authorization server whose tokens are not
    /// accepted here, and a JWT to none: it may be of another issuer.
    fn opaque_issuer(&self, shown: ShownToken<'_>) -> Option<(&Rc<Issuer>, &Introspector)> {
        if self.opaque.is_empty() || token::is_jwt(shown.text) {
            return None;
        }
        let is_accepted = |issuer: &&Rc<Issuer>| {
            issuer.token_header.as_deref() == shown.header
                && shown.issuers.is_none_or(|names| names.contains(&issuer.name))
        };
        let issuer = self.opaque.iter().find(is_accepted)?;
        Some((issuer, issuer.introspector.as_ref()?))
    }

    /// Returns the issuer of API keys whose prefix a text has. It is then a key or nothing: no other server sees it.
    fn api_key_issuer(&self, text: &str) -> Option<(&Rc<Issuer>, &ApiKeyVerifier)> {
        let has_prefix = |(_, keys): &(_, &ApiKeyVerifier)| ApiKey::has_prefix(text, &keys.prefix);
        self.issuers.iter().find_map(|issuer| Some((issuer, issuer.api_keys.as_ref()?)).filter(has_prefix))
    }

    /// Returns the sizes and counts of the token cache for `/status`.
    pub(super) fn cache_status(&self) -> Value {
        let (tokens, bytes) = self.tokens.borrow().usage();
        json!({ "tokens": tokens, "bytes": bytes, "hits": self.hits.get(), "misses": self.misses.get() })
    }

    /// Verifies a token by its issuer's policy for a purpose. Sets `source` also when the token is refused.
    pub(super) async fn verify(
        &self,
        text: &str,
        purpose: Purpose,
        source: &mut Option<&'static str>,
        ports: &(impl KeySource + SignatureVerifier),
    ) -> Result<AuthenticatedToken, Denial> {
        let unverified = token::parse(text)?;
        let named = unverified.unverified_issuer()?;
        let mut issuers = self.issuers.iter();
        let found = issuers.find_map(|issuer| Some((issuer, issuer.token.match_issuer(named)?)));
        let (issuer, origin) = found.ok_or(TokenError::UnknownIssuer)?;
        let policy = match purpose {
            Purpose::Access => &issuer.token,
            Purpose::Push => issuer.pusher.as_ref().ok_or(TokenError::UnknownIssuer)?,
        };
        let algorithm = unverified.select_algorithm(policy)?;
        let (key, outcome) = issuer.check_signature(&unverified, (algorithm, origin), source, ports).await?;
        let verified = unverified.admit(outcome, policy, ports.now())?;
        let is_revocable = issuer.is_revocable || purpose == Purpose::Push;
        Ok(AuthenticatedToken::new(verified, issuer, Some(key), is_revocable))
    }
}

async fn verify_opaque(
    issuer: &Rc<Issuer>,
    introspector: &Introspector,
    shown: ShownToken<'_>,
    ports: &impl Backchannels,
) -> Result<AuthenticatedToken, Denial> {
    let asked = introspector.verify((shown.text, &issuer.token), (shown.client, shown.request_id), ports);
    Ok(AuthenticatedToken::new(asked.await?, issuer, None, issuer.is_revocable))
}

async fn verify_api_key(
    (issuer, keys): (&Rc<Issuer>, &ApiKeyVerifier),
    shown: ShownToken<'_>,
    may_read: impl FnOnce(UnixMillis) -> Result<(), Denial>,
    ports: &impl RecordStore,
) -> Result<AuthenticatedToken, Denial> {
    // Before the store is read: a key in another place is refused anyway.
    if issuer.token_header.as_deref() != shown.header {
        return Err(Denial::TokenMisplaced);
    }
    let verified = keys.verify((shown.text, &issuer.token), may_read, ports).await?;
    Ok(AuthenticatedToken::new(verified, issuer, None, issuer.is_revocable))
}
