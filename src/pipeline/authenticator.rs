//! Authentication: from a token's text to a verified identity, by the policy of the issuer that
//! the token names.

use std::{
    cell::{Cell, RefCell},
    hash::{BuildHasherDefault, Hasher},
    rc::Rc,
    slice,
};

use serde_json::{Value, json};

use super::{
    assertion::{Caller, Opening},
    denial::Denial,
    issuer::Issuer,
    limited_cache::LimitedCache,
    limits,
    metrics::Metrics,
    permits::Lease,
    ports::{KeySource, SignatureVerifier},
    settings::{Misconfiguration, Settings},
    upstream::Upstream,
};
use portcullis_policy::Policy;
use portcullis_token::{self as token, TokenError, VerifiedToken, keys::Key, revocation::RevocationKeys};

/// Verifies tokens, and caches those that it has verified for a short while: one signature check
/// serves many requests.
///
/// A cached token is no decision: access, revocation, and whether its key is still its issuer's
/// are checked again for each request.
pub(super) struct Authenticator {
    /// By issuer index.
    pub(super) issuers: Vec<Rc<Issuer>>,
    /// By the token's text, which is compared in full.
    tokens: RefCell<LimitedCache<Rc<str>, Rc<AuthenticatedToken>, BuildHasherDefault<SignatureHasher>>>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

/// Hashes a token by the end of its signature. Only verified tokens are keys, so neither a stranger nor a user can
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
    /// The key that verified it.
    pub(super) key: Rc<Key>,
    /// Under which it may be revoked; `None` when its issuer's tokens cannot be.
    pub(super) revocation_keys: Option<RevocationKeys>,
    /// The opening for the upstream of the caller's last request.
    pub(super) opening: RefCell<Option<Rc<Opening>>>,
    /// The key of its last proof, validated.
    pub(super) proof_key: RefCell<Option<Rc<Key>>>,
}

impl AuthenticatedToken {
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
        let issuers = policy.issuers.iter().enumerate().map(build).collect::<Result<_, _>>()?;
        let tokens = RefCell::new(LimitedCache::new(limits::TOKEN_CACHE_BYTES));
        Ok(Self { issuers, tokens, hits: Cell::new(0), misses: Cell::new(0) })
    }

    /// Verifies a token for access, or finds it in the cache. Sets `source` also when the token is refused.
    pub(super) async fn authenticate(
        &self,
        text: &str,
        source: &mut Option<&'static str>,
        ports: &(impl KeySource + SignatureVerifier),
    ) -> Result<Rc<AuthenticatedToken>, Denial> {
        if text.len() > token::limits::TOKEN_BYTES {
            return Err(TokenError::TooLarge.into());
        }
        let now = ports.now();
        let cached = self.tokens.borrow().find(text, now).map(Rc::clone);
        if let Some(token) = cached.filter(|token| token.issuer.still_vouches(&token.key, now, ports)) {
            self.hits.set(self.hits.get().saturating_add(1));
            *source = Some("token");
            return Ok(token);
        }
        self.misses.set(self.misses.get().saturating_add(1));
        let token = Rc::new(self.verify(text, Purpose::Access, source, ports).await?);
        let identity = token.verified.identity();
        let expires_at = identity.expires_at.plus(token.issuer.token.leeway_s.saturating_mul(1000));
        let lease = Lease { since: now, lasts_ms: expires_at.since(now).min(limits::TOKEN_CACHE_MS) };
        // The token is the key. The texts of roles and scopes, and nearly all of an opening, are parts of it. A
        // claim of a rule is kept with the names of its path; the pair counts as two names.
        let names = identity.roles.iter().chain(&identity.scopes).map(|_| 0);
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
            .chain(claims)
            .chain(asserted)
            .fold(limits::TOKEN_CACHE_ENTRY_BYTES.saturating_add(texts), |sum, text| {
                sum.saturating_add(limits::TOKEN_CACHE_NAME_BYTES).saturating_add(text)
            });
        self.tokens.borrow_mut().insert(text.into(), Rc::clone(&token), bytes, lease);
        Ok(token)
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
        let revocation_keys = is_revocable.then(|| RevocationKeys::of(verified.identity(), key.kid.as_deref()));
        Ok(AuthenticatedToken {
            verified,
            issuer: Rc::clone(issuer),
            key,
            revocation_keys,
            opening: RefCell::default(),
            proof_key: RefCell::default(),
        })
    }
}
