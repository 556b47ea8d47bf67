//! `npm run explain`: why a token is accepted or refused, check by check, and what the policy then
//! decides about a request. Prints the token's header and claims, never its signature.

use portcullis_policy::config::{Access, JwksSource, Policy, claims_in_rules};
use portcullis_token::{
    Check, Explanation, Outcome, TokenPolicy, UnixMillis, explain,
    keys::{KeySet, discovery_url, parse_discovery},
    limits, parse,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    EXIT_REFUSED, Output,
    decision::{Caller, Decision, Found},
};

/// A token, and what it is checked with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The compact token.
    pub token: String,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// The issuer's JWKS.
    #[serde(default)]
    pub keys: Option<String>,
    /// Why there is no JWKS.
    #[serde(default)]
    pub keys_fault: Option<String>,
    /// Method and path of a request with the token.
    #[serde(default)]
    pub request: Option<(String, String)>,
}

/// Returns where the keys of a token's issuer are, as JSON: `null` if no issuer matches, `{"url"}`,
/// `{"discovery"}` or, on an upstream, `{"upstream", "base", "path"}`.
pub(crate) fn key_source(policy: &Policy, token: &str) -> Output {
    let issuer = issuer_index(policy, token).and_then(|index| policy.issuers.get(index));
    let source = issuer.and_then(|issuer| issuer.jwks().zip(Some(issuer))).map(|(jwks, issuer)| match jwks {
        JwksSource::Url(url) => json!({ "url": url }),
        JwksSource::Discovery => json!({ "discovery": discovery_url(&issuer.issuer) }),
        JwksSource::Upstream { upstream, path } => {
            let found = policy.upstreams.iter().find(|known| known.name == upstream);
            let base = found.and_then(|found| found.targets.first()).map(|target| target.url.clone());
            json!({ "upstream": upstream, "base": base, "path": path })
        }
    });
    Output::success(json!(source).to_string())
}

/// Returns the URL of the key set in a discovery document of the token's issuer.
pub(crate) fn discovered_url(policy: &Policy, token: &str, document: &str) -> Output {
    let issuer = issuer_index(policy, token).and_then(|index| policy.issuers.get(index));
    let url = issuer.map(|issuer| parse_discovery(document.as_bytes(), &issuer.issuer));
    match url {
        Some(Ok(url)) => Output::success(url),
        Some(Err(error)) => Output::failure(EXIT_REFUSED, vec![error.code().to_owned()]),
        None => Output::failure(EXIT_REFUSED, vec!["no issuer matches".to_owned()]),
    }
}

fn issuer_index(policy: &Policy, token: &str) -> Option<usize> {
    let token = parse(token).ok()?;
    let issuer = token.unverified_issuer().ok()?;
    token_policies(policy).iter().position(|policy| policy.match_issuer(issuer).is_some())
}

fn token_policies(policy: &Policy) -> Vec<TokenPolicy> {
    let kept = claims_in_rules(policy);
    policy.issuers.iter().filter_map(|issuer| issuer.token_policy(&kept)).collect()
}

/// Lists every check of the token, then the decision about the request.
pub(crate) fn run(policy: &Policy, subject: &Subject) -> Output {
    let policies = token_policies(policy);
    let now = UnixMillis(subject.now_ms);
    let index = issuer_index(policy, &subject.token);
    let algorithms = index.and_then(|index| policies.get(index)).map(|policy| policy.algorithms.as_slice());
    let parsed = subject.keys.as_ref().zip(algorithms).map(|(text, algorithms)| {
        KeySet::parse(text.as_bytes(), algorithms).map_err(|error| format!("the key set is refused: {}", error.code()))
    });
    let (keys, keys_fault) = match parsed {
        Some(Ok(keys)) => (Some(keys), None),
        Some(Err(fault)) => (None, Some(fault)),
        None => (None, subject.keys_fault.clone()),
    };
    let found = explain(&subject.token, &policies, keys.as_ref(), now);
    let report =
        Report { policy, found: &found, token_policy: found.policy.and_then(|index| policies.get(index)), now };
    let mut lines: Vec<String> =
        Check::ALL.iter().map(|check| report.line(*check, subject, keys_fault.as_deref())).collect();
    lines.push(String::new());
    let verdict = report.verdict(keys_fault.as_deref());
    let mut is_refused = verdict.is_refused;
    lines.push(verdict.text.clone());
    if let Some((method, path)) = &subject.request {
        let decision = report.decide(method, path, &verdict);
        is_refused = decision.code.is_some();
        lines.push(String::new());
        lines.extend(decision.context);
        lines.push(match decision.code {
            Some(code) => format!("Refused: {} {code}{}", decision.status, decision.verdict),
            None => "Permitted.".to_owned(),
        });
    }
    Output { out: lines.join("\n"), code: if is_refused { EXIT_REFUSED } else { 0 }, ..Output::default() }
}

/// Whether a gateway admits the token.
struct Verdict {
    is_refused: bool,
    status: u16,
    code: &'static str,
    text: String,
}

struct Report<'a> {
    policy: &'a Policy,
    found: &'a Explanation,
    token_policy: Option<&'a TokenPolicy>,
    now: UnixMillis,
}

impl Report<'_> {
    fn line(&self, check: Check, subject: &Subject, keys_fault: Option<&str>) -> String {
        let (mark, detail) = match self.found.outcome(check) {
            Outcome::Passed => ("pass", self.detail(check, subject)),
            Outcome::Failed(error) => ("FAIL", format!("{}  [{}]", self.detail(check, subject), error.code())),
            Outcome::Skipped => (
                "-",
                match (check, keys_fault) {
                    (Check::Key | Check::Signature, Some(fault)) => format!("not checked: {fault}"),
                    (_, _) => "not checked".to_owned(),
                },
            ),
        };
        format!("  {mark:<4}  {:<15} {detail}", check.name()).trim_end().to_owned()
    }

    /// What the check compared.
    fn detail(&self, check: Check, subject: &Subject) -> String {
        let Some(policy) = self.token_policy else { return self.form_detail(check, subject) };
        let [alg, kid, typ] = self.found.unverified_header.clone().unwrap_or_default();
        match check {
            Check::Algorithm => {
                let accepted: Vec<&str> = policy.algorithms.iter().map(|algorithm| algorithm.name()).collect();
                format!("alg {}; accepted: {}", quoted(alg.as_deref()), accepted.join(", "))
            }
            Check::Type if policy.types.is_empty() => format!("typ {}; any is accepted", quoted(typ.as_deref())),
            Check::Type => format!("typ {}; accepted: {}", quoted(typ.as_deref()), policy.types.join(", ")),
            Check::Key => format!("kid {} in the issuer's key set", quoted(kid.as_deref())),
            Check::Signature => {
                self.found.key.as_ref().map_or_else(|| "by no key that fits".to_owned(), |key| format!("by key {key}"))
            }
            Check::Dates => format!("iat {}, nbf {}, exp {}", self.claim("iat"), self.claim("nbf"), self.claim("exp")),
            Check::Lifetime => {
                let lifetime = self.seconds("exp").zip(self.seconds("iat")).map(|(exp, iat)| exp - iat);
                format!("{} s; at most {} s", lifetime.unwrap_or_default(), policy.max_lifetime_s)
            }
            Check::Expiry => self.expiry(policy),
            Check::Start => format!("issued {}; leeway {} s", self.ago("iat"), policy.leeway_s),
            Check::Audience => format!(
                "{} {}; accepted: {}",
                policy.audience_claim.join("/"),
                self.claim_at(&policy.audience_claim),
                policy.audience.join(", ")
            ),
            Check::TokenType => match &policy.token_type {
                Some(required) => format!("token_type {}; required: {required}", self.claim("token_type")),
                None => "none is required".to_owned(),
            },
            Check::Requirements => self.requirements(policy),
            Check::Identity => self.identity(policy),
            Check::Size | Check::Form | Check::Header | Check::Payload | Check::SignatureForm | Check::Issuer => {
                self.form_detail(check, subject)
            }
        }
    }

    fn form_detail(&self, check: Check, subject: &Subject) -> String {
        let [alg, kid, typ] = self.found.unverified_header.clone().unwrap_or_default();
        match check {
            Check::Size => format!("{} bytes; at most {}", subject.token.len(), limits::TOKEN_BYTES),
            Check::Form => "three parts with dots between".to_owned(),
            Check::Header if self.found.unverified_header.is_some() => format!(
                "alg {}, kid {}, typ {}",
                quoted(alg.as_deref()),
                quoted(kid.as_deref()),
                quoted(typ.as_deref())
            ),
            Check::Header => "a JSON object with alg, without crit, b64 and zip, in base64url".to_owned(),
            Check::Payload => "a JSON object without repeated members, in base64url".to_owned(),
            Check::SignatureForm => format!("1 to {} bytes in base64url", limits::SIGNATURE_BYTES),
            Check::Issuer => {
                let named = self.found.policy.and_then(|index| self.policy.issuers.get(index));
                let known: Vec<&str> = self.policy.issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
                match named {
                    Some(issuer) => format!("iss {} is issuer {}", self.claim("iss"), issuer.name),
                    None => format!("iss {} matches none of: {}", self.claim("iss"), known.join(", ")),
                }
            }
            Check::Algorithm
            | Check::Type
            | Check::Key
            | Check::Signature
            | Check::Dates
            | Check::Lifetime
            | Check::Expiry
            | Check::Start
            | Check::Audience
            | Check::TokenType
            | Check::Requirements
            | Check::Identity => String::new(),
        }
    }

    fn expiry(&self, policy: &TokenPolicy) -> String {
        let Some(left) = self.seconds("exp").map(|exp| exp - self.now_s()) else { return String::new() };
        if left > 0.0 {
            format!("expires in {left} s")
        } else {
            format!("expired {} s ago; leeway {} s", -left, policy.leeway_s)
        }
    }

    fn requirements(&self, policy: &TokenPolicy) -> String {
        let rules: Vec<String> = policy
            .require
            .iter()
            .map(|rule| {
                let expected = match (&rule.equals, &rule.one_of) {
                    (Some(value), _) => format!("must be {value}"),
                    (None, Some(values)) => format!("must be one of {}", json!(values)),
                    (None, None) => "must be present".to_owned(),
                };
                format!("{} {}, {expected}", rule.claim.join("/"), self.claim_at(&rule.claim))
            })
            .collect();
        if rules.is_empty() { "none".to_owned() } else { rules.join("; ") }
    }

    fn identity(&self, policy: &TokenPolicy) -> String {
        match &self.found.unverified_identity {
            Some(identity) => format!(
                "user {:?}, e-mail {}, roles {:?}, scopes {:?}",
                identity.user_id,
                quoted(identity.email.as_deref()),
                identity.roles,
                identity.scopes
            ),
            None => {
                let names = &policy.claims;
                let paths = [&names.user_id, &names.email, &names.roles, &names.scopes, &names.session_id];
                let shown: Vec<String> =
                    paths.iter().map(|path| format!("{} {}", path.join("/"), self.claim_at(path))).collect();
                shown.join(", ")
            }
        }
    }

    fn verdict(&self, keys_fault: Option<&str>) -> Verdict {
        let refuse = |status, code, text| Verdict { is_refused: true, status, code, text };
        if let Some(error) = self.found.error() {
            return refuse(401, error.code(), format!("The token is refused: 401 {}", error.code()));
        }
        match self.found.identity() {
            Some(_) => Verdict { is_refused: false, status: 200, code: "", text: "The token is accepted.".to_owned() },
            None => {
                let fault = keys_fault.unwrap_or("there is no key set");
                refuse(503, "keys_unavailable", format!("The signature could not be checked: {fault}."))
            }
        }
    }

    fn decide(&self, method: &str, path: &str, verdict: &Verdict) -> Decision {
        let found = match Found::new(self.policy, method, path) {
            Ok(found) => found,
            Err(decision) => return decision,
        };
        if verdict.is_refused && found.route.access != Access::Public {
            let mut decision = found.admit(None);
            (decision.status, decision.code, decision.verdict) = (verdict.status, Some(verdict.code), String::new());
            return decision;
        }
        let issuer = self.found.policy.and_then(|index| self.policy.issuers.get(index));
        let caller = self.found.identity().map(|identity| Caller {
            user: Some(identity.user_id.clone()),
            roles: identity.roles.clone(),
            scopes: identity.scopes.clone(),
            claims: identity.claims.clone(),
            issuer: issuer.map(|issuer| issuer.name.clone()),
        });
        found.admit(caller.as_ref())
    }

    fn value(&self, path: &[String]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let first = self.found.unverified_claims.as_ref()?.member(first)?;
        rest.iter().try_fold(first, |value, name| value.get(name))
    }

    fn claim_at(&self, path: &[String]) -> String {
        self.value(path).map_or_else(|| "(absent)".to_owned(), Value::to_string)
    }

    fn claim(&self, name: &str) -> String {
        self.claim_at(&[name.to_owned()])
    }

    fn seconds(&self, name: &str) -> Option<f64> {
        self.value(&[name.to_owned()])?.as_f64()
    }

    fn now_s(&self) -> f64 {
        Value::from(self.now.secs()).as_f64().unwrap_or_default()
    }

    fn ago(&self, name: &str) -> String {
        match self.seconds(name).map(|at| self.now_s() - at) {
            Some(ago) if ago >= 0.0 => format!("{ago} s ago"),
            Some(ago) => format!("in {} s", -ago),
            None => "(absent)".to_owned(),
        }
    }
}

fn quoted(text: Option<&str>) -> String {
    text.map_or_else(|| "(absent)".to_owned(), |text| format!("{text:?}"))
}
