//! Verification of `X-Gateway-Assertion`: a JWS (RFC 7515) with which the gateway identifies one request
//! and, on protected routes, its user. HS256 by a shared secret or, with the feature `jwks`, ES256 or EdDSA
//! by the gateway's public keys.
//!
//! Keys, request and `now` are arguments. An origin takes the identity from the assertion only; a
//! request that bypassed the gateway carries no assertion.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, Mac as _};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

#[cfg(feature = "jwks")]
use {
    crate::{
        error::ClientError,
        jwks::{Algorithm, Fault, JwksVerifier, KeySet, TokenRule},
    },
    std::sync::Arc,
};

/// Name of the header with the assertion, in lower case.
pub const HEADER: &str = "x-gateway-assertion";

/// Bytes of an assertion: fits the identity of a token of 16 KB and the longest path and query, whose
/// backslashes JSON doubles.
const ASSERTION_BYTES: usize = 48 * 1024;

/// Accepted clock difference between gateway and service, in seconds and in both directions: `iat` may
/// be this far in the future, and `exp` this far in the past. The same as for access tokens, so that a
/// clock difference that is accepted there is accepted here.
pub const LEEWAY_S: u64 = 30;

/// Longest accepted `exp - iat` in seconds, by the contract.
const LIFETIME_S: u64 = 30;

/// Bytes of a secret (RFC 7518, section 3.2).
const SECRET_BYTES: usize = 32;

/// Secrets that may be valid at once, for rotation.
const SECRETS: usize = 2;

/// The keys that check assertions, of one kind: a shared secret never checks an assertion by a public key, nor
/// the other way round.
#[derive(Clone)]
pub struct AssertionKeys(Keys);

#[derive(Clone)]
enum Keys {
    /// Secrets shared with the gateway, by `kid`.
    Shared(Vec<(String, Vec<u8>)>),
    /// The gateway's public keys.
    #[cfg(feature = "jwks")]
    Public(Arc<KeySet>),
    /// The same, fetched from the gateway.
    #[cfg(feature = "jwks")]
    Published(JwksVerifier),
}

impl std::fmt::Debug for AssertionKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AssertionKeys(..)")
    }
}

/// The text is not `kid:base64url-of-32-bytes`, one or two with a comma between, or no key set with a usable key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadAssertionKeys;

impl std::fmt::Display for BadAssertionKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(
            "the assertion keys are neither kid:base64url-of-32-bytes, one or two with a comma between, nor a set of public \
             keys",
        )
    }
}

impl std::error::Error for BadAssertionKeys {}

/// Why an assertion is invalid. Each but [`AssertionError::KeysUnavailable`] is 401; the reason is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssertionError {
    /// Not a single compact JWS within the size limit and with the header of the contract.
    Malformed,
    /// `kid` names no valid key.
    UnknownKey,
    /// The gateway's public keys cannot be fetched: 503.
    KeysUnavailable,
    /// The MAC or the signature does not match.
    BadSignature,
    /// The claims violate the contract, or `iss` is not the gateway.
    BadClaims,
    /// Issued for another upstream.
    WrongAudience,
    /// Outside its 30 seconds and [`LEEWAY_S`] before and after them.
    Expired,
    /// Issued for another method, path or query.
    WrongRequest,
}

impl std::fmt::Display for AssertionError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Malformed => "the assertion is not one bounded compact JWS of the gateway's form",
            Self::UnknownKey => "the assertion's kid names no live key",
            Self::KeysUnavailable => "the gateway's public keys cannot be fetched",
            Self::BadSignature => "the assertion's signature does not match",
            Self::BadClaims => "the assertion's claims are not those of the gateway",
            Self::WrongAudience => "the assertion is for another service",
            Self::Expired => "the assertion is not valid at this time; compare the clocks of gateway and service",
            Self::WrongRequest => "the assertion is for another method, path or query",
        })
    }
}

impl std::error::Error for AssertionError {}

impl AssertionError {
    /// Returns a stable code for logs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "assertion_malformed",
            Self::UnknownKey => "assertion_key_unknown",
            Self::KeysUnavailable => "assertion_keys_unavailable",
            Self::BadSignature => "assertion_signature_invalid",
            Self::BadClaims => "assertion_claims_invalid",
            Self::WrongAudience => "assertion_audience_invalid",
            Self::Expired => "assertion_expired",
            Self::WrongRequest => "assertion_request_mismatch",
        }
    }
}

/// A request as the origin receives it.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Name of this upstream.
    pub audience: &'a str,
    /// Method, case kept.
    pub method: &'a str,
    /// Path and query exactly as received.
    pub target: &'a str,
    /// Seconds since 1970.
    pub now: u64,
}

/// The verified content of an assertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// Id of the request.
    pub request_id: String,
    /// The user; `None` on a public route.
    pub user: Option<AssertedUser>,
    /// `Content-Digest` of the request's body (RFC 9530), if the gateway's policy asks for it.
    pub content_digest: Option<String>,
}

impl Assertion {
    /// Whether the gateway forwarded this body with the request. False if the assertion has no digest.
    pub fn covers_body(&self, body: &[u8]) -> bool {
        let digest = STANDARD.encode(Sha256::digest(body));
        self.content_digest.as_deref() == Some(["sha-256=:", &digest, ":"].concat().as_str())
    }
}

/// The user of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssertedUser {
    /// User id.
    pub id: String,
    /// E-mail address, if the token had one.
    pub email: Option<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// Session, if the token had one.
    pub session_id: Option<String>,
    /// Issuer of the token, if the gateway's policy names claims for this service. Users of two issuers may have the
    /// same id.
    pub issuer: Option<String>,
    /// The claims of the token that the policy names for this service, and `iss`.
    pub claims: Map<String, Value>,
}

impl AssertedUser {
    /// Whether the user has a role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }

    /// Returns a claim of the token that is a text.
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    iat: u64,
    exp: u64,
    jti: String,
    request_id: Option<String>,
    htm: String,
    htu: String,
    sub: Option<String>,
    email: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    sid: Option<String>,
    #[serde(default)]
    claims: Map<String, Value>,
    content_digest: Option<String>,
}

/// `typ` of an assertion.
const TYP: &str = "gateway+jwt";

/// `iss` of an assertion.
const ISSUER: &str = "portcullis";

impl AssertionKeys {
    /// Parses the setting with the shared secrets.
    ///
    /// # Errors
    /// [`BadAssertionKeys`], which contains nothing of the text.
    pub fn parse(text: &str) -> Result<Self, BadAssertionKeys> {
        let mut keys = Vec::new();
        for item in text.trim().split(',') {
            let (kid, secret) = item.trim().split_once(':').ok_or(BadAssertionKeys)?;
            let secret = URL_SAFE_NO_PAD.decode(secret).map_err(|_| BadAssertionKeys)?;
            let is_known = keys.iter().any(|(held, _)| held == kid);
            if kid.is_empty() || is_known || secret.len() != SECRET_BYTES || keys.len() >= SECRETS {
                return Err(BadAssertionKeys);
            }
            keys.push((kid.to_owned(), secret));
        }
        Ok(Self(Keys::Shared(keys)))
    }

    /// Reads a set of public keys (RFC 7517), such as a copy of the gateway's `/_gateway/jwks.json`.
    ///
    /// # Errors
    /// [`BadAssertionKeys`]: the set has no public key for ES256 or EdDSA.
    #[cfg(feature = "jwks")]
    pub fn parse_jwks(jwks: &str) -> Result<Self, BadAssertionKeys> {
        KeySet::read(jwks.as_bytes()).map(|set| Self(Keys::Public(Arc::new(set)))).ok_or(BadAssertionKeys)
    }

    /// Returns the public keys that the gateway at this URL publishes. The layers of [`crate::extract`] fetch them when
    /// an assertion needs them; without these, call [`AssertionKeys::prepare`] before [`AssertionKeys::verify`].
    ///
    /// # Errors
    /// [`ClientError::Invalid`], which names the fault of the URL.
    #[cfg(feature = "jwks")]
    pub fn published(gateway_url: &str) -> Result<Self, ClientError> {
        let rule = TokenRule {
            issuer: ISSUER.to_owned(),
            audience: String::new(),
            typ: TYP.to_owned(),
            algorithms: ALGORITHMS.to_vec(),
        };
        Ok(Self(Keys::Published(JwksVerifier::new(gateway_url, rule)?.with_path("/_gateway/jwks.json"))))
    }

    /// Fetches the published keys if those at hand are too old or lack the key of this assertion. Returns at once for
    /// other keys.
    pub async fn prepare(&self, assertion: &str) {
        match &self.0 {
            Keys::Shared(_) => {
                let _ = assertion;
            }
            #[cfg(feature = "jwks")]
            Keys::Public(_) => {}
            #[cfg(feature = "jwks")]
            Keys::Published(verifier) if assertion.len() <= ASSERTION_BYTES => verifier.prepare(assertion).await,
            #[cfg(feature = "jwks")]
            Keys::Published(_) => {}
        }
    }

    /// Verifies an assertion for a request: form, key, signature, then each claim.
    ///
    /// # Errors
    /// [`AssertionError`].
    pub fn verify(&self, assertion: &str, received: &Received<'_>) -> Result<Assertion, AssertionError> {
        if assertion.len() > ASSERTION_BYTES {
            return Err(AssertionError::Malformed);
        }
        let claims: Claims = match &self.0 {
            Keys::Shared(secrets) => open_shared(secrets, assertion)?,
            #[cfg(feature = "jwks")]
            Keys::Public(set) => open_public(set, assertion)?,
            #[cfg(feature = "jwks")]
            Keys::Published(verifier) => {
                let set = verifier.usable_keys().ok_or(AssertionError::KeysUnavailable)?;
                open_public(&set, assertion)?
            }
        };
        check(&claims, received)?;
        Ok(Assertion {
            // An earlier version of the gateway has one id for both.
            request_id: claims.request_id.unwrap_or(claims.jti),
            content_digest: claims.content_digest,
            user: claims.sub.map(|id| AssertedUser {
                id,
                email: claims.email,
                roles: claims.roles,
                session_id: claims.sid,
                issuer: claims.claims.get("iss").and_then(Value::as_str).map(str::to_owned),
                claims: claims.claims,
            }),
        })
    }
}

fn open_shared(secrets: &[(String, Vec<u8>)], assertion: &str) -> Result<Claims, AssertionError> {
    let (input, mac) = assertion.rsplit_once('.').ok_or(AssertionError::Malformed)?;
    let (header, claims) = input.split_once('.').ok_or(AssertionError::Malformed)?;
    let header: Header = decode(header).ok_or(AssertionError::Malformed)?;
    // The header never chooses the algorithm.
    if header.alg != "HS256" || header.typ != TYP {
        return Err(AssertionError::Malformed);
    }
    let (_, secret) = secrets.iter().find(|(kid, _)| *kid == header.kid).ok_or(AssertionError::UnknownKey)?;
    let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| AssertionError::Malformed)?;
    let mut expected = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| AssertionError::UnknownKey)?;
    expected.update(input.as_bytes());
    expected.verify_slice(&mac).map_err(|_| AssertionError::BadSignature)?;
    decode(claims).ok_or(AssertionError::BadClaims)
}

/// The algorithms of assertions with a public key. Each key works with one.
#[cfg(feature = "jwks")]
const ALGORITHMS: [Algorithm; 2] = [Algorithm::ES256, Algorithm::EdDSA];

#[cfg(feature = "jwks")]
fn open_public(set: &KeySet, assertion: &str) -> Result<Claims, AssertionError> {
    let header = assertion.split('.').next().unwrap_or_default();
    let header: Header = decode(header).ok_or(AssertionError::Malformed)?;
    if header.typ != TYP || !matches!(header.alg.as_str(), "ES256" | "EdDSA") {
        return Err(AssertionError::Malformed);
    }
    let claims = set.open(assertion, TYP, &ALGORITHMS).map_err(|fault| match fault {
        Fault::UnknownKey => AssertionError::UnknownKey,
        Fault::Expired | Fault::Invalid => AssertionError::BadSignature,
    })?;
    serde_json::from_value(Value::Object(claims)).map_err(|_| AssertionError::BadClaims)
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn check(claims: &Claims, received: &Received<'_>) -> Result<(), AssertionError> {
    let lifetime = claims.exp.checked_sub(claims.iat).ok_or(AssertionError::BadClaims)?;
    if claims.iss != ISSUER || lifetime > LIFETIME_S {
        return Err(AssertionError::BadClaims);
    }
    if claims.aud != received.audience {
        return Err(AssertionError::WrongAudience);
    }
    let (earliest, latest) = (claims.iat.saturating_sub(LEEWAY_S), claims.exp.saturating_add(LEEWAY_S));
    if !(earliest..latest).contains(&received.now) {
        return Err(AssertionError::Expired);
    }
    // Prevents the use of a captured assertion for another request.
    if claims.htm != received.method || claims.htu != received.target {
        return Err(AssertionError::WrongRequest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;
    const OLD: [u8; 32] = [1; 32];
    const NEW: [u8; 32] = [2; 32];

    fn encode(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn keys(secrets: &[(&str, [u8; 32])]) -> AssertionKeys {
        let items: Vec<String> =
            secrets.iter().map(|(kid, secret)| format!("{kid}:{}", URL_SAFE_NO_PAD.encode(secret))).collect();
        AssertionKeys::parse(&items.join(",")).unwrap()
    }

    fn make(header: &Value, claims: &Value, secret: [u8; 32]) -> String {
        let input = format!("{}.{}", encode(header), encode(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
        mac.update(input.as_bytes());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn header() -> Value {
        json!({ "alg": "HS256", "typ": "gateway+jwt", "kid": "new" })
    }

    fn claims() -> Value {
        json!({
            "iss": "portcullis", "aud": "shop", "iat": NOW, "exp": NOW + 30, "jti": "r1",
            "htm": "GET", "htu": "/orders/7?x=1", "sub": "u1", "roles": ["user"],
        })
    }

    fn with(base: Value, name: &str, value: Value) -> Value {
        let mut changed = base;
        changed[name] = value;
        changed
    }

    fn received(now: u64) -> Received<'static> {
        Received { audience: "shop", method: "GET", target: "/orders/7?x=1", now }
    }

    #[test]
    fn an_assertion_is_good_for_its_request_and_its_time_alone() {
        use AssertionError::{BadClaims, Expired, Malformed, WrongAudience, WrongRequest};
        let both = keys(&[("new", NEW), ("old", OLD)]);
        for (name, header, claims, now, expected) in [
            ("as made", header(), claims(), NOW, None),
            ("in its last second", header(), claims(), NOW + 29, None),
            ("a clock that runs 30 s ahead, in its last second", header(), claims(), NOW + 59, None),
            ("a clock that runs 31 s ahead, in its last second", header(), claims(), NOW + 60, Some(Expired)),
            ("a clock that runs 30 s behind", header(), claims(), NOW - 30, None),
            ("a clock that runs 31 s behind", header(), claims(), NOW - 31, Some(Expired)),
            ("of another upstream", header(), with(claims(), "aud", json!("auth")), NOW, Some(WrongAudience)),
            ("of another method", header(), with(claims(), "htm", json!("DELETE")), NOW, Some(WrongRequest)),
            ("of another path", header(), with(claims(), "htu", json!("/orders/8?x=1")), NOW, Some(WrongRequest)),
            ("of another query", header(), with(claims(), "htu", json!("/orders/7")), NOW, Some(WrongRequest)),
            ("of somebody else", header(), with(claims(), "iss", json!("stranger")), NOW, Some(BadClaims)),
            ("for an hour", header(), with(claims(), "exp", json!(NOW + 3600)), NOW, Some(BadClaims)),
            ("expired before it was made", header(), with(claims(), "exp", json!(NOW - 1)), NOW, Some(BadClaims)),
            ("with a float for a date", header(), with(claims(), "exp", json!(1.5)), NOW, Some(BadClaims)),
            ("with roles as text", header(), with(claims(), "roles", json!("admin")), NOW, Some(BadClaims)),
            ("alg none", with(header(), "alg", json!("none")), claims(), NOW, Some(Malformed)),
            ("another HMAC", with(header(), "alg", json!("HS512")), claims(), NOW, Some(Malformed)),
            ("typ of an access token", with(header(), "typ", json!("at+jwt")), claims(), NOW, Some(Malformed)),
            ("no kid", with(header(), "kid", json!(null)), claims(), NOW, Some(Malformed)),
        ] {
            let verdict = both.verify(&make(&header, &claims, NEW), &received(now));
            assert_eq!(verdict.err(), expected, "{name}");
        }
    }

    #[test]
    fn two_secrets_are_live_during_a_rotation_and_none_after_its_end() {
        use AssertionError::{BadSignature, UnknownKey};
        let old = make(&with(header(), "kid", json!("old")), &claims(), OLD);
        let new = make(&header(), &claims(), NEW);
        let crossed = make(&header(), &claims(), OLD);
        let during = keys(&[("new", NEW), ("old", OLD)]);
        let after = keys(&[("new", NEW)]);
        for (name, keys, text, expected) in [
            ("the new one, during", &during, &new, None),
            ("the old one, during", &during, &old, None),
            ("the new one, after", &after, &new, None),
            ("the old one, after", &after, &old, Some(UnknownKey)),
            ("the old secret under the new name", &during, &crossed, Some(BadSignature)),
        ] {
            assert_eq!(keys.verify(text, &received(NOW)).err(), expected, "{name}");
        }
    }

    #[test]
    fn what_it_says_of_the_user_is_what_the_gateway_wrote() {
        let keys = keys(&[("new", NEW)]);
        let told = keys.verify(&make(&header(), &claims(), NEW), &received(NOW)).unwrap();
        let user = told.user.unwrap();
        assert_eq!(
            (user.id.as_str(), user.roles, user.email, user.session_id),
            ("u1", vec!["user".to_owned()], None, None)
        );
        assert_eq!(told.request_id, "r1", "jti, where there is no request_id");
        let named = with(claims(), "request_id", json!("r2"));
        assert_eq!(keys.verify(&make(&header(), &named, NEW), &received(NOW)).unwrap().request_id, "r2");
        let mut public = claims();
        for name in ["sub", "roles"] {
            public.as_object_mut().unwrap().remove(name);
        }
        assert_eq!(keys.verify(&make(&header(), &public, NEW), &received(NOW)).unwrap().user, None);
    }

    #[test]
    fn the_assertion_of_the_longest_token_and_target_is_taken() {
        let keys = keys(&[("new", NEW)]);
        // Of 16 KB of base64url, and of 4 KB of path and 8 KB of query, which JSON doubles.
        let roles: Vec<String> = (0..1000).map(|number| format!("role {number:04}")).collect();
        let target = format!("/{}?{}", "x".repeat(4 * 1024 - 1), "\\".repeat(8 * 1024));
        let claims = with(with(claims(), "roles", json!(roles)), "htu", json!(target));
        let taken =
            keys.verify(&make(&header(), &claims, NEW), &Received { target: &target, ..received(NOW) }).unwrap();
        assert_eq!(taken.user.unwrap().roles, roles);
    }

    #[test]
    fn no_text_at_all_is_taken_for_an_assertion() {
        let keys = keys(&[("new", NEW)]);
        let good = make(&header(), &claims(), NEW);
        let (input, mac) = good.rsplit_once('.').unwrap();
        for text in [
            String::new(),
            ".".into(),
            "..".into(),
            input.to_owned(),
            format!("{input}."),
            format!("{good}."),
            format!("{good}={mac}"),
            format!("{input}.{mac}.{mac}"),
            good.to_uppercase(),
            "x".repeat(ASSERTION_BYTES + 1),
        ] {
            assert!(keys.verify(&text, &received(NOW)).is_err(), "{} bytes", text.len());
        }
    }

    #[test]
    fn settings_are_one_or_two_secrets_of_32_bytes_and_do_not_print() {
        let secret = URL_SAFE_NO_PAD.encode(NEW);
        for (text, taken) in [
            (format!("k1:{secret}"), true),
            (format!(" k1:{secret} , k0:{secret}\n"), true),
            (format!("k1:{secret},k0:{secret},k2:{secret}"), false),
            (format!("k1:{secret},k1:{secret}"), false),
            (secret.clone(), false),
            (format!(":{secret}"), false),
            (format!("k1:{secret}="), false),
            ("k1:c2hvcnQ".to_owned(), false),
            (String::new(), false),
        ] {
            let parsed = AssertionKeys::parse(&text);
            assert_eq!(parsed.is_ok(), taken, "{text}");
            assert!(!format!("{parsed:?}").contains(&secret));
        }
    }
}
