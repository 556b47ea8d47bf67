//! The gateway's assertion to an origin: a short JWS (RFC 7515) that names one request and its
//! caller.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use serde::Serialize;
use serde_json::json;
use sha2::Sha256;

use super::{
    denial::Denial,
    limits,
    ports::{AssertionSigner, KeyOwner, Runtime},
};
use portcullis_policy::Upstream;
use portcullis_token::{
    self as token, Identity, SignatureOutcome, UnixMillis,
    keys::{SigningKey, parse_signing_keys},
};

/// The keys of one upstream's assertions. The first one signs. Others are live at the origin alone, during a rotation.
pub(super) struct AssertionKeys {
    audience: Audience,
    /// Of requests without a caller.
    anonymous: Rc<Opening>,
    /// Encoded header, and the dot behind it.
    header: String,
    signer: Signer,
}

/// For whom assertions are.
struct Audience {
    /// Name of the upstream.
    name: String,
    /// Claims of the token that it gets.
    claims: Vec<String>,
}

enum Signer {
    /// HS256: the state behind the secret.
    Shared(Hmac<Sha256>),
    /// Private keys, which the runtime uses.
    Private(Vec<HeldKey>),
}

/// A key of assertions in this isolate.
pub(super) struct HeldKey {
    pub(super) key: SigningKey,
    /// Whether a signature of it was checked with its public part. Services would refuse all assertions of a key whose
    /// parts do not belong together.
    is_proven: Cell<bool>,
}

/// The part of an assertion that is the same for all requests of one caller to one upstream. A caller's
/// token keeps it, because it is most of what is encoded and hashed.
pub(super) struct Opening {
    aud: String,
    /// Encoded header and first claims. Blanks fill the claims up to whole groups of base64.
    text: String,
    /// HS256: the state behind the text. Each signature continues a copy of it.
    mac: Option<Hmac<Sha256>>,
}

/// Whom an assertion names, and where the opening for them is kept.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) identity: &'a Identity,
    pub(super) opening: &'a RefCell<Option<Rc<Opening>>>,
}

/// The claims of an [`Opening`].
#[derive(Serialize)]
struct CallerClaims<'a> {
    iss: &'static str,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
}

/// The claims about one request. [`write`] adds the times and `jti`.
#[derive(Clone, Copy, Default, Serialize)]
pub(super) struct Claims<'a> {
    iat: u64,
    exp: u64,
    jti: &'a str,
    request_id: &'a str,
    htm: &'a str,
    htu: &'a str,
    /// `Content-Digest` of the body (RFC 9530, section 2), if the upstream wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_digest: Option<&'a str>,
}

impl<'a> Claims<'a> {
    /// Returns the claims about a request by its method, path and query.
    pub(super) fn new(request_id: &'a str, (htm, htu): (&'a str, &'a str)) -> Self {
        Self { request_id, htm, htu, ..Self::default() }
    }

    /// Returns the claims with the digest of the body.
    pub(super) fn with_digest(self, content_digest: Option<&'a str>) -> Self {
        Self { content_digest, ..self }
    }
}

/// Bytes of the JSON of usual claims.
const USUAL_BYTES: usize = 384;

/// What a key signs to prove that its parts belong together. It is no JWS.
const PROOF: &[u8] = b"portcullis";

impl AssertionKeys {
    /// Parses the secret of an upstream. For HS256: one or two `kid:secret` items with a comma between, each secret the
    /// base64url of 32 bytes. Otherwise: a JWKS with private keys.
    ///
    /// # Errors
    /// What is wrong, after the name of the secret. It holds no part of the secret.
    pub(super) fn parse(text: &str, upstream: &Upstream) -> Result<Self, String> {
        let algorithm = upstream.assertion.algorithm;
        let (kid, signer) = if let Some(algorithm) = algorithm.asymmetric() {
            let keys = parse_signing_keys(text, algorithm)?;
            let kid = keys.first().map(|key| key.kid().to_owned()).unwrap_or_default();
            let held = |key| HeldKey { key, is_proven: Cell::new(false) };
            (kid, Signer::Private(keys.into_iter().map(held).collect()))
        } else {
            let secrets = parse_secrets(text).ok_or(SECRETS_FORM)?;
            let (kid, secret) = secrets.first().ok_or(SECRETS_FORM)?;
            let mac = Hmac::new_from_slice(secret).map_err(|_| SECRETS_FORM)?;
            ((*kid).to_owned(), Signer::Shared(mac))
        };
        let header = json!({ "alg": algorithm.name(), "kid": kid, "typ": "gateway+jwt" });
        let header = format!("{}.", URL_SAFE_NO_PAD.encode(header.to_string()));
        let audience = Audience { name: upstream.name.clone(), claims: upstream.assertion.claims.clone() };
        let anonymous = Opening::new(&audience, None, &header, &signer).map_err(|_| "cannot be used")?;
        Ok(Self { audience, anonymous: Rc::new(anonymous), header, signer })
    }

    /// Returns the keys whose public parts are published, the one that signs first. Empty for HS256.
    pub(super) fn published(&self) -> &[HeldKey] {
        if let Signer::Private(keys) = &self.signer { keys } else { &[] }
    }

    /// Returns the opening for a caller, and keeps it with the caller's token.
    fn opening(&self, caller: Option<Caller<'_>>) -> Result<Rc<Opening>, Denial> {
        let Some(caller) = caller else { return Ok(Rc::clone(&self.anonymous)) };
        let mut kept = caller.opening.borrow_mut();
        if let Some(opening) = kept.as_ref().filter(|opening| opening.aud == self.audience.name) {
            return Ok(Rc::clone(opening));
        }
        let opening = Rc::new(Opening::new(&self.audience, Some(caller.identity), &self.header, &self.signer)?);
        Ok(Rc::clone(kept.insert(opening)))
    }

    /// Signs claims about a request of a caller.
    pub(super) async fn sign<P: AssertionSigner + Runtime>(
        &self,
        caller: Option<Caller<'_>>,
        claims: &Claims<'_>,
        ports: &P,
    ) -> Result<String, Denial> {
        let opening = self.opening(caller)?;
        let random = ports.random();
        let token = random.first_chunk().and_then(|random| write(&opening, claims, ports.now(), random));
        let mut token = token.ok_or(Denial::AssertionUnsigned)?;
        if let Some(held) = self.published().first() {
            // Apart, so that HS256 does not carry its state.
            let signature = Box::pin(held.sign(token.as_bytes(), ports)).await?;
            token.push('.');
            URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        }
        Ok(token)
    }
}

/// Writes an assertion; without its signature unless that is by HS256. Its `jti` is made of `now` and `random` and unique,
/// whereas a client may repeat a request id. Returns `None` only if the JSON cannot be written.
fn write(opening: &Opening, claims: &Claims<'_>, now: UnixMillis, random: &[u8; 10]) -> Option<String> {
    let issued = now.secs();
    let id = uuid::Builder::from_unix_timestamp_millis(now.0, random).into_uuid();
    let mut buffer = uuid::Uuid::encode_buffer();
    let jti = id.hyphenated().encode_lower(&mut buffer);
    let claims = Claims { iat: issued, exp: issued.saturating_add(limits::ASSERTION_S), jti, ..*claims };
    let mut json = Vec::with_capacity(USUAL_BYTES);
    serde_json::to_writer(&mut json, &claims).ok()?;
    let mut token = String::with_capacity(opening.text.len().saturating_add(json.len().saturating_mul(2)));
    token.push_str(&opening.text);
    // The opening ends with a comma, so the second brace is left out.
    URL_SAFE_NO_PAD.encode_string(json.strip_prefix(b"{")?, &mut token);
    let Some(mac) = &opening.mac else { return Some(token) };
    let rest = token.get(opening.text.len()..)?;
    let signature = mac.clone().chain_update(rest).finalize().into_bytes();
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Some(token)
}

impl HeldKey {
    async fn sign(&self, input: &[u8], ports: &impl AssertionSigner) -> Result<Vec<u8>, Denial> {
        self.prove(ports).await?;
        ports.sign_assertion(&self.key, input).await.map_err(|_| Denial::AssertionUnsigned)
    }

    /// Checks once that the private and the public part belong together.
    ///
    /// # Errors
    /// They do not, or the runtime cannot sign.
    pub(super) async fn prove(&self, ports: &impl AssertionSigner) -> Result<(), Denial> {
        if self.is_proven.get() || self.key.private_jwk().is_none() {
            return Ok(());
        }
        let signature = ports.sign_assertion(&self.key, PROOF).await.map_err(|_| Denial::AssertionUnsigned)?;
        let public = &self.key.public;
        let checked = ports.check_signature((public, KeyOwner::Issuer), public.algorithm, PROOF, &signature).await;
        if checked.map_err(|_| Denial::AssertionUnsigned)? == SignatureOutcome::Invalid {
            let fault =
                format!("the private part of assertion key {:?} is not that of its public part", self.key.kid());
            return Err(Denial::Misconfigured { fault });
        }
        self.is_proven.set(true);
        Ok(())
    }
}

impl Opening {
    fn new(audience: &Audience, identity: Option<&Identity>, header: &str, signer: &Signer) -> Result<Self, Denial> {
        let aud = &audience.name;
        let claims = CallerClaims {
            iss: "portcullis",
            aud,
            sub: identity.map(|identity| identity.user_id.as_str()),
            email: identity.and_then(|identity| identity.email.as_deref()),
            roles: identity.map(|identity| identity.roles.as_slice()),
            sid: identity.and_then(|identity| identity.session_id.as_deref()),
        };
        let mut json = to_json(&claims)?;
        json.pop();
        if let Some(identity) = identity.filter(|_| !audience.claims.is_empty()) {
            add_claims(&mut json, &audience.claims, identity)?;
        }
        json.push(',');
        while !json.len().is_multiple_of(3) {
            json.push(' ');
        }
        // Not more: the token cache counts its length.
        let mut text = String::with_capacity(header.len().saturating_add((json.len() / 3).saturating_mul(4)));
        text.push_str(header);
        URL_SAFE_NO_PAD.encode_string(json, &mut text);
        let mac = if let Signer::Shared(mac) = signer { Some(mac.clone().chain_update(&text)) } else { None };
        Ok(Self { aud: aud.clone(), text, mac })
    }
}

/// Adds the member `claims`: the token's issuer, and those of its claims that the policy names. In an object of their own,
/// they cannot replace a claim of the assertion.
fn add_claims(json: &mut String, names: &[String], identity: &Identity) -> Result<(), Denial> {
    let begin = json.len();
    json.extend([r#","claims":{"iss":"#, &to_json(&identity.issuer)?]);
    for name in names.iter().filter(|name| *name != "iss") {
        let Some((_, value)) = identity.asserted.iter().find(|(known, _)| known == name) else { continue };
        // A service might take a missing claim for a permission.
        if value.is_empty() {
            return Err(Denial::ClaimsTooLarge);
        }
        json.extend([",", &to_json(name)?, ":", value]);
    }
    json.push('}');
    if json.len().saturating_sub(begin) > token::limits::ASSERTED_BYTES { Err(Denial::ClaimsTooLarge) } else { Ok(()) }
}

fn to_json(value: &impl Serialize) -> Result<String, Denial> {
    serde_json::to_string(value).map_err(|_| Denial::AssertionUnsigned)
}

/// What is wrong with a setting that [`parse_secrets`] refuses.
pub(super) const SECRETS_FORM: &str = "is not kid:base64url-of-32-bytes, one or two with a comma between";

/// Parses one or two secrets, each with its `kid`.
pub(super) fn parse_secrets(text: &str) -> Option<Vec<(&str, Vec<u8>)>> {
    let keys = text.trim().split(',').map(|item| parse_key(item.trim())).collect::<Option<Vec<_>>>()?;
    let (kid, _) = keys.first().filter(|_| keys.len() <= limits::ASSERTION_SECRETS)?;
    let is_repeated = keys.iter().skip(1).any(|(other, _)| other == kid);
    (!is_repeated).then_some(keys)
}

/// Parses `kid:secret`.
fn parse_key(item: &str) -> Option<(&str, Vec<u8>)> {
    let (kid, secret) = item.split_once(':')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let secret = URL_SAFE_NO_PAD.decode(secret).ok()?;
    let is_valid =
        (1..=64).contains(&kid.len()) && kid.bytes().all(is_plain) && secret.len() == limits::ASSERTION_SECRET_BYTES;
    is_valid.then_some((kid, secret))
}
