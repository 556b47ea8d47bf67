//! Claims (RFC 7519, section 4; RFC 9068, section 2.2) against an issuer's
//! policy, and the identity that the gate works with.

use serde_json::Value;

use super::{ClaimPath, TokenError, TokenPolicy, UnixMillis, claim_rule::find, json::StrictObject, limits};

/// Who a verified token speaks for. Every text in it is bounded, non-empty and free
/// of control characters, so none of them can split a header. Roles may hold commas,
/// blanks and letters of any script: `gate::headers` escapes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user (`sub`, or where the policy says).
    pub user_id: String,
    /// E-mail address, if the token names one.
    pub email: Option<String>,
    /// Role names, in the token's order.
    pub roles: Vec<String>,
    /// Scopes, in the token's order.
    pub scopes: Vec<String>,
    /// What the policy's `kept` lists and the token has.
    pub claims: Vec<(ClaimPath, Value)>,
    /// The session (`sid`), if the token names one.
    pub session_id: Option<String>,
    /// The token's own id (`jti`), if it has one.
    pub token_id: Option<String>,
    /// When the token was issued (`iat`).
    pub issued_at: UnixMillis,
    /// When the token stops being good, leeway not included.
    pub expires_at: UnixMillis,
    /// The issuer that vouched: the token's own `iss`, in which a template's tenant is
    /// filled in.
    pub issuer: String,
}

/// Claims whose signature and rules were checked. Made in one place:
/// [`super::UnverifiedToken::admit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken(Identity);

impl VerifiedToken {
    /// The identity that the token proves.
    pub fn identity(&self) -> &Identity {
        &self.0
    }
}

pub(super) fn verify(
    claims: &StrictObject,
    policy: &TokenPolicy,
    now: UnixMillis,
) -> Result<VerifiedToken, TokenError> {
    // Compared again although the policy was chosen by it: the signature says
    // now that the issuer wrote it.
    let issuer = claims.string("iss").ok().flatten().unwrap_or_default();
    let origin = policy.origin_of(issuer).ok_or(TokenError::UnknownIssuer)?;
    let dates = verify_dates(claims, policy, now)?;
    verify_audience(claims, policy)?;
    if let Some(expected) = &policy.token_type
        && claims.string("token_type").ok().flatten() != Some(expected.as_str())
    {
        return Err(TokenError::WrongTokenType);
    }
    let is_of_tenant = |tenant: &str| claims.member("tid").is_none_or(|value| value.as_str() == Some(tenant));
    if !origin.tenant().is_none_or(is_of_tenant)
        || !policy.require.iter().all(|rule| rule.is_met_by(find(claims, &rule.claim)))
    {
        return Err(TokenError::RequirementUnmet);
    }
    let names = &policy.claims;
    Ok(VerifiedToken(Identity {
        user_id: text(claims, &names.user_id)?.ok_or(TokenError::BadIdentity)?,
        email: text(claims, &names.email)?,
        roles: roles(claims, &names.roles)?,
        scopes: scopes(claims, &names.scopes)?,
        claims: kept(claims, &policy.kept),
        session_id: text(claims, &names.session_id)?,
        token_id: text(claims, &["jti".to_owned()])?,
        issued_at: dates.issued_at,
        expires_at: dates.expires_at,
        issuer: issuer.to_owned(),
    }))
}

struct Dates {
    issued_at: UnixMillis,
    expires_at: UnixMillis,
}

fn verify_dates(claims: &StrictObject, policy: &TokenPolicy, now: UnixMillis) -> Result<Dates, TokenError> {
    let expires_at = date(claims, "exp")?.ok_or(TokenError::BadDates)?;
    let issued_at = date(claims, "iat")?.ok_or(TokenError::BadDates)?;
    let not_before = date(claims, "nbf")?;
    if expires_at <= issued_at {
        return Err(TokenError::BadDates);
    }
    if expires_at.since(issued_at) > policy.max_lifetime_s.saturating_mul(1000) {
        return Err(TokenError::LifetimeTooLong);
    }
    let leeway_ms = policy.leeway_s.saturating_mul(1000);
    // "On or after" (RFC 7519, section 4.1.4), moved by the leeway.
    if now >= expires_at.plus(leeway_ms) {
        return Err(TokenError::Expired);
    }
    let latest_start = now.plus(leeway_ms);
    if issued_at > latest_start || not_before.is_some_and(|start| start > latest_start) {
        return Err(TokenError::NotYetValid);
    }
    Ok(Dates { issued_at, expires_at })
}

/// Reads a NumericDate (RFC 7519, section 2): seconds, with or without a fraction. What
/// is negative, not finite or past the bound is refused before it becomes a time.
fn date(claims: &StrictObject, name: &str) -> Result<Option<UnixMillis>, TokenError> {
    let Some(value) = claims.member(name) else { return Ok(None) };
    if let Some(seconds) = value.as_u64() {
        return if seconds <= limits::DATE_SECS {
            Ok(Some(UnixMillis::from_secs(seconds)))
        } else {
            Err(TokenError::BadDates)
        };
    }
    let seconds = value.as_f64().filter(|seconds| (0.0..=limits::DATE_SECS_F64).contains(seconds));
    seconds.map(|seconds| Some(UnixMillis::from_secs_f64(seconds))).ok_or(TokenError::BadDates)
}

fn verify_audience(claims: &StrictObject, policy: &TokenPolicy) -> Result<(), TokenError> {
    let taken = |value: &Value| value.as_str().is_some_and(|text| policy.audience.iter().any(|own| own == text));
    let fits = match find(claims, &policy.audience_claim) {
        Some(value @ Value::String(_)) => taken(value),
        Some(Value::Array(values)) => {
            values.len() <= limits::AUDIENCES && values.iter().all(Value::is_string) && values.iter().any(taken)
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(TokenError::WrongAudience) }
}

/// A claim that is not there, `null` or empty says nothing; providers write all three
/// (`"email":""` of accounts that have a phone number alone).
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

/// Role names: a list, or one text, which is one role.
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

/// Scopes: a list, or one text with blanks between (RFC 8693, section 4.2). Where nothing
/// else is mapped, `scp` stands in for an absent `scope`: half of the providers write one,
/// half the other.
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

/// The texts of a list; what says nothing in it is passed over.
fn texts(values: &[Value]) -> Result<Vec<&str>, TokenError> {
    let said = values.iter().filter(|value| !is_absent(value));
    said.map(Value::as_str).collect::<Option<_>>().ok_or(TokenError::BadIdentity)
}

fn owned(names: &[&str], most: usize, is_fit: impl Fn(&&str) -> bool) -> Result<Vec<String>, TokenError> {
    if names.len() > most || !names.iter().all(is_fit) {
        return Err(TokenError::BadIdentity);
    }
    Ok(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Claims for rules on routes. Remembered with the token, so each is bounded.
fn kept(claims: &StrictObject, paths: &[ClaimPath]) -> Vec<(ClaimPath, Value)> {
    let mut kept = Vec::new();
    for path in paths {
        match find(claims, path) {
            // Too long to keep, and to be equal to anything that a rule may name.
            Some(Value::String(text)) if text.len() > limits::CLAIM_BYTES => {
                kept.push((path.clone(), Value::Array(Vec::new())));
            }
            Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => {
                kept.push((path.clone(), value.clone()));
            }
            // There, and equal to nothing that a rule can name.
            Some(Value::Array(_) | Value::Object(_)) => kept.push((path.clone(), Value::Array(Vec::new()))),
            Some(Value::Null) | None => {}
        }
    }
    kept
}

/// Bounded, without control characters (CR, LF and NUL split or cut a header) and without
/// leading or trailing blanks (which proxies trim, so two different identities would become
/// one).
fn is_header_safe(text: &str) -> bool {
    text.len() <= limits::CLAIM_BYTES && !text.chars().any(char::is_control) && text.trim() == text
}
