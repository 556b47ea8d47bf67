//! Claims (RFC 7519, section 4; RFC 9068, section 2.2) against an issuer's policy, and the identity that they prove.

use std::{slice, time::Duration};

use serde_json::{Map, Value};

use crate::{
    check::Check,
    claim_rule::{ClaimPath, find},
    confirmation::{self, Confirmation},
    error::TokenError,
    json::StrictObject,
    limits,
    policy::{IssuerMatch, TokenPolicy},
    time::UnixMillis,
};

/// Returns whether claims are those of an event and not of an access token.
fn is_event(claims: &StrictObject) -> bool {
    claims.member("events").is_some_and(Value::is_object)
}

/// Whom a verified token identifies. Every string in it is bounded and, except in `claims`, non-empty and free of
/// control characters, so none can split a header. Roles may hold commas, spaces and letters of any script:
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
    /// The claims that the policy's `kept` lists and the token has. Their strings may hold any character. An empty object
    /// stands for a value that is not kept: an object, a text or list that is too long, or a list of other values than texts.
    pub claims: Vec<(ClaimPath, Value)>,
    /// The claims that the policy's `asserted` lists and the token has, each as JSON. The text is empty if it is longer
    /// than [`limits::ASSERTED_BYTES`].
    pub asserted: Vec<(String, String)>,
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
    /// What the sender must prove; `None` for a bearer token.
    pub confirmation: Option<Box<Confirmation>>,
}

/// An identity from a token whose claims were checked, and that is authentic by its signature
/// ([`crate::UnverifiedToken::admit`]) or by the statement of its authority ([`crate::admit_stated`]).
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
    match subject.checks().into_iter().find(|(.., is_passed)| *is_passed != Some(true)) {
        Some((_, error, _)) => Err(error),
        None => subject.identity().map(VerifiedToken),
    }
}

/// Claims, and what they are checked against.
pub(crate) struct Subject<'a> {
    claims: &'a StrictObject,
    policy: &'a TokenPolicy,
    now: UnixMillis,
    pub(crate) issuer: IssuerMatch<'a>,
    dates: Option<Dates>,
}

impl<'a> Subject<'a> {
    /// `None` if the claims are not of the policy's issuer.
    pub(crate) fn new(claims: &'a StrictObject, policy: &'a TokenPolicy, now: UnixMillis) -> Option<Self> {
        let issuer = policy.match_issuer(claims.string("iss")?)?;
        Some(Self { claims, policy, now, issuer, dates: Dates::read(claims) })
    }

    /// What is checked once the signature is verified, in order: the error of a token that fails, and whether this
    /// one passes. `None` if the check needs dates and the token's are invalid.
    pub(crate) fn checks(&self) -> [(Check, TokenError, Option<bool>); 7] {
        let Self { claims, policy, now, dates, .. } = *self;
        let [longest_ms, leeway_ms] = [policy.max_lifetime_s, policy.leeway_s].map(|secs| secs.saturating_mul(1000));
        let is_lifetime_allowed = |dates: Dates| dates.expires_at.since(dates.issued_at) <= longest_ms;
        // Refuses "on or after" `exp` (RFC 7519, section 4.1.4), moved by the leeway.
        let is_unexpired = |dates: Dates| now < dates.expires_at.plus(leeway_ms);
        let has_started = |dates: Dates| dates.issued_at.max(dates.not_before) <= now.plus(leeway_ms);
        let token_type = policy.token_type.as_deref();
        // A logout token or a security event of the same issuer and audience (RFC 8417, section 4.5).
        let has_token_type = !is_event(claims) && (token_type.is_none() || claims.string("token_type") == token_type);
        [
            (Check::Dates, TokenError::BadDates, Some(dates.is_some())),
            (Check::Lifetime, TokenError::LifetimeTooLong, dates.map(is_lifetime_allowed)),
            (Check::Expiry, TokenError::Expired, dates.map(is_unexpired)),
            (Check::Start, TokenError::NotYetValid, dates.map(has_started)),
            (Check::Audience, TokenError::WrongAudience, Some(self.is_for_audience())),
            (Check::TokenType, TokenError::WrongTokenType, Some(has_token_type)),
            (Check::Requirements, TokenError::RequirementUnmet, Some(self.meets_requirements())),
        ]
    }

    pub(crate) fn is_for_audience(&self) -> bool {
        let values = match find(self.claims, &self.policy.audience_claim) {
            Some(Value::Array(values)) => values,
            Some(value) => slice::from_ref(value),
            None => return false,
        };
        let is_accepted = |value: &Value| self.policy.audience.iter().any(|own| value == own);
        values.len() <= limits::AUDIENCES && values.iter().all(Value::is_string) && values.iter().any(is_accepted)
    }

    fn meets_requirements(&self) -> bool {
        let Self { claims, policy, issuer, .. } = *self;
        let is_of_tenant = |tenant: &str| claims.member("tid").is_none_or(|value| value.as_str() == Some(tenant));
        issuer.tenant.is_none_or(is_of_tenant)
            && policy.require.iter().all(|rule| rule.is_met_by(find(claims, &rule.claim)))
    }

    /// Reads the identity ([`Check::Identity`]).
    pub(crate) fn identity(&self) -> Result<Identity, TokenError> {
        let Self { claims, policy, .. } = *self;
        let (names, dates) = (&policy.claims, self.dates.ok_or(TokenError::BadDates)?);
        Ok(Identity {
            user_id: text(claims, &names.user_id)?.ok_or(TokenError::BadIdentity)?,
            email: text(claims, &names.email)?,
            roles: roles(claims, &names.roles)?,
            scopes: scopes(claims, &names.scopes)?,
            claims: kept(claims, &policy.kept),
            asserted: asserted(claims, &policy.asserted),
            session_id: text(claims, &names.session_id)?,
            token_id: text(claims, &["jti".to_owned()])?,
            issued_at: dates.issued_at,
            expires_at: dates.expires_at,
            issuer: self.issuer.issuer.to_owned(),
            confirmation: confirmation::read(claims)?,
        })
    }
}

/// The registered dates.
#[derive(Clone, Copy)]
struct Dates {
    issued_at: UnixMillis,
    expires_at: UnixMillis,
    /// `nbf`, or the beginning of time without one.
    not_before: UnixMillis,
}

impl Dates {
    fn read(claims: &StrictObject) -> Option<Self> {
        let expires_at = date(claims.member("exp")?)?;
        let issued_at = date(claims.member("iat")?)?;
        let not_before = claims.member("nbf").map_or(Some(UnixMillis(0)), date)?;
        (expires_at > issued_at).then_some(Self { issued_at, expires_at, not_before })
    }
}

/// Reads a NumericDate (RFC 7519, section 2): seconds, with or without a fraction. Refuses what is
/// negative, not a number or beyond the bound.
pub fn date(value: &Value) -> Option<UnixMillis> {
    let date = match value.as_u64() {
        Some(seconds) => UnixMillis::from_secs(seconds),
        // A thousand times as long, so that its whole seconds are milliseconds.
        None => UnixMillis(Duration::try_from_secs_f64(value.as_f64()? * 1000.0).ok()?.as_secs()),
    };
    (date <= UnixMillis::from_secs(limits::DATE_SECS)).then_some(date)
}

/// Whether a value counts as absent: providers write `null` or `""` (such as `"email":""` of accounts
/// that have only a phone number).
fn is_absent(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

pub(crate) fn text(claims: &StrictObject, path: &[String]) -> Result<Option<String>, TokenError> {
    match find(claims, path).filter(|value| !is_absent(value)) {
        None => Ok(None),
        Some(Value::String(text)) if is_header_safe(text) => Ok(Some(text.clone())),
        Some(_) => Err(TokenError::BadIdentity),
    }
}

/// Reads role names: a list, or one string, which is one role.
fn roles(claims: &StrictObject, path: &[String]) -> Result<Vec<String>, TokenError> {
    let is_role = |name: &str| name.len() <= limits::ROLE_BYTES && !name.chars().any(char::is_control);
    names(find(claims, path), |text| vec![text], limits::ROLES, is_role)
}

/// Reads scopes: a list, or one string with spaces between (RFC 8693, section 4.2). Unless another
/// claim is mapped, `scp` is read where `scope` is absent: about half of the providers write `scp`.
pub(crate) fn scopes(claims: &StrictObject, path: &[String]) -> Result<Vec<String>, TokenError> {
    let is_usual = matches!(path, [name] if name == "scope");
    let found = find(claims, path).filter(|value| !is_absent(value));
    let found = found.or_else(|| claims.member("scp").filter(|_| is_usual));
    let is_scope = |name: &str| name.len() <= limits::SCOPE_BYTES && is_header_safe(name);
    names(found, |text| text.split(' ').filter(|scope| !scope.is_empty()).collect(), limits::SCOPES, is_scope)
}

/// Reads a list of strings, or one string by `split`. Skips values that count as absent.
fn names(
    value: Option<&Value>,
    split: fn(&str) -> Vec<&str>,
    most: usize,
    is_valid: impl Fn(&str) -> bool,
) -> Result<Vec<String>, TokenError> {
    let names = match value.filter(|value| !is_absent(value)) {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => split(text),
        Some(Value::Array(values)) => {
            let present = values.iter().filter(|value| !is_absent(value));
            present.map(Value::as_str).collect::<Option<_>>().ok_or(TokenError::BadIdentity)?
        }
        Some(_) => return Err(TokenError::BadIdentity),
    };
    if names.len() > most || !names.iter().all(|name| is_valid(name)) {
        return Err(TokenError::BadIdentity);
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn is_short(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() <= limits::CLAIM_BYTES)
}

/// Claims for access rules, headers and authorizers. They are cached with the token, so each is bounded.
fn kept(claims: &StrictObject, paths: &[ClaimPath]) -> Vec<(ClaimPath, Value)> {
    let bounded = |value: &Value| match value {
        Value::Null => None,
        Value::Number(_) | Value::Bool(_) => Some(value.clone()),
        Value::String(_) if is_short(value) => Some(value.clone()),
        Value::Array(values) if values.len() <= limits::CLAIM_VALUES && values.iter().all(is_short) => {
            Some(value.clone())
        }
        // Present, and equal to nothing that a rule can name.
        Value::String(_) | Value::Array(_) | Value::Object(_) => Some(Value::Object(Map::new())),
    };
    let kept = |path: &ClaimPath| Some((path.clone(), bounded(find(claims, path)?)?));
    paths.iter().filter_map(kept).collect()
}

/// Claims for services, as text: lists of values would take many times their size.
fn asserted(claims: &StrictObject, names: &[String]) -> Vec<(String, String)> {
    let written = |name: &String| {
        let mut json = claims.member(name).filter(|value| !value.is_null())?.to_string();
        if json.len() > limits::ASSERTED_BYTES {
            json = String::new();
        }
        Some((name.clone(), json))
    };
    names.iter().filter_map(written).collect()
}

/// Whether a string is bounded, without control characters (CR, LF and NUL split or cut a header)
/// and without surrounding spaces (proxies trim them, so two identities would become one).
pub(crate) fn is_header_safe(text: &str) -> bool {
    text.len() <= limits::CLAIM_BYTES && !text.chars().any(char::is_control) && text.trim() == text
}
