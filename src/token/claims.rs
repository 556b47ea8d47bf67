//! Claims (RFC 7519, section 4; RFC 9068, section 2.2) against an issuer's
//! policy, and the identity that the gate works with.

use serde_json::Value;

use super::{ClaimPath, TokenError, TokenPolicy, UnixMillis, json::StrictObject, limits, mapping::find};

/// Who a verified token speaks for. Every text in it is bounded and free of
/// control characters; a role holds no comma. So none of them can split or
/// forge a header.
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
    /// The issuer that vouched.
    pub issuer: String,
}

/// Claims whose signature and rules were checked. Made in one place:
/// [`super::Unverified::admit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified(Identity);

impl Verified {
    /// The identity that the token proves.
    pub fn identity(&self) -> &Identity {
        &self.0
    }
}

pub(super) fn verify(claims: &StrictObject, policy: &TokenPolicy, now: UnixMillis) -> Result<Verified, TokenError> {
    // Compared again although the policy was chosen by it: the signature says
    // now that the issuer wrote it.
    if claims.string("iss").ok().flatten() != Some(policy.issuer.as_str()) {
        return Err(TokenError::UnknownIssuer);
    }
    let (issued_at, expires_at) = verify_dates(claims, policy, now)?;
    verify_audience(claims, policy)?;
    if let Some(expected) = &policy.token_type
        && claims.string("token_type").ok().flatten() != Some(expected.as_str())
    {
        return Err(TokenError::WrongTokenType);
    }
    if !policy.require.iter().all(|requirement| requirement.is_met(claims)) {
        return Err(TokenError::RequirementUnmet);
    }
    let names = &policy.claims;
    Ok(Verified(Identity {
        user_id: text(claims, &names.user_id)?.ok_or(TokenError::BadIdentity)?,
        email: text(claims, &names.email)?,
        roles: roles(claims, &names.roles)?,
        scopes: scopes(claims, &names.scopes)?,
        claims: kept(claims, &policy.kept),
        session_id: text(claims, &names.session_id)?,
        token_id: text(claims, &["jti".to_owned()])?,
        issued_at: UnixMillis::from_secs(issued_at),
        expires_at: UnixMillis::from_secs(expires_at),
        issuer: policy.issuer.clone(),
    }))
}

/// Seconds of issue and of expiry.
fn verify_dates(claims: &StrictObject, policy: &TokenPolicy, now: UnixMillis) -> Result<(u64, u64), TokenError> {
    let now = now.secs();
    let exp = date(claims, "exp")?.ok_or(TokenError::BadDates)?;
    let iat = date(claims, "iat")?.ok_or(TokenError::BadDates)?;
    let nbf = date(claims, "nbf")?;
    let lifetime = exp.checked_sub(iat).filter(|lifetime| *lifetime > 0).ok_or(TokenError::BadDates)?;
    if lifetime > policy.max_lifetime_s {
        return Err(TokenError::LifetimeTooLong);
    }
    // "On or after" (RFC 7519, section 4.1.4), moved by the leeway.
    if now >= exp.saturating_add(policy.leeway_s) {
        return Err(TokenError::Expired);
    }
    let latest_start = now.saturating_add(policy.leeway_s);
    if iat > latest_start || nbf.is_some_and(|nbf| nbf > latest_start) {
        return Err(TokenError::NotYetValid);
    }
    Ok((iat, exp))
}

/// A NumericDate as an unsigned integer in range. RFC 7519 allows fractions;
/// floats invite 1e308 and NaN, negative dates overflow, and no issuer that we
/// know of writes either.
fn date(claims: &StrictObject, name: &str) -> Result<Option<u64>, TokenError> {
    match claims.member(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(seconds) if seconds <= limits::DATE_SECS => Ok(Some(seconds)),
            _ => Err(TokenError::BadDates),
        },
    }
}

fn verify_audience(claims: &StrictObject, policy: &TokenPolicy) -> Result<(), TokenError> {
    let taken = |value: &Value| value.as_str().is_some_and(|text| policy.audience.iter().any(|own| own == text));
    let fits = match claims.member("aud") {
        Some(value @ Value::String(_)) => taken(value),
        Some(Value::Array(values)) => {
            values.len() <= limits::AUDIENCES && values.iter().all(Value::is_string) && values.iter().any(taken)
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(TokenError::WrongAudience) }
}

fn text(claims: &StrictObject, path: &[String]) -> Result<Option<String>, TokenError> {
    match find(claims, path) {
        None => Ok(None),
        Some(Value::String(text)) if is_header_safe(text, limits::CLAIM_BYTES) => Ok(Some(text.clone())),
        Some(_) => Err(TokenError::BadIdentity),
    }
}

fn roles(claims: &StrictObject, path: &[String]) -> Result<Vec<String>, TokenError> {
    let values = match find(claims, path) {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) if values.len() <= limits::ROLES => values,
        Some(_) => return Err(TokenError::BadIdentity),
    };
    values
        .iter()
        .map(|value| match value.as_str() {
            // Roles are joined with commas in `X-User-Roles`: one named
            // "user,admin" would arrive as two.
            Some(role) if is_header_safe(role, limits::ROLE_BYTES) && !role.contains(',') => Ok(role.to_owned()),
            _ => Err(TokenError::BadIdentity),
        })
        .collect()
}

fn scopes(claims: &StrictObject, path: &[String]) -> Result<Vec<String>, TokenError> {
    let names: Vec<&str> = match find(claims, path) {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => text.split(' ').filter(|scope| !scope.is_empty()).collect(),
        Some(Value::Array(values)) => {
            values.iter().map(Value::as_str).collect::<Option<_>>().ok_or(TokenError::BadIdentity)?
        }
        Some(_) => return Err(TokenError::BadIdentity),
    };
    if names.len() > limits::SCOPES || !names.iter().all(|name| is_header_safe(name, limits::SCOPE_BYTES)) {
        return Err(TokenError::BadIdentity);
    }
    Ok(names.into_iter().map(str::to_owned).collect())
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

/// Non-empty, bounded, without control characters (CR, LF and NUL split or cut
/// a header) and without leading or trailing blanks (which proxies trim, so two
/// different identities would become one).
fn is_header_safe(text: &str, bytes: usize) -> bool {
    !text.is_empty() && text.len() <= bytes && !text.chars().any(char::is_control) && text.trim() == text
}
