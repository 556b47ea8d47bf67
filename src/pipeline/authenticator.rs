//! Authentication: from a token's text to a verified identity, by the policy of the issuer that
//! the token names.

use std::{cell::RefCell, rc::Rc};

use super::{
    key_cache::{KeyCache, KeyError, KeyPorts, KeySource},
    ports::SignatureVerifier,
    settings::Misconfiguration,
    token_cache::{self, TokenCache, TokenDigest},
};
use portcullis_policy::Policy;
use portcullis_token::{
    self as token, ClaimNames, ClaimPath, ClaimRule, Identity, IssuerMatch, SignatureOutcome, TokenError, TokenPolicy,
    UnverifiedToken, VerifiedToken,
    keys::{self, Key, KeyQuery},
    revocation::RevocationKeys,
};

/// `aud` of tokens for the gateway itself.
const AUDIENCE: &str = "portcullis";

/// Claim of the audience (RFC 7519, section 4.1.3), unless the policy names another.
const AUDIENCE_CLAIM: &str = "aud";

/// `typ` of service tokens.
const SERVICE_TYPE: &str = "service+jwt";

/// The ports of the authenticator.
pub(super) trait AuthPorts: KeyPorts + SignatureVerifier {}
impl<T: KeyPorts + SignatureVerifier> AuthPorts for T {}

/// Verifies tokens, and remembers those that it has verified.
#[derive(Debug)]
pub(super) struct Authenticator {
    /// By issuer index.
    pub(super) issuers: Vec<Issuer>,
    pub(super) keys: KeyCache,
    pub(super) tokens: RefCell<TokenCache<AuthenticatedToken>>,
}

/// An issuer, and what its tokens must be.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) name: String,
    /// Policy of access tokens.
    pub(super) token: TokenPolicy,
    /// Whether its tokens can be revoked.
    pub(super) is_revocable: bool,
    /// Policy of the service tokens that revoke its tokens; `None` when it pushes no revocations.
    pub(super) pusher: Option<TokenPolicy>,
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
#[derive(Debug)]
pub(super) struct AuthenticatedToken {
    pub(super) verified: VerifiedToken,
    /// Issuer index.
    pub(super) issuer: usize,
    /// The key that verified it.
    pub(super) key: Rc<Key>,
    /// Under which it may be revoked; `None` when its issuer's tokens cannot be.
    pub(super) marks: Option<RevocationKeys>,
}

impl AuthenticatedToken {
    pub(super) fn identity(&self) -> &Identity {
        self.verified.identity()
    }
}

/// Why a token was not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AuthError {
    /// The token is refused.
    Token(TokenError),
    /// The issuer's keys cannot be had.
    KeysUnavailable {
        /// Milliseconds until the issuer may be asked again.
        retry_ms: u64,
    },
    /// The signature backend failed.
    BackendUnavailable,
}

impl From<TokenError> for AuthError {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl Authenticator {
    /// # Errors
    /// [`Misconfiguration`] when an issuer has an unknown algorithm or none.
    pub(super) fn new(policy: &Policy, keys: KeyCache) -> Result<Self, Misconfiguration> {
        let kept = portcullis_policy::claims_in_rules(policy);
        let issuers = policy.issuers.iter().map(|issuer| Issuer::new(issuer, &kept)).collect::<Result<_, _>>()?;
        Ok(Self { issuers, keys, tokens: RefCell::default() })
    }

    /// Verifies a token for access, or finds it among those that were verified before. Sets
    /// `source` also when the token is refused.
    pub(super) async fn authenticate(
        &self,
        text: &str,
        source: &mut Option<KeySource>,
        ports: &impl AuthPorts,
    ) -> Result<Rc<AuthenticatedToken>, AuthError> {
        // Before the hash: hashing a megabyte is work, too.
        if text.len() > token::limits::TOKEN_BYTES {
            return Err(TokenError::TooLarge.into());
        }
        let digest = token_cache::digest(text);
        if let Some(token) = self.recall(&digest, ports) {
            *source = Some(KeySource::TokenCache);
            return Ok(token);
        }
        let token = Rc::new(self.verify(text, Purpose::Access, source, ports).await?);
        let leeway_s = self.issuers.get(token.issuer).map_or(0, |issuer| issuer.token.leeway_s);
        let expires_at = token.identity().expires_at.plus(leeway_s.saturating_mul(1000));
        let bytes = token_cache::size(token.identity());
        self.tokens.borrow_mut().insert(digest, Rc::clone(&token), bytes, expires_at, ports.now());
        Ok(token)
    }

    /// Verifies a token by its issuer's policy for a purpose. Sets `source` also when the token
    /// is refused.
    pub(super) async fn verify(
        &self,
        text: &str,
        purpose: Purpose,
        source: &mut Option<KeySource>,
        ports: &impl AuthPorts,
    ) -> Result<AuthenticatedToken, AuthError> {
        let unverified = token::parse(text)?;
        let (index, policy, origin) = self.issuer_of(&unverified, purpose)?;
        let key = self.find_key(&unverified, (index, policy, origin), source, ports).await?;
        let verified = unverified.admit(SignatureOutcome::Valid, policy, ports.now())?;
        let is_revocable = self.issuers.get(index).is_some_and(|issuer| issuer.is_revocable);
        let marks =
            (is_revocable || purpose == Purpose::Push).then(|| RevocationKeys::of(verified.identity(), key.kid()));
        Ok(AuthenticatedToken { verified, issuer: index, key, marks })
    }

    fn issuer_of<'t>(
        &self,
        unverified: &'t UnverifiedToken<'_>,
        purpose: Purpose,
    ) -> Result<(usize, &TokenPolicy, IssuerMatch<'t>), TokenError> {
        let named = unverified.unverified_issuer()?;
        self.issuers
            .iter()
            .enumerate()
            .find_map(|(index, issuer)| Some((index, issuer, issuer.token.match_issuer(named)?)))
            .and_then(|(index, issuer, origin)| Some((index, issuer.policy_for(purpose)?, origin)))
            .ok_or(TokenError::UnknownIssuer)
    }

    /// Finds the key that verifies the signature: one key in nearly all cases, several where the
    /// issuer leaves no other way to tell.
    async fn find_key(
        &self,
        unverified: &UnverifiedToken<'_>,
        (issuer, policy, origin): (usize, &TokenPolicy, IssuerMatch<'_>),
        source: &mut Option<KeySource>,
        ports: &impl AuthPorts,
    ) -> Result<Rc<Key>, AuthError> {
        let algorithm = unverified.select_algorithm(policy)?;
        let kid = unverified.unverified_kid();
        let mut tried: Vec<Rc<Key>> = Vec::new();
        while tried.len() < keys::limits::CANDIDATES {
            let wanted = KeyQuery { kid, algorithm, issuer: origin, tried: &tried };
            let (key, place) = self.keys.key_for(issuer, &wanted, ports).await.map_err(|error| match error {
                KeyError::Unknown if tried.is_empty() => AuthError::Token(TokenError::UnknownKey),
                KeyError::Unknown => AuthError::Token(TokenError::BadSignature),
                KeyError::Unavailable { retry_ms } => AuthError::KeysUnavailable { retry_ms },
            })?;
            *source = Some(place);
            let outcome = ports
                .check_signature(&key, algorithm, unverified.signing_input(), unverified.signature())
                .await
                .map_err(|_| AuthError::BackendUnavailable)?;
            match outcome {
                SignatureOutcome::Valid => return Ok(key),
                SignatureOutcome::Invalid => tried.push(key),
            }
        }
        Err(TokenError::BadSignature.into())
    }

    /// Returns a token that was verified before, if the key that verified it is still its
    /// issuer's.
    fn recall(&self, digest: &TokenDigest, ports: &impl AuthPorts) -> Option<Rc<AuthenticatedToken>> {
        let now = ports.now();
        let found = self.tokens.borrow().find(digest, now);
        let found = found.filter(|token| self.keys.still_vouches(token.issuer, &token.key, now, ports));
        self.tokens.borrow_mut().count(found.is_some());
        found
    }
}

impl Issuer {
    fn new(issuer: &portcullis_policy::Issuer, kept: &[ClaimPath]) -> Result<Self, Misconfiguration> {
        let token = issuer.token_policy(kept).ok_or_else(|| Misconfiguration::unusable_issuer(&issuer.name))?;
        let pusher = issuer.revocations_from.as_ref().map(|from| pusher_policy(&token, from));
        Ok(Self { name: issuer.name.clone(), token, is_revocable: issuer.revocable, pusher })
    }

    fn policy_for(&self, purpose: Purpose) -> Option<&TokenPolicy> {
        match purpose {
            Purpose::Access => Some(&self.token),
            Purpose::Push => self.pusher.as_ref(),
        }
    }
}

/// Returns the policy of a service token for this gateway, of the one service that may revoke.
/// An access token has another type and audience, so neither passes as the other.
fn pusher_policy(token: &TokenPolicy, from: &str) -> TokenPolicy {
    TokenPolicy {
        audience: vec![AUDIENCE.to_owned()],
        audience_claim: vec![AUDIENCE_CLAIM.to_owned()],
        types: vec![SERVICE_TYPE.to_owned()],
        token_type: Some("service".to_owned()),
        claims: ClaimNames::default(),
        require: vec![ClaimRule { claim: vec!["sub".to_owned()], equals: Some(from.into()), one_of: None }],
        ..token.clone()
    }
}
