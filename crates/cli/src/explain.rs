//! `npm run explain`: why a token is accepted or refused, check by check, and what the policy then
//! decides about a request. Prints the token's header and claims, never its signature.

use std::net::IpAddr;

use portcullis_policy::{Issuer, JwksSource, Policy, Proof, claims_in_rules};
use portcullis_token::{
    ApiKey, Check, Confirmation, Explanation, ProofError, TokenError, TokenPolicy, UnixMillis, explain, is_jwt,
    keys::{KeySet, discovery_url, parse_discovery},
    limits, parse,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Output, access,
    decision::{Decider, Origin, StatusCode, TokenCaller},
};

/// A token, and what it is checked with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subject {
    /// The compact token.
    token: String,
    /// Milliseconds since 1970.
    now_ms: u64,
    /// The issuer's JWKS.
    keys: Option<String>,
    /// Why there is no JWKS.
    keys_fault: Option<String>,
    /// Method and path of a request with the token.
    request: Option<(String, String)>,
    /// The client's country and address, and the request's host.
    country: Option<String>,
    address: Option<IpAddr>,
    host: Option<String>,
}

/// Returns where the keys of a token's issuer are: `null` if no issuer matches, `{"keys"}` with the keys of the
/// policy, `{"url"}`, `{"discovery"}` or, on an upstream, `{"upstream", "base", "path"}`.
pub(crate) fn key_source(policy: &Policy, token: &str) -> Value {
    let Some(issuer) = issuer_of(policy, token) else { return Value::Null };
    match issuer.jwks() {
        Some(JwksSource::Policy(keys)) => json!({ "keys": keys }),
        Some(JwksSource::Url(url)) => json!({ "url": url }),
        Some(JwksSource::Discovery) => json!({ "discovery": discovery_url(&issuer.issuer) }),
        Some(JwksSource::Upstream { upstream, path }) => {
            let found = policy.upstreams.iter().find(|known| known.name == upstream);
            let base = found.and_then(|found| found.targets.first()).map(|target| &target.url);
            json!({ "upstream": upstream, "base": base, "path": path })
        }
        None => Value::Null,
    }
}

/// Returns the URL of the key set in a discovery document of the token's issuer.
///
/// # Errors
/// What is wrong with the document.
pub(crate) fn discovered_url(policy: &Policy, token: &str, document: &str) -> Result<String, String> {
    let issuer = issuer_of(policy, token).ok_or("no issuer matches")?;
    parse_discovery(document.as_bytes(), &issuer.issuer).map_err(|error| error.code().to_owned())
}

fn issuer_of<'a>(policy: &'a Policy, token: &str) -> Option<&'a Issuer> {
    let token = parse(token).ok()?;
    let named = token.unverified_issuer().ok()?;
    policy.issuers.iter().find(|issuer| issuer.names().iter().any(|name| name == named))
}

/// Lists what can be checked of an API key, without showing it: its record is in the gateway's store.
fn explain_api_key(issuer: &Issuer, prefix: &str, subject: &Subject) -> Output {
    let is_whole = ApiKey::parse(&subject.token, prefix).is_some();
    let code = TokenError::Malformed.code();
    let header = issuer.token_header.as_ref();
    let place = header.map(|header| format!(", accepted from the header {header} only")).unwrap_or_default();
    let mut lines = vec![format!("  pass  {:<15} {prefix}_ is issuer {}{place}", "prefix", issuer.name)];
    if is_whole {
        lines.push(format!("  pass  {:<15} of 48 digits, the last 8", "checksum"));
        let verdict =
            "The gateway accepts the key if its record is active; the service that has created it knows its state.";
        lines.extend([String::new(), verdict.to_owned()]);
    } else {
        lines.push(format!(
            "  FAIL  {:<15} 48 digits of 0-9 and a-f, the last 8 of which fit the others  [{code}]",
            "checksum"
        ));
        lines.extend([String::new(), format!("The token is refused: 401 {code}")]);
    }
    let is_undecided = subject.request.is_some();
    if is_undecided {
        let hint =
            "No decision about the request: npm run check decides for a caller with the key's scopes and claims.";
        lines.extend([String::new(), hint.to_owned()]);
    }
    Output::decided(&lines, is_undecided || !is_whole)
}

/// Lists every check of the token, then the decision about the request.
pub(crate) fn run(decider: &Decider<'_>, subject: &Subject) -> Output {
    let policy = decider.policy;
    let mut prefixes = policy.issuers.iter().filter_map(|issuer| Some((issuer, &*issuer.api_keys.as_ref()?.prefix)));
    if let Some((issuer, prefix)) = prefixes.find(|(_, prefix)| ApiKey::has_prefix(&subject.token, prefix)) {
        return explain_api_key(issuer, prefix, subject);
    }
    if let Some(lines) = opaque_lines(policy, &subject.token) {
        return Output::decided(&lines, true);
    }
    let kept = claims_in_rules(policy);
    let policies: Vec<TokenPolicy> = policy.issuers.iter().filter_map(|issuer| issuer.token_policy(&kept)).collect();
    let algorithms = issuer_of(policy, &subject.token).and_then(|issuer| Some(issuer.token_policy(&[])?.algorithms));
    let keys = match (&subject.keys, algorithms) {
        (Some(text), Some(algorithms)) => KeySet::parse(text.as_bytes(), &algorithms)
            .map_err(|error| Some(format!("the key set is refused: {}", error.code()))),
        _ => Err(subject.keys_fault.clone()),
    };
    let keys_fault = match &keys {
        Ok(set) if !set.is_whole => Some("the key set has more keys than are examined"),
        keys => keys.as_ref().err().and_then(Option::as_deref),
    };
    let found = &explain(&subject.token, &policies, keys.as_ref().ok(), UnixMillis(subject.now_ms));
    let token_policy = found.policy.and_then(|index| policies.get(index));
    let report = Report { policy, found, token_policy, subject, keys_fault };
    let mut lines: Vec<String> = Check::ALL.iter().map(|check| report.line(*check)).collect();
    let (mut refusal, verdict) = report.verdict();
    lines.extend([String::new(), verdict]);
    if let Some((method, path)) = &subject.request {
        lines.push(String::new());
        let Subject { country, address, host, now_ms, .. } = subject;
        let origin = Origin { country: country.clone(), address: *address, host: host.clone(), now_ms: *now_ms };
        let decided = decider.decide(method, path, refusal.map_or(Ok(report.caller()), Err), &origin, &mut lines);
        lines.push(match &decided {
            Ok(_) => "Permitted.".to_owned(),
            Err(((status, code), reason)) => format!("Refused: {status} {code}{reason}"),
        });
        refusal = decided.err().map(|(refusal, _)| refusal);
    }
    Output::decided(&lines, refusal.is_some())
}

/// Returns who says what a token means that is no JWT; `None` if no issuer has such tokens. The token's text lets a client in,
/// so it is neither shown nor sent.
fn opaque_lines(policy: &Policy, token: &str) -> Option<Vec<String>> {
    let asked = policy.issuers.iter().filter_map(|issuer| Some((issuer, issuer.introspection.as_ref()?)));
    let mut lines: Vec<String> = asked
        .map(|(issuer, introspection)| {
            let place = issuer.token_header.as_deref().unwrap_or("Authorization");
            format!("  from {place}: issuer {}, at {}", issuer.name, introspection.url)
        })
        .collect();
    if lines.is_empty() || is_jwt(token) {
        return None;
    }
    lines.insert(0, "The token is opaque: it has no claims of its own. The gateway asks what it means:".to_owned());
    lines.extend([
        String::new(),
        "It is not asked here. npm run check -- METHOD PATH --user 7 shows what the policy decides about a caller."
            .to_owned(),
    ]);
    Some(lines)
}

struct Report<'a> {
    policy: &'a Policy,
    found: &'a Explanation,
    /// The policy of the token's issuer.
    token_policy: Option<&'a TokenPolicy>,
    subject: &'a Subject,
    keys_fault: Option<&'a str>,
}

impl Report<'_> {
    fn line(&self, check: Check) -> String {
        let (mark, detail) = match (self.found.outcome(check), self.keys_fault) {
            (Some(Ok(())), _) => ("pass", self.detail(check)),
            (Some(Err(error)), _) => ("FAIL", format!("{}  [{}]", self.detail(check), error.code())),
            (None, Some(fault)) if matches!(check, Check::Key | Check::Signature) => {
                ("-", format!("not checked: {fault}"))
            }
            (None, _) => ("-", "not checked".to_owned()),
        };
        format!("  {mark:<4}  {:<15} {detail}", check.name()).trim_end().to_owned()
    }

    /// Returns what the check compared.
    fn detail(&self, check: Check) -> String {
        let header = self.found.unverified_header.as_ref();
        let [alg, kid, typ] = [0, 1, 2].map(|at| quoted(header.and_then(|header| header.get(at)?.as_deref())));
        match (check, self.token_policy) {
            (Check::Size, _) => format!("{} bytes; at most {}", self.subject.token.len(), limits::TOKEN_BYTES),
            (Check::Form, _) => "three parts with dots between".to_owned(),
            (Check::Header, _) if header.is_some() => format!("alg {alg}, kid {kid}, typ {typ}"),
            (Check::Header, _) => "a JSON object with alg, without crit, b64 and zip, in base64url".to_owned(),
            (Check::Payload, _) => "a JSON object without repeated members, in base64url".to_owned(),
            (Check::SignatureForm, _) => format!("1 to {} bytes in base64url", limits::SIGNATURE_BYTES),
            (Check::Issuer, _) => match self.issuer() {
                Some(issuer) => {
                    let header = issuer.token_header.as_ref();
                    let place = header.map(|header| format!(", accepted from the header {header} only"));
                    format!("iss {} is issuer {}{}", self.claim(&["iss"]), issuer.name, place.unwrap_or_default())
                }
                None => {
                    let known: Vec<String> = self.policy.issuers.iter().flat_map(Issuer::names).collect();
                    format!("iss {} matches none of: {}", self.claim(&["iss"]), known.join(", "))
                }
            },
            (Check::Algorithm, Some(policy)) => {
                let accepted: Vec<&str> = policy.algorithms.iter().map(|algorithm| algorithm.name()).collect();
                format!("alg {alg}; accepted: {}", accepted.join(", "))
            }
            (Check::Type, Some(policy)) if policy.types.is_empty() => format!("typ {typ}; any is accepted"),
            (Check::Type, Some(policy)) => format!("typ {typ}; accepted: {}", policy.types.join(", ")),
            (Check::Key, _) => {
                let source = self.issuer().and_then(Issuer::jwks);
                // `--keys` may replace them.
                let is_fixed =
                    matches!(source, Some(JwksSource::Policy(keys)) if self.subject.keys.as_ref() == Some(&keys));
                format!("kid {kid} in the {}'s key set", if is_fixed { "policy" } else { "issuer" })
            }
            (Check::Signature, _) => {
                self.found.key.as_ref().map_or_else(|| "by no key that fits".to_owned(), |key| format!("by key {key}"))
            }
            (Check::Dates, _) => {
                format!("iat {}, nbf {}, exp {}", self.claim(&["iat"]), self.claim(&["nbf"]), self.claim(&["exp"]))
            }
            (Check::Lifetime, Some(policy)) => {
                let lifetime = self.seconds("exp").zip(self.seconds("iat")).map(|(exp, iat)| exp - iat);
                format!("{} s; at most {} s", lifetime.unwrap_or_default(), policy.max_lifetime_s)
            }
            (Check::Expiry, Some(policy)) => {
                format!("{}; leeway {} s", self.since("exp", ["expired", "expires"]), policy.leeway_s)
            }
            (Check::Start, Some(policy)) => {
                let later = if self.seconds("nbf") > self.seconds("iat") { "nbf" } else { "iat" };
                format!("{}; leeway {} s", self.since(later, [later, later]), policy.leeway_s)
            }
            (Check::Audience, Some(policy)) => format!(
                "{} {}; accepted: {}",
                policy.audience_claim.join("/"),
                self.claim(&policy.audience_claim),
                policy.audience.join(", ")
            ),
            (Check::TokenType, _) if self.value(&["events"]).is_some_and(Value::is_object) => {
                "events makes it a logout token or a security event, not an access token".to_owned()
            }
            (Check::TokenType, Some(policy)) => match &policy.token_type {
                Some(required) => format!("token_type {}; required: {required}", self.claim(&["token_type"])),
                None => "none is required".to_owned(),
            },
            (Check::Requirements, Some(policy)) => self.requirements(policy),
            (Check::Identity, Some(policy)) => self.identity(policy),
            (_, None) => String::new(),
        }
    }

    fn requirements(&self, policy: &TokenPolicy) -> String {
        let has_tenants = !policy.tenants.is_empty();
        let tid = has_tenants.then(|| format!("tid {}; required: that of iss, or none", self.claim(&["tid"])));
        let rules = policy.require.iter();
        let rules = rules.map(|rule| format!("{}, found {}", access::describe_claim(rule), self.claim(&rule.claim)));
        let rules: Vec<String> = tid.into_iter().chain(rules).collect();
        if rules.is_empty() { "none".to_owned() } else { rules.join("; ") }
    }

    fn identity(&self, policy: &TokenPolicy) -> String {
        let Some(identity) = &self.found.unverified_identity else {
            let names = &policy.claims;
            let paths = [&names.user_id, &names.email, &names.roles, &names.scopes, &names.session_id];
            return paths.map(|path| format!("{} {}", path.join("/"), self.claim(path))).join(", ");
        };
        let email = quoted(identity.email.as_deref());
        format!("user {:?}, e-mail {email}, roles {:?}, scopes {:?}", identity.user_id, identity.roles, identity.scopes)
    }

    /// Returns by what a gateway refuses the token, if it does, and its verdict in words.
    fn verdict(&self) -> (Option<StatusCode>, String) {
        let fault = self.keys_fault.unwrap_or("no key is available");
        let mut outcomes = Check::ALL.iter().map(|check| self.found.outcome(*check));
        match outcomes.find(|outcome| *outcome != Some(Ok(()))).map(Option::transpose) {
            None => self.binding(),
            Some(Err(error)) => (Some((401, error.code())), format!("The token is refused: 401 {}", error.code())),
            // Without a key, the gateway answers before it checks a claim.
            Some(Ok(_)) => (Some((503, "keys_unavailable")), format!("The signature could not be checked: {fault}.")),
        }
    }

    /// Returns the verdict about a token that passed every check, and what its sender must prove.
    fn binding(&self) -> (Option<StatusCode>, String) {
        let proof = self.issuer().and_then(|issuer| issuer.proof);
        let confirmation =
            self.found.unverified_identity.as_ref().and_then(|identity| identity.confirmation.as_deref());
        let Some(Confirmation { key, certificate }) = confirmation else {
            if proof == Some(Proof::Required) {
                let error = ProofError::TokenUnbound.code();
                return (Some((401, error)), format!("The token is refused: 401 {error}; proof is \"required\""));
            }
            return (None, "The token is accepted.".to_owned());
        };
        let key = key.as_ref().map(|key| format!("Authorization: DPoP and a proof of the key {key}"));
        let certificate = certificate.as_ref().map(|digest| format!("the client certificate {digest}"));
        let needed: Vec<String> = key.into_iter().chain(certificate).collect();
        let place = if proof.is_some() { "" } else { ", on routes with `proof` only" };
        (None, format!("The token is accepted with {}{place}.", needed.join(" and ")))
    }

    /// Returns the caller, if every check passed.
    fn caller(&self) -> Option<TokenCaller<'_>> {
        Some((self.found.identity()?.into(), Some(&self.issuer()?.name)))
    }

    fn issuer(&self) -> Option<&Issuer> {
        self.policy.issuers.get(self.found.policy?)
    }

    fn value(&self, path: &[impl AsRef<str>]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let first = self.found.unverified_claims.as_ref()?.member(first.as_ref())?;
        rest.iter().try_fold(first, |value, name| value.get(name.as_ref()))
    }

    fn claim(&self, path: &[impl AsRef<str>]) -> String {
        self.value(path).map_or_else(|| quoted(None), Value::to_string)
    }

    fn seconds(&self, name: &str) -> Option<f64> {
        self.value(&[name])?.as_f64()
    }

    /// Returns when the time in a claim was or will be, after the word for the past or the future.
    fn since(&self, name: &str, [past, future]: [&str; 2]) -> String {
        match Value::from(UnixMillis(self.subject.now_ms).secs()).as_f64().zip(self.seconds(name)) {
            Some((now, at)) if now >= at => format!("{past} {} s ago", now - at),
            Some((now, at)) => format!("{future} in {} s", at - now),
            None => format!("{future} {}", quoted(None)),
        }
    }
}

fn quoted(text: Option<&str>) -> String {
    text.map_or_else(|| "(absent)".to_owned(), |text| format!("{text:?}"))
}
