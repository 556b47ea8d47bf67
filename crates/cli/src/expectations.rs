//! `gateway.tests.toml`: requests, and what the policy is expected to decide about each.

use std::net::IpAddr;

use portcullis_policy::{ClaimPath, claims_in_rules, position_of};
use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;

use crate::decision::{Caller, Decider, Origin};

/// A file's name, for messages, and its text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextFile {
    pub(crate) name: String,
    pub(crate) text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    test: Vec<Row>,
}

/// One request. Without a field about the caller, it has no token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Method and path: `GET /api/v1/users/7`.
    request: Spanned<String>,
    /// 200 if the request is forwarded or answered by the gateway itself, or the status of the
    /// refusal.
    expect: u16,
    user: Option<String>,
    roles: Option<Vec<String>>,
    scopes: Option<Vec<String>>,
    /// Claims as the token's payload has them.
    claims: Option<Map<String, Value>>,
    issuer: Option<String>,
    /// The client's country and address, and the request's host.
    country: Option<String>,
    address: Option<IpAddr>,
    host: Option<String>,
    /// When it arrives, in seconds since 1970, for rules on the time of the login.
    #[serde(default)]
    at: u64,
}

/// Runs the tests of a file. Returns their number in words, or a line for each that fails.
pub(crate) fn run(decider: &Decider<'_>, file: &TextFile) -> Result<String, Vec<String>> {
    let place = |offset| {
        let (line, column) = position_of(&file.text, offset);
        format!("{}:{line}:{column}", file.name)
    };
    let File { test: rows } = toml::from_str(&file.text)
        .map_err(|error| vec![format!("{}: {}", place(error.span().map_or(0, |span| span.start)), error.message())])?;
    let count = rows.len();
    let kept = claims_in_rules(decider.policy);
    let check = |row: Row| Some(format!("{}: {}", place(row.request.span().start), fault_of(decider, row, &kept)?));
    let failures: Vec<String> = rows.into_iter().filter_map(check).collect();
    if failures.is_empty() { Ok(format!("{}: {count} decisions are as expected.", file.name)) } else { Err(failures) }
}

/// Returns what is wrong, if the policy decides otherwise. `kept` are the claims that rules ask for.
fn fault_of(decider: &Decider<'_>, row: Row, kept: &[ClaimPath]) -> Option<String> {
    let Row { request, expect, user, roles, scopes, claims, issuer, country, address, host, at } = row;
    let origin = Origin { country, address, host, now_ms: at.saturating_mul(1000) };
    let request = request.get_ref();
    let Some((method, path)) = request.split_once(' ') else {
        return Some(format!("{request:?} is not a method and a path, such as \"GET /api/v1/users/7\""));
    };
    let is_known = |name: &String| decider.policy.issuers.iter().any(|known| known.name == *name);
    if let Some(unknown) = issuer.as_ref().filter(|name| !is_known(name)) {
        return Some(format!("there is no issuer {unknown:?}"));
    }
    let claims = claims.map(Value::Object).map(|payload| {
        let value_at = |path: &ClaimPath| path.iter().try_fold(&payload, |value, name| value.get(name));
        kept.iter().filter_map(|path| Some((path.clone(), value_at(path)?.clone()))).collect()
    });
    let caller = Caller { user, roles, scopes, claims, issuer };
    let mut context = Vec::new();
    let (status, code, reason) = match decider.decide(method, path, Ok(caller.with_token()), &origin, &mut context) {
        Ok(verdict) => (200, "permitted", verdict.to_owned()),
        Err(((status, code), reason)) => (status, code, reason),
    };
    let rule = context.first().map_or(reason.trim_start_matches(": "), String::as_str);
    (status != expect)
        .then(|| format!("{request}: expected {expect}, but the policy decides {status} ({code}): {rule}"))
}
