//! Claims (RFC 7519, section 4; RFC 9068, section 2.2) against an issuer's policy, and the identity
//! that they prove.

use serde_json::Value;

use crate::{
    check::Check,
    claim_rule::{ClaimPath, find},
    error::TokenError,
    json::StrictObject,
    limits,
    policy::TokenPolicy,
    time::UnixMillis,
};

/// Whom a verified token identifies. Every string in it is bounded, non-empty and free of control
/// characters, so none can split a header. Roles may hold commas, spaces and letters of any script:
/// the code that writes them to a header escapes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user (`sub`, or the claim that the policy names).
    pub user_id: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Role names, in the token's order.
    pub roles: Vec<String>,
    /// Scopes, in the token's order.
    pub scopes: Vec<String>,
    /// The claims that the policy's `kept` lists and the token has.
    pub claims: Vec<(ClaimPath, Value)>,
    /// The session (`sid`).
    pub session_id: Option<String>,
    /// The token's id (`jti`).
    pub token_id: Option<String>,
    /// When the token was issued (`iat`).
    pub issued_at: UnixMillis,
    /// When the token expires (`exp`), leeway not included.
    pub expires_at: UnixMillis,
    /// The token's `iss`; for a template, with the tenant filled in.
    pub issuer: String,
}

/// An identity from a token whose signature and claims were checked. Constructed only by
/// [`crate::UnverifiedToken::admit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken(Identity);

impl VerifiedToken {
    /// The identity that the token proves.
    pub fn identity(&self) -> &Identity {
        &self.0
    }
}

/// Checks the claims and reads the identity.
pub(crate) fn verify(
    claims: &StrictObject,
    policy: &TokenPolicy,
    now: UnixMillis,
) -> Result<VerifiedToken, TokenError> {
    // Matched again although the policy was chosen by it: the signature now proves it.
    let subject = Subject::new(claims, policy, now).ok_or(TokenError::UnknownIssuer)?;
    for (_, check) in CLAIM_CHECKS {
        check(&subject)?;
    }
    subject.identity().map(VerifiedToken)
}

/// Claims, and what they are checked against.
pub(crate) struct Subject<'a> {
    claims: &'a StrictObject,
    policy: &'a TokenPolicy,
    now: UnixMillis,
    issuer: &'a str,
    tenant: Option<&'a str>,
    dates: Result<Dates, TokenError>,
}

type ClaimCheck = fn(&Subject<'_>) -> Result<(), TokenError>;

/// What is checked once the signature is verified, in order. [`Check::Dates`] is needed by the three
/// that follow it.
pub(crate) const CLAIM_CHECKS: [(Check, ClaimCheck); 7] = [
    (Check::Dates, check_dates),
    (Check::Lifetime, check_lifetime),
    (Check::Expiry, check_expiry),
    (Check::Start, check_start),
    (Check::Audience, check_audience),
    (Check::TokenType, check_token_type),
    (Check::Requirements, check_requirements),
];

impl<'a> Subject<'a> {
    /// `None` if the claims are not of the policy's issuer.
    pub(crate) fn new(claims: &'a StrictObject, policy: &'a TokenPolicy, now: UnixMillis) -> Option<Self> {
        let issuer = claims.string("iss").ok().flatten()?;
        let tenant = policy.match_issuer(issuer)?.tenant();
        Some(Self { claims, policy, now, issuer, tenant, dates: Dates::read(claims) })
    }

    /// Reads the identity ([`Check::Identity`]).
    pub(crate) fn identity(&self) -> Result<Identity, TokenError> {
        let Self { claims, policy, .. } = *self;
        let (names, dates) = (&policy.claims, self.dates?);
        Ok(Identity {
            user_id: text(claims, &names.user_id)?.ok_or(TokenError::BadIdentity)?,
            email: text(claims, &names.email)?,
            roles: roles(claims, &names.roles)?,
            scopes: scopes(claims, &names.scopes)?,
            claims: kept(claims, &policy.kept),
            session_id: text(claims, &names.session_id)?,
            token_id: text(claims, &["jti".to_owned()])?,
            issued_at: dates.issued_at,
            expires_at: dates.expires_at,
            issuer: self.issuer.to_owned(),
        })
    }
}

/// The registered dates.
#[derive(Debug, Clone, Copy)]
struct Dates {
    issued_at: UnixMillis,
    expires_at: UnixMillis,
    not_before: Option<UnixMillis>,
}

impl Dates {
    fn read(claims: &StrictObject) -> Result<Self, TokenError> {
        let expires_at = date(claims, "exp")?.ok_or(TokenError::BadDates)?;
        let issued_at = date(claims, "iat")?.ok_or(TokenError::BadDates)?;
        let not_before = date(claims, "nbf")?;
        if expires_at > issued_at { Ok(Self { issued_at, expires_at, not_before }) } else { Err(TokenError::BadDates) }
    }
}

/// Reads a NumericDate (RFC 7519, section 2): seconds, with or without a fraction. Refuses what is
/// negative, not finite or beyond the bound before it becomes a time.
fn date(claims: &StrictObject, name: &str) -> Result<Option<UnixMillis>, TokenError> {
    let Some(value) = claims.member(name) else { return Ok(None) };
    let date = match value.as_u64() {
        Some(seconds) => (seconds <= limits::DATE_SECS).then(|| UnixMillis::from_secs(seconds)),
        None => value
            .as_f64()
            .filter(|seconds| (0.0..=limits::DATE_SECS_F64).contains(seconds))
            .map(UnixMillis::from_secs_f64),
    };
    date.map(Some).ok_or(TokenError::BadDates)
}

fn require(is_met: bool, error: TokenError) -> Result<(), TokenError> {
    if is_met { Ok(()) } else { Err(error) }
}

fn check_dates(subject: &Subject<'_>) -> Result<(), TokenError> {
    subject.dates.map(drop)
}

fn check_lifetime(subject: &Subject<'_>) -> Result<(), TokenError> {
    let dates = subject.dates?;
    let longest_ms = subject.policy.max_lifetime_s.saturating_mul(1000);
    require(dates.expires_at.since(dates.issued_at) <= longest_ms, TokenError::LifetimeTooLong)
}

fn check_expiry(subject: &Subject<'_>) -> Result<(), TokenError> {
    // Refused "on or after" `exp` (RFC 7519, section 4.1.4), moved by the leeway.
    require(subject.now < subject.dates?.expires_at.plus(subject.policy.leeway_ms()), TokenError::Expired)
}

fn check_start(subject: &Subject<'_>) -> Result<(), TokenError> {
    let (dates, latest) = (subject.dates?, subject.now.plus(subject.policy.leeway_ms()));
    let has_started = dates.issued_at <= latest && dates.not_before.is_none_or(|start| start <= latest);
    require(has_started, TokenError::NotYetValid)
}

fn check_audience(subject: &Subject<'_>) -> Result<(), TokenError> {
    let policy = subject.policy;
    let is_accepted = |value: &Value| value.as_str().is_some_and(|text| policy.audience.iter().any(|own| own == text));
    let fits = match find(subject.claims, &policy.audience_claim) {
        Some(value @ Value::String(_)) => is_accepted(value),
        Some(Value::Array(values)) => {
            values.len() <= limits::AUDIENCES && values.iter().all(Value::is_string) && values.iter().any(is_accepted)
        }
        _ => false,
    };
    require(fits, TokenError::WrongAudience)
}

fn check_token_type(subject: &Subject<'_>) -> Result<(), TokenError> {
    let expected = subject.policy.token_type.as_deref();
    let is_met = expected.is_none() || subject.claims.string("token_type").ok().flatten() == expected;
    require(is_met, TokenError::WrongTokenType)
}

fn check_requirements(subject: &Subject<'_>) -> Result<(), TokenError> {
    let Subject { claims, policy, tenant, .. } = *subject;
    let is_of_tenant = |tenant: &str| claims.member("tid").is_none_or(|value| value.as_str() == Some(tenant));
    let is_met =
        tenant.is_none_or(is_of_tenant) && policy.require.iter().all(|rule| rule.is_met_by(find(claims, &rule.claim)));
    require(is_met, TokenError::RequirementUnmet)
}

/// Whether a value counts as absent: providers write `null` or `""` (such as `"email":""` of accounts
/// that have only a phone number).
fn is_absent(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

fn text(claims: &StrictObject, path: &[String]) -> Result<Option<String>, TokenError> {
    match find(claims, path).filter(|value| !is_absent(value)) {
        None => Ok(None),
        Some(Value::String(text)) if is_header_safe(text) => Ok(Some(text.clone())),
        Some(_) => Err(TokenError::BadIdentity),
    }
}

/// Reads role names: a list, or one string, which is one role.
fn roles(claims: &StrictObject, path: &[String]) -> Result<Vec<String>, TokenError> {
    let names = match find(claims, path).filter(|value| !is_absent(value)) {
        None => return Ok(Vec::new()),
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(values)) => texts(values)?,
        Some(_) => return Err(TokenError::BadIdentity),
    };
    let is_role = |name: &&str| name.len() <= limits::ROLE_BYTES && !name.chars().any(char::is_control);
    owned(&names, limits::ROLES, is_role)
}

/// Reads scopes: a list, or one string with spaces between (RFC 8693, section 4.2). Unless another
/// claim is mapped, `scp` is read where `scope` is absent: about half of the providers write `scp`.
fn scopes(claims: &StrictObject, path: &[String]) -> Result<Vec<String>, TokenError> {
    let is_usual = matches!(path, [name] if name == "scope");
    let found = find(claims, path)
        .filter(|value| !is_absent(value))
        .or_else(|| claims.member("scp").filter(|value| is_usual && !is_absent(value)));
    let names = match found {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => text.split(' ').filter(|scope| !scope.is_empty()).collect(),
        Some(Value::Array(values)) => texts(values)?,
        Some(_) => return Err(TokenError::BadIdentity),
    };
    let is_scope = |name: &&str| name.len() <= limits::SCOPE_BYTES && is_header_safe(name);
    owned(&names, limits::SCOPES, is_scope)
}

/// The strings of a list; values that count as absent are skipped.
fn texts(values: &[Value]) -> Result<Vec<&str>, TokenError> {
    let present = values.iter().filter(|value| !is_absent(value));
    present.map(Value::as_str).collect::<Option<_>>().ok_or(TokenError::BadIdentity)
}

fn owned(names: &[&str], most: usize, is_fit: impl Fn(&&str) -> bool) -> Result<Vec<String>, TokenError> {
    if names.len() > most || !names.iter().all(is_fit) {
        return Err(TokenError::BadIdentity);
    }
    Ok(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Claims for access rules. They are cached with the token, so each is bounded.
fn kept(claims: &StrictObject, paths: &[ClaimPath]) -> Vec<(ClaimPath, Value)> {
    let mut kept = Vec::new();
    for path in paths {
        match find(claims, path) {
            // Too long to keep, and too long to equal what a rule may name.
            Some(Value::String(text)) if text.len() > limits::CLAIM_BYTES => {
                kept.push((path.clone(), Value::Array(Vec::new())));
            }
            Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => {
                kept.push((path.clone(), value.clone()));
            }
            // Present, and equal to nothing that a rule can name.
            Some(Value::Array(_) | Value::Object(_)) => kept.push((path.clone(), Value::Array(Vec::new()))),
            Some(Value::Null) | None => {}
        }
    }
    kept
}

/// Whether a string is bounded, without control characters (CR, LF and NUL split or cut a header)
/// and without surrounding spaces (proxies trim them, so two identities would become one).
fn is_header_safe(text: &str) -> bool {
    text.len() <= limits::CLAIM_BYTES && !text.chars().any(char::is_control) && text.trim() == text
}
